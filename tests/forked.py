"""Processes that are forks of one which has imported what tests need: a run of a stage without seconds of imports.

The pool's processes, their pipes and their ends are the real ones; `tests/shards` and the runs of whole programs start
them as the product does.
"""

import importlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import forkserver, get_context, resource_tracker, util
from typing import Any

import pytest

from pipeline.shards import pool

FORKING = get_context("forkserver")
CHANGED: dict[str, object] = {}
"""Constants of modules, by their full names, that have another value in the processes, too."""


def start_forkserver() -> None:
    """The process that is forked, itself a fork of this one: called when all is imported and no test has run."""
    FORKING.set_forkserver_preload([])
    resource_tracker.ensure_running()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(util, "spawnv_passfds", _forked_program)
        forkserver.ensure_running()


def _forked_program(path: object, arguments: Sequence[str], passed: Sequence[int]) -> int:
    """In place of a new Python that would run the program which is the last argument."""
    if process_id := os.fork():
        return process_id
    try:
        kept = sorted({0, 1, 2, *passed})
        for before, after in zip(kept, [*kept[1:], os.sysconf("SC_OPEN_MAX")], strict=True):
            os.closerange(before + 1, after)
        exec(arguments[-1], {})
    finally:
        os._exit(1)  # it ends with its parent, and never goes on with what that does


def in_new_process(function: Callable[..., Any], *args: object) -> Any:
    """What the function returns or raises in a process that has nothing else.

    Loaders fork their workers off a training's process. That of the tests holds what trainings never have, such as
    renderers' threads and Prefect's exit hooks, and a fork of it may die.
    """
    with ProcessPoolExecutor(1, mp_context=FORKING) as executor:
        return executor.submit(function, *args).result()


class Forks:
    """In place of the context `spawn` of the pool."""

    Pipe = staticmethod(FORKING.Pipe)

    @staticmethod
    def Process(target: Callable[..., None], args: tuple[Any, ...], daemon: bool) -> Any:
        """A fork that has the environment of this process, as a new process would, and CHANGED."""
        return FORKING.Process(target=_started, args=(dict(os.environ), dict(CHANGED), target, args), daemon=daemon)


@contextmanager
def forked_workers(changed: Mapping[str, object] | None = None) -> Iterator[None]:
    """Within, the pool's processes are forks of one that has imported what these tests have.

    `changed` are constants of modules, `package.module.NAME`, that have another value here and there.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "get_context", lambda method: Forks)
        for name, value in (changed or {}).items():
            patch.setattr(name, value)
            patch.setitem(CHANGED, name, value)
        yield


def _started(
    environment: dict[str, str], changed: dict[str, object], target: Callable[..., None], args: tuple[Any, ...]
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    for name, value in changed.items():
        module, _, constant = name.rpartition(".")
        setattr(importlib.import_module(module), constant, value)
    target(*args)
