"""What a file says is what is taken: polygons, indices, skins, instances, colours and textures of all formats."""

import io
import json
import struct
from typing import Any, Literal

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.assets.bundle import Bundle, read_bundle
from pipeline.assets.load import load_pieces
from pipeline.assets.polygons import Polygons, triangulate
from pipeline.assets.reasons import ObjectDropped
from pipeline.assets.srgb import linear
from pipeline.assets.surface import Piece, total_area
from tests.assets_files import obj_box, png

U = [(-1, -1), (1, -1), (1, 1), (0.6, 1), (0.6, -0.6), (-0.6, -0.6), (-0.6, 1), (-1, 1)]
"""A concave polygon of area 2.08; a fan of its first corner has more."""
U_AREA = 2.08


def load(
    main: str, files: dict[str, bytes], up: Literal["y", "z"] = "y", texture_px: int = 64
) -> tuple[list[Piece], list[str]]:
    """Pieces and warnings of an object by its files."""
    bundle = read_bundle(main, lambda name, _: files.get(name), 10**8)
    pieces, warnings = load_pieces(bundle, texture_px, 0.25, 500_000, np.eye(4), up)
    return pieces, [*bundle.warnings, *warnings]


def area(pieces: list[Piece]) -> float:
    return total_area([piece.surface for piece in pieces])


def bounds(pieces: list[Piece]) -> list[list[float]]:
    vertices = np.concatenate([piece.surface.vertices for piece in pieces])
    return np.round([vertices.min(axis=0), vertices.max(axis=0)], 4).tolist()


