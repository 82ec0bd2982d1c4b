"""Where objects come from: a folder with an index, and what every object carries with it."""

import hashlib
import os
import posixpath
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pipeline.assets.bundle import FORMATS, Bundle, read_bundle
from pipeline.assets.index import read_index
from pipeline.assets.names import clean_name, name_group
from pipeline.assets.readers import FolderReader, Reader, ZipReader
from pipeline.assets.reasons import ObjectDropped, as_text, encodable
from pipeline.assets.surface import Up
from pipeline.errors import UserError

UNKNOWN = "unknown"
"""Licence or author of an object whose source does not say."""


@dataclass(frozen=True)
class Asset:
    """One object of a source, before it is read."""

    object_id: str
    """`source.path.to.object`, of letters, digits, `-`, `_` and `.`; stable, and fit for a file name."""
    name: str
    name_group: str
    """Variants of one thing share it, and with it their side of the split."""
    category: str
    source: str
    """`samples`, `sweethome3d`, `objaverse` or `folder`."""
    origin: str
    """Where the object was first published, such as `BlendSwap-CC-0/butter`; each origin is taken once."""
    licence: str
    author: str
    path: str
    """Name of the main file, for `reader`."""
    reader: Reader = field(repr=False, compare=False)
    rotation: tuple[float, ...] | None = None
    """Row-major 3 x 3 rotation that stands the model upright, where the source has one."""
    up: Up = "y"
    """The axis that points up in an OBJ, PLY or STL."""

    def read(self, max_bytes: int) -> Bundle:
        """The object's files; ObjectDropped as `read_bundle`."""
        # An archive has many objects: each keeps to its own folder, as `ZipReader.identity` does.
        root = posixpath.dirname(self.path) if isinstance(self.reader, ZipReader) else ""
        return read_bundle(self.path, self.reader, max_bytes, root)

    def identity(self, max_bytes: int) -> str:
        """A text that changes when the object's files do."""
        if isinstance(self.reader, ZipReader):
            return self.reader.identity(self.path)
        try:
            return self.read(max_bytes).digest().hex()
        except ObjectDropped as error:
            return str(error)

    def matrix(self) -> np.ndarray:
        """(4, 4) from the file's frame to the object's."""
        matrix = np.eye(4)
        if self.rotation is not None:
            matrix[:3, :3] = np.reshape(self.rotation, (3, 3))
        return matrix


def folder_assets(root: Path, source: str, index: str = "", up: Up = "y") -> list[Asset]:
    """Every GLB, glTF, OBJ, PLY and STL below `root`, sorted by path.

    `index`: a CSV or JSON in `root`, see `pipeline.assets.index`; files that it does not name take their name from the
    file. `up` is the axis that points up in OBJ, PLY and STL. UserError when `root` or `index` cannot be read, when
    the index names a file that is not there, or when there is no object.
    """
    if not root.is_dir():
        raise UserError(f"The folder of objects {root} does not exist; correct assets.{source}.path.")
    found = [path for path in sorted(root.rglob("*")) if path.suffix.lower() in FORMATS and path.is_file()]
    files = [path.relative_to(root).as_posix() for path in found]
    if not files:
        raise UserError(
            f"{root} holds no {', '.join(FORMATS)} file; put objects there or correct assets.{source}.path."
        )
    entries = read_index(root, index, files) if index else {}
    reader, taken = FolderReader(root), set[str]()
    assets = []
    for path in files:
        entry = {key: value for key, value in entries.get(path, {}).items() if value}
        stem = as_text(os.fsencode(posixpath.splitext(posixpath.basename(path))[0]))
        object_id = unique_id(source, posixpath.splitext(path)[0], path, taken)
        assets.append(
            Asset(
                object_id=object_id,
                name=entry.get("name") or clean_name(stem) or stem,
                name_group=name_group(entry.get("group") or stem),
                category=entry.get("category", ""),
                source=source,
                origin=entry.get("origin") or f"{source}/{encodable(path)}",
                licence=entry.get("licence", UNKNOWN),
                author=entry.get("author", UNKNOWN),
                path=path,
                reader=reader,
                up=up,
            )
        )
    return assets


def unique_id(source: str, stem: str, path: str, taken: set[str]) -> str:
    """An object's id from its path without suffix; a hash of `path` follows where the id says less than the path."""
    words = [re.sub(r"[^A-Za-z0-9_-]+", "-", word).strip("-") for word in stem.split("/")]
    object_id = ".".join([source, *(word for word in words if word)])[:120]
    if object_id in taken or object_id != ".".join([source, *stem.split("/")]):
        object_id = f"{object_id}-{hashlib.sha256(os.fsencode(path)).hexdigest()[:8]}"
    taken.add(object_id)
    return object_id


def stable_order(assets: Iterable[Asset]) -> list[Asset]:
    """The assets in an order that depends on their ids alone, so that the first n stay the first n."""
    return sorted(assets, key=lambda asset: hashlib.sha256(asset.object_id.encode()).digest())
