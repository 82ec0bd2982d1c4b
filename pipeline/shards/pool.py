"""Processes of this machine that take one payload at a time, each over a pipe of its own.

So a process that is killed, at whatever moment, takes nothing with it that another one needs.
"""

import contextlib
import ctypes
import pickle
import signal
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any

from pipeline.errors import UserError

PR_SET_PDEATHSIG = 1
START_ATTEMPTS = 3
"""So many processes in a row may die before they take work."""
GRACE_S = 10.0
"""How long a process without work may take to end."""

Task = tuple[str, Callable[[], Any]]
"""An object's id, and what loads its payload when its turn comes."""
Ended = tuple[Task, Any, Exception | None]
"""A task, and either its result or why there is none."""


class Died(Exception):
    """The process of an object ended before the object was done."""

    def __init__(self, exitcode: int | None = None) -> None:
        """`exitcode` is that of `multiprocessing`, negative for a signal; None when nobody knows it."""
        super().__init__(exitcode)
        self.exitcode = exitcode


class Overdue(Exception):
    """An object took longer than it may, and its process was ended."""


def run_on_pool(
    function: Callable[[Any], Any], tasks: Iterable[Task], workers: int, timeout_s: float, tasks_per_worker: int
) -> Iterator[Ended]:
    """`function` over the payloads in at most `workers` processes, as they come.

    UserError when the processes die before they take any work.
    """
    waiting, crew, retired, starts = deque(tasks), list[_Worker](), list[_Worker](), 0
    ended: list[Ended] = []
    try:
        while waiting or any(worker.task for worker in crew):
            busy = sum(worker.task is not None for worker in crew)
            crew += [_Worker(function) for _ in range(min(workers, busy + len(waiting)) - len(crew))]
            for worker in crew:
                if waiting and worker.ready and worker.task is None:
                    following = waiting.popleft()
                    if not worker.take(following, timeout_s):
                        waiting.appendleft(following)
            yield from ended  # the processes go on with the next, whatever becomes of these
            ended = []
            for worker in _heard(crew):
                task = worker.task
                try:
                    answer = worker.answer()
                except EOFError:
                    crew.remove(worker)
                    worker.process.join(GRACE_S)  # one that ends by itself closes its pipe before
                    exitcode = worker.end()
                    starts += not worker.ready
                    if task is not None:
                        ended.append((task, None, Died(exitcode)))
                    elif starts == START_ATTEMPTS:
                        raise UserError(
                            f"The processes that do the work end before they begin ({exit_text(exitcode)}); what they "
                            "print above says why, and fewer PARTGEN_WORKERS or more memory may help."
                        ) from None
                    continue
                starts = 0
                if task is not None:
                    ended.append((task, *answer))
                if worker.done == tasks_per_worker > 0:
                    crew.remove(worker)
                    retired.append(worker)
                    worker.connection.close()
            for worker in [one for one in crew if one.task is not None and time.monotonic() > one.deadline]:
                crew.remove(worker)
                worker.end()
                assert worker.task is not None
                ended.append((worker.task, None, Overdue()))
        yield from ended
    finally:
        for worker in (*crew, *retired):
            worker.connection.close()
        for worker in (*crew, *retired):
            worker.end()


def exit_text(exitcode: int | None) -> str:
    """How a process ended."""
    if exitcode is None:
        return "how is not known"
    return f"signal {signal.Signals(-exitcode).name}" if exitcode < 0 else f"exit status {exitcode}"


class _Worker:
    """A process that is starting, waits for a payload, or has one."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.connection, other = get_context("spawn").Pipe()
        self.process = get_context("spawn").Process(target=_work, args=(other, function), daemon=True)
        self.ready, self.done, self.deadline = False, 0, 0.0
        self.task: Task | None = None
        resource_tracker.ensure_running()  # the process starts it otherwise, and lets SIGINT through again
        # A new process inherits what is blocked: Ctrl-C does not end it with a traceback before it can ignore it.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        other.close()

    def take(self, task: Task, timeout_s: float) -> bool:
        """Give it a task; False when the process has ended."""
        payload = task[1]()
        try:
            self.connection.send(payload)
        except (BrokenPipeError, ConnectionResetError):
            return False
        self.task, self.deadline = task, time.monotonic() + timeout_s
        return True

    def answer(self) -> tuple[Any, Exception | None]:
        """What it says: a result or an error, and before its first task, nothing. EOFError when it has ended."""
        try:
            if not self.connection.poll():
                raise EOFError
            answer: tuple[Any, Exception | None] = pickle.loads(self.connection.recv_bytes())
        except OSError:
            raise EOFError from None
        self.done += self.task is not None
        self.ready, self.task = True, None
        return answer

    def end(self) -> int | None:
        """End the process, at once when it has work or begins; the exit code."""
        self.connection.close()
        if self.ready and self.task is None:
            self.process.join(GRACE_S)
        self.process.kill()
        self.process.join()
        return self.process.exitcode


def _heard(crew: list[_Worker]) -> list[_Worker]:
    """Those that said something or ended; none when the first of the deadlines comes before."""
    deadlines = [worker.deadline for worker in crew if worker.task is not None]
    timeout = max(0.0, min(deadlines) - time.monotonic()) if deadlines else None
    signs = wait([sign for worker in crew for sign in (worker.connection, worker.process.sentinel)], timeout)
    return [worker for worker in crew if worker.connection in signs or worker.process.sentinel in signs]


def die_with_parent() -> None:
    """Let the kernel end this process when its parent dies, however it dies (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _work(connection: Connection, function: Callable[[Any], Any]) -> None:
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver hears Ctrl-C and ends its processes
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        connection.send((None, None))
        while True:
            connection.send_bytes(_answer(function, connection.recv()))


def _answer(function: Callable[[Any], Any], payload: Any) -> bytes:
    """The result or the error, pickled; the error carries its traceback as a note."""
    try:
        return pickle.dumps((function(payload), None))
    except Exception as error:  # whatever an object does, the driver judges it
        error.add_note("".join(traceback.format_exception(error)))
        try:
            data = pickle.dumps((None, error))
            pickle.loads(data)
        except Exception:  # of a class that does not survive the way to the driver
            data = pickle.dumps((None, RuntimeError(f"{type(error).__name__}: {error}")))
        return data
