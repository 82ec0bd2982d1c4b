"""Subprocesses of a run: their output line by line, and an end to all of them when the run ends, however it ends."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from flows import guard

GRACE_S = 3.0
"""What a process of a stage is given between SIGTERM and SIGKILL."""


class Stopped(Exception):
    """The run was cancelled."""


class Processes:
    """The processes of one run; used from several threads."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = {**os.environ, **environment}
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._stopped = False

    def run(self, command: Sequence[str], folder: Path, on_line: Callable[[str], None]) -> int:
        """Run `command` in `folder` and hand over its lines, of stdout and stderr, as they come; its exit status.

        Raises Stopped when `stop` ended it.
        """
        with self._lock:
            if self._stopped:
                raise Stopped
            process = subprocess.Popen(
                guarded(command, GRACE_S),
                cwd=folder,
                env=self.environment,
                stdin=subprocess.PIPE,  # closes when this process dies: the guard notices
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._running.add(process)
        try:
            assert process.stdout is not None
            for line in process.stdout:
                # Of a progress bar, which goes back to the line's start, its last state.
                if text := line.decode(errors="replace").rstrip().rsplit("\r", 1)[-1]:
                    on_line(text)
            status = process.wait()
        finally:
            end(process, GRACE_S)
            with self._lock:
                self._running.discard(process)
        if self._stopped:
            raise Stopped
        return status

    def stop(self) -> None:
        """End every running process with all that it started; later ones are refused."""
        with self._lock:
            self._stopped = True
            running = list(self._running)
        for process in running:
            process.terminate()  # all at once, then wait for each
        for process in running:
            end(process, GRACE_S)


def guarded(command: Sequence[str], grace_s: float) -> list[str]:
    """`command` under a guard; start it with a pipe for its standard input, in a session of its own."""
    # -P: the guard's folder must not come first among the modules.
    return [sys.executable, "-P", guard.__file__, str(grace_s), *command]


def end(process: subprocess.Popen[bytes], grace_s: float) -> None:
    """End a guarded process: order its guard to, then end the whole group if the guard does not answer.

    The guard may need twice its grace and more on a busy machine. Were it killed before it is done, daemons outside of
    its group would live on.
    """
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10 * grace_s)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # the guard leads its own session, so its pid is the group's
    process.wait()
