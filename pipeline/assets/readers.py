"""Files by their names, out of a folder or an archive, and nothing from outside it."""

import json
import os
import posixpath
import stat
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

from pipeline.assets.reasons import ObjectDropped, as_text, shortened

Reader = Callable[[str, int], bytes | None]
"""Reads a file by its name (with `/`), at most so many bytes; None when there is none, Outside when it leads out."""


class Outside(Exception):
    """A name leads out of the folder that the user gave."""


class FolderReader:
    """Reads below a folder, in those of its folders alone that `within` names; a link that leads out counts as outside.

    But for `named`, the file that the user named: it may be a link to anywhere.
    """

    def __init__(self, root: Path, named: str = "", within: tuple[str, ...] = ("",)) -> None:
        self.root, self.named, self.within = root.resolve(), named, within
        self._names: dict[Path, dict[str, Path]] = {}

    def __call__(self, name: str, max_bytes: int) -> bytes | None:
        """The content of a regular file; ObjectDropped when it cannot be read or is larger than `max_bytes`."""
        if name == ".." or name.startswith("../") or not name.startswith(self.within):
            raise Outside
        try:
            path = self.root / name
            if not path.exists():
                path = self._in_other_words(path)
            if not path.is_file():
                return None
            if name != self.named and not path.resolve().is_relative_to(self.root):
                raise Outside
            with path.open("rb") as file:
                found = os.fstat(file.fileno())
                if not stat.S_ISREG(found.st_mode):
                    return None
                _check_size(found.st_size, max_bytes)
                return file.read(max_bytes)
        except (OSError, ValueError) as error:  # no permission, a name too long or with a null byte
            raise ObjectDropped(
                f"unreadable {shortened(name)!r}: {getattr(error, 'strerror', None) or type(error).__name__}"
            ) from None

    def _in_other_words(self, path: Path) -> Path:
        """The file of that name in another case, as libraries made on Windows refer to it, or in another encoding."""
        if path.parent not in self._names:
            others = sorted(path.parent.iterdir()) if path.parent.is_dir() else []
            self._names[path.parent] = {as_text(os.fsencode(other.name)).lower(): other for other in reversed(others)}
        return self._names[path.parent].get(path.name.lower(), path)


class ZipReader:
    """Reads the entries of a ZIP archive."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self.archive = archive
        self.names = {name.lower(): name for name in reversed(archive.namelist())}

    def __call__(self, name: str, max_bytes: int) -> bytes | None:
        """The content of an entry; ObjectDropped when it is damaged or larger than `max_bytes`."""
        entry = self.archive.NameToInfo.get(name) or self.archive.NameToInfo.get(self.names.get(name.lower(), ""))
        if entry is None:
            return None
        _check_size(entry.file_size, max_bytes)
        try:
            with self.archive.open(entry) as file:
                return file.read(max_bytes)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError):
            raise ObjectDropped(f"unreadable {shortened(name)!r}: damaged or encrypted in its archive") from None

    def identity(self, path: str) -> str:
        """Names, sizes and checksums of all that an object with this main file can refer to, without reading it."""
        folder = posixpath.dirname(path) + "/"
        entries = [entry for name, entry in sorted(self.archive.NameToInfo.items()) if name.startswith(folder)]
        return json.dumps([[entry.filename, entry.file_size, entry.CRC] for entry in entries])


def _check_size(size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise ObjectDropped("files larger than assets.max_file_mb")
