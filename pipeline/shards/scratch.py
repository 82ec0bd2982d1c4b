"""The git-ignored scratch folder: finished work, locks, and what DVC need not see."""

import contextlib
import fcntl
import hashlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path


def scratch() -> Path:
    """`.partgen` in the project, or PARTGEN_SCRATCH; several checkouts may share one."""
    return Path(os.environ.get("PARTGEN_SCRATCH", ".partgen"))


@contextlib.contextmanager
def only_writer(out: Path) -> Iterator[None]:
    """Hold the right to write `out`; waits, and says so, while another run holds it. A killed holder frees it."""
    folder = scratch() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    name = hashlib.sha256(str(out.resolve()).encode()).hexdigest()[:16]
    with (folder / f"{out.name}-{name}.lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"{out} is being written by another run; waiting for it to end.", file=sys.stderr, flush=True)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
