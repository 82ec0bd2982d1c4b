"""From the files of an object to pieces: the smallest units of geometry with a node (or group) and a material."""

import io
import mimetypes
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import numpy as np
import trimesh
from PIL import Image, UnidentifiedImageError
from trimesh.resolvers import Resolver
from trimesh.visual import ColorVisuals, TextureVisuals

from pipeline.assets.bundle import (
    Bundle,
    ObjectDropped,
    as_text,
    gltf_header,
    local_name,
    texture_name,
    with_gltf_header,
)
from pipeline.assets.materials import MaterialReader
from pipeline.assets.surface import Surface

_GROUP_LINE = re.compile(r"^[ \t]*([og])(?:[ \t]+(.*?))?[ \t\r]*$", re.MULTILINE)


@dataclass(frozen=True)
class Piece:
    """The geometry of one node (or OBJ group) with one material, in the object's own frame."""

    node: str
    """Tells the nodes of one object apart."""
    node_name: str
    """The artist's name of the node; may repeat."""
    material_name: str
    surface: Surface


def load_pieces(
    bundle: Bundle, texture_px: int, min_opacity: float, max_triangles: int, matrix: np.ndarray
) -> tuple[list[Piece], list[str]]:
    """The pieces of an object with an area above zero, moved by `matrix` (4, 4), and warnings.

    ObjectDropped for corrupt files, vertices that are not finite, and objects without area or with too many triangles.
    """
    kind = posixpath.splitext(bundle.main)[1].lower()
    resolver = BundleResolver(bundle)
    reader = MaterialReader(resolver, texture_px, min_opacity)
    try:
        if kind == ".obj":
            loaded = _load_obj(bundle, resolver)
        elif kind in (".glb", ".gltf"):
            loaded = _load_gltf(bundle, resolver, kind)
        else:
            loaded = _load_single(bundle, resolver, kind)
    except (ObjectDropped, MemoryError):
        raise
    except Exception as error:  # over broken files, trimesh's readers raise whatever comes
        raise ObjectDropped(f"corrupt {kind[1:].upper()}: {' '.join(str(error).split())[:80]}") from None
    triangles = sum(len(mesh.faces) for *_, mesh, _ in loaded)
    if not triangles:
        raise ObjectDropped("no triangles")
    if triangles > max_triangles:
        raise ObjectDropped("more triangles than assets.max_triangles")
    pieces = []
    for node, node_name, mesh, placed in loaded:
        if not len(mesh.faces):
            continue
        if not np.isfinite(mesh.vertices).all() or not np.isfinite(placed).all():
            raise ObjectDropped("vertices are not finite")
        with np.errstate(over="ignore", invalid="ignore"):
            surface = _surface(mesh, reader).transformed(matrix @ placed)
            areas = surface.areas()
        if not np.isfinite(areas).all():
            raise ObjectDropped("vertices are too far apart")
        if areas.any():
            pieces.append(Piece(node, node_name, _material_name(mesh), surface.take(areas > 0)))
    if not pieces:
        raise ObjectDropped("zero area")
    return pieces, reader.warnings + [f"unreadable {name}" for name in _unreadable_images(bundle)]


def _unreadable_images(bundle: Bundle) -> Iterator[str]:
    """Images beside the main file that trimesh left out in silence."""
    for name, data in bundle.files.items():
        if name != bundle.main and mimetypes.guess_type(name)[0] in _IMAGE_TYPES:
            try:
                Image.open(io.BytesIO(data))
            except (UnidentifiedImageError, Image.DecompressionBombError):
                yield name


_IMAGE_TYPES = ("image/png", "image/jpeg", "image/webp", "image/bmp", "image/gif", "image/tiff")

Loaded = list[tuple[str, str, trimesh.Trimesh, np.ndarray]]
"""Node, its name, a mesh, and the matrix into the object's frame."""


class BundleResolver(Resolver):
    """Gives trimesh the files that a bundle holds, and no others."""

    def __init__(self, bundle: Bundle) -> None:
        self.files = {name.lower(): data for name, data in bundle.files.items()}

    def get(self, key: str) -> bytes:
        """The content of a file by the reference to it; KeyError when the bundle does not hold it."""
        names = (local_name(key), local_name(unquote(key)), texture_name(key))
        return self.files[next((name.lower() for name in names if name.lower() in self.files), key)]

    def keys(self) -> list[str]:
        """The names of the files."""
        return list(self.files)

    def write(self, name: str, data: bytes) -> None:
        """Bundles are read only."""
        raise PermissionError(f"cannot write {name}")

    def namespaced(self, namespace: str) -> "BundleResolver":
        """Bundles have one name space."""
        return self


def _load_obj(bundle: Bundle, resolver: BundleResolver) -> Loaded:
    """An OBJ by its objects (`o`), or by its groups (`g`) where it has at most one object.

    trimesh splits by `o` alone and joins the names it knows into one: so each object or group is given a number.
    """
    text = as_text(bundle.files[bundle.main]).replace("\\\n", " ")
    lines = _GROUP_LINE.findall(text)
    groups = any(letter == "g" for letter, _ in lines)
    by_objects = not groups or len({name for letter, name in lines if letter == "o"}) > 1
    numbers: dict[str, int] = {}
    inside_object = False

    def numbered(match: re.Match[str]) -> str:
        nonlocal inside_object
        letter, name = match[1], match[2] or ""
        if by_objects:
            inside_object |= letter == "o"
        if (letter == "o") != (by_objects and inside_object):
            return ""
        return f"o {numbers.setdefault(name, len(numbers))}"

    text = _GROUP_LINE.sub(numbered, text)
    scene = trimesh.load_scene(
        io.BytesIO(text.encode()), file_type="obj", resolver=resolver, split_objects=True, process=False
    )
    names = {str(number): name for name, number in numbers.items()}
    loaded = []
    for key, mesh in scene.geometry.items():
        if isinstance(mesh, trimesh.Trimesh):
            node = key.split("_")[0] if numbers else ""
            loaded.append((node, names.get(node, ""), mesh, np.eye(4)))
    return loaded


