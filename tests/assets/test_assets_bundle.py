"""Files that are broken, missing, too large or refer to what they must not: dropped with a reason, never a crash."""

import json
import os
import socket
import struct
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.applications.render_input import draw_object, read_object
from pipeline.assets.bundle import read_bundle
from pipeline.assets.mtl import texture_statement
from pipeline.assets.readers import FolderReader, ZipReader
from pipeline.assets.reasons import ObjectDropped
from pipeline.errors import UserError
from pipeline.params.assets import AssetsParams
from pipeline.params.base import load_group
from pipeline.params.render import RenderParams
from tests.assets_files import ROW, SETTINGS, boxes, build, built, built_folder, gltf, obj_box, png, reason

TRIANGLES = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], float), np.array([[0, 1, 2]])
TWO = boxes(a=(1, 0), b=(1, 2))


@pytest.mark.parametrize("kind", ["glb", "gltf", "obj", "ply", "stl"])
@pytest.mark.parametrize(
    "data", [b"", b"\0", b"solid\n", b"{}", b"[]", b"ply\nend_header\n", b"f 1 2 3\n", b"\xff" * 999]
)
def test_rubbish_is_dropped(kind: str, data: bytes) -> None:
    assert reason(built(f"a.{kind}", data))


@pytest.mark.parametrize("length", [3, 11, 19, 40, 400, -1])
def test_truncated_glb(length: int) -> None:
    assert reason(built("a.glb", TWO[:length])).startswith(("truncated GLB", "corrupt glTF header"))


@settings(max_examples=60, deadline=None)
@given(position=st.integers(0, len(TWO) - 1), value=st.integers(0, 255))
def test_a_flipped_byte_keeps_or_drops_the_object(position: int, value: int) -> None:
    data = TWO[:position] + bytes([value]) + TWO[position + 1 :]
    (row,) = built("a.glb", data)["objects"]
    assert row["status"] in ("ok", "dropped")


@settings(max_examples=60, deadline=None)
@given(text=st.text(st.sampled_from("ofgvt/ \n-0123.e#usml"), max_size=200))
def test_any_obj_keeps_or_drops_the_object(text: str) -> None:
    (row,) = built("a.obj", text.encode())["objects"]
    assert row["status"] in ("ok", "dropped")


def test_empty_file() -> None:
    assert reason(built("a.glb", b"")) == "empty file"


def test_too_large(tmp_path: Path) -> None:
    (tmp_path / "a.stl").write_bytes(b"\0" * 1000)
    with pytest.raises(ObjectDropped, match="max_file_mb"):
        read_bundle("a.stl", FolderReader(tmp_path), 999)


def test_a_zip_bomb_is_not_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/a.obj", b"\0" * 5_000_000)
    with pytest.raises(ObjectDropped, match="max_file_mb"):
        read_bundle("a/a.obj", ZipReader(zipfile.ZipFile(tmp_path / "a.zip")), 1_000_000)


