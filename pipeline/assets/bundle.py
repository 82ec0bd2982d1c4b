"""An object's files in memory: the main one and everything it refers to, and nothing from outside its folder."""

import hashlib
import json
import posixpath
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

FORMATS = (".glb", ".gltf", ".obj", ".ply", ".stl")
"""The kinds of files that an object may come in."""

_GLB_MAGIC = b"glTF"
_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:")
_ABSOLUTE = re.compile(r"/|\\|[a-zA-Z]:[/\\]")
_MTL_TEXTURE = re.compile(
    rb"^[ \t]*(map_\w+|bump|disp|decal|refl|norm)[ \t]+(.+?)[ \t\r]*$", re.MULTILINE | re.IGNORECASE
)
_MTL_OPTION = re.compile(r"-(?:[ost](?:\s+[-+.\deE]+){1,3}|mm(?:\s+[-+.\deE]+){2}|[a-zA-Z]+\s+\S+)\s+")
_LOADED_TEXTURES = (b"map_kd", b"map_d")

Reader = Callable[[str, int], bytes | None]
"""Reads a file by its name (with `/`), at most so many bytes; None when there is none."""


class ObjectDropped(Exception):
    """An object does not fit the data set; the reason is a few words and stays in the table of objects."""


@dataclass(frozen=True)
class Bundle:
    """The files of one object."""

    main: str
    """Name of the file to load."""
    files: Mapping[str, bytes]
    """Contents by name relative to the main file's folder, with `/` between folders."""
    warnings: tuple[str, ...] = ()
    """What is missing but can be done without: textures, material libraries."""

    def digest(self) -> bytes:
        """A hash of all contents and names."""
        total = hashlib.sha256(self.main.encode())
        for name, data in sorted(self.files.items()):
            total.update(hashlib.sha256(name.encode()).digest() + hashlib.sha256(data).digest())
        return total.digest()


def read_bundle(path: str, read: Reader, max_bytes: int) -> Bundle:
    """Collect the file `path` and what it refers to.

    ObjectDropped when it is missing, empty or of another format, when all files together exceed `max_bytes`, or when a
    reference is remote or leaves the main file's folder. Missing textures and material libraries are warnings; missing
    buffers are not.
    """
    folder, main = posixpath.split(path)
    files: dict[str, bytes] = {}
    warnings: list[str] = []

    def collect(name: str, needed: str = "") -> bytes | None:
        if name not in files:
            data = read(posixpath.join(folder, name), max_bytes - sum(map(len, files.values())))
            if data is None and needed:
                raise ObjectDropped(f"missing {needed} {name}")
            if data is None:
                warnings.append(f"missing {name}")
                return None
            files[name] = data
        return files[name]

    kind = posixpath.splitext(main)[1].lower()
    if kind not in FORMATS:
        raise ObjectDropped(f"format {kind!r} is not among {', '.join(FORMATS)}")
    contents = collect(main, needed="file")
    if not contents:
        raise ObjectDropped("empty file")
    if kind in (".gltf", ".glb"):
        header = gltf_header(contents)
        for uri in _gltf_uris(header, "buffers"):
            collect(local_name(unquote(uri)), needed="buffer")
        for uri in _gltf_uris(header, "images"):
            collect(local_name(unquote(uri)))
    elif kind == ".obj":
        # Every library's references are checked, those that are loaded are collected.
        for library in re.findall(rb"^[ \t]*mtllib[ \t]+(.+?)[ \t\r]*$", contents, re.MULTILINE):
            for statement, value in _MTL_TEXTURE.findall(collect(local_name(as_text(library))) or b""):
                name = texture_name(as_text(value))
                if _ABSOLUTE.match(name):
                    warnings.append(f"missing {name}")
                elif statement.lower() in _LOADED_TEXTURES:
                    collect(local_name(name))
    elif kind == ".ply":
        for value in re.findall(rb"^comment TextureFile[ \t]+(.+?)[ \t\r]*$", contents[:65536], re.MULTILINE):
            collect(local_name(as_text(value)))
    return Bundle(main, files, tuple(warnings))


