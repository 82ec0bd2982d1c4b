"""A strategy of glTF files with what the format allows: accessors, primitives, nodes, skins, morphs, materials."""

import base64
import json
import struct
from typing import Any
from urllib.parse import quote

import numpy as np
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from tests.assets.mesh_files import CONVEX, Files, png, solids

BYTE, UBYTE, SHORT, USHORT, UINT, FLOAT = 5120, 5121, 5122, 5123, 5125, 5126
DTYPES = {BYTE: "i1", UBYTE: "u1", SHORT: "<i2", USHORT: "<u2", UINT: "<u4", FLOAT: "<f4"}
KINDS = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4", 16: "MAT4"}
WRAPS = [10497, 33071, 33648]
LAYOUTS = ["packed", "offset", "strided", "sparse", "sparse alone"]


class GltfFile:
    """A glTF file in the making."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.rng = np.random.default_rng(draw(st.integers(0, 2**16)))
        self.tree: dict[str, Any] = {"asset": {"version": "2.0"}}
        self.blob = b""
        self.contents: dict[str, bytes] = {}
        # Of each file only a few are true: one fault must not hide the others.
        self.has = {name: self.one_of([False, False, True]) for name in ("quantized", "layouts", "instances", "morphs")}

    def flip(self) -> bool:
        """A coin."""
        return self.draw(st.booleans())

    def one_of(self, values: list[Any]) -> Any:
        """One of some values."""
        return self.draw(st.sampled_from(values))

    def add(self, key: str, entry: dict[str, Any]) -> int:
        """Append to an array of the file; the number of the new entry."""
        self.tree.setdefault(key, []).append(entry)
        return len(self.tree[key]) - 1

    def layout(self) -> str:
        """How an accessor lies in its buffer."""
        return self.one_of(LAYOUTS) if self.has["layouts"] else "packed"

    def uses(self, extension: str, required: bool) -> None:
        """Declare an extension."""
        for key in ("extensionsUsed", "extensionsRequired")[: 1 + required]:
            if extension not in self.tree.setdefault(key, []):
                self.tree[key].append(extension)

    def view(self, data: bytes, **entry: Any) -> int:
        """A buffer view of its own."""
        self.blob += bytes(-len(self.blob) % 4)
        entry = {"buffer": 0, "byteOffset": len(self.blob), "byteLength": len(data), **entry}
        self.blob += data
        return self.add("bufferViews", entry)

    def accessor(self, values: np.ndarray, component: int, normalized: bool = False, layout: str = "packed") -> int:
        """An accessor of (N, C) values: those of a float range where it is normalised, stored as they are otherwise."""
        if normalized:
            values = np.round(values * {BYTE: 127, UBYTE: 255, SHORT: 32767, USHORT: 65535}[component])
        stored = np.ascontiguousarray(values, DTYPES[component])
        count, width = stored.shape
        entry = {"componentType": component, "count": count, "type": KINDS[width]}
        entry |= {"normalized": True} if normalized else {}
        if layout.startswith("sparse"):
            base = stored.copy()
            chosen = np.arange(count) if layout == "sparse alone" else np.arange(0, count, 2)
            base[chosen] = 0
            entry["sparse"] = {
                "count": len(chosen),
                "indices": {"bufferView": self.view(chosen.astype("<u2").tobytes()), "componentType": USHORT},
                "values": {"bufferView": self.view(stored[chosen].tobytes())},
            }
            stored = base
        if layout != "sparse alone":
            size = stored.itemsize * width
            stride = size + -size % 4 + (8 if layout == "strided" else 0)
            lead = 8 if layout in ("offset", "strided") else 0
            rows = np.zeros((count, stride), np.uint8)
            rows[:, :size] = stored.view(np.uint8).reshape(count, size)
            scalar = width in (1, 16)  # indices and matrices lie close together
            data = bytes(lead) + (stored.tobytes() if scalar else rows.tobytes())
            strided = {} if scalar or stride == size else {"byteStride": stride}
            entry |= {"bufferView": self.view(data, **strided)} | ({"byteOffset": lead} if lead else {})
        return self.add("accessors", entry)

    def material(self) -> int:
        """A base colour, a texture or both."""
        pbr: dict[str, Any] = {"metallicFactor": 0}
        entry: dict[str, Any] = {"pbrMetallicRoughness": pbr, "doubleSided": True}
        if self.flip():
            pbr["baseColorFactor"] = [*(self.rng.integers(0, 256, 3) / 255), self.one_of([1, 0.8])]
        if self.flip():
            sampler = self.add("samplers", {"wrapS": self.one_of(WRAPS), "wrapT": self.one_of(WRAPS)})
            texture = {"source": self.image()} | ({"sampler": sampler} if self.flip() else {})
            info = {"index": self.add("textures", texture), "texCoord": self.one_of([0, 0, 1])}
            if self.flip():
                transform = {"offset": [0.25, -0.5], "rotation": self.one_of([0, 0.7, -1.6]), "scale": [0.5, 2]}
                transform |= {"texCoord": 1 - info["texCoord"]} if self.flip() else {}
                info["extensions"] = {"KHR_texture_transform": transform}
                self.uses("KHR_texture_transform", self.flip())
            pbr["baseColorTexture"] = info
        if mode := self.one_of([None, None, "OPAQUE", "MASK", "BLEND"]):
            entry["alphaMode"] = mode
            entry |= {"alphaCutoff": self.one_of([0.1, 0.7])} if mode == "MASK" and self.flip() else {}
        if self.one_of([False, False, True]):
            entry["extensions"] = {"KHR_materials_unlit": {}}
            self.uses("KHR_materials_unlit", False)
        return self.add("materials", entry)

    def image(self) -> int:
        """A PNG in the buffer, in the text or beside the file."""
        data = png(self.rng, self.one_of(["RGB", "RGBA", "L", "LA", "P", "I;16"]))
        place = self.one_of(["buffer", "text", "file"])
        if place == "buffer":
            return self.add("images", {"bufferView": self.view(data), "mimeType": "image/png"})
        if place == "text":
            return self.add("images", {"uri": "data:image/png;base64," + base64.b64encode(data).decode()})
        name = f"my image {len(self.contents)}.png"
        self.contents[name] = data
        return self.add("images", {"uri": quote(name)})

    def primitive(self, place: float, morphs: int, joints: int) -> dict[str, Any]:
        """Triangles of one of three modes, within the cube from -1 to 1."""
        mode = self.one_of([4, 4, 5, 6])
        if mode == 4:
            solid = self.draw(solids(CONVEX))
            vertices, indices = solid.vertices, solid.triangles().ravel()
        else:
            turns = np.linspace(0, 1.5 * np.pi, self.one_of([3, 4, 7, 8]))
            vertices = np.stack([np.cos(turns), np.sin(turns), 0.5 * np.cos(3 * turns)], axis=1)
            if mode == 5:
                vertices = np.stack([vertices, vertices * [0.5, 0.5, 0.25]], axis=1).reshape(-1, 3)
            indices = np.arange(len(vertices))
        vertices = vertices * [0.3, 0.9, 0.9] + [place, 0, 0]
        order: np.ndarray | None = indices
        entry: dict[str, Any] = {"mode": mode} if mode != 4 or self.flip() else {}
        if self.flip():
            vertices, order = vertices[indices], None
        count = len(vertices)
        codings = [(SHORT, True), (BYTE, True), (SHORT, False), (USHORT, False)]
        coding: tuple[int, bool] = self.one_of(codings) if self.has["quantized"] else (FLOAT, False)
        whole = coding in ((SHORT, False), (USHORT, False))
        positions = np.round(vertices * 40 + 40) if whole else vertices
        if coding[0] != FLOAT:
            self.uses("KHR_mesh_quantization", True)
        attributes = {"POSITION": self.accessor(positions, *coding, self.layout())}
        for number in range(2):
            coding = self.one_of([(FLOAT, False), (UBYTE, True), (USHORT, True)])
            uv = self.rng.random((count, 2)) * (3 if coding[0] == FLOAT else 1) - (coding[0] == FLOAT)
            attributes[f"TEXCOORD_{number}"] = self.accessor(uv, *coding, self.layout())
        if self.flip():
            coding = self.one_of([(FLOAT, False), (UBYTE, True), (USHORT, True)])
            colors = self.rng.random((count, self.one_of([3, 4])))
            colors[:, 3:] = self.one_of([1, 0.6])
            attributes["COLOR_0"] = self.accessor(colors, *coding, self.layout())
        if joints:
            which = np.tile(self.rng.integers(0, joints, (count, 1)), 4)
            which[:, 1:] = (which[:, 1:] + 1) % joints
            weights = np.zeros((count, 4))
            weights[:, 0] = self.rng.integers(0, 5, count) / 4
            weights[:, 1] = 1 - weights[:, 0]
            attributes["JOINTS_0"] = self.accessor(which, self.one_of([UBYTE, USHORT]))
            coding = self.one_of([(FLOAT, False), (UBYTE, True), (USHORT, True)])
            attributes["WEIGHTS_0"] = self.accessor(weights, *coding, self.layout())
        entry["attributes"] = attributes
        if morphs:
            moves = [self.rng.random((count, 3)) * (20 if whole else 0.5) for _ in range(morphs)]
            entry["targets"] = [{"POSITION": self.accessor(move, FLOAT, False, self.layout())} for move in moves]
        if order is not None:
            entry["indices"] = self.accessor(order[:, None], self.one_of([UBYTE, USHORT, UINT]))
        if "materials" in self.tree and self.one_of([True, True, False]):
            entry["material"] = self.draw(st.integers(0, len(self.tree["materials"]) - 1))
        return entry

    def mesh(self, joints: int = 0) -> int:
        """One to three primitives side by side, perhaps lines among them, perhaps with morph targets."""
        morphs = self.one_of([1, 2]) if self.has["morphs"] else 0
        primitives = [self.primitive(0.65 * k - 0.65, morphs, joints) for k in range(self.draw(st.integers(1, 3)))]
        if not morphs and self.one_of([False, False, True]):
            ends = np.array([[0, 0, 0], [0.5, 0.5, 0.5], [0, 0.5, 0]])
            primitives.append(
                {"mode": self.one_of([0, 1, 2, 3]), "attributes": {"POSITION": self.accessor(ends[:2], FLOAT)}}
            )
        entry: dict[str, Any] = {"primitives": primitives}
        if morphs and self.flip():
            entry["weights"] = [self.one_of([0, 0.5, 1, -0.5, 2]) for _ in range(morphs)]
        return self.add("meshes", entry)

    def placed(self, number: int) -> dict[str, Any]:
        """A node's transform, as three or as a matrix; `number` keeps nodes from lying in one another."""
        translation = [3.0 * number, self.one_of([0, 0.5]), 0]
        quaternion = Rotation.random(rng=self.rng).as_quat() if self.flip() else np.array([0, 0, 0, 1.0])
        scale = self.one_of([[1, 1, 1], [0.5, 0.5, 0.5], [1, 2, 0.5], [-1, 1, 1], [-1, -2, -1], [1, 1, -0.5]])
        if self.one_of([False, False, True]):
            matrix = np.eye(4)
            matrix[:3, :3] = Rotation.from_quat(quaternion).as_matrix() * scale
            matrix[:3, 3] = translation
            return {"matrix": matrix.T.ravel().tolist()}
        return {"translation": translation, "rotation": quaternion.tolist(), "scale": scale}

    def instances(self) -> dict[str, Any]:
        """Two or three places of one mesh."""
        count = self.one_of([2, 3])
        places = np.stack([np.zeros(count), 2.5 * np.arange(count), np.zeros(count)], axis=1)
        attributes = {"TRANSLATION": self.accessor(places, FLOAT)}
        if self.flip():
            attributes["ROTATION"] = self.accessor(Rotation.random(count, rng=self.rng).as_quat(), FLOAT)
        if self.flip():
            attributes["SCALE"] = self.accessor(self.rng.random((count, 3)) + 0.5, FLOAT)
        self.uses("EXT_mesh_gpu_instancing", self.flip())
        return {"EXT_mesh_gpu_instancing": {"attributes": attributes}}

    def skinned(self, number: int) -> list[int]:
        """A rig of two joints and a node skinned to it; the numbers of the nodes that have no parent."""
        scale = self.one_of([1, 0.01])
        turn = Rotation.random(rng=self.rng) if self.flip() else Rotation.identity()
        rig = {"translation": [0, 0, 4.0 * number], "rotation": turn.as_quat().tolist(), "scale": [scale] * 3}
        # The inverse bind matrices undo where the joints were when the mesh was bound; they have moved since.
        bound = [np.eye(4), np.eye(4)]
        bound[1][1, 3] = 1 / scale
        world = np.diag([scale, scale, scale, 1.0]) if self.flip() else np.eye(4)
        inverse = np.stack([np.linalg.inv(world @ one).T.ravel() for one in bound])
        bent = Rotation.from_rotvec([0, 0, self.one_of([0, 0.5])]).as_quat().tolist()
        tip = self.add("nodes", {"translation": [0, 1 / scale, 0], "rotation": bent})
        root = self.add("nodes", {"children": [tip], "rotation": bent})
        top = self.add("nodes", {**rig, "children": [root]})
        skin = self.add("skins", {"joints": [root, tip], "inverseBindMatrices": self.accessor(inverse, FLOAT)})
        return [top, self.add("nodes", {**self.placed(number), "mesh": self.mesh(joints=2), "skin": skin})]

    def finished(self) -> Files:
        """As GLB, or as glTF with its buffer beside it or in the text."""
        form = self.one_of(["glb", "glb", "bin", "text"])
        self.blob += bytes(-len(self.blob) % 4)
        buffer: dict[str, Any] = {"byteLength": len(self.blob)}
        self.tree["buffers"] = [buffer]
        if form == "bin":
            buffer["uri"] = "my%20data.bin"
            self.contents["my data.bin"] = self.blob
        elif form == "text":
            buffer["uri"] = "data:application/octet-stream;base64," + base64.b64encode(self.blob).decode()
        text = json.dumps(self.tree).encode()
        if form != "glb":
            return Files("a.gltf", {**self.contents, "a.gltf": text})
        text += b" " * (-len(text) % 4)
        chunks = struct.pack("<II", len(text), 0x4E4F534A) + text
        chunks += struct.pack("<II", len(self.blob), 0x004E4942) + self.blob
        whole = struct.pack("<III", 0x46546C67, 2, 12 + len(chunks)) + chunks
        return Files("a.glb", {**self.contents, "a.glb": whole})


