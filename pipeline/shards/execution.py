"""Where a stage's map over objects runs: a local process pool, or a Ray cluster. Never part of a DVC hash."""

import errno
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.errors import FULL, ObjectFailed, UserError, system_fault
from pipeline.shards.pool import Died, Ended, Overdue, Task, exit_text, run_on_pool

CRASHES = [-number for number in (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL)]
"""Exit codes of programs that do what they may not."""


@dataclass(frozen=True)
class Failure:
    """Why there is no result of an object."""

    kind: str
    """`object`: by itself, as it would anywhere. Perhaps by the machine: `memory`, `timeout`, or `killed`."""
    reason: str


Outcome = tuple[str, Any | None, Failure | None]
"""An object's id, and either its result or why there is none."""


@dataclass(frozen=True)
class Execution:
    """`workers` local processes, or the Ray cluster at `ray_address`."""

    workers: int
    ray_address: str | None = None

    @classmethod
    def from_environment(cls) -> "Execution":
        """PARTGEN_WORKERS (all cores when unset) and PARTGEN_RAY_ADDRESS (`auto`, or host:port)."""
        text = os.environ.get("PARTGEN_WORKERS", "")
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        if text and (not text.isdigit() or int(text) < 1):
            raise UserError(f"PARTGEN_WORKERS is {text!r}; give a whole number of processes, e.g. {cores}.")
        return cls(int(text) if text else cores, os.environ.get("PARTGEN_RAY_ADDRESS") or None)

    def map(
        self, function: Callable[[Any], Any], tasks: Iterable[Task], timeout_s: float, tasks_per_worker: int
    ) -> Generator[Outcome, None, None]:
        """Outcomes of `function` over the payloads, as they come.

        A worker that dies, runs longer than `timeout_s` or raises costs its own object only; and one that died, took
        too long or wanted memory is tried once more when nothing else runs. UserError from a worker, and a full disk,
        end the map. `tasks_per_worker` replaces a process after that many objects (0: never).
        """
        with ExitStack() as stack:
            run: Callable[..., Iterator[Ended]] = run_on_pool
            width = self.workers
            if self.ray_address:
                ray = stack.enter_context(_cluster(self.ray_address))
                run, width = partial(_run_on_ray, ray), int(ray.cluster_resources().get("CPU", 1))
            again: list[Task] = []
            for task, result, error in run(function, tasks, width, timeout_s, tasks_per_worker):
                failure = failure_of(task[0], error, timeout_s)
                if failure is not None and (failure.kind != "object" or isinstance(error, Died)):
                    print(f"{task[0]}: {failure.reason}; it is tried again at the end, alone.", file=sys.stderr)
                    again.append(task)
                else:
                    yield task[0], result, failure
            for task, result, error in run(function, again, 1, timeout_s, tasks_per_worker):
                yield task[0], result, failure_of(task[0], error, timeout_s)


@contextmanager
def _cluster(address: str) -> Iterator[Any]:
    """The module `ray`, connected."""
    try:
        import ray
    except ImportError:
        raise UserError("PARTGEN_RAY_ADDRESS is set, and ray is not installed; run `make setup`.") from None
    code = {"py_modules": [str(Path(__file__).resolve().parents[1])]}
    host, _, port = address.rpartition(":")
    try:
        if port.isdigit():  # ray.init itself waits for minutes when nothing listens
            socket.create_connection((host.removeprefix("ray://"), int(port)), timeout=10).close()
        ray.init(address=address, runtime_env=code, log_to_driver=False)
    except OSError as error:
        raise UserError(
            f"No Ray cluster answers at {address!r} ({error}); start one or unset PARTGEN_RAY_ADDRESS."
        ) from None
    try:
        yield ray
    finally:
        ray.shutdown()


def _run_on_ray(
    ray: Any,
    function: Callable[[Any], Any],
    tasks: Iterable[Task],
    window: int,
    timeout_s: float,
    tasks_per_worker: int,
) -> Iterator[Ended]:
    remote = ray.remote(num_cpus=1, max_retries=0, max_calls=tasks_per_worker)(function)
    pending: dict[Any, tuple[Task, float]] = {}
    remaining = iter(tasks)
    try:
        while True:
            # A window keeps payloads out of memory until a worker is nearly free.
            while len(pending) < window and (task := next(remaining, None)) is not None:
                pending[remote.remote(task[1]())] = (task, time.monotonic())
            if not pending:
                break
            done, _ = ray.wait(list(pending), timeout=1.0)
            for reference in done:
                yield pending.pop(reference)[0], *_ray_answer(ray, reference)
            for reference, (task, started) in list(pending.items()):
                if time.monotonic() - started > timeout_s:
                    ray.cancel(reference, force=True)
                    del pending[reference]
                    yield task, None, Overdue()
    finally:
        for reference in pending:
            ray.cancel(reference, force=True)


def _ray_answer(ray: Any, reference: Any) -> tuple[Any, Exception | None]:
    try:
        return ray.get(reference), None
    except ray.exceptions.RayTaskError as error:
        error.cause.add_note(str(error))
        return None, error.cause
    except ray.exceptions.OutOfMemoryError as error:
        return None, error
    except ray.exceptions.RayError:
        return None, Died()


def failure_of(object_id: str, error: Exception | None, timeout_s: float) -> Failure | None:
    """Why an object has no result; UserErrors, and errors of a full disk, are raised."""
    if error is None:
        return None
    fault = system_fault(error)
    if isinstance(error, UserError) or (fault is not None and fault.errno in FULL):
        raise error
    if isinstance(error, ObjectFailed):
        return Failure("object", _encodable(str(error)))
    if isinstance(error, Overdue):
        return Failure("timeout", f"took longer than {timeout_s:g} s")
    if isinstance(error, Died):
        kind = "killed" if error.exitcode is None or error.exitcode < 0 else "object"
        if error.exitcode in CRASHES:
            kind = "object"
        elif error.exitcode == -signal.SIGKILL:  # so the system ends what takes too much memory
            kind = "memory"
        return Failure(kind, f"the worker process died ({exit_text(error.exitcode)})")
    print(f"{object_id}: {''.join(getattr(error, '__notes__', [str(error)]))}", file=sys.stderr, flush=True)
    # torch and Ray have classes of this name of their own
    wants_memory = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    wants_memory = wants_memory or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
    words = " ".join(str(error).split())[:300]
    return Failure("memory" if wants_memory else "object", _encodable(f"{type(error).__name__}: {words}"))


def _encodable(text: str) -> str:
    """A reason that a table can hold: names in files may be no text at all."""
    return text.encode("utf-8", "backslashreplace").decode()
