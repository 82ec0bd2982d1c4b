"""A program that runs a command and leaves nothing of it behind: `python guard.py GRACE COMMAND ...`.

The command and all its descendants end when the guard is told to (SIGTERM, SIGINT), when its standard input closes,
that is when the process that started it dies, however it dies, and when the command itself ends. Descendants that left
the process group, such as daemons, are found too: the guard is their subreaper (Linux). Each is given GRACE seconds
between SIGTERM and SIGKILL.

The guard leads a session, and Linux shares the cores among sessions first (autogroup), each of priority 0 whatever that
of its processes is. So a guard of low priority says so for its session.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import FrameType

import psutil

PR_SET_CHILD_SUBREAPER = 36


class Stop(BaseException):
    """The order to end, raised in the main thread."""


def main() -> int:
    """Run the command of the arguments; its exit status, or 128 + the signal that ended it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
        with contextlib.suppress(OSError):  # a kernel without it shares the cores among all processes
            Path("/proc/self/autogroup").write_text(str(os.nice(0)))
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, _stop)
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    grace_s, command = float(sys.argv[1]), sys.argv[2:]
    try:
        status = subprocess.Popen(command, stdin=subprocess.DEVNULL).wait()
    except Stop:
        status = -signal.SIGTERM
    _ignore_orders()
    end_descendants(grace_s)
    return status if status >= 0 else 128 - status


def end_descendants(grace_s: float) -> None:
    """End every descendant of this process, the children first so that they can end theirs in good order."""
    guard = psutil.Process()
    for recursive in (False, True):
        _signal(guard.children(recursive), signal.SIGTERM, grace_s)
    while alive := guard.children(recursive=True):
        _signal(alive, signal.SIGKILL, 1.0)


def _signal(processes: list[psutil.Process], number: signal.Signals, patience_s: float) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)
    psutil.wait_procs(processes, timeout=patience_s)


def _stop(number: int, frame: FrameType | None) -> None:
    _ignore_orders()
    raise Stop


def _ignore_orders() -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def _stop_with_parent() -> None:
    while os.read(sys.stdin.fileno(), 1024):  # ends when the last holder of the other end is gone
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
