"""Archives and files of strangers: what is unpacked lies within its folder and is no larger than it may be."""

import contextlib
import stat
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.app.archives import unpacked
from pipeline.app.refusals import Refusal
from pipeline.app.sniff import find_format
from tests.app.running import SAMPLES

OBJ = b"mtllib chair.mtl\nv 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n"
MOST = 100_000


def archive(files: dict[str, bytes], folder: Path, links: tuple[str, ...] = ()) -> Path:
    path = folder / "upload.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (stat.S_IFLNK if name in links else stat.S_IFREG | 0o644) << 16
            packed.writestr(entry, content)
    return path


def refusal(path: Path, folder: Path) -> Refusal:
    with pytest.raises(Refusal) as refused:
        unpacked(path, folder / "out", MOST)
    return refused.value


def test_an_object_is_unpacked_with_what_lies_beside_it(tmp_path: Path) -> None:
    files = {
        "model/chair.obj": OBJ, "model/chair.mtl": b"newmtl a\n", "model/textures/a.png": b"png",
        "__MACOSX/model/._chair.obj": b"x", "model/.DS_Store": b"x",
    }  # fmt: skip
    main = unpacked(archive(files, tmp_path), tmp_path / "out", MOST)
    assert main == tmp_path / "out/model/chair.obj"
    there = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert there == {"model/chair.obj", "model/chair.mtl", "model/textures/a.png"}


@pytest.mark.parametrize(
    "name", ["../chair.mtl", "/etc/chair.mtl", "a/../../b.mtl", "..\\b.mtl", "C:/b.mtl", "a\x07b.mtl", "x" * 300]
)
def test_names_that_climb_are_refused(tmp_path: Path, name: str) -> None:
    found = refusal(archive({"chair.obj": OBJ, name: b"x"}, tmp_path), tmp_path)
    assert (found.status, "leads out of it" in found.sentence) == (400, True)
    assert not [path for path in tmp_path.rglob("*") if path.suffix == ".mtl"]


def test_links_are_refused(tmp_path: Path) -> None:
    path = archive({"chair.obj": OBJ, "chair.mtl": b"/etc/passwd"}, tmp_path, links=("chair.mtl",))
    assert "link or device" in refusal(path, tmp_path).sentence


def test_bombs_are_refused_whatever_they_say_of_their_size(tmp_path: Path) -> None:
    bomb = archive({"chair.obj": OBJ, "a.bin": bytes(50_000_000)}, tmp_path)
    assert bomb.stat().st_size < 60_000
    assert refusal(bomb, tmp_path).status == 413
    content = bytearray(bomb.read_bytes())  # an entry that says it is small
    at = content.rfind(b"PK\x01\x02")
    content[at + 24 : at + 28] = (100).to_bytes(4, "little")
    bomb.write_bytes(content)
    assert refusal(bomb, tmp_path / "again").status in (413, 415)
    many = archive({f"{number}.mtl": b"" for number in range(1001)}, tmp_path)
    assert "1001 files" in refusal(many, tmp_path / "third").sentence
    huge = archive({"x" * 200 + f"{number}.mtl": b"" for number in range(10_000)}, tmp_path)
    assert "more than 1000 files" in refusal(huge, tmp_path / "fourth").sentence


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"a.txt": b"x"}, "holds 0 3D objects"),
        ({"a.obj": OBJ, "b.obj": OBJ}, "holds 2 3D objects"),
        ({"a.obj": OBJ, "A.OBJ": OBJ}, "two files of one name"),
    ],
)
def test_one_object_an_archive(tmp_path: Path, files: dict[str, bytes], words: str) -> None:
    assert words in refusal(archive(files, tmp_path), tmp_path).sentence


@settings(max_examples=60)
@given(where=st.integers(0, 2**16), value=st.integers(0, 255), cut=st.integers(0, 2**16))
def test_damaged_archives_are_refused_or_unpacked(
    tmp_path_factory: pytest.TempPathFactory, where: int, value: int, cut: int
) -> None:
    folder = tmp_path_factory.mktemp("zip")
    path = archive({"chair.obj": OBJ * 50, "chair.mtl": b"newmtl a\n"}, folder)
    content = bytearray(path.read_bytes())
    content[where % len(content)] = value
    path.write_bytes(content[: len(content) - cut % 40])
    with contextlib.suppress(Refusal):
        assert unpacked(path, folder / "out", MOST).is_relative_to(folder / "out")
    outside = [one for one in folder.rglob("*") if one.is_file() and not one.is_relative_to(folder / "out")]
    assert outside == [path]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ((SAMPLES / "butter.glb").read_bytes(), ("object", "glb")),
        (b'\n {"asset": {"version": "2.0"}}', ("object", "gltf")),
        (b"ply\nformat ascii 1.0\n", ("object", "ply")),
        (bytes(80) + (2).to_bytes(4, "little") + bytes(100), ("object", "stl")),
        (b"solid cube\n facet normal 0 0 1\n", ("object", "stl")),
        (b"# made by hand\no chair\nv 0 0 0\n", ("object", "obj")),
        (b"\x89PNG\r\n\x1a\n...", ("picture", "png")),
        (b"\xff\xd8\xff\xe0", ("picture", "jpg")),
        (b"RIFF\0\0\0\0WEBPVP8 ", ("picture", "webp")),
        (b"PK\x03\x04", ("archive", "zip")),
    ],
)
def test_files_are_told_by_their_content(tmp_path: Path, content: bytes, expected: tuple[str, str]) -> None:
    (tmp_path / "received").write_bytes(content)
    assert find_format(tmp_path / "received") == expected


@settings(max_examples=100)
@given(content=st.binary(max_size=300))
def test_any_bytes_are_told_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(content)
    with contextlib.suppress(Refusal):
        find_format(path)
