"""The name of a result, held from before the work until it is saved, so that no work is lost for want of a place."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.errors import UserError
from pipeline.folders import check_free
from pipeline.shards.scratch import check_writable, scratch

PARTIAL = 100
"""Characters that the name of a folder may have more while it is written."""


@contextmanager
def reserved(folder: Path) -> Iterator[Path]:
    """An empty `folder` of this process alone; it goes again when nothing was put in its place.

    UserError, or the OSError of the system, when nothing can be written there or into the scratch folder, when
    something is there, or when another run is making it. A killed run leaves an empty folder, which the next may take.
    """
    check_free(folder)
    for needed in (scratch(), folder.parent):
        check_writable(needed)
    folder.with_name(f".{folder.name}{'-' * PARTIAL}").exists()  # an error when the name is too long
    made = not folder.exists()
    folder.mkdir(exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{folder} is being made by another run; name a new folder with --out.") from None
        try:
            check_free(folder)  # the other run may have come to its end just now
            yield folder
        finally:
            if made:
                with suppress(OSError):  # it holds the result
                    folder.rmdir()
    finally:
        os.close(handle)
