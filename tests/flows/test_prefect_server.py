"""What Prefect's servers answer to strangers: the one of a run, and one that was started as it is."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from flows.local import STRANGER, openings
from tests.flows.servers import environment, listening, marked, wait_for
from tests.toy_project import behave, make_toy_project

pytestmark = pytest.mark.slow

ASKED = {"Origin": STRANGER, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
ALLOWED = "access-control-allow-origin"


def test_the_server_of_a_run_answers_the_run_alone_and_takes_it_along_when_it_dies(tmp_path: Path) -> None:
    """The embedded server is killed while a stage runs: one sentence within half a minute, and no process is left."""
    project = make_toy_project(tmp_path / "project")
    behave(project, assets={"seconds": 600})
    mark = f"server-{os.getpid()}"
    program = "from flows.local import run_here; print(run_here(stages=['assets']))"
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=project,
        env=environment(tmp_path) | {"PARTGEN_TEST_MARK": mark},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
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
        wait_for((project / "times/assets-started").exists)  # the run itself has the login
        assert process.poll() is None

        (server,) = [pid for pid, text in marked(mark).items() if "uvicorn" in text]
        os.kill(server, signal.SIGKILL)
        said, _ = process.communicate(timeout=30)
    finally:
        process.kill()  # of which its guards take notice
    assert re.search(r"partgen: The Prefect server at http://\S+ is gone, and so the run ends", said), said
    assert said.endswith("False\n")
    assert not marked(mark)


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
