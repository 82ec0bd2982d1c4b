"""Reading glTF and GLB files."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from pipeline.assets.accessors import Accessors
from pipeline.assets.gltf_materials import HANDLED, GltfLooks
from pipeline.assets.gltf_nodes import Nodes
from pipeline.assets.polygons import fan_triangles, strip_triangles
from pipeline.assets.reading import Reading
from pipeline.assets.reasons import Broken, ObjectDropped, shortened
from pipeline.assets.references import entries, gltf_header
from pipeline.assets.surface import Piece, Surface

_DRACO = "KHR_draco_mesh_compression"
_GEOMETRY = frozenset(
    {_DRACO, "KHR_mesh_quantization", "EXT_mesh_gpu_instancing", "EXT_meshopt_compression", "KHR_meshopt_compression"}
)
_APPEARANCE = re.compile("(KHR|EXT)_(materials|texture)_|MSFT_texture_|KHR_(lights|xmp)")
"""How extensions begin without which the geometry is still read in full."""
_LEFT_OUT = {0: "points", 1: "lines", 2: "lines", 3: "lines"}
_MOST_SKINS = 4
"""Sets of four joints that a vertex may have."""


def load_gltf(reading: Reading) -> list[Piece]:
    """A glTF scene by its nodes, as it stands without animation: joints, default morph weights and instances applied.

    A node's primitives belong together. Primitives that cannot be read, lines and points are left out, and said; so is
    what is declared and not used. ObjectDropped for extensions that change the geometry and are not known here.
    """
    header = gltf_header(reading.contents)
    _check_extensions(reading, header)
    accessors = Accessors(reading.bundle, header)
    nodes, looks = Nodes(header, accessors), GltfLooks(reading, header, accessors)
    meshes = entries(header, "meshes")
    pieces = []
    for node in nodes.shown:
        number = nodes.nodes[node].get("mesh")
        mesh = meshes[number] if isinstance(number, int) and 0 <= number < len(meshes) else {}
        name = str(nodes.nodes[node].get("name", ""))
        for index, primitive in enumerate(entries(mesh, "primitives")):
            try:
                made = _Primitive(reading, accessors, looks, mesh, primitive).placed(nodes, node)
            except Broken as error:
                reading.warn(f"mesh {number}, primitive {index} left out: {error}")
                continue
            if made is not None:
                pieces.append(_piece(node, name, looks.name(primitive.get("material")), made))
    return pieces


def _piece(node: int, name: str, material: str, surface: Surface) -> Piece:
    """Converters that split an OBJ write a node `group|material` for each material of a group."""
    group = name.removesuffix(f"|{material}") if material else name
    return Piece(f"#{node}" if group == name else group, group, material, surface)


def _check_extensions(reading: Reading, header: Mapping[str, Any]) -> None:
    required, used = (header.get(key) for key in ("extensionsRequired", "extensionsUsed"))
    for extension in required if isinstance(required, list) else ():
        if extension not in _GEOMETRY and not _APPEARANCE.match(str(extension)):
            raise ObjectDropped(f"needs the glTF extension {shortened(extension, 60)}; export it without that")
    for extension in used if isinstance(used, list) else ():
        if extension not in _GEOMETRY | HANDLED:
            reading.warn(f"glTF extension {shortened(extension, 60)} not used")
    for key in ("animations", "cameras"):
        if entries(header, key):
            reading.warn(f"{key} not used")
    if len(entries(header, "scenes")) > 1:
        reading.warn("scenes other than the first shown not used")


class _Primitive:
    """A primitive of a mesh, while it is read."""

    def __init__(
        self,
        reading: Reading,
        accessors: Accessors,
        looks: GltfLooks,
        mesh: Mapping[str, Any],
        primitive: Mapping[str, Any],
    ) -> None:
        self.reading, self.accessors, self.looks, self.mesh, self.primitive = reading, accessors, looks, mesh, primitive
        attributes = primitive.get("attributes")
        self.attributes: dict[str, Any] = attributes if isinstance(attributes, dict) else {}
        self.unpacked: dict[str, np.ndarray] = {}

    def placed(self, nodes: Nodes, node: int) -> Surface | None:
        """Its surface where the node stands, or its joints, or its instances; None for lines and points."""
        mode = self.primitive.get("mode", 4)
        if mode in _LEFT_OUT:
            self.reading.warn(f"{_LEFT_OUT[mode]} left out")
            return None
        if "POSITION" not in self.attributes:
            raise Broken("no positions")
        triangles = self._triangles(mode)
        self.reading.count(len(triangles) * nodes.copies(node))
        taken, faces = np.unique(triangles, return_inverse=True)
        faces = faces.reshape(-1, 3)
        weights = nodes.nodes[node].get("weights", self.mesh.get("weights"))
        surface = self._surface(taken, faces, weights if isinstance(weights, list) else [])
        skin = nodes.nodes[node].get("skin")
        if skin is not None and "JOINTS_0" in self.attributes:
            return self._skinned(surface, nodes.joints(skin), taken)
        copies = [surface.transformed(place) for place in nodes.places(node)]
        return copies[0] if len(copies) == 1 else _joined(copies)

    def _triangles(self, mode: object) -> np.ndarray:
        """(T, 3) vertex numbers."""
        extensions = self.primitive.get("extensions")
        if isinstance(extensions, dict) and isinstance(extensions.get(_DRACO), dict):
            triangles, self.unpacked = self.accessors.draco(extensions[_DRACO], self.attributes)
            return triangles
        if "indices" in self.primitive:
            indices = self.accessors.array(self.primitive["indices"])[:, 0].astype(np.int64)
        else:
            indices = np.arange(self.accessors.count(self.attributes["POSITION"]))
        if mode == 5:
            return strip_triangles(indices)
        if mode == 6:
            return fan_triangles(indices)
        if mode != 4:
            raise Broken(f"mode {str(mode)[:20]} is none")
        if over := len(indices) % 3:
            self.reading.warn(f"{len(indices)} indices are no triples: the last {over} left out")
        return indices[: len(indices) - over].reshape(-1, 3)

    def _surface(self, taken: np.ndarray, faces: np.ndarray, weights: list[Any]) -> Surface:
        """In the mesh's own frame, with morph targets by their weights."""
        positions, normals = self._values("POSITION", taken), self._optional("NORMAL", taken, 3)
        if positions.shape[1] != 3:
            raise Broken("positions that are not of three numbers")
        positions = positions.astype(np.float64)
        for target, weight in zip(entries(self.primitive, "targets"), weights, strict=False):
            if isinstance(weight, int | float) and weight:
                if "POSITION" in target:
                    positions = positions + weight * self.accessors.rows(target["POSITION"], taken)
                if "NORMAL" in target and normals is not None:
                    normals = normals + weight * self.accessors.rows(target["NORMAL"], taken)
        colors = self._colours(taken)
        look = self.looks(self.primitive.get("material"), colors is not None)
        uv = self._optional(f"TEXCOORD_{look.uv_set}", taken, 2)
        if uv is not None:
            uv = look.uv(uv)
            uv[:, 1] = 1 - uv[:, 1]
        for name in self.attributes:
            if name.startswith("_") or (name.startswith("COLOR_") and name != "COLOR_0"):
                self.reading.warn(f"attribute {shortened(name, 40)} not used")
        return Surface(positions, faces, normals, uv, colors, look.material)

    def _skinned(self, surface: Surface, joints: np.ndarray, taken: np.ndarray) -> Surface:
        """Each vertex by the weighted mean of its joints' matrices."""
        blended, total = np.zeros((len(taken), 4, 4)), np.zeros((len(taken), 1, 1))
        for number in range(_MOST_SKINS):
            if f"JOINTS_{number}" not in self.attributes or f"WEIGHTS_{number}" not in self.attributes:
                break
            whose = self._values(f"JOINTS_{number}", taken).astype(np.int64)
            if len(whose) and not 0 <= whose.min() <= whose.max() < len(joints):
                raise Broken("joints that are not there")
            for joint, weight in zip(whose.T, self._values(f"WEIGHTS_{number}", taken).T, strict=True):
                blended += weight[:, None, None] * joints[joint]
                total += weight[:, None, None]
        blended = np.where(total > 0, blended / np.where(total > 0, total, 1), joints[0])
        moved = np.einsum("vij,vj->vi", blended[:, :3, :3], surface.vertices) + blended[:, :3, 3]
        normals = surface.normals
        if normals is not None:
            normals = np.einsum("vij,vj->vi", blended[:, :3, :3], normals)
            normals = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-30)
        mirrored = len(blended) > 0 and np.linalg.det(blended[:, :3, :3].mean(axis=0)) < 0
        faces = surface.faces[:, ::-1] if mirrored else surface.faces
        return replace(surface, vertices=moved, faces=faces, normals=normals)

    def _values(self, name: str, taken: np.ndarray) -> np.ndarray:
        if name not in self.unpacked:
            return self.accessors.rows(self.attributes[name], taken)
        if len(taken) and taken.max() >= len(self.unpacked[name]):
            raise Broken("faces refer to vertices that do not exist")
        return self.unpacked[name][taken]

    def _optional(self, name: str, taken: np.ndarray, *columns: int) -> np.ndarray | None:
        """An attribute that can be done without, float64; None, with a warning, where it cannot be read."""
        if name not in self.attributes:
            return None
        try:
            values = self._values(name, taken).astype(np.float64)
        except Broken:
            values = np.zeros((0, 0))
        if len(values) != len(taken) or values.shape[1] not in columns or not np.isfinite(values).all():
            self.reading.warn(f"attribute {name} that cannot be read, left out")
            return None
        return values

    def _colours(self, taken: np.ndarray) -> np.ndarray | None:
        """(V, 4) float32 in [0, 1], linear, as glTF has them; whole numbers that are not said to be normalised are."""
        if "COLOR_0" not in self.attributes:
            return None
        values = self._optional("COLOR_0", taken, 3, 4)
        if values is None:
            return None
        accessor = self.accessors.accessors[self.attributes["COLOR_0"]]
        if not accessor.get("normalized"):
            values = values / {5121: 255, 5123: 65535}.get(accessor.get("componentType", 0), 1)
        colours = np.ones((len(values), 4), np.float32)
        colours[:, : values.shape[1]] = values.clip(0, 1)
        return colours


def _joined(copies: list[Surface]) -> Surface:
    """Copies of one surface in several places as one."""
    first, count = copies[0], len(copies[0].vertices)

    return replace(
        first,
        vertices=np.concatenate([copy.vertices for copy in copies]),
        faces=np.concatenate([copy.faces + count * number for number, copy in enumerate(copies)]),
        normals=_stacked([copy.normals for copy in copies]),
        uv=_stacked([copy.uv for copy in copies]),
        colors=_stacked([copy.colors for copy in copies]),
    )


def _stacked(arrays: list[np.ndarray | None]) -> np.ndarray | None:
    present = [array for array in arrays if array is not None]
    return np.concatenate(present) if present else None
