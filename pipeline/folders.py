"""Files and folders that are written as a whole: they appear whole or not at all, and what is damaged is noticed.

A folder that this program made carries SHA256SUMS, in the format of the program `sha256sum`: what of it was damaged is
named when it is read (`check_sums`), and only such a folder, of the same kind, is ever replaced (`replaced`).
"""

import ctypes
import errno
import hashlib
import os
import re
import shutil
import socket
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

from safetensors import SafetensorError

from pipeline.errors import UserError

SUMS = "SHA256SUMS"
STAGE = "stage's output"
"""The kind of a folder that a stage makes, and may replace."""
MAX_FILE_NAME = 40
_HEADER = re.compile(r"# A PartGen (?P<kind>.+) of (?P<files>\d+) files: .*")
_UNREADABLE = (OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError, SafetensorError)
"""What diffusers, transformers and safetensors raise at a folder that is not whole."""
_checked: dict[Path, tuple[int, int, int]] = {}
"""Files whose checksum was right in this process: inode, size and time of change."""


class Configured(Protocol):
    """A network of diffusers."""

    def register_to_config(self, **kwargs: Any) -> None: ...


Network = TypeVar("Network", bound=Configured)


def without_origin(network: Network) -> Network:
    """The network, of which the folder that it was loaded from is forgotten.

    diffusers keeps that folder in the config and writes it wherever the network is saved: a path of one machine in a
    model that is passed on, and two digests of one and the same model.
    """
    network.register_to_config(_name_or_path="")
    return network


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """A new file to write to, which takes the place of the file `path` when all went well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial(path)
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def replaced(out: Path, kind: str = STAGE) -> Iterator[Path]:
    """A new folder to write to, which takes the place of the folder `out` of the same kind when all went well.

    UserError as `check_replaceable`, before anything is written and once more before `out` goes.
    """
    check_replaceable(out, kind)
    with whole_folder(out, kind) as partial:
        yield partial
        check_replaceable(out, kind)


@contextmanager
def whole_folder(out: Path, kind: str) -> Iterator[Path]:
    """A new folder to write to, which gets its SHA256SUMS and becomes `out` when all went well."""
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial(out)
    partial.mkdir()
    try:
        yield partial
        write_sums(partial, kind)
        put_in_place(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def check_replaceable(out: Path, kind: str = STAGE) -> None:
    """UserError unless `out` is not there, is an empty folder, or one of that kind with nothing else in it."""
    if out.is_symlink():
        raise UserError(f"{out} is a link, which is not replaced; name the folder that it leads to, or remove it.")
    if not out.exists():
        return
    if not out.is_dir():
        raise UserError(f"{out} is a file and no folder; name another, or move it away.")
    if not any(out.iterdir()):
        return
    found, known = _read_sums(out)
    if found != kind:
        raise UserError(f"{out} holds files that are no {kind} of this program; name a new folder, or move them away.")
    for name in _files(out):
        if name not in known and name != SUMS:
            raise UserError(f"{out} would be replaced, and {name} in it is not of this program; move it away.")


def put_in_place(partial: Path, out: Path) -> None:
    """Let the folder `partial` take the place of the folder `out`; at any moment, one of both is there and whole."""
    if out.exists() and not _exchange(partial, out):
        old = _partial(out, "old")
        out.rename(old)
        partial.rename(out)
        shutil.rmtree(old, ignore_errors=True)
    elif not out.exists():
        partial.rename(out)


def write_sums(folder: Path, kind: str) -> None:
    """Write the SHA256SUMS of all files in a folder."""
    lines = [f"{_sha256(folder / name)}  {name}\n" for name in _files(folder) if name != SUMS]
    header = f"# A PartGen {kind} of {len(lines)} files: `sha256sum -c {SUMS}` tells what was damaged.\n"
    with written(folder / SUMS) as partial:
        partial.write_text(header + "".join(lines), encoding="utf-8", errors="surrogateescape")


def check_free(folder: Path) -> None:
    """UserError when `folder` is there and holds anything, or is no folder: nothing is ever overwritten."""
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if folder.exists() or folder.is_symlink():
        raise UserError(f"{folder} is there already and would be overwritten; name a new folder with --out.")


def next_free(folder: Path) -> Path:
    """The folder beside a result for what becomes of it: NAME-2, NAME-3, ..., the first that is not there."""
    base, _, number = folder.name.rpartition("-")
    base = base if base and number.isdigit() and number[0] != "0" else folder.name
    count = 2
    while folder.with_name(f"{base}-{count}").exists():
        count += 1
    return folder.with_name(f"{base}-{count}")


def file_name(text: str) -> str:
    """Text as a part of a file's name: lower case, letters and digits of any script, and hyphens."""
    words = "".join(character if character.isalnum() else " " for character in text.lower()).split()
    return "-".join(words).encode()[:MAX_FILE_NAME].decode(errors="ignore").strip("-") or "part"