def test_a_damaged_archive(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a/a.obj", b"v 0 0 0\n" * 99)
    data = bytearray((tmp_path / "a.zip").read_bytes())
    data[60] ^= 1
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(ObjectDropped, match="damaged"):
        read_bundle("a/a.obj", ZipReader(zipfile.ZipFile(tmp_path / "a.zip")), 1_000_000)


@pytest.mark.parametrize("uri", ["x" * 5000, "a%00b", "."])
def test_names_that_no_file_has(tmp_path: Path, uri: str) -> None:
    (tmp_path / "a.gltf").write_text(json.dumps({"buffers": [{"uri": uri, "byteLength": 3}]}))
    assert reason(built_folder(tmp_path, "a.gltf"))


def test_other_formats() -> None:
    assert reason(built("a.dae", b"<COLLADA/>")).startswith("format '.dae'")


def test_too_many_triangles() -> None:
    assert reason(built("a.glb", TWO, max_triangles=23)) == "more triangles than assets.max_triangles"
    assert built("a.glb", TWO, max_triangles=24)["objects"][0]["status"] == "ok"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_vertices_that_are_not_finite(value: float) -> None:
    vertices, faces = TRIANGLES
    vertices = vertices.copy()
    vertices[1, 2] = value
    assert reason(built("a.glb", gltf({"nodes": [{"mesh": 0}], "scenes": [{"nodes": [0]}]}, vertices, faces))) == (
        "vertices are not finite"
    )


def test_zero_area() -> None:
    vertices, faces = TRIANGLES
    tree = {"nodes": [{"mesh": 0}, {"mesh": 0, "scale": [0, 0, 0]}], "scenes": [{"nodes": [0, 1]}]}
    assert reason(built("a.glb", gltf(tree, np.zeros_like(vertices), faces))).startswith("zero area: the corners")


def test_single_part() -> None:
    assert reason(built("a.glb", boxes(a=(1, 0)))) == "single part"


def test_only_lines_are_no_triangles() -> None:
    assert reason(built("a.obj", b"v 0 0 0\nv 1 0 0\nl 1 2\n")) == "no triangles: lines left out"


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.obj", b"v 0 0 0\nv 1 0 0\nv 1 1 0\n", "a point cloud: 3 points without faces; make a surface"),
        (
            "a.ply",
            b"ply\nformat ascii 1.0\nelement vertex 2\nproperty float x\nproperty float y\nproperty float z\n"
            b"end_header\n0 0 0\n1 0 0\n",
            "a point cloud: 2 points without faces; make a surface",
        ),
        ("a.glb", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "a Git LFS pointer"),
        ("a.stl", b"\0" * 80 + b"\x09\0\0\0" + b"\0" * 50, "truncated STL"),
    ],
)
def test_reasons_say_what_it_is(name: str, data: bytes, said: str) -> None:
    assert reason(built(name, data)).startswith(said)


def test_faces_that_refer_to_nothing() -> None:
    vertices, _ = TRIANGLES
    tree = {"nodes": [{"mesh": 0}], "scenes": [{"nodes": [0]}]}
    assert "faces refer to vertices that do not exist" in reason(
        built("a.glb", gltf(tree, vertices, np.array([[0, 1, 7]])))
    )


def test_required_extension() -> None:
    vertices, faces = TRIANGLES
    tree = {"extensionsRequired": ["ACME_bent_space"], "nodes": [{"mesh": 0}], "scenes": [{"nodes": [0]}]}
    said = reason(built("a.glb", gltf(tree, vertices, faces)))
    assert said == "needs the glTF extension ACME_bent_space; export it without that"


@pytest.mark.parametrize(
    "uri",
    [
        "http://example.org/a.bin",
        "HTTPS://example.org/a.bin",
        "file:///etc/passwd",
        "//example.org/a.bin",
        "/etc/passwd",
        "../a.bin",
        "%2e%2e/a.bin",
        "x/../../a.bin",
        "..\\a.bin",
        "C:\\a.bin",
    ],
)
@pytest.mark.parametrize("key", ["buffers", "images"])
def test_nothing_outside_the_folder_is_read(tmp_path: Path, uri: str, key: str) -> None:
    """A buffer is refused; a texture can be done without, but for one on the network."""
    folder = tmp_path / "inside"
    folder.mkdir()
    (tmp_path / "a.bin").write_bytes(b"secret" * 10)
    header = {"asset": {"version": "2.0"}, key: [{"uri": uri, "byteLength": 36}]}
    (folder / "a.gltf").write_text(json.dumps(header))
    if key == "buffers" or uri.lower().startswith(("http", "file")):
        assert reason(built_folder(folder, "a.gltf")).startswith("refused reference")
    else:
        bundle = read_bundle("a.gltf", FolderReader(folder), 1000)
        assert list(bundle.files) == ["a.gltf"]
        assert bundle.warnings[0].startswith("missing ")


def test_a_texture_beside_the_folder_of_the_model(tmp_path: Path) -> None:
    """As ShapeNet (`models`, `images`) and Sketchfab (`source`, `textures`) have it."""
    (tmp_path / "models").mkdir()
    (tmp_path / "images").mkdir()
    (tmp_path / "images/wood.png").write_bytes(png())
    write_obj(tmp_path / "models", "map_Kd ../images/wood.png")
    (row,) = built_folder(tmp_path, "models/a.obj")["objects"]
    assert (row["status"], row["textures"], row["warnings"]) == ("ok", 1, [])
    assert "../images/wood.png" in read_object(tmp_path / "models/a.obj", 10**6).files
    (row,) = built_folder(tmp_path / "models", "a.obj")["objects"]  # when only the inner folder was given
    assert (row["status"], row["textures"]) == ("ok", 0)
    assert row["warnings"] == ["missing ../images/wood.png, which lies outside the folder"]
    (tmp_path / "secret.bin").write_bytes(b"secret")
    (tmp_path / "models/a.gltf").write_text(json.dumps({"buffers": [{"uri": "../secret.bin"}]}))
    with pytest.raises(ObjectDropped, match="leaves the folder"):
        read_object(tmp_path / "models/a.gltf", 10**6)


