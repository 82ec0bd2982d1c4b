"""Programs of the user's that make something of files: started, watched, ended, and what they wrote found.

Such a program is a parameter: a command (`pipeline.params.command`) with placeholders such as `{out}`. It runs in the
current folder, in a process group of its own, so that all that it starts ends with it.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import IO

from pipeline.errors import UserError
from pipeline.params.command import PLACE

LOOK_EVERY_S = 0.02
GRACE_S = 1.0
"""What a program that is ended may take to clean up, before it is killed."""
TAIL_BYTES = 64 * 1024
"""Of a program's output, in which its last line is sought."""
MOST_LINE = 300
WATCH = 'read ended || kill -s KILL -- "-$0"'
"""Kills the group $0 when its input, which this process holds open, is closed without a line: when this one died."""


class ProgramFailed(UserError):
    """A program was not there, died, hung, or wrote nothing of use; `reason` says so without its parameter's name."""

    def __init__(self, named: str, reason: str, advice: str) -> None:
        super().__init__(f"`{named}`: {reason}; {advice}.")
        self.reason = reason


def run_program(command: Sequence[str], values: Mapping[str, str | Path], timeout_s: float, named: str) -> None:
    """Run `command`, with `values` at its placeholders, to its end; paths are made absolute.

    `named` is the parameter that it comes from, such as generate.command. Its output is shown to nobody; when it fails,
    the last line of it is in the error. ProgramFailed when it cannot be started, ends with another status than 0, or
    has not ended after `timeout_s` seconds. When this process ends or is interrupted meanwhile, so does the program.
    """
    words = _filled(command, values)
    if shutil.which(words[0]) is None:
        raise ProgramFailed(named, f"there is no program {words[0]}", "give its path, or install it")
    program = Path(words[0]).name
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        try:
            process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True)
        except OSError as error:
            reason = f"{program} cannot be started ({error.strerror})"
            raise ProgramFailed(named, reason, "see that it runs by itself") from None
        try:
            watch = ["/bin/sh", "-c", WATCH, str(process.pid)]
            with subprocess.Popen(watch, stdin=subprocess.PIPE, start_new_session=True) as watching:
                try:
                    in_time = _ended(process.pid, timeout_s)
                finally:
                    watching.communicate(b"\n")
        finally:
            _end_group(process)
        said = _last_line(err) or _last_line(out)
    told = f" ({said})" if said else ""
    if not in_time:
        reason = f"{program} had not ended after {timeout_s:g} s and was killed{told}"
        raise ProgramFailed(named, reason, "give it more time, or see what it waits for")
    if process.returncode < 0:
        reason = f"{program} was ended by a signal, {signal.strsignal(-process.returncode)}{told}"
        raise ProgramFailed(named, reason, "see that it runs by itself")
    if process.returncode > 0:
        reason = f"{program} ended with status {process.returncode}{told}"
        raise ProgramFailed(named, reason, "see that it runs by itself")


def written(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """The files of more than 0 bytes below `folder` with these lower-case suffixes, such as `.glb`, in their order."""
    return sorted(
        path for path in folder.rglob("*") if path.suffix.lower() in suffixes and path.is_file() and path.stat().st_size
    )


def _filled(command: Sequence[str], values: Mapping[str, str | Path]) -> list[str]:
    """The command's words with the values; a value that looks like a placeholder is left alone."""
    texts = {name: str(one.absolute()) if isinstance(one, Path) else one for name, one in values.items()}
    return [PLACE.sub(lambda match: texts[match[1]], word) for word in command]


def _ended(pid: int, timeout_s: float) -> bool:
    """Wait for a process, which is left for others to be asked of its status; whether it ended in time."""
    end = time.monotonic() + timeout_s
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if time.monotonic() > end:
            return False
        time.sleep(LOOK_EVERY_S)
    return True


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End what is left of the process and of all that it started."""
    try:
        if process.returncode is None and not _ended(process.pid, 0):
            os.killpg(process.pid, signal.SIGTERM)
            _ended(process.pid, GRACE_S)
        # It has not been waited for, so that its number is still its own, and its group's.
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # macOS refuses a group of which only the dead are left
        pass
    process.wait()


def _last_line(output: IO[bytes]) -> str:
    """The last line with something on it, shortened, of what a program said."""
    size = output.seek(0, os.SEEK_END)
    output.seek(max(0, size - TAIL_BYTES))
    lines = [" ".join(line.split()) for line in output.read().decode("utf-8", errors="replace").splitlines()]
    said = next((line for line in reversed(lines) if line), "")
    said = "".join(letter for letter in said if letter.isprintable()).rstrip(".")
    return said if len(said) <= MOST_LINE else f"{said[:MOST_LINE]}..."
