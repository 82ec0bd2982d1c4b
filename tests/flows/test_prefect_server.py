"""What Prefect's servers answer to strangers: the one of a run, and one that was started as it is."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from flows.local import STRANGER, openings
from tests.toy_project import ROOT, behave, make_toy_project

pytestmark = pytest.mark.slow

ASKED = {"Origin": STRANGER, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
ALLOWED = "access-control-allow-origin"


def environment(folder: Path) -> dict[str, str]:
    """Of a user with a Prefect of their own, without any server."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return {**own, "PREFECT_HOME": str(folder / "prefect"), "PYTHONPATH": str(ROOT)}


def listening(process: subprocess.Popen[bytes], seconds: float = 100) -> str:
    """The API of the Prefect server that a process starts, once it answers."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for one in (psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)):
            try:
                ports = [c.laddr.port for c in one.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
            except psutil.Error:  # it ended meanwhile
                continue
            for port in ports:
                url = f"http://127.0.0.1:{port}/api"
                try:
                    if httpx.get(f"{url}/health").json() is True:
                        return url
                except (httpx.HTTPError, ValueError):
                    continue
        assert process.poll() is None, "it ended"
        time.sleep(0.2)
    raise AssertionError("waited in vain")


@pytest.fixture(scope="module")
def plain_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """As `prefect server start` starts it."""
    folder = tmp_path_factory.mktemp("plain")
    command = [sys.executable, "-m", "prefect", "server", "start", "--port", "0", "--no-services", "--no-ui"]
    process = subprocess.Popen(command, cwd=folder, env=environment(folder), stdout=subprocess.DEVNULL)
    try:
        yield listening(process)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


def test_the_server_of_a_run_answers_the_run_alone(tmp_path: Path) -> None:
    project = make_toy_project(tmp_path / "project")
    behave(project, assets={"seconds": 600})
    program = "from flows.local import run_here; run_here(stages=['assets'])"
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=project, env=environment(tmp_path), stdout=subprocess.DEVNULL
    )
    try:
        url = listening(process)
        preflight = httpx.options(f"{url}/flows/", headers=ASKED)
        assert preflight.status_code == 400
        assert ALLOWED not in preflight.headers
        for ask in (httpx.get(f"{url}/admin/version"), httpx.post(f"{url}/flows/filter", json={}, headers=ASKED)):
            assert ask.status_code == 401
            assert ALLOWED not in ask.headers
        # What a page may send without asking first, and the server takes for JSON.
        assert httpx.post(f"{url}/flows/", content=b'{"name": "mine"}', headers={"Origin": STRANGER}).status_code == 401
        assert openings(url) == []
        deadline = time.monotonic() + 60
        while not (project / "times/assets-started").exists():  # the run itself has the login
            assert process.poll() is None
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.2)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def test_serve_says_what_a_server_is_open_to(plain_server: str, tmp_path: Path) -> None:
    pages, login = openings(plain_server)
    assert "any web page" in pages
    assert f"PREFECT_SERVER_CORS_ALLOWED_ORIGINS={plain_server.removesuffix('/api')}." in pages
    assert "PREFECT_SERVER_API_AUTH_STRING=NAME:PASSWORD" in login
    project = make_toy_project(tmp_path / "project")
    process = subprocess.Popen(
        [sys.executable, "-c", "from flows.local import serve; serve()"],
        cwd=project,
        env={**environment(tmp_path), "PREFECT_API_URL": plain_server},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        assert [process.stderr.readline().rstrip() for _ in (pages, login)] == [
            f"Warning: {pages}",
            f"Warning: {login}",
        ]
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
