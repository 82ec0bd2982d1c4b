"""One server for all tests of this folder: it imports for seconds, a trial takes tenths of one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.injector import library, preloaded
from tests.faults.server import Server
from tests.faults.trials import Bench


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with Server(preloaded()) as server:
        yield Bench(tmp_path_factory.mktemp("faults"), server)


@pytest.fixture(scope="session")
def injector() -> Path:
    found = library()
    if found is None:
        pytest.skip("faults in file operations need Linux and a C compiler (cc or gcc)")
    return found
