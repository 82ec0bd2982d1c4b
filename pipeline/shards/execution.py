"""Where a stage's map over objects runs: a local process pool, or a Ray cluster. Never part of a DVC hash."""

import ctypes
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, wait
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from pebble import ProcessExpired, ProcessPool

from pipeline.errors import ObjectFailed, UserError

PR_SET_PDEATHSIG = 1

Task = tuple[str, Callable[[], Any]]
"""An object's id, and what loads its payload when its turn comes."""
Outcome = tuple[str, Any | None, str | None]
"""An object's id, and either its result or the reason why there is none."""


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
    ) -> Iterator[Outcome]:
        """Outcomes of `function` over the payloads, as they come.

        A worker that dies, runs longer than `timeout_s` or raises costs its own object only. UserError from a worker
        ends the map. `tasks_per_worker` replaces a process after that many objects (0: never).
        """
        if self.ray_address:
            return _map_on_ray(self.ray_address, function, tasks, timeout_s, tasks_per_worker)
        return _map_on_pool(self.workers, function, tasks, timeout_s, tasks_per_worker)


def die_with_parent() -> None:
    """Let the kernel end this process when its parent dies, however it dies (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _start_worker() -> None:
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver hears Ctrl-C and ends the pool


def _map_on_pool(
    workers: int, function: Callable[[Any], Any], tasks: Iterable[Task], timeout_s: float, tasks_per_worker: int
) -> Iterator[Outcome]:
    pool = ProcessPool(workers, max_tasks=tasks_per_worker, initializer=_start_worker, context=get_context("spawn"))
    pending: dict[Any, str] = {}
    remaining = iter(tasks)
    try:
        while True:
            # A window keeps payloads out of memory until a worker is nearly free.
            while len(pending) < 2 * workers and (task := next(remaining, None)) is not None:
                pending[pool.schedule(function, args=[task[1]()], timeout=timeout_s)] = task[0]
            if not pending:
                break
            for future in wait(pending, return_when=FIRST_COMPLETED).done:
                object_id = pending.pop(future)
                yield _outcome(object_id, future.result, timeout_s)
        pool.close()
    finally:
        pool.stop()
        pool.join()


def _map_on_ray(
    address: str, function: Callable[[Any], Any], tasks: Iterable[Task], timeout_s: float, tasks_per_worker: int
) -> Iterator[Outcome]:
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
    remote = ray.remote(num_cpus=1, max_retries=0, max_calls=tasks_per_worker)(function)
    window = int(ray.cluster_resources().get("CPU", 1))
    pending: dict[Any, tuple[str, float]] = {}
    remaining = iter(tasks)
    try:
        while True:
            while len(pending) < window and (task := next(remaining, None)) is not None:
                pending[remote.remote(task[1]())] = (task[0], time.monotonic())
            if not pending:
                break
            done, _ = ray.wait(list(pending), timeout=1.0)
            for reference in done:
                object_id, _ = pending.pop(reference)
                yield _outcome(object_id, partial(_ray_result, ray, reference), timeout_s)
            for reference, (object_id, started) in list(pending.items()):
                if time.monotonic() - started > timeout_s:
                    ray.cancel(reference, force=True)
                    del pending[reference]
                    yield object_id, None, _timed_out(timeout_s)
    finally:
        for reference in pending:
            ray.cancel(reference, force=True)
        ray.shutdown()


def _ray_result(ray: Any, reference: Any) -> Any:
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error


def _outcome(object_id: str, result: Callable[[], Any], timeout_s: float) -> Outcome:
    try:
        return object_id, result(), None
    except UserError:
        raise
    except ObjectFailed as error:
        return object_id, None, str(error)
    except TimeoutError:
        return object_id, None, _timed_out(timeout_s)
    except ProcessExpired as error:
        return object_id, None, f"the worker process died ({_exit_text(error.exitcode)})"
    except Exception as error:  # anything an object does to a worker is that object's failure, and is reported
        print(f"{object_id}: {''.join(traceback.format_exception(error))}", file=sys.stderr, flush=True)
        return object_id, None, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _timed_out(timeout_s: float) -> str:
    return f"took longer than {timeout_s:g} s"


def _exit_text(code: int | None) -> str:
    return f"signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit status {code}"
