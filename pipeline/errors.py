"""Errors that a user can act on."""

import difflib
import errno
import os
from collections.abc import Iterable

REFUSALS = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "free some space and run it again"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "allow it for this user, or use another folder"),
    **dict.fromkeys((errno.EIO, errno.ENXIO, errno.ENODEV, errno.ESTALE), "look after the disk and run it again"),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "let this user open more files (`ulimit -n`) and run it again"),
    errno.ENAMETOOLONG: "use shorter names",
}
"""What the system refuses through no fault of this program, and what to do about it."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""Of these, a disk that takes no more: no fault of the object that was being processed."""


class UserError(Exception):
    """A mistake outside this program: one sentence with the offending value and what to do about it.

    The command line prints the sentence without a traceback and exits with status 2.
    """


class NotFound(UserError):
    """What was named is not there: a file, a folder, a model, a part."""


class Invalid(UserError):
    """A value that cannot be: of a parameter, of an option, of an argument."""


class NoObjects(UserError):
    """The data hold no object of the split that is wanted."""


class NoSurface(UserError):
    """A part has no surface that could become a mesh; `reason` says why in a sentence without advice, if need be."""

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason or message


class ObjectFailed(Exception):
    """One object cannot be processed; the reason is a few words and becomes a row of the stage's `failures` table."""


def system_fault(error: BaseException | None) -> OSError | None:
    """What the system refused, when that is why `error` was raised: a full disk, a missing right, a broken device.

    None for all else, also for a file that is not there, which may be this program's mistake. Libraries written in
    other languages give the system's words only.
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno in REFUSALS:
            return error
        for number in REFUSALS if not isinstance(error, UserError) else ():
            if os.strerror(number) in str(error):
                return OSError(number, os.strerror(number))
        error = error.__cause__
    return None


def refused(fault: OSError) -> str:
    """A `system_fault` in a sentence's first half, and what to do about it in its second."""
    file = fault.filename2 or fault.filename or "a file"
    return f"{file} cannot be written or read ({os.strerror(fault.errno or 0)}); {REFUSALS[fault.errno or 0]}"


def nearest(name: str, known: Iterable[str]) -> str:
    """` (did you mean ...?)` with the nearest known name, or nothing when none is near."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean `{matches[0]}`?)" if matches else ""
