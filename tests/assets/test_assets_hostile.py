"""Files made to cost time or memory: what they cost grows no faster than their size, and one sentence ends it."""

import contextlib
import json
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest

from pipeline.assets import textures
from pipeline.assets.bundle import read_bundle
from pipeline.assets.reasons import ObjectDropped
from tests.assets.test_assets_formats import SQUARE, Gltf, load
from tests.assets_files import gltf, png

MEGABYTE = 1_000_000
SECONDS = 4
"""For a megabyte; what is quadratic takes minutes, and what is linear a tenth of a second, also on a busy machine."""

TRIANGLE = b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n"
BLANKS = b" " * MEGABYTE


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        b"mtllib a" + BLANKS + b"b\n",
        b"mtllib " + b"a " * (MEGABYTE // 2) + b"\n",
        b"mtllib \n" * (MEGABYTE // 8),
        b"mtllib a.mtl\n" * (MEGABYTE // 13),
        b"g a" + BLANKS + b"b\n",
        b"o" + b"\t" * MEGABYTE + b"\n",
        b"usemtl " + b"#" * MEGABYTE + b"\n",
        b"\\\n" * (MEGABYTE // 2),
        b"\n" * MEGABYTE,
        b"f" + b" 1" * (MEGABYTE // 2) + b"\n",
        b"f " + b"1" * 4000 + b"\n",
        b"v " + b"1e999999 " * (MEGABYTE // 9) + b"\n",
        b"# " + BLANKS + b"\r" + BLANKS + b"\n",
    ],
    ids=range(13),
)
@pytest.mark.parametrize("place", ["obj", "mtl"])
def test_lines_of_a_megabyte(text: bytes, place: str) -> None:
    files = {"a.obj": text + TRIANGLE} if place == "obj" else {"a.obj": b"mtllib a.mtl\n" + TRIANGLE}
    files["a.mtl"] = b"newmtl a\n" if place == "obj" else b"newmtl a\n" + text.replace(b"mtllib", b"map_Kd")
    started = time.process_time()
    with contextlib.suppress(ObjectDropped):
        load("a.obj", files)
    assert time.process_time() - started < SECONDS


@pytest.mark.parametrize(
    "statement",
    [b"map_Kd " + b"-a b " * 200_000 + b"x.png", b"map_Kd -s" + b" 1" * 500_000, b"map_Kd -s " + b"1" * MEGABYTE,
     b"map_Kd" + BLANKS + b"x", b"map_" + b"a" * MEGABYTE, b"bump -bm " + BLANKS],
    ids=range(6),
)  # fmt: skip
def test_texture_statements_of_a_megabyte(statement: bytes) -> None:
    started = time.process_time()
    load("a.obj", {"a.obj": b"mtllib a.mtl\n" + TRIANGLE, "a.mtl": b"newmtl a\n" + statement + b"\n"})
    assert time.process_time() - started < SECONDS


@pytest.mark.parametrize(
    "header",
    [
        b"comment TextureFile a" + BLANKS + b"b\n",
        b"element vertex 3\n" + b"property list uchar int a\n" * 2000,
        b"element face 1000000000000\n",
        b"element face 1000000000000\nproperty list uchar int vertex_indices\n",
        b"element vertex 1000000000000\nproperty float x\nproperty float y\nproperty float z\n",
    ],
    ids=range(5),
)
@pytest.mark.parametrize("kind", ["ascii", "binary_little_endian"])
def test_headers_of_ply_that_promise_too_much(header: bytes, kind: str) -> None:
    text = b"ply\nformat " + kind.encode() + b" 1.0\n" + header + b"end_header\n" + b"0 " * 1000
    started = time.process_time()
    with pytest.raises(ObjectDropped):
        load("a.ply", {"a.ply": text})
    assert time.process_time() - started < SECONDS


def test_a_header_with_millions_of_values_is_not_parsed() -> None:
    started = time.process_time()
    with pytest.raises(ObjectDropped, match="more than 3000000 values"):
        read_bundle("a.gltf", lambda *_: b'{"nodes": [' + b"{}," * 3_000_000 + b"{}]}", 10**8)
    with pytest.raises(ObjectDropped, match="corrupt glTF header"):
        read_bundle("a.gltf", lambda *_: b"[" * MEGABYTE, 10**8)
    assert time.process_time() - started < SECONDS


def test_nodes_in_a_line_in_a_ring_and_with_two_parents() -> None:
    deep = [{"children": [k + 1]} for k in range(20_000)]
    tree = {"scenes": [{"nodes": [0]}], "nodes": [*deep, {"mesh": 0}]}
    vertices, faces = np.array(SQUARE, float), np.array([[0, 1, 2]])
    started = time.process_time()
    pieces, _ = load("a.glb", {"a.glb": gltf(tree, vertices, faces)})
    assert len(pieces) == 1
    for nodes in (
        [{"children": [1]}, {"children": [0], "mesh": 0}],
        [{"children": [2]}, {"children": [2]}, {"mesh": 0}],
    ):
        tree = {"scenes": [{"nodes": [0]}], "nodes": nodes}
        with pytest.raises(ObjectDropped, match="corrupt glTF: a node"):
            load("a.glb", {"a.glb": gltf(tree, vertices, faces)})
    assert time.process_time() - started < SECONDS


def test_copies_are_counted_before_they_are_made() -> None:
    file = Gltf()
    file.mesh({"POSITION": file.accessor(SQUARE)}, {"mode": 6})
    many = file.accessor([(0, 0, 0)])
    file.header["accessors"][many] = {"componentType": 5126, "count": 10_000_000, "type": "VEC3"}
    extensions = {"EXT_mesh_gpu_instancing": {"attributes": {"TRANSLATION": many}}}
    started = time.process_time()
    with pytest.raises(ObjectDropped, match="more triangles"):
        file.load({"mesh": 0, "extensions": extensions})
    assert time.process_time() - started < SECONDS


MEMORY = """
import resource, sys
from pathlib import Path
import numpy as np
from pipeline.assets import textures
from pipeline.assets.bundle import read_bundle
from pipeline.assets.load import load_pieces
from pipeline.assets.readers import FolderReader
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
bundle = read_bundle("a.gltf", FolderReader(Path(sys.argv[1])), 10**8)
pieces, warnings = load_pieces(bundle, 64, 0.25, 10**6, np.eye(4))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, len(pieces), len(warnings))
"""


@pytest.mark.slow
def test_many_large_textures_take_the_memory_of_one(tmp_path: Path) -> None:
    """Ten pictures of one bit, 5000 pixels a side, take 25 MB each once they are decoded, and 75 more as RGB."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4) + kind + data + zlib.crc32(kind + data).to_bytes(4)

    side, count = (5000).to_bytes(4), 10
    rows = zlib.compress((b"\0" + b"\x55" * 625) * 5000)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", side + side + b"\x01\0\0\0\0")
    (tmp_path / "a.png").write_bytes(start + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
    (tmp_path / "a.bin").write_bytes(np.array([*SQUARE[:3]], "<f4").tobytes())
    primitives = [{"attributes": {"POSITION": 0}, "material": k} for k in range(count)]
    header = {
        "buffers": [{"uri": "a.bin", "byteLength": 36}],
        "bufferViews": [{"buffer": 0, "byteLength": 36}],
        "accessors": [{"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3"}],
        "images": [{"uri": "a.png"}] * count,
        "textures": [{"source": k} for k in range(count)],
        "materials": [{"pbrMetallicRoughness": {"baseColorTexture": {"index": k}}} for k in range(count)],
        "meshes": [{"primitives": primitives}],
        "nodes": [{"mesh": 0}],
    }
    (tmp_path / "a.gltf").write_text(json.dumps(header))
    done = subprocess.run([sys.executable, "-c", MEMORY, str(tmp_path)], capture_output=True, text=True, check=True)
    kilobytes, pieces, warnings = map(int, done.stdout.split())
    assert (pieces, warnings) == (count, 0)
    assert kilobytes < 220_000


def test_textures_have_a_bound_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(textures, "MOST_PIXELS_TOGETHER", 100)
    said: list[str] = []
    read = textures.Textures(64, said)
    assert [read(name, png(size=(8, 8))) is None for name in "ab"] == [False, True]
    assert said == ["unreadable texture b: too many pixels in all textures together; save it as PNG or JPEG"]
