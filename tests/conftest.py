"""Every test has a scratch folder of its own, and two workers."""

import gc
import os
import signal
from collections.abc import Generator, Iterator
from pathlib import Path

# One thread: threads that wait for one another's turn make small networks many times slower on a busy machine. Set
# before torch is imported, here or in a program that a test starts.
os.environ["OMP_NUM_THREADS"] = "1"

import pytest
from hypothesis import settings

from tests.forked import forked_workers, start_forkserver
from tests.shared import made_once
from tests.smollm2 import link_model

# The machine may be busy; and in CI the same commit gives the same verdict.
settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")


# A shell's background job ignores Ctrl-C, and so would all programs that tests start and end by it.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """All modules are imported here, and they stay: nobody need look for garbage among them, now or later."""
    gc.disable()
    try:
        done = yield
    finally:
        gc.freeze()
        gc.enable()
    if session.items:
        start_forkserver()
    return done


FIRST = ("tests/test_end_to_end.py", "tests/flows/", "tests/test_wheel.py")
"""What takes longest: it comes first, so that no process has it left to do when the others are done."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.nodeid.startswith(FIRST))


@pytest.fixture(scope="module")
def forked() -> Iterator[None]:
    """Stages of this module work in forks of a process that has everything imported."""
    with forked_workers():
        yield


@pytest.fixture(scope="session")
def captioner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scratch folder with the language model of the captions, which a process loads once for each such folder."""
    return link_model(tmp_path_factory.mktemp("captioner"))


@pytest.fixture(scope="session")
def toy_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `tests.toy_models:write_toy_models`, to be copied from."""
    from tests.toy_models import write_toy_models

    return made_once(tmp_path_factory, "toy_models", write_toy_models)


@pytest.fixture(autouse=True)
def scratch_of_its_own(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("scratch")
    monkeypatch.setenv("PARTGEN_SCRATCH", str(folder))
    monkeypatch.setenv("PARTGEN_WORKERS", "2")
    monkeypatch.delenv("PARTGEN_RAY_ADDRESS", raising=False)
    return folder
