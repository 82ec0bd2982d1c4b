"""What an uploaded file is, by what is in it and not by what it is called."""

import json
import os
import re
from pathlib import Path
from typing import Literal

from pipeline.app.refusals import Refusal

Kind = Literal["object", "picture", "archive"]
OBJECTS = ("glb", "gltf", "obj", "ply", "stl", "zip")
PICTURES = ("png", "jpg", "webp", "tiff", "bmp", "gif", "avif")
_LOOKED_AT = 2**16
_STL_HEADER, _STL_TRIANGLE = 84, 50
_VERTEX = re.compile(rb"^[ \t]*v[ \t]+[-+.\d]", re.MULTILINE)


def find_format(path: Path) -> tuple[Kind, str]:
    """The kind and the suffix of a file, without a dot; Refusal (415) when it is none that is read."""
    with path.open("rb") as file:
        head = file.read(_LOOKED_AT)
        size = os.fstat(file.fileno()).st_size
    if not head:
        raise Refusal(415, "The file is empty; give a 3D object or a picture.")
    if (picture := _picture(head)) is not None:
        return "picture", picture
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "archive", "zip"
    if (found := _object(head, size, path)) is not None:
        return "object", found
    known = ", ".join((*OBJECTS, *PICTURES))
    raise Refusal(415, f"The file is none of the kinds that are read by its content; give one of {known}.")


def _picture(head: bytes) -> str | None:
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if head.startswith(b"\xff\xd8\xff"):
        return "jpg"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head[:4] in (b"II*\0", b"MM\0*"):
        return "tiff"
    if head[:2] == b"BM" and head[6:10] == b"\0\0\0\0":
        return "bmp"
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return "gif"
    return "avif" if head[4:8] == b"ftyp" and head[8:12] in (b"avif", b"avis") else None


def _object(head: bytes, size: int, path: Path) -> str | None:
    if head.startswith(b"glTF"):
        return "glb"
    if head.startswith((b"ply\n", b"ply\r")):
        return "ply"
    if size >= _STL_HEADER and size == _STL_HEADER + _STL_TRIANGLE * int.from_bytes(head[80:84], "little"):
        return "stl"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if b"\0" in head:
        return None
    if text.startswith(b"solid") and b"facet" in text:
        return "stl"
    if text.startswith(b"{"):
        return "gltf" if _is_gltf(path) else None
    return "obj" if _VERTEX.search(text) else None


def _is_gltf(path: Path) -> bool:
    try:
        header = json.loads(path.read_bytes().decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return False
    return isinstance(header, dict) and isinstance(header.get("asset"), dict) and "version" in header["asset"]