class FolderReader:
    """Reads below a folder; a link that leads out of it counts as leaving the folder."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    def __call__(self, name: str, max_bytes: int) -> bytes | None:
        path = self.root / name
        try:
            if not path.exists():
                path = _same_but_case(path)
            if not path.is_file():
                return None
            if not path.resolve().is_relative_to(self.root):
                raise ObjectDropped(f"refused reference {name[:80]!r}: leaves the folder")
            _check_size(path.stat().st_size, max_bytes)
            return path.read_bytes()
        except (OSError, ValueError) as error:  # no permission, a name too long or with a null byte
            raise ObjectDropped(f"unreadable {name[:80]!r}: {getattr(error, 'strerror', None) or error}") from None


class ZipReader:
    """Reads the entries of a ZIP archive."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self.archive = archive
        self.names = {name.lower(): name for name in reversed(archive.namelist())}

    def __call__(self, name: str, max_bytes: int) -> bytes | None:
        entry = self.archive.NameToInfo.get(name) or self.archive.NameToInfo.get(self.names.get(name.lower(), ""))
        if entry is None:
            return None
        _check_size(entry.file_size, max_bytes)
        try:
            return self.archive.read(entry)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError):
            raise ObjectDropped(f"unreadable {name[:80]!r}: damaged or encrypted in its archive") from None

    def identity(self, path: str) -> str:
        """Names, sizes and checksums of all that an object with this main file can refer to, without reading it."""
        folder = posixpath.dirname(path) + "/"
        entries = [entry for name, entry in sorted(self.archive.NameToInfo.items()) if name.startswith(folder)]
        return json.dumps([[entry.filename, entry.file_size, entry.CRC] for entry in entries])


def local_name(reference: str) -> str:
    """A reference as a name below the main file's folder; ObjectDropped when it is remote, absolute or climbs out."""
    name = reference.replace("\\", "/")
    if _SCHEME.match(name):
        raise ObjectDropped(f"refused reference {reference[:80]!r}: remote or absolute")
    name = posixpath.normpath(name)
    if name.startswith("/") or name.split("/")[0] == "..":
        raise ObjectDropped(f"refused reference {reference[:80]!r}: leaves the folder")
    return name


def texture_name(value: str) -> str:
    """The file that an MTL texture statement names, after its options (`-s 1 1 1 wood.png`).

    A path on the artist's own disk (`C:\\wood.png`) is given as it is, for nothing will be read from there;
    ObjectDropped as `local_name` for everything else that is not below the folder.
    """
    value = value.strip()
    while option := _MTL_OPTION.match(value):
        value = value[option.end() :]
    return value if _ABSOLUTE.match(value) else local_name(value)


def gltf_header(contents: bytes) -> dict[str, object]:
    """The JSON of a glTF or GLB file; ObjectDropped when it is corrupt or truncated."""
    if contents[:4] == _GLB_MAGIC:
        if len(contents) < 20 or len(contents) < struct.unpack_from("<I", contents, 8)[0]:
            raise ObjectDropped("truncated GLB")
        contents = contents[20 : 20 + struct.unpack_from("<I", contents, 12)[0]]
    try:
        header = json.loads(contents)
    except (UnicodeDecodeError, ValueError, RecursionError):
        raise ObjectDropped("corrupt glTF header") from None
    if not isinstance(header, dict):
        raise ObjectDropped("corrupt glTF header")
    return header


def with_gltf_header(contents: bytes, header: Mapping[str, object]) -> bytes:
    """A glTF or GLB file with another JSON."""
    text = json.dumps(header).encode()
    if contents[:4] != _GLB_MAGIC:
        return text
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<I", len(text)) + contents[16:20] + text
    chunks += contents[20 + struct.unpack_from("<I", contents, 12)[0] :]
    return contents[:8] + struct.pack("<I", 12 + len(chunks)) + chunks


def _gltf_uris(header: Mapping[str, object], key: str) -> Iterator[str]:
    entries = header.get(key, [])
    for entry in entries if isinstance(entries, list) else []:
        uri = entry.get("uri") if isinstance(entry, dict) else None
        if isinstance(uri, str) and not uri.startswith("data:"):
            yield uri


def _same_but_case(path: Path) -> Path:
    """The file of that name in another case, as libraries made on Windows refer to it."""
    if not path.parent.is_dir():
        return path
    return next((other for other in sorted(path.parent.iterdir()) if other.name.lower() == path.name.lower()), path)


def _check_size(size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise ObjectDropped("files larger than assets.max_file_mb")


def as_text(value: bytes) -> str:
    """Text of an OBJ or MTL: UTF-8, or what older exporters wrote."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