def _load_gltf(bundle: Bundle, resolver: BundleResolver, kind: str) -> Loaded:
    """A glTF scene by its nodes: an instanced mesh counts once a node, a node's primitives belong together."""
    contents = bundle.files[bundle.main]
    header: Any = gltf_header(contents)
    unknown = sorted(set(header.get("extensionsRequired", [])) - _GLTF_EXTENSIONS)
    if unknown:
        raise ObjectDropped(f"needs the glTF extension {unknown[0][:60]}")
    # trimesh renames nodes and meshes whose names repeat, and stumbles over braces: it is given numbers.
    names = [str(node.get("name", "")) for node in header.get("nodes", [])]
    for entries in (header.get("nodes", []), header.get("meshes", [])):
        for number, entry in enumerate(entries):
            entry["name"] = str(number)
    file = io.BytesIO(with_gltf_header(contents, header))
    scene = trimesh.load_scene(file, file_type=kind[1:], resolver=resolver, process=False)
    loaded = []
    for frame in scene.graph.nodes_geometry:
        matrix, geometry = scene.graph[frame]
        mesh = scene.geometry[geometry]
        if not isinstance(mesh, trimesh.Trimesh):
            continue
        # The primitives of a mesh hang below its node, in frames with random names.
        node = scene.graph.transforms.parents[frame] if mesh.metadata.get("from_gltf_primitive") else frame
        key, name = f"#{node}", names[int(node)]
        if material := _material_name(mesh):
            # Converters that split an OBJ write a node `group|material` for each material of a group.
            group = name.removesuffix(f"|{material}")
            key, name = (key, name) if group == name else (group, group)
        loaded.append((int(node), geometry, (key, name, mesh, np.asarray(matrix))))
    return [entry for *_, entry in sorted(loaded, key=lambda entry: entry[:2])]


_GLTF_EXTENSIONS = frozenset(
    {"KHR_materials_unlit", "KHR_texture_transform", "KHR_materials_pbrSpecularGlossiness", "EXT_texture_webp"}
)
"""Required extensions with which the geometry is still read in full."""


def _load_single(bundle: Bundle, resolver: BundleResolver, kind: str) -> Loaded:
    """PLY and STL: geometry without nodes (an ASCII STL may hold several solids)."""
    file = io.BytesIO(bundle.files[bundle.main])
    scene = trimesh.load_scene(file, file_type=kind[1:], resolver=resolver, process=False)
    return [
        (name, name if len(scene.geometry) > 1 else "", mesh, np.eye(4))
        for name, mesh in sorted(scene.geometry.items())
        if isinstance(mesh, trimesh.Trimesh)
    ]


def _material_name(mesh: trimesh.Trimesh) -> str:
    return getattr(getattr(mesh.visual, "material", None), "name", None) or ""


def _surface(mesh: trimesh.Trimesh, reader: MaterialReader) -> Surface:
    vertices = np.asarray(mesh.vertices, np.float64)
    faces = np.asarray(mesh.faces, np.int64)
    if len(faces) and (faces.min() < -len(vertices) or faces.max() >= len(vertices)):
        raise ObjectDropped("faces refer to vertices that do not exist")
    visual = mesh.visual
    uv = colors = None
    if isinstance(visual, TextureVisuals):
        uv = visual.uv if visual.uv is not None and len(visual.uv) == len(vertices) else None
        colors = visual.vertex_attributes.get("color")
    elif isinstance(visual, ColorVisuals) and visual.kind is not None:
        colors = visual.vertex_colors
    # Only the normals that the file has: trimesh would smooth over every edge.
    normals = mesh._cache.cache.get("vertex_normals")
    if normals is not None and (np.shape(normals) != vertices.shape or not np.isfinite(normals).all()):
        normals = None
    if uv is not None and not np.isfinite(uv).all():
        uv = None
    material = reader(getattr(visual, "material", None), colored=colors is not None)
    return Surface(
        vertices,
        faces % len(vertices) if len(vertices) else faces,
        None if normals is None else np.asarray(normals, np.float64),
        None if uv is None else np.asarray(uv, np.float64)[:, :2],
        _as_uint8(colors, len(vertices)),
        material,
    )


def _as_uint8(colors: np.ndarray | None, count: int) -> np.ndarray | None:
    """Vertex colours as (V, 4) uint8; files give 3 or 4 channels, floats in [0, 1] or whole numbers."""
    if colors is None or np.ndim(colors) != 2 or len(colors) != count or np.shape(colors)[1] not in (3, 4):
        return None
    values = np.asarray(colors)
    if values.dtype.kind == "f":
        values = np.round(np.clip(np.nan_to_num(values), 0, 1) * 255)
    elif values.dtype == np.uint16:
        values = values // 257
    rgba = np.full((count, 4), 255, np.uint8)
    rgba[:, : values.shape[1]] = values
    return rgba
