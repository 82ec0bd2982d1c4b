"""What an object's files refer to, found in time linear in their size: nothing else is read for them."""

import json
import posixpath
import re
import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import unquote

from pipeline.assets.reasons import ObjectDropped, as_text, encodable, shortened

GLB_MAGIC = b"glTF"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
MOST_VALUES = 3_000_000
"""Values in a glTF header; each takes up to a hundred bytes of memory once it is parsed."""
PLY_HEADER = 65536
"""Bytes in which the header of a PLY must end."""

_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:")
_ABSOLUTE = re.compile(r"/|\\|[a-zA-Z]:[/\\]")
# Each of these looks at a line from its start to its end once: what follows is stripped in Python.
_MTLLIB = re.compile(rb"^[ \t]*mtllib[ \t]([^\r\n]*)", re.MULTILINE)
_COMMENT_TEXTURE = re.compile(rb"^comment[ \t]+TextureFile[ \t]([^\r\n]*)", re.MULTILINE)


def local_name(reference: str) -> str:
    """A reference as a name relative to the main file's folder; it may begin with `..`.

    ObjectDropped when it is on the network.
    """
    name = encodable(reference).replace("\\", "/")
    if _SCHEME.match(name) and not is_absolute(name):
        raise ObjectDropped(
            f"refused reference {shortened(reference)!r}: remote; put the file beside the object and refer to it there"
        )
    return posixpath.normpath(name)


def is_absolute(name: str) -> bool:
    """Whether a reference is a path on somebody's own disk: nothing is read from there."""
    return _ABSOLUTE.match(name) is not None


def gltf_header(contents: bytes) -> dict[str, Any]:
    """The JSON of a glTF or GLB file; ObjectDropped when it is corrupt, truncated, or larger than any real one."""
    if contents[:4] == GLB_MAGIC:
        if len(contents) < 20 or len(contents) < struct.unpack_from("<I", contents, 8)[0]:
            raise ObjectDropped("truncated GLB; export or download it again")
        contents = contents[20 : 20 + struct.unpack_from("<I", contents, 12)[0]]
    if contents.count(b",") + contents.count(b"{") + contents.count(b"[") > MOST_VALUES:
        raise ObjectDropped(f"a glTF header with more than {MOST_VALUES} values; export it with fewer nodes")
    try:
        header = json.loads(contents.decode("utf-8-sig"))
    except (UnicodeDecodeError, ValueError, RecursionError):
        raise ObjectDropped("corrupt glTF header; export it again") from None
    if not isinstance(header, dict):
        raise ObjectDropped("corrupt glTF header; export it again")
    if b"\\ud" not in contents and b"\\uD" not in contents:
        return header
    return dict(encodable(header))


def entries(header: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    """A list of a glTF header, such as its nodes; what is no object in it is an empty one."""
    found = header.get(key)
    return [entry if isinstance(entry, dict) else {} for entry in found] if isinstance(found, list) else []


def gltf_files(header: Mapping[str, Any], key: str) -> Iterator[tuple[str, str]]:
    """The files of `buffers` or `images`, each in two spellings; but for those within the header."""
    for entry in entries(header, key):
        uri = entry.get("uri")
        if isinstance(uri, str) and not uri.startswith("data:"):
            yield unquote(uri), uri


def candidates(*references: str) -> Iterator[str]:
    """The names that references to one file may mean, relative to the main file's folder, the likeliest first.

    Lines of OBJ and MTL may end in a comment, and names may hold ` #`. Of a path on the artist's own disk only the last
    word is looked for, beside the object.
    """
    for reference in references:
        for name in dict.fromkeys((reference.strip(), reference.partition(" #")[0].strip())):
            found = posixpath.basename(name.replace("\\", "/")) if is_absolute(name) else local_name(name)
            if found not in ("", ".", ".."):
                yield found


def obj_libraries(contents: bytes, find: Callable[[str], bytes | None]) -> Iterator[tuple[str, bytes | None]]:
    """The material libraries of an OBJ, as `find` finds them: a line names one, with or without blanks, or several."""
    for match in _MTLLIB.finditer(contents.removeprefix(BYTE_ORDER_MARK)):
        line = as_text(match[1]).strip()
        words, whole = line.partition(" #")[0].split(), find(line)
        found = [find(word) for word in words] if whole is None and len(words) > 1 else []
        if any(data is not None for data in found):
            yield from zip(words, found, strict=True)
        else:
            yield line, whole


def ply_textures(contents: bytes) -> list[str]:
    """The textures that the comments of a PLY name."""
    return [as_text(match[1]).strip() for match in _COMMENT_TEXTURE.finditer(contents[:PLY_HEADER])]
