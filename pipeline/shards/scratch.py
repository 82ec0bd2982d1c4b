"""The git-ignored scratch folder: finished work, locks, and what DVC need not see."""

import contextlib
import fcntl
import hashlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import UserError
from pipeline.project import cache, in_project


def scratch() -> Path:
    """PARTGEN_SCRATCH, which several checkouts may share; else `.partgen` in a project, the user's cache elsewhere."""
    named = os.environ.get("PARTGEN_SCRATCH")
    return Path(named) if named else Path(".partgen") if in_project() else cache()


def check_writable(folder: Path) -> None:
    """OSError unless files can be written in `folder`, which is made if need be; UserError when it is a file."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"{folder} cannot be made, since a file is in its way; move that, or use another.") from None
    with tempfile.TemporaryFile(dir=folder):
        pass


@contextlib.contextmanager
def only_writer(out: Path) -> Iterator[None]:
    """Hold the right to write `out`; waits, and says so, while another run holds it. A killed holder frees it."""
    folder = scratch() / "locks"
    check_writable(folder)
    name = hashlib.sha256(str(out.resolve()).encode()).hexdigest()[:16]
    with (folder / f"{out.name}-{name}.lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"{out} is being written by another run; waiting for it to end.", file=sys.stderr, flush=True)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
