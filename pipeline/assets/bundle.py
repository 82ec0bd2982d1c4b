"""An object's files in memory: the main one and everything it refers to, and nothing from outside its folder."""

import hashlib
import os
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.assets.mtl import mtl_textures
from pipeline.assets.readers import Outside, Reader
from pipeline.assets.reasons import ObjectDropped, said_once, shortened
from pipeline.assets.references import (
    candidates,
    gltf_files,
    gltf_header,
    is_absolute,
    local_name,
    obj_libraries,
    ply_textures,
)

FORMATS = (".glb", ".gltf", ".obj", ".ply", ".stl")
"""The kinds of files that an object may come in."""
MOST_FILES = 1000
"""Files that an object may refer to."""
_LFS = b"version https://git-lfs.github.com/spec/"


@dataclass(frozen=True)
class Bundle:
    """The files of one object."""

    main: str
    """Name of the file to load."""
    files: Mapping[str, bytes]
    """Contents by name relative to the main file's folder, with `/` between folders."""
    warnings: tuple[str, ...] = ()
    """What is missing but can be done without: textures, material libraries."""

    @property
    def kind(self) -> str:
        """One of FORMATS."""
        return posixpath.splitext(self.main)[1].lower()

    def find(self, *references: str) -> bytes | None:
        """The file that a reference means, of which there may be several spellings."""
        return next((self.files[name] for name in candidates(*references) if name in self.files), None)

    def digest(self) -> bytes:
        """A hash of all contents and names."""
        total = hashlib.sha256(os.fsencode(self.main))
        for name, data in sorted(self.files.items()):
            total.update(hashlib.sha256(os.fsencode(name)).digest() + hashlib.sha256(data).digest())
        return total.digest()


def read_bundle(path: str, read: Reader, max_bytes: int, root: str = "") -> Bundle:
    """Collect the file `path` and what it refers to below the folder `root`, in time linear in their size.

    ObjectDropped when it is missing, empty or of another format, when all files together exceed `max_bytes`, when a
    reference is remote, or when a buffer is missing or outside the folder. Textures and material libraries that are
    missing or outside are warnings.
    """
    folder, main = posixpath.split(path)
    kind = posixpath.splitext(main)[1].lower()
    if kind not in FORMATS:
        raise ObjectDropped(f"format {kind!r} is not among {', '.join(FORMATS)}; convert it to one of them")
    collected = _Collected(folder, read, max_bytes, root)
    contents = collected.main(main)
    if kind in (".gltf", ".glb"):
        header = gltf_header(contents)
        for names in gltf_files(header, "buffers"):
            collected.needed(*names)
        for names in gltf_files(header, "images"):
            collected.optional(*names)
    elif kind == ".obj":
        for name, library in obj_libraries(contents, collected.find):
            if library is None:
                collected.warn(name)
            for texture in mtl_textures(library or b""):
                collected.optional(texture)
    elif kind == ".ply":
        for name in ply_textures(contents):
            collected.optional(name)
    return Bundle(main, collected.files, tuple(said_once(collected.warnings)))


class _Collected:
    """The files of an object as they come in."""

    def __init__(self, folder: str, read: Reader, max_bytes: int, root: str) -> None:
        self.folder, self.read, self.left, self.root = folder, read, max_bytes, root
        self.files: dict[str, bytes] = {}
        self.warnings: list[str] = []
        self._absent: dict[str, str] = {}

    def main(self, name: str) -> bytes:
        """The file that was named; ObjectDropped when there is nothing in it."""
        contents = self._get(name)
        if contents is None:
            raise ObjectDropped(f"missing file {shortened(name)}")
        if not contents:
            raise ObjectDropped("empty file")
        if contents.startswith(_LFS):
            raise ObjectDropped("a Git LFS pointer instead of the file; run `git lfs pull` where it came from")
        return contents

    def needed(self, *references: str) -> None:
        """A buffer, without which there is no object."""
        if is_absolute(references[0]):
            raise ObjectDropped(_refused(references[0], "is absolute"))
        if self.find(*references) is None:
            if self._absent.get(local_name(references[0])):
                raise ObjectDropped(_refused(references[0], "leaves the folder"))
            raise ObjectDropped(f"missing buffer {shortened(references[0])}")

    def optional(self, *references: str) -> None:
        """A texture; a warning when it is not there."""
        if self.find(*references) is None:
            self.warn(references[0])

    def find(self, *references: str) -> bytes | None:
        """The first file that references may mean."""
        return next((data for name in candidates(*references) if (data := self._get(name)) is not None), None)

    def warn(self, reference: str) -> None:
        """Say that a file is missing, or outside the folder."""
        self.warnings.append(f"missing {shortened(reference)}{self._absent.get(next(candidates(reference), ''), '')}")

    def _get(self, name: str) -> bytes | None:
        if name in self._absent:
            return None
        if name not in self.files:
            if len(self.files) + len(self._absent) > MOST_FILES:
                raise ObjectDropped(f"refers to more than {MOST_FILES} files; split it up")
            data, why = None, ""
            try:
                full = posixpath.normpath(posixpath.join(self.folder, name))
                if self.root and not full.startswith(f"{self.root}/"):
                    raise Outside
                data = self.read(full, self.left)
            except Outside:
                why = ", which lies outside the folder"
            if data is None:
                self._absent[name] = why
                return None
            self.files[name] = data
            self.left -= len(data)
        return self.files[name]


def _refused(reference: str, why: str) -> str:
    return f"refused reference {shortened(reference)!r}: {why}; put the buffer beside the object"