@st.composite
def gltf_files(draw: st.DrawFn) -> Files:
    """A file of a few nodes, with or without each feature."""
    file = GltfFile(draw)
    for _ in range(draw(st.integers(0, 3))):
        file.material()
    meshes = [file.mesh() for _ in range(draw(st.integers(1, 2)))]
    roots, nodes = [], []
    for number in range(draw(st.integers(1, 4))):
        entry: dict[str, Any] = file.placed(number) if file.flip() else {"translation": [3.0 * number, 0, 0]}
        # Blender 4.2 stumbles over instances of a mesh that has morph targets.
        instances = ["instances"] * (2 if file.has["instances"] and not file.has["morphs"] else 0)
        kind = "mesh" if not number else file.one_of(["mesh", "mesh", *instances, "camera", "light", "nothing"])
        if kind in ("mesh", "instances"):
            entry["mesh"] = file.one_of(meshes)
            entry |= {"extensions": file.instances()} if kind == "instances" else {}
            morphs = len(file.tree["meshes"][entry["mesh"]]["primitives"][0].get("targets", []))
            if morphs and kind == "mesh" and file.flip():
                entry["weights"] = [0.25] * morphs
        elif kind == "camera":
            entry["camera"] = file.add("cameras", {"type": "perspective", "perspective": {"yfov": 1, "znear": 0.1}})
        elif kind == "light":
            file.tree.setdefault("extensions", {})["KHR_lights_punctual"] = {"lights": [{"type": "point"}]}
            entry["extensions"] = {"KHR_lights_punctual": {"light": 0}}
            file.uses("KHR_lights_punctual", False)
        entry |= {"name": f"node {number % 2}"} if file.flip() else {}
        nodes.append(file.add("nodes", entry))
        parent = file.one_of([None, *nodes[:-1]])
        if parent is None:
            roots.append(nodes[-1])
        else:
            file.tree["nodes"][parent].setdefault("children", []).append(nodes[-1])
    if file.one_of([False, False, True]):
        roots += file.skinned(len(nodes))
    file.tree |= {"scenes": [{"nodes": roots}], "scene": 0}
    return file.finished()