@settings(max_examples=100, deadline=None)
@given(
    radii=st.lists(st.floats(0.1, 1), min_size=3, max_size=12),
    axis=st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda a: np.linalg.norm(a) > 0.1),
    clockwise=st.booleans(),
)
def test_triangles_cover_the_polygon_and_keep_its_winding(
    radii: list[float], axis: tuple[float, ...], clockwise: bool
) -> None:
    """Star-shaped polygons in any plane: the areas are the polygon's, signed by its winding (shoelace formula)."""
    angles = np.arange(len(radii)) * 2 * np.pi / len(radii)
    flat = np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)[:: -1 if clockwise else 1]
    turn = trimesh.geometry.align_vectors([0, 0, 1], axis)[:3, :3]
    vertices = np.pad(flat, ((0, 0), (0, 1))) @ turn.T
    triangles, owners = triangulate(Polygons(np.arange(len(radii)), np.array([len(radii)])), vertices)
    a, b, c = (vertices[triangles[:, k]] for k in range(3))
    signed = np.cross(b - a, c - a) @ (turn @ [0, 0, 1]) / 2
    x, y = flat.T
    shoelace = (x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2
    assert signed.sum() == pytest.approx(shoelace, rel=1e-6)
    assert np.abs(signed).sum() == pytest.approx(abs(shoelace), rel=1e-6)
    assert (owners == 0).all()


def test_polygons_of_all_sizes_keep_their_order() -> None:
    vertices = np.array([(x, y, 0.0) for x, y in U])
    corners = [[0, 1, 2], [0, 1, 4, 5], [3, 4], list(range(8)), [6, 5, 4, 3], [0, 1, 2]]
    polygons = Polygons(np.concatenate(corners), np.array(list(map(len, corners))))
    triangles, owners = triangulate(polygons, vertices)
    assert owners.tolist() == [0, 1, 1, *[3] * 6, 4, 4, 5]
    assert polygons.corners[triangles[0]].tolist() == [0, 1, 2]


def test_concave_faces_of_obj_and_ply() -> None:
    points = "".join(f"{x} {y} 0\n" for x, y in U)
    obj = "".join(f"v {line}\n" for line in points.splitlines()) + "f 1 2 3 4 5 6 7 8\n"
    header = "ply\nformat ascii 1.0\nelement vertex 8\nproperty float x\nproperty float y\nproperty float z\n"
    ply = f"{header}element face 1\nproperty list uchar int vertex_indices\nend_header\n{points}8 0 1 2 3 4 5 6 7\n"
    for name, text in (("a.obj", obj), ("a.ply", ply)):
        assert area(load(name, {name: text.encode()})[0]) == pytest.approx(U_AREA)


def test_obj_indices_lines_and_marks() -> None:
    """Negative indices count from the last vertex so far; byte order mark, continued lines, CR LF, comments."""
    text = "\ufeffmtllib a.mtl # mine\r\n"
    for x in (0, 3):
        vertices, _ = obj_box(x, 1)
        _, faces = obj_box(x, 1)
        turned = " ".join(
            str(int(word) - 9) if word.isdigit() else word for word in faces.replace("\n", " \n ").split(" ")
        )
        text += f"{vertices}o box{x} \nusemtl red #{x}\n{turned}".replace("\n", "\r\n")
    text = text.replace("f -8 -5", "f -8 \\\r\n -5")
    files = {"a.obj": text.encode(), "a.mtl": b"\xef\xbb\xbfnewmtl red\nKd 1 0 0 # bright\n"}
    pieces, warnings = load("a.obj", files)
    assert warnings == []
    assert area(pieces) == pytest.approx(12)
    assert bounds(pieces) == [[0, 0, 0], [4, 1, 1]]
    assert all(piece.surface.material.baseColorFactor.tolist() == [255, 0, 0, 255] for piece in pieces)


def test_several_material_libraries_and_names_with_blanks() -> None:
    vertices, faces = obj_box(0, 1)
    named = [f"usemtl {name}\nf {line[2:]}" for name, line in zip("abcdef", faces.splitlines(), strict=True)]
    text = "mtllib one.mtl two.mtl\nmtllib my own.mtl\nmtllib C:\\\\mine\\\\four.mtl\n" + vertices + "\n".join(named)
    kinds = {"one.mtl": "ab", "two.mtl": "c", "my own.mtl": "de", "four.mtl": "f"}
    files = {name: "".join(f"newmtl {k}\nKd 0 0 1\n" for k in letters).encode() for name, letters in kinds.items()}
    pieces, warnings = load("a.obj", {"a.obj": text.encode(), **files})
    assert warnings == []
    assert all(piece.surface.material.baseColorFactor.tolist() == [0, 0, 255, 255] for piece in pieces)


def test_vertex_colours_of_obj_and_ply_are_display_colours() -> None:
    colour = np.array([0.8, 0.05, 0.5])
    lines = ["0 0 0", "1 0 0", "0 1 0"]
    obj = "mtllib a.mtl\n" + "".join(f"v {line} 0.8 0.05 0.5\n" for line in lines) + "usemtl m\nf 1 2 3\n"
    ply = (
        "ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\n"
        "property uchar red\nproperty uchar green\nproperty uchar blue\nelement face 1\n"
        "property list uchar int vertex_indices\nend_header\n"
        + "".join(f"{line} 204 13 128\n" for line in lines)
        + "3 0 1 2\n"
    )
    for name, text in (("a.obj", obj), ("a.ply", ply)):
        (piece,), _ = load(name, {name: text.encode(), "a.mtl": b"newmtl m\nKd 1 1 1\n"})
        assert piece.surface.colors is not None
        np.testing.assert_allclose(piece.surface.colors[0, :3], linear(colour), atol=0.004)
        assert piece.surface.material.baseColorFactor.tolist() == [255] * 4


def binary_ply(order: str) -> bytes:
    """A quad and a triangle, an edge, colours of 16 bits, of the other end first where `order` says so."""
    kind = {"<": "little", ">": "big"}[order]
    header = (
        f"ply\nformat binary_{kind}_endian 1.0\n"
        "element vertex 5\nproperty float x\nproperty float y\nproperty double z\n"
        "property ushort red\nproperty ushort green\nproperty ushort blue\nelement face 2\n"
        "property list uchar uint vertex_index\nproperty uchar flags\nelement edge 1\nproperty int vertex1\n"
        "property int vertex2\nend_header\n"
    ).encode()
    points = [(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0), (2, 0, 0)]
    vertices = b"".join(struct.pack(f"{order}2fd3H", *point, 65535, 0, 32768) for point in points)
    faces = struct.pack(f"{order}B4IB", 4, 0, 1, 2, 3, 7) + struct.pack(f"{order}B3IB", 3, 1, 4, 2, 7)
    return header + vertices + faces + struct.pack(f"{order}2i", 0, 1)


@pytest.mark.parametrize("order", ["<", ">"])
def test_binary_ply_of_quads_beside_triangles(order: str) -> None:
    (piece,), warnings = load("a.ply", {"a.ply": binary_ply(order)})
    assert len(piece.surface.faces) == 3
    assert area([piece]) == pytest.approx(1.5)
    assert piece.surface.colors is not None
    np.testing.assert_allclose(piece.surface.colors[0], [1.0, 0.0, float(linear(np.array(0.5))), 1.0], atol=1e-3)
    assert warnings == ["element edge left out", "PLY does not say which way is up; +Y was taken"]
    with pytest.raises(ObjectDropped, match="truncated PLY"):
        load("a.ply", {"a.ply": binary_ply(order)[:-20]})


def test_z_up_and_bytes_after_an_stl() -> None:
    box = trimesh.creation.box(bounds=[[0, 0, 0], [1, 2, 3]])
    pieces, warnings = load("a.stl", {"a.stl": box.export(file_type="stl") + b"12345"}, up="z")
    assert bounds(pieces) == [[0, 0, -2], [1, 3, 0]]
    assert warnings == ["5 bytes after the last triangle left out", "STL does not say which way is up; +Z was taken"]
    text = box.export(file_type="stl_ascii").replace("solid ", "solid my ", 1).encode()
    assert area(load("a.stl", {"a.stl": text + text.replace(b"my", b"other")})[0]) == pytest.approx(44)


class Gltf:
    """A glTF with a buffer of its own, put together piece by piece."""

    def __init__(self, **header: Any) -> None:
        self.blob = b""
        self.header = {"asset": {"version": "2.0"}, "accessors": [], "bufferViews": [], **header}

    def view(self, data: bytes, **more: Any) -> int:
        self.blob += b"\0" * (-len(self.blob) % 4)
        self.header["bufferViews"].append({"buffer": 0, "byteOffset": len(self.blob), "byteLength": len(data), **more})
        self.blob += data
        return len(self.header["bufferViews"]) - 1

    def accessor(self, values: Any, dtype: str = "<f4", **more: Any) -> int:
        values = np.asarray(values, dtype)
        component = {"<f4": 5126, "<u4": 5125, "<u2": 5123, "u1": 5121, "<i2": 5122}[dtype]
        kind = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4", 16: "MAT4"}[values.shape[1] if values.ndim > 1 else 1]
        entry = {
            "bufferView": self.view(values.tobytes()),
            "componentType": component,
            "count": len(values),
            "type": kind,
        }
        self.header["accessors"].append(entry | more)
        return len(self.header["accessors"]) - 1

    def mesh(self, attributes: dict[str, int], more: dict | None = None, **mesh: Any) -> int:
        primitive = {"attributes": attributes, **(more or {})}
        self.header.setdefault("meshes", []).append({"primitives": [primitive], **mesh})
        return len(self.header["meshes"]) - 1

    def load(self, *nodes: dict, files: dict[str, bytes] | None = None) -> tuple[list[Piece], list[str]]:
        tree = {**self.header, "buffers": [{"byteLength": len(self.blob)}], "nodes": list(nodes)}
        text = json.dumps(tree).encode()
        text += b" " * (-len(text) % 4)
        chunks = struct.pack("<II", len(text), 0x4E4F534A) + text + struct.pack("<II", len(self.blob), 0x004E4942)
        glb = struct.pack("<III", 0x46546C67, 2, 12 + len(chunks) + len(self.blob)) + chunks + self.blob
        return load("a.glb", {"a.glb": glb, **(files or {})})


SQUARE = [(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0)]


@pytest.mark.parametrize(
    ("mode", "order", "triangles"), [(6, [0, 1, 2, 3], 2), (5, [0, 1, 3, 2], 2), (4, [0, 1, 2, 3, 0], 1)]
)
def test_fans_strips_and_indices_that_are_no_triples(mode: int, order: list[int], triangles: int) -> None:
    file = Gltf()
    indices = file.accessor(order, "<u2")
    file.mesh({"POSITION": file.accessor(SQUARE)}, {"mode": mode, "indices": indices})
    (piece,), warnings = file.load({"mesh": 0})
    assert len(piece.surface.faces) == triangles
    assert area([piece]) == triangles / 2
    normals = np.cross(*(np.diff(piece.surface.vertices[piece.surface.faces], axis=1).transpose(1, 0, 2)))
    assert (normals[:, 2] > 0).all()
    assert bool(warnings) == (mode == 4)


def test_sparse_accessors_with_and_without_a_base() -> None:
    for base in (True, False):
        file = Gltf()
        places, values = file.view(np.array([2, 3], "<u2").tobytes()), file.view(np.array(SQUARE[2:], "<f4").tobytes())
        sparse = {
            "count": 2,
            "indices": {"bufferView": places, "componentType": 5123},
            "values": {"bufferView": values},
        }
        index = file.accessor([*SQUARE[:2], (0, 0, 0), (0, 0, 0)], sparse=sparse)
        if not base:
            del file.header["accessors"][index]["bufferView"]
        file.mesh({"POSITION": index}, {"mode": 6})
        assert area(file.load({"mesh": 0})[0]) == (1 if base else 0.5)


def test_instances_of_a_node() -> None:
    file = Gltf(extensionsUsed=["EXT_mesh_gpu_instancing"])
    file.mesh({"POSITION": file.accessor(SQUARE)}, {"mode": 6})
    attributes = {
        "TRANSLATION": file.accessor([(0, 0, 0), (5, 0, 0)]),
        "SCALE": file.accessor([(1, 1, 1), (2, 2, 2)]),
        "ROTATION": file.accessor([(0, 0, 0, 32767), (0, 0, 23170, 23170)], "<i2", normalized=True),
    }
    node = {"mesh": 0, "scale": [1, 3, 1], "extensions": {"EXT_mesh_gpu_instancing": {"attributes": attributes}}}
    pieces, warnings = file.load(node)
    assert (len(pieces), warnings) == (1, [])
    assert area(pieces) == pytest.approx(15, rel=1e-4)
    np.testing.assert_allclose(bounds(pieces), [[0, 0, 0], [5, 6, 0]], atol=1e-3)


def test_joints_count_and_the_skinned_node_does_not() -> None:
    """At bind pose, half of the weight of the upper corners is on each of two joints."""
    file = Gltf(skins=[{"joints": [1, 2]}])
    bind = np.tile(np.eye(4), (2, 1, 1))
    bind[1, :3, 3] = [0, -1, 0]
    file.header["skins"][0]["inverseBindMatrices"] = file.accessor(bind.transpose(0, 2, 1).reshape(2, 16))
    attributes = {
        "POSITION": file.accessor(SQUARE),
        "JOINTS_0": file.accessor([(0, 0, 0, 0), (0, 0, 0, 0), (0, 1, 0, 0), (0, 1, 0, 0)], "u1"),
        "WEIGHTS_0": file.accessor(
            [(255, 0, 0, 0), (255, 0, 0, 0), (128, 128, 0, 0), (128, 128, 0, 0)], "u1", normalized=True
        ),
    }
    file.mesh(attributes, {"mode": 6})
    skinned = {"mesh": 0, "skin": 0, "scale": [100, 100, 100], "translation": [7, 7, 7]}
    pieces, _ = file.load(skinned, {"scale": [2, 2, 2]}, {"translation": [0, 5, 0]})
    assert bounds(pieces) == [[0, 0, 0], [2, 3.5, 0]]  # 1 by the first joint is 2, by the second 0 + 5


@pytest.mark.parametrize("where", ["mesh", "node"])
def test_default_weights_of_morph_targets(where: str) -> None:
    file = Gltf()
    target = {"POSITION": file.accessor([(0, 0, 0), (0, 0, 0), (0, 2, 0), (0, 2, 0)])}
    weights = {"weights": [0.5]}
    more = {"mode": 6, "targets": [target]}
    file.mesh({"POSITION": file.accessor(SQUARE)}, more, **(weights if where == "mesh" else {"weights": [9]}))
    pieces, _ = file.load({"mesh": 0, **(weights if where == "node" else {})})
    assert area(pieces) == 2


def test_cameras_and_lines_do_not_disturb() -> None:
    file = Gltf(cameras=[{"type": "perspective"}], animations=[{}], scenes=[{"nodes": [0]}])
    positions = file.accessor(SQUARE)
    file.mesh({"POSITION": positions}, {"mode": 6})
    file.header["meshes"][0]["primitives"] += [
        {"attributes": {"POSITION": positions}, "mode": 3},
        {"attributes": {"POSITION": 99}},
    ]
    pieces, warnings = file.load({"camera": 0, "translation": [0, 0, 1], "children": [1]}, {"mesh": 0, "camera": 0})
    assert bounds(pieces) == [[0, 0, 1], [1, 1, 1]]
    assert warnings == [
        "animations not used",
        "cameras not used",
        "lines left out",
        "mesh 0, primitive 2 left out: a reference to the accessor 99, which is not there",
    ]


@pytest.mark.parametrize("dtype", ["u1", "<u2", "<f4"])
def test_vertex_colours_of_all_types_are_linear(dtype: str) -> None:
    full = {"u1": 255, "<u2": 65535, "<f4": 1}[dtype]
    file = Gltf()
    colours = file.accessor(np.array([[0.2, 0.4, 1.0, 1.0]] * 4) * full, dtype, normalized=dtype != "<f4")
    file.mesh({"POSITION": file.accessor(SQUARE), "COLOR_0": colours}, {"mode": 6})
    (piece,), _ = file.load({"mesh": 0})
    assert piece.surface.colors is not None
    np.testing.assert_allclose(
        piece.surface.colors, np.array([[0.2, 0.4, 1, 1]] * 4), atol=1 / full / 2 if full > 1 else 1e-6
    )
    stored = np.asarray(piece.surface.to_trimesh().vertex_attributes["_COLOR_0"])
    assert stored[0].tolist()[2:] == [65535, 65535]


def textured(info: dict, sampler: dict | None = None, image: dict | None = None, **more: Any) -> Gltf:
    """A square whose base colour is a texture, with two sets of texture coordinates."""
    file = Gltf(**more)
    data = file.view(png((200, 30, 30)))
    file.header |= {
        "images": [{"mimeType": "image/png", "bufferView": data} if image is None else image],
        "textures": [{"source": 0, "sampler": 0}],
        "samplers": [sampler or {}],
        "materials": [{"name": "red", "pbrMetallicRoughness": {"baseColorTexture": {"index": 0, **info}}}],
    }
    near, far = file.accessor([(0, 0), (1, 0), (1, 1), (0, 1)]), file.accessor([(5, 5), (6, 5), (6, 6), (5, 6)])
    attributes = {"POSITION": file.accessor(SQUARE), "TEXCOORD_0": near, "TEXCOORD_1": far}
    file.mesh(attributes, {"mode": 6, "material": 0})
    return file


def test_the_second_set_of_texture_coordinates_and_transforms() -> None:
    (piece,), _ = textured({"texCoord": 1}).load({"mesh": 0})
    assert piece.surface.uv is not None
    assert piece.surface.uv[0].tolist() == [5, -4]
    transform = {"offset": [0.25, 0.5], "scale": [0.5, 0.25], "rotation": np.pi / 2, "texCoord": 0}
    (piece,), warnings = textured({"texCoord": 1, "extensions": {"KHR_texture_transform": transform}}).load({"mesh": 0})
    # (1, 0) is scaled to (.5, 0), turned to (0, -.5) as V points down, moved to (.25, 0), and V is turned over.
    assert piece.surface.uv is not None
    np.testing.assert_allclose(piece.surface.uv[1], [0.25, 1.0], atol=1e-7)
    assert warnings == []


def test_samplers_are_kept() -> None:
    (piece,), _ = textured({}, {"wrapS": 33071, "wrapT": 33648}).load({"mesh": 0})
    assert piece.surface.material.wrap == (33071, 33648)


def test_textures_that_lie_otherwise_are_named() -> None:
    file = textured({})
    file.header["materials"][0] |= {"normalTexture": {"index": 0, "texCoord": 1}, "occlusionTexture": {"index": 0}}
    (piece,), warnings = file.load({"mesh": 0})
    assert piece.surface.material.baseColorTexture is not None
    assert warnings == [
        "normalTexture of red not used: it lies otherwise than the base colour",
        "occlusionTexture of red not used",
    ]


def picture(image: Image.Image, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\xabKTX 20\xbb\r\n\x1a\n" + b"\0" * 99, "KTX2 (Basis)"),
        (b"v/1\x01" + b"\0" * 99, "EXR"),
        (png(size=(64, 64))[:90], "truncated"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "truncated"),
        (picture(Image.new("RGB", (64, 64)), "JPEG")[:300], "truncated"),
        (b"BM" + b"\xff" * 80, "truncated"),
        (b"GIF89a" + b"\xff" * 80, "truncated"),
        (b"II*\0" + b"\xff" * 80, "truncated"),
        (b"DDS " + b"\xff" * 200, "truncated"),
        (picture(Image.new("1", (20000, 20000))), "too many pixels"),
        (picture(Image.new("1", (9000, 9000))), "too many pixels"),
    ],
)
def test_textures_that_cannot_be_read_are_a_warning_that_names_them(data: bytes, said: str) -> None:
    files = {"wood.xyz": data}
    file = textured({}, image={"uri": "wood.xyz"})
    (piece,), (warning,) = file.load({"mesh": 0}, files=files)
    assert piece.surface.material.baseColorTexture is None
    assert warning.startswith("unreadable texture 0 wood.xyz: ")
    assert said in warning


