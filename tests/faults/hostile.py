"""Files that were made to do harm, and what reads files of their kind.

Each case makes files in its folder and reads them there; within OUTSIDE, beside that folder, lies what must stay
unread. A case that is refused in one sentence, or read, within memory and time, is survived.
"""

import json
import os
import socket
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.applications.photo import read_picture
from pipeline.assets.sweethome3d import sweethome3d_assets
from tests.assets_files import built_folder, gltf, png

OUTSIDE = "../outside"
SECRET = f"{OUTSIDE}/secret.png"
BOMB_PX, BOMB_TEXTURES = 9400, 90
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n"
CORNERS = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], float)
FACES = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])


@dataclass(frozen=True)
class Case:
    """A hostile input."""

    make: Callable[[], object]
    read: Callable[[], object]


def png_bomb(side: int = BOMB_PX) -> bytes:
    """A picture of one bit a pixel that takes 11 kB, and 88 MB when it is decoded to bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((side + 7) // 8 + 1) * side, 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def zip_bomb(path: Path, name: str, gigabytes: int = 4) -> None:
    """An archive of some megabytes with one entry of zeros."""
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open(name, "w", force_zip64=True) as entry,
    ):
        for _ in range(gigabytes * 16):
            entry.write(bytes(2**26))


def deep_json(depth: int = 200_000) -> bytes:
    return b'{"asset": ' + b"[" * depth + b"]" * depth + b"}"


def header(**changes: Any) -> bytes:
    """A GLB of a tetrahedron whose header is changed."""
    return gltf(changes, CORNERS, FACES)


def textured(uri: str) -> bytes:
    """A glTF that refers to a picture."""
    images = {"images": [{"uri": uri}], "textures": [{"source": 0}]}
    materials = [{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}]
    meshes = [{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1, "material": 0}]}]
    return header(**images, materials=materials, meshes=meshes, scenes=[{"nodes": [0]}], nodes=[{"mesh": 0}])


def accessor(**changes: Any) -> bytes:
    tree = {"bufferView": 0, "componentType": 5126, "count": 4, "type": "VEC3"} | changes
    faces = {"bufferView": 1, "componentType": 5125, "count": 12, "type": "SCALAR"}
    return header(accessors=[tree, faces], scenes=[{"nodes": [0]}], nodes=[{"mesh": 0}])


def write(name: str, data: bytes) -> None:
    """A file, with `outside` beside the folder of the case."""
    Path(OUTSIDE).mkdir(exist_ok=True)
    Path(SECRET).write_bytes(png())
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def bind(name: str) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(name)


def texture_bomb() -> None:
    write("o/bomb.png", png_bomb())
    images = [{"uri": "bomb.png"} for _ in range(BOMB_TEXTURES)]
    textures = [{"source": number} for number in range(BOMB_TEXTURES)]
    materials = [{"pbrMetallicRoughness": {"baseColorTexture": {"index": number}}} for number in range(BOMB_TEXTURES)]
    meshes = [
        {"primitives": [{"attributes": {"POSITION": 0}, "indices": 1, "material": number}]}
        for number in range(BOMB_TEXTURES)
    ]
    nodes = [{"mesh": number, "name": f"part {number}"} for number in range(BOMB_TEXTURES)]
    scenes = [{"nodes": list(range(BOMB_TEXTURES))}]
    tree = {"images": images, "textures": textures, "materials": materials, "meshes": meshes, "nodes": nodes}
    write("o/a.glb", header(**tree, scenes=scenes))


def read_object(name: str) -> None:
    """As a worker of the stage assets does."""
    print(built_folder(Path("o"), name)["objects"][0]["reason"] or "read")


def _object(name: str, data: bytes, *also: tuple[str, bytes]) -> Case:
    def make() -> None:
        for file, content in ((name, data), *also):
            write(f"o/{file}", content)

    return Case(make, partial(read_object, name))


def _made(name: str, make: Callable[[], object]) -> Case:
    def all_of_it() -> None:
        write("o/beside", b"")
        make()

    return Case(all_of_it, partial(read_object, name))


OBJECTS = {
    "a deep header": _object("a.gltf", deep_json()),
    "a deep header in a GLB": _object("a.glb", header(extras=json.loads("[" * 900 + "]" * 900))),
    "a million vertices told, four there": _object("a.glb", accessor(count=1_000_000)),
    "two billion vertices": _object("a.glb", accessor(count=2**31)),
    "a negative count": _object("a.glb", accessor(count=-4)),
    "a count that is a text": _object("a.glb", accessor(count="many")),
    "nodes in a ring": _object("a.glb", header(scenes=[{"nodes": [0]}], nodes=[{"mesh": 0, "children": [0]}])),
    "a PLY of 10^12 vertices": _object(
        "a.ply", b"ply\nformat ascii 1.0\nelement vertex 1000000000000\nproperty float x\nend_header\n0\n"
    ),
    "an STL of 2^32 triangles": _object("a.stl", bytes(80) + b"\xff\xff\xff\xff" + bytes(50)),
    "an OBJ with a line of 1 MB": _object("a.obj", b"v " + b"1" * 1_000_000 + b" 0 0\nf 1 1 1\n"),
    "an OBJ with 1 MB of spaces in mtllib": _object("a.obj", b"mtllib a" + b" " * 1_000_000 + b"b\nv 0 0 0\n"),
    "an OBJ with 1 MB of spaces in a group": _object(
        "a.obj", b"v 0 0 0\nv 1 0 0\nv 0 1 0\ng a" + b" " * 1_000_000 + b"b\nf 1 2 3\n"
    ),
    "an OBJ with indices of 10^12": _object("a.obj", b"v 0 0 0\nf 1000000000000 1 -1000000000000\n"),
    "a picture outside": _object("a.glb", textured(f"../{SECRET}")),
    "a picture outside, escaped": _object("a.glb", textured("%2e%2e/%2e%2e/outside/secret.png")),
    "a picture by an absolute path": _object("a.glb", textured("/etc/hostname")),
    "a picture by file:": _object("a.glb", textured("file:///etc/hostname")),
    "a picture by http:": _object("a.glb", textured("http://127.0.0.1:9/x.png")),
    "a picture that is a pointer of Git LFS": _object("a.glb", textured("t.png"), ("t.png", POINTER)),
    "a truncated picture": _object("a.glb", textured("t.png"), ("t.png", png(size=(64, 64))[:80])),
    "a bomb of a picture": _object("a.glb", textured("t.png"), ("t.png", png_bomb())),
    "a material library outside": _object("a.obj", b"mtllib ../../outside/x.mtl\nv 0 0 0\n"),
    "a pointer of Git LFS": _object("a.glb", POINTER),
    "nothing": _object("a.glb", b""),
    "a node's name with a lone surrogate": _object(
        "a.glb", header(scenes=[{"nodes": [0]}], nodes=[{"mesh": 0, "name": "\ud800"}])
    ),
    "90 bombs of pictures": Case(texture_bomb, partial(read_object, "a.glb")),
    "a pipe": _made("a.glb", lambda: os.mkfifo("o/a.glb")),
    "a socket": _made("a.glb", lambda: bind("o/a.glb")),
    "a link to a device": _made("a.glb", lambda: os.symlink("/dev/zero", "o/a.glb")),
    "a link outside": _made("a.glb", lambda: os.symlink(f"../{SECRET}", "o/a.glb")),
    "a link to itself": _made("a.glb", lambda: os.symlink("a.glb", "o/a.glb")),
    "a folder": _made("a.glb", lambda: os.mkdir("o/a.glb")),
}  # fmt: skip


def _picture(make: Callable[[], object]) -> Case:
    return Case(make, lambda: print(read_picture(Path("picture.png")).size))


PICTURES = {
    "picture: a bomb": _picture(lambda: write("picture.png", png_bomb())),
    "picture: 50,000 pixels a side": _picture(lambda: write("picture.png", png_bomb(50_000))),
    "picture: truncated": _picture(lambda: write("picture.png", png(size=(64, 64))[:90])),
    "picture: a pointer of Git LFS": _picture(lambda: write("picture.png", POINTER)),
    "picture: a pipe": _picture(lambda: os.mkfifo("picture.png")),
    "picture: a device": _picture(lambda: os.symlink("/dev/zero", "picture.png")),
    "picture: a folder": _picture(lambda: os.mkdir("picture.png")),
    "picture: a program for Ghostscript": _picture(lambda: write("picture.png", b"%!PS-Adobe-3.0\n(x) run\n")),
}


def _library(make: Callable[[Path], object]) -> Case:
    def read() -> None:
        for asset in sweethome3d_assets(Path("a.sh3f"), 10):
            print(asset.object_id, asset.matrix().shape, len(asset.identity(10**8)))

    return Case(lambda: make(Path("a.sh3f")), read)


def _catalogue(text: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("PluginFurnitureCatalog.properties", text)
            archive.writestr("a/a.obj", "v 0 0 0\n")

    return make


LIBRARIES = {
    "library: a bomb of a catalogue": _library(lambda path: zip_bomb(path, "PluginFurnitureCatalog.properties")),
    "library: a rotation of words": _library(
        _catalogue("id#1=a\nmodel#1=a/a.obj\nmodelRotation#1=a b c d e f g h i\n")
    ),
    "library: an escape of a lone surrogate": _library(_catalogue("id#1=\\ud800\nmodel#1=a/a.obj\nname#1=\\ud800\n")),
    "library: a model outside": _library(_catalogue("id#1=a\nmodel#1=../../outside/secret.png\n")),
    "library: no archive": _library(lambda path: write(str(path), POINTER)),
    "library: truncated": _library(lambda path: write(str(path), b"PK\x03\x04" + bytes(40))),
}

CASES = {**OBJECTS, **PICTURES, **LIBRARIES}