def test_a_link_that_the_user_names(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "here").mkdir()
    for target in ("0a1b", "a.glb"):
        (tmp_path / "cache" / target).write_bytes(TWO)
        (tmp_path / "here/a.glb").unlink(missing_ok=True)
        (tmp_path / "here/a.glb").symlink_to(tmp_path / "cache" / target)
        assert build(read_object(tmp_path / "here/a.glb", 10**6))["objects"][0]["status"] == "ok"


@pytest.mark.parametrize("kind", ["fifo", "socket", "device"])
def test_what_is_no_file_is_one_sentence(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.glb"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        socket.socket(socket.AF_UNIX).bind(str(path))
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(UserError, match="is no regular file"):
        draw_object(path, load_group(AssetsParams), load_group(RenderParams))
    assert FolderReader(tmp_path, "a.glb")("a.glb", 10) is None
    assert reason(built_folder(tmp_path, "a.glb")) == "missing file a.glb"


def test_a_link_that_leads_out_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "inside"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(b"secret")
    (folder / "a.bin").symlink_to(tmp_path / "secret.bin")
    (folder / "a.gltf").write_text(json.dumps({"buffers": [{"uri": "a.bin"}]}))
    assert "leaves the folder" in reason(built_folder(folder, "a.gltf"))


def test_missing_buffer(tmp_path: Path) -> None:
    (tmp_path / "a.gltf").write_text(json.dumps({"buffers": [{"uri": "a.bin", "byteLength": 3}]}))
    assert reason(built_folder(tmp_path, "a.gltf")) == "missing buffer a.bin"


def test_gltf_with_files_beside_it(tmp_path: Path) -> None:
    scene = trimesh.load_scene(trimesh.util.wrap_as_stream(TWO), file_type="glb")
    for name, data in scene.export(file_type="gltf").items():
        (tmp_path / name).write_bytes(data)
    rows = built_folder(tmp_path, "model.gltf")
    assert rows["objects"][0]["status"] == "ok"
    assert [part["name"] for part in rows["parts"]] == ["a", "b"]


def test_escaped_names_in_gltf(tmp_path: Path) -> None:
    scene = trimesh.load_scene(trimesh.util.wrap_as_stream(TWO), file_type="glb")
    files = scene.export(file_type="gltf")
    header = json.loads(files.pop("model.gltf"))
    for number, buffer in enumerate(header["buffers"]):
        (tmp_path / f"my file {number}.bin").write_bytes(files[buffer["uri"]])
        buffer["uri"] = f"my%20file%20{number}.bin"
    (tmp_path / "a.gltf").write_text(json.dumps(header))
    assert [part["name"] for part in built_folder(tmp_path, "a.gltf")["parts"]] == ["a", "b"]


def write_obj(folder: Path, statement: str) -> None:
    vertices, faces = obj_box(0, 1)
    more_vertices, more_faces = obj_box(3, 9)
    uv = "vt 0 0\n"
    faces = faces.replace("f ", "usemtl wood\nf ", 1)
    (folder / "a.obj").write_text(f"mtllib a.mtl\n{vertices}{more_vertices}{uv}o a\n{faces}o b\n{more_faces}")
    (folder / "a.mtl").write_text(f"newmtl wood\nKd 1 0 0\n{statement}\n")


@pytest.mark.parametrize("statement", ["map_Kd gone.png", "map_Kd C:\\Users\\me\\wood.png", "map_Kd /home/me/wood.png"])
def test_missing_texture_is_a_warning(tmp_path: Path, statement: str) -> None:
    write_obj(tmp_path, statement)
    (row,) = built_folder(tmp_path, "a.obj")["objects"]
    assert row["status"] == "ok"
    assert row["warnings"] == [f"missing {statement.split(' ', 1)[1]}"]


@pytest.mark.parametrize("data", [b"", b"no image", png()[:50]])
def test_broken_texture_is_a_warning(tmp_path: Path, data: bytes) -> None:
    write_obj(tmp_path, "map_Kd wood.png")
    (tmp_path / "wood.png").write_bytes(data)
    (row,) = built_folder(tmp_path, "a.obj")["objects"]
    assert (row["status"], row["textures"]) == ("ok", 0)
    assert "unreadable" in " ".join(row["warnings"])


def test_missing_material_library_is_a_warning(tmp_path: Path) -> None:
    write_obj(tmp_path, "")
    (tmp_path / "a.mtl").unlink()
    (row,) = built_folder(tmp_path, "a.obj")["objects"]
    assert (row["status"], row["warnings"]) == ("ok", ["missing a.mtl"])


def test_refused_texture(tmp_path: Path) -> None:
    write_obj(tmp_path, "map_Kd http://example.org/a.png")
    assert reason(built_folder(tmp_path, "a.obj")).startswith("refused reference")


def test_texture_statements() -> None:
    scaled = texture_statement("-s 1 2 1 -o .5 0 wood grain.png")
    assert (scaled.file, scaled.options) == ("wood grain.png", {"s": ["1", "2", "1"], "o": [".5", "0"]})
    assert texture_statement("-clamp on -mm 0 1 wood.png").options == {"clamp": ["on"], "mm": ["0", "1"]}
    assert texture_statement("-blendu on ../images/wood.png").file == "../images/wood.png"


@given(
    parts=st.lists(st.sampled_from(["a", "b", "..", ".", ""]), min_size=1, max_size=8),
    separator=st.sampled_from(["/", "\\"]),
)
def test_nothing_outside_is_asked_for(parts: list[str], separator: str) -> None:
    """Whatever a reference says, only names below the root reach the disk."""
    asked = []

    def read(name: str, _: int) -> bytes | None:
        asked.append(name)
        reader = FolderReader(Path("/proc/self/nothing"))
        return b"{}" if name == "x/y/a.gltf" else reader(name, 10)

    header = json.dumps({"images": [{"uri": separator.join(parts)}]}).encode()
    bundle = read_bundle("x/y/a.gltf", lambda name, n: header if name == "x/y/a.gltf" else read(name, n), 1000, "x")
    assert all(name.startswith("x/") for name in asked)
    assert list(bundle.files) == ["a.gltf"]


def content(data: bytes, _name: str, _limit: int) -> bytes:
    return data


def test_bundles_differ_by_content_and_name(tmp_path: Path) -> None:
    digests = set()
    for name, data in (("a.stl", b"1"), ("a.stl", b"2"), ("b.stl", b"1")):
        digests.add(read_bundle(name, partial(content, data), 10).digest())
    assert len(digests) == 3


def test_zip_identity_follows_the_files_of_the_object(tmp_path: Path) -> None:
    def identity(files: dict[str, str]) -> str:
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        return ZipReader(zipfile.ZipFile(tmp_path / "a.zip")).identity("a/a.obj")

    base = identity({"a/a.obj": "1", "b/b.obj": "1"})
    assert identity({"a/a.obj": "1", "b/b.obj": "2"}) == base
    assert identity({"a/a.obj": "2", "b/b.obj": "1"}) != base
    assert identity({"a/a.obj": "1", "a/a.png": "1"}) != base


def test_a_bomb_in_an_accessor_count() -> None:
    vertices, faces = TRIANGLES
    data = gltf({"nodes": [{"mesh": 0}], "scenes": [{"nodes": [0]}]}, vertices, faces)
    length = struct.unpack_from("<I", data, 12)[0]
    header = json.loads(data[20 : 20 + length])
    header["accessors"][0]["count"] = 10**9
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 4)
    rest = data[20 + length :]
    bomb = struct.pack("<III", 0x46546C67, 2, 20 + len(text) + len(rest)) + struct.pack("<II", len(text), 0x4E4F534A)
    assert "accessor 0 has the count 1000000000" in reason(built("a.glb", bomb + text + rest))


def test_row_of_a_dropped_object_keeps_its_attribution() -> None:
    (row,) = built("a.glb", b"")["objects"]
    assert {key: row[key] for key in ROW} == ROW
    assert SETTINGS.max_parts == 10
