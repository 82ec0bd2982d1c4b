"""The Prefect flow over a toy DAG: order, caching, overrides, failures, artifacts, and cancelled runs.

Prefect is imported where it is used: it takes five seconds, which no other test should wait for.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import signal
import subprocess
import sys
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
import rich
from PIL import Image

from flows.processes import Processes, Stopped
from tests.flows.servers import marked, wait_for
from tests.toy_project import NEEDS, ROOT, behave, make_toy_project

if TYPE_CHECKING:
    from prefect import State

    from flows.results import Outcome

pytestmark = pytest.mark.slow

STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
BUSY = ["sh", "-c", f"setsid {sys.executable} -c '{STUBBORN}' & sleep 600"]


@pytest.fixture(scope="module", autouse=True)
def flows_know_the_server(plain_server: str) -> Iterator[None]:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: plain_server}):
        yield


@pytest.fixture(scope="module")
def finished_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_toy_project(tmp_path_factory.mktemp("toy") / "project")


@pytest.fixture
def project(finished_project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The toy project as the current folder; what one test finished, the next one finds."""
    behave(finished_project)
    monkeypatch.chdir(finished_project)
    monkeypatch.setenv("PARTGEN_SCRATCH", str(finished_project / ".partgen"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return finished_project


def run(**parameters: object) -> State:
    from flows.pipeline import partgen

    return partgen(**parameters, return_state=True)


def states(state: State) -> dict[str, str]:
    outcomes = cast("list[Outcome]", state.result(raise_on_failure=False))
    return {outcome.stage: outcome.state for outcome in outcomes}


def contents(folder: Path) -> dict[str, str]:
    """Digests of the project's files, runs and DVC's own bookkeeping aside."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    kept = [path for path in files if not {".partgen", ".git", "tmp", "cache", "times"} & set(path.parts)]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in kept}


def test_stages_run_in_the_order_of_the_graph_and_once(project: Path) -> None:
    from prefect.artifacts import Artifact
    from prefect.client.orchestration import get_client

    behave(project, render={"meets": "masks"}, masks={"meets": "render"})
    first = run()
    assert first.is_completed(), first.message
    assert states(first) == dict.fromkeys(NEEDS, "made")
    span = {name: [float(text) for text in (project / "times" / name).read_text().split()] for name in NEEDS}
    for name, needs in NEEDS.items():
        assert all(span[needed][1] <= span[name][0] for needed in needs)
    assert span["render"][0] < span["masks"][1], "independent branches run at once"
    assert span["masks"][0] < span["render"][1], "independent branches run at once"

    with get_client(sync_client=True) as client:
        tasks = {task.name: task for task in client.read_task_runs()}
    assert {name: set(task.tags) for name, task in tasks.items()} == {
        name: {"gpu" if name == "render" else "cpu"} for name in NEEDS
    }
    table = Artifact.get("masks-metrics")
    assert table is not None
    assert not isinstance(table, Coroutine)
    assert '{"metric": "inputs.count", "value": 1}' in str(table.data)

    assert states(run()) == dict.fromkeys(NEEDS, "unchanged")


def test_overrides_leave_the_project_alone_and_reuse_what_they_do_not_touch(project: Path) -> None:
    subprocess.run([sys.executable, "-m", "dvc", "repro", "--quiet"], cwd=project, check=True)
    before = contents(project)
    state = run(overrides=["masks.max_failed_share=0.25"])
    assert states(state) == {"assets": "restored", "render": "restored", "masks": "made", "captions": "made"}
    assert contents(project) == before
    (copy,) = (project / ".partgen" / "runs").iterdir()
    assert float((copy / "out" / "captions" / "value").read_text()) == pytest.approx(0.1 + 0.2 + 0.35)
    assert (copy / "sources" / "downloaded").resolve() == project / "sources" / "downloaded"


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"stages": ["mask"]}, "There is no stage `mask`"),
        ({"overrides": ["masks.max_failed_shares=1"]}, "no key `max_failed_shares` (did you mean `max_failed_share`"),
        ({"overrides": ["masks.max_failed_share=lots"]}, "`max_failed_share` is 'lots'"),
    ],
)
def test_mistakes_in_the_form_are_one_sentence(project: Path, parameters: dict[str, list[str]], sentence: str) -> None:
    state = run(**parameters)
    assert state.is_failed()
    assert sentence in str(state.message)
    assert states(state) == {}


def test_a_failing_stage_says_why_and_stops_what_needs_it(project: Path) -> None:
    behave(project, masks={"fail": True})
    state = run(stages=["captions", "masks"], force=True)
    assert state.is_failed()
    assert state.message == "masks: masks has nothing to draw; give it something."
    found = states(state)
    assert (found["masks"], found["captions"]) == ("failed", "not started")


def test_pictures_travel_in_the_artifact(project: Path, tmp_path: Path) -> None:
    from prefect import flow
    from prefect.artifacts import Artifact

    from flows.results import MAX_HEIGHT_PX, WIDTH_PX, show_picture

    Image.new("RGB", (1600, 8000), "white").save(tmp_path / "renders.png")

    @flow
    def one_picture() -> None:
        show_picture("render", tmp_path / "renders.png")

    one_picture()
    artifact = Artifact.get("render-pictures")
    assert artifact is not None
    assert not isinstance(artifact, Coroutine)
    head, _, data = str(artifact.data).partition("base64,")
    assert head == "![render](data:image/jpeg;"
    assert Image.open(io.BytesIO(base64.b64decode(data[:-1]))).size == (WIDTH_PX, MAX_HEIGHT_PX)


def test_nothing_is_left_of_a_run_that_was_interrupted(project: Path) -> None:
    """Ctrl-C while two stages run, one with a daemon that ignores SIGTERM in its own session."""
    from prefect.settings import PREFECT_API_URL

    behave(project, render={"seconds": 600, "daemon": True}, masks={"seconds": 600})
    mark = f"run-{os.getpid()}"
    environment = {**os.environ, "PARTGEN_TEST_MARK": mark, "PREFECT_API_URL": str(PREFECT_API_URL.value())}
    # Whatever a shell starts in the background is born deaf to Ctrl-C, these tests and their children too.
    partgen_run = [sys.executable, "-m", "stages.cli", "run", "--force", "render", "masks"]
    command = ["env", "--default-signal=INT", *partgen_run]
    runner = subprocess.Popen(command, cwd=project, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        wait_for(lambda: {"work.py render", "work.py masks", "SIG_IGN"} <= words(mark))
        runner.send_signal(signal.SIGINT)
        said, _ = runner.communicate(timeout=60)
        assert runner.returncode == 128 + signal.SIGINT, said
        assert not words(mark)
    finally:
        runner.kill()  # of which its guards take notice
    behave(project)
    assert run(stages=["render"]).is_completed(), "what the run left locked or half-written does not hinder the next"


def test_nothing_is_left_when_the_runner_is_killed(tmp_path: Path) -> None:
    """kill -9 leaves the runner no time to end anything: the guards notice."""
    mark = f"kill-{os.getpid()}"
    program = f"from flows.processes import Processes; Processes({{}}).run({BUSY!r}, '.', print)"
    environment = {**os.environ, "PARTGEN_TEST_MARK": mark, "PYTHONPATH": str(ROOT)}
    runner = subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path, env=environment)
    wait_for(lambda: "SIG_IGN" in words(mark))
    runner.kill()
    runner.wait()
    wait_for(lambda: not words(mark))


def test_a_command_that_ends_takes_along_what_it_started(tmp_path: Path) -> None:
    mark = f"end-{os.getpid()}"
    processes = Processes({"PARTGEN_TEST_MARK": mark})
    lines: list[str] = []
    assert processes.run(["sh", "-c", "printf 'a\\rb\\nc'; sleep 600 & exit 3"], tmp_path, lines.append) == 3
    assert lines == ["b", "c"]
    assert not words(mark)
    processes.stop()
    with pytest.raises(Stopped):
        processes.run(["true"], tmp_path, lines.append)


def words(mark: str) -> set[str]:
    """What the living processes run whose environment carries the mark, so far as tests ask for it."""
    asked = ("work.py render", "work.py masks", "SIG_IGN")
    return {next((word for word in asked if word in text), text) for text in marked(mark).values()}


def test_the_table_of_a_run_shows_a_few_metrics_and_how_many_more(capsys: pytest.CaptureFixture[str]) -> None:
    from flows.results import Outcome, summary

    metrics = {f"figure_{number}": number for number in range(10)} | {"curve": [1, 2]}
    rich.print(summary([Outcome("evaluate", "made", 1.0, metrics), Outcome("masks", "made", 1.0, {"objects": 3})]))
    printed = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "figure_5 5, and 4 more" in printed
    assert "figure_6" not in printed
    assert "objects 3" in printed
