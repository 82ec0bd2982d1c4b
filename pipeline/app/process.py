"""The processes that compute, one task at a time each, and keep their models; the server itself loads none.

Requests and answers are lines of JSON over pipes. A process is the leader of a group of its own, so that what it has
started ends with it.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

_LONGEST_LINE = 2**26


class TaskFailed(Exception):
    """A task came to no result: a sentence, and the status of HTTP that it means."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status, self.sentence = status, sentence


class ProcessDied(Exception):
    """The process ended in the middle of a task; the message says how."""


class WorkerProcess:
    """One process of `pipeline.app.worker`; it is started again when it has ended."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self.arguments = list(arguments)
        self.turn = asyncio.Lock()
        self.process: asyncio.subprocess.Process | None = None
        self.closed = False
        self._ending: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """Of the process that is there now."""
        return None if self.process is None else self.process.pid

    async def start(self) -> None:
        """Begin a process unless one is there; it loads its libraries while it waits for the first task."""
        if self.closed or self.process is not None:
            return
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "pipeline.app.worker",
            *self.arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
            limit=_LONGEST_LINE,
        )

    async def run(
        self, task: str, arguments: dict[str, Any], on_event: Callable[[dict[str, Any]], object] = lambda event: None
    ) -> Any:
        """What a task gives, when its turn has come; TaskFailed, or ProcessDied."""
        async with self.turn:
            await self.start()
            process = self.process
            if process is None or process.stdin is None or process.stdout is None:
                raise ProcessDied("the server is ending")
            try:
                process.stdin.write(json.dumps({"task": task, **arguments}).encode() + b"\n")
                await process.stdin.drain()
                while True:
                    line = await process.stdout.readline()
                    if not line.endswith(b"\n"):
                        raise ConnectionResetError
                    answer = json.loads(line)
                    if "event" not in answer:
                        break
                    on_event(answer["event"])
            except (ConnectionResetError, BrokenPipeError):
                raise ProcessDied(await self._ended(process)) from None
            except BaseException:  # its answer would be taken for that of the next task
                self.kill()
                raise
        if "error" in answer:
            raise TaskFailed(answer["status"], answer["error"])
        return answer["result"]

    def kill(self) -> None:
        """End the process and all that it has started, at once; the next task gets a new one."""
        process, self.process = self.process, None
        if process is not None:
            self._ending = process
            _kill(process)

    async def close(self) -> None:
        """End it for good."""
        self.closed = True
        self.kill()
        if self._ending is not None:
            await self._ending.wait()

    async def _ended(self, process: asyncio.subprocess.Process) -> str:
        self.process = None
        _kill(process)  # what it has started
        code = await process.wait()
        if code < 0:
            return f"it was ended by the signal {signal.Signals(-code).name}"
        return f"it ended with the status {code}"


def _kill(process: asyncio.subprocess.Process) -> None:
    """The process and its group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