def test_grey_of_16_bits_is_grey() -> None:
    grey = picture(Image.fromarray(np.full((8, 8), 0x8000, np.uint16)))
    (piece,), warnings = textured({}, image={"uri": "grey.png"}).load({"mesh": 0}, files={"grey.png": grey})
    assert piece.surface.material.baseColorTexture.getpixel((3, 3)) == (128, 128, 128)
    assert warnings == []


def test_a_texture_whose_alpha_hides_everything_is_opaque() -> None:
    vertices, faces = obj_box(0, 1)
    files = {
        "a.obj": f"mtllib a.mtl\n{vertices}vt 0 0\nusemtl m\n{faces}".encode(),
        "a.mtl": b"newmtl m\nmap_Kd -s 2 3 -o .5 0 -clamp on t.png\nmap_Bump b.png\n",
        "t.png": png((9, 9, 9, 0)),
    }
    (piece,), warnings = load("a.obj", files)
    assert piece.surface.material.alphaMode is None
    assert piece.surface.material.wrap == (33071, 33071)
    assert warnings == ["transparent texture of m taken as opaque", "map_Bump of m not used"]


def test_packed_files_are_read() -> None:
    import DracoPy
    import meshoptimizer

    file = Gltf(extensionsUsed=["KHR_draco_mesh_compression"])
    packed = DracoPy.encode(np.array(SQUARE, np.float32), np.array([[0, 1, 2], [0, 2, 3]], np.uint32))
    extension = {"KHR_draco_mesh_compression": {"bufferView": file.view(packed), "attributes": {"POSITION": 0}}}
    file.header["accessors"].append({"componentType": 5126, "count": 4, "type": "VEC3"})
    file.mesh({"POSITION": 0}, {"extensions": extension})
    assert area(file.load({"mesh": 0})[0]) == pytest.approx(1, abs=1e-3)
    file = Gltf(extensionsRequired=["EXT_meshopt_compression"])
    view = file.view(meshoptimizer.encode_vertex_buffer(np.array(SQUARE, np.float32), 4, 12))
    packed = {"buffer": 0, "byteStride": 12, "count": 4, "mode": "ATTRIBUTES"}
    packed |= {key: file.header["bufferViews"][view][key] for key in ("byteOffset", "byteLength")}
    file.header["bufferViews"][view]["extensions"] = {"EXT_meshopt_compression": packed}
    file.header["accessors"].append({"bufferView": view, "componentType": 5126, "count": 4, "type": "VEC3"})
    file.mesh({"POSITION": 0}, {"mode": 6})
    assert area(file.load({"mesh": 0})[0]) == pytest.approx(1)


def test_bundle_of_other_files_is_found_by_any_spelling() -> None:
    bundle = Bundle("a.gltf", {"my file.bin": b"1"})
    assert bundle.find("my file.bin", "my%20file.bin") == b"1"
    assert bundle.find("./x/../my file.bin # here") == b"1"
    assert bundle.find("../my file.bin") is None