def check_sums(path: Path) -> None:
    """UserError when the file `path`, or a file in the folder `path`, is not what was written, or is missing.

    The checksums are those of the folder itself or of one that it lies in, up to three above: a network in a folder of
    models. Nothing is checked where there are none, as beside models of other programs. Each file is read once a
    process.
    """
    for folder in (path, *path.parents[:3]):
        if (folder / SUMS).is_file():
            for name, digest in _read_sums(folder)[1].items():
                if (folder / name).is_relative_to(path):
                    _check_file(folder / name, digest)
            return


@contextmanager
def reading(folder: Path, what: str) -> Iterator[None]:
    """UserError, inside, when the folder of `what`, such as `model`, is damaged or is none."""
    check_sums(folder)
    try:
        yield
    except _UNREADABLE as error:
        reason = " ".join(str(error).split())[:160].rstrip(".")
        raise UserError(
            f"{folder} holds no {what} that can be read ({type(error).__name__}: {reason}); copy it again, or make it "
            "again."
        ) from None


def regular(file: Path) -> Path:
    """The file itself; UserError when it is a pipe or a device, which would be waited for, or a folder."""
    if file.exists() and not file.is_file():
        raise UserError(f"{file} is no file but a pipe, a device or a folder; put the file there again.")
    return file


def changed_files(folder: Path) -> list[str]:
    """The files of a folder of this program that are missing, or no longer what it wrote."""
    known = _read_sums(folder)[1] if (folder / SUMS).is_file() else {}
    return [name for name, digest in known.items() if not (folder / name).is_file() or _sha256(folder / name) != digest]


def _check_file(file: Path, digest: str) -> None:
    try:
        found = file.stat()
        known = (found.st_ino, found.st_size, found.st_mtime_ns)
        if _checked.get(file.absolute()) == known:
            return
        right = stat.S_ISREG(found.st_mode) and _sha256(file) == digest
    except FileNotFoundError:
        raise UserError(f"{file} is missing; copy its whole folder again, or make it again.") from None
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror}); copy it again, or make it again.") from None
    if not right:
        raise UserError(
            f"{file} is damaged: its checksum is not that in {SUMS}; copy its folder again, or make it again "
            f"(or remove {SUMS}, if you changed the file yourself)."
        )
    _checked[file.absolute()] = known


def content_digest(path: Path) -> str:
    """Of a file, or of all files in a folder: their names in it, and their contents."""
    files = [path] if path.is_file() else sorted(inner for inner in path.rglob("*") if inner.is_file())
    found = hashlib.sha256()
    for file in files:
        found.update(f"{file.relative_to(path)} {_sha256(file)}".encode())
    return found.hexdigest()


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _files(folder: Path) -> list[str]:
    """The files of a folder, links too, by their names in it with `/`."""
    found = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    return sorted(path.relative_to(folder).as_posix() for path in found)


def _read_sums(folder: Path) -> tuple[str, dict[str, str]]:
    """The kind of a folder, and its checksums by the file's name; empty when it has none."""
    try:
        text = (folder / SUMS).read_text(encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError:
        return "", {}
    header, _, rest = text.partition("\n")
    said = _HEADER.fullmatch(header)
    rows = re.findall(r"([0-9a-f]{64})  (.+)\n", rest)
    if said is None or len(rows) != int(said["files"]):
        raise UserError(f"{folder / SUMS} is damaged, or no file of this program; copy its folder again.")
    return said["kind"], {name: digest for digest, name in rows}


def _partial(path: Path, kind: str = "partial") -> Path:
    """A name beside `path` of this thread's own; what killed processes of this machine left there is removed."""
    host = re.sub(r"[^A-Za-z0-9]+", "-", socket.gethostname())
    left = re.compile(rf"{re.escape(f'.{path.name}.{host}-')}(\d+)-\d+\.(?:partial|old)")
    for other in path.parent.iterdir():
        if (match := left.fullmatch(other.name)) and not _alive(int(match[1])):
            _remove(other)
    return path.with_name(f".{path.name}.{host}-{os.getpid()}-{threading.get_ident()}.{kind}")


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two folders in one step, so that no reader finds neither; False where the system cannot (Linux can)."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    at_cwd, exchange = -100, 2
    if renameat2(at_cwd, os.fsencode(one), at_cwd, os.fsencode(other), exchange) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS):
        return False
    raise OSError(number, os.strerror(number), str(other))
