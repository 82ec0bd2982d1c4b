"""One Prefect server for all tests of flows: to start one takes ten seconds."""

import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.flows.servers import environment, listening


@pytest.fixture(scope="package")
def plain_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """As `prefect server start` starts it: the address of its API."""
    folder = tmp_path_factory.mktemp("plain")
    command = [sys.executable, "-m", "prefect", "server", "start", "--port", "0", "--no-ui"]
    process = subprocess.Popen(command, cwd=folder, env=environment(folder), stdout=subprocess.DEVNULL)
    try:
        yield listening(process, seconds=120)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)
