"""An uploaded archive of one object and what it refers to, unpacked into a folder and nowhere else."""

import posixpath
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from pipeline.app.refusals import Refusal
from pipeline.assets.bundle import FORMATS, MOST_FILES

_CHUNK = 2**20
_END, _INDEX_BYTES = 22 + 2**16, 2 * 2**20
"""Of the end of an archive, in which its index is described, and of the index at most."""
_LONGEST = 1024
"""Characters of a name."""


def unpacked(archive: Path, folder: Path, most_bytes: int) -> Path:
    """The object's file, unpacked below `folder` with all that lies beside it, at most `most_bytes` together.

    Refusal for a damaged or encrypted archive (415), one that is too large once it is unpacked (413), and one with
    links, with names that lead out of it, or with none or several objects (400). What an entry says of its size is not
    believed.
    """
    left = most_bytes
    _check_index(archive)
    try:
        with zipfile.ZipFile(archive) as opened:
            entries = [one for one in opened.infolist() if not one.is_dir() and not _ignored(one.filename)]
            if len(entries) > MOST_FILES:
                raise Refusal(400, f"The archive holds {len(entries)} files, and {MOST_FILES} are the most; split it.")
            names = [_checked(one) for one in entries]
            if len({name.casefold() for name in names}) < len(names):
                raise Refusal(400, "The archive holds two files of one name; rename one.")
            mains = [name for name in names if posixpath.splitext(name)[1].lower() in FORMATS]
            if len(mains) != 1:
                raise Refusal(
                    400, f"The archive holds {len(mains)} 3D objects; give one, with its textures, an archive."
                )
            for entry, name in zip(entries, names, strict=True):
                left = _write(opened, entry, folder / name, left)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, UnicodeError) as error:
        raise Refusal(415, f"The archive is damaged or encrypted ({type(error).__name__}); pack it anew.") from None
    return folder / mains[0]


def _check_index(archive: Path) -> None:
    """Refusal for an index of millions of entries, which zipfile would read whole."""
    with archive.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - _END))
        end = file.read()
    at = end.rfind(b"PK\x05\x06")
    if at < 0 or len(end) < at + 22:
        raise Refusal(415, "The archive is damaged: it has no end; pack it anew.")
    if int.from_bytes(end[at + 12 : at + 16], "little") > _INDEX_BYTES:
        raise Refusal(400, f"The archive holds more than {MOST_FILES} files; split it.")


def _write(opened: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path, left: int) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    with opened.open(entry) as source, path.open("xb") as target:
        while chunk := source.read(min(_CHUNK, left + 1)):
            left -= len(chunk)
            if left < 0:
                raise Refusal(413, "The archive is larger than what may be uploaded once it is unpacked; pack less.")
            target.write(chunk)
    return left


def _checked(entry: zipfile.ZipInfo) -> str:
    """Its name, relative and within the archive; Refusal for all else."""
    name, mode = entry.filename, entry.external_attr >> 16
    path = PurePosixPath(name)
    if mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        raise Refusal(400, f"The archive holds the link or device {name[:80]!r}; pack the file itself.")
    climbs = path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name.split("/")[0]
    if climbs or not name.isprintable() or len(name) > _LONGEST or any(len(p.encode()) > 255 for p in path.parts):
        raise Refusal(400, f"The archive holds the name {name[:80]!r}, which leads out of it or is none; pack it anew.")
    return str(path)


def _ignored(name: str) -> bool:
    """What systems put into archives for themselves."""
    return name.startswith("__MACOSX/") or posixpath.basename(name) in (".DS_Store", "Thumbs.db", "desktop.ini")
