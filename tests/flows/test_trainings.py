"""`partgen train-all` as a user starts it, over a toy project with two trainings that keep checkpoints."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import yaml

from tests.flows.servers import marked, wait_for
from tests.flows.test_flow import contents
from tests.toy_project import ROOT, make_toy_project

pytestmark = pytest.mark.slow

MARK = f"train-all-{os.getpid()}"
PROGRAM = """
import os, pathlib, sys, time, yaml
from pipeline.shards.progress import Progress
name = sys.argv[1]
steps = 60 if name == 'autoencoder' else 30
checkpoint = pathlib.Path(os.environ["PARTGEN_SCRATCH"], f"checkpoint-{name}")
done = int(checkpoint.read_text()) if checkpoint.exists() else 0
session = pathlib.Path("/proc/self/autogroup")
shared = session.read_text().split()[-1] if session.exists() else 19
print(f"{name}: going on after step {done} of {steps}, priority {os.nice(0)}, of its session {shared}", flush=True)
curve = pathlib.Path("plots/train", f"{name}.csv")
curve.parent.mkdir(parents=True, exist_ok=True)
curve.write_text("step,loss,validation\\n")
with Progress(name, steps, done, 0.1) as progress:
    for step in range(done + 1, steps + 1):
        time.sleep(60 if step == 30 and not done and name == "autoencoder" else 0.02)
        with curve.open("a") as file:
            file.write(f"{step},{1 / step:.6g},{2 / step:.6g}\\n")
        progress.advance(note=f"{progress.rate:.3g} steps/s, loss 1")
        checkpoint.write_text(str(step))
pathlib.Path("data/models", name).mkdir(parents=True)
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = make_toy_project(tmp_path / "project")
    stages = yaml.safe_load((folder / "dvc.yaml").read_text())
    stages["stages"]["train"] = {
        "foreach": {"autoencoder": {"base": "sources"}, "text_to_mv": {"base": "data/models/autoencoder"}},
        "do": {
            "cmd": "python train.py ${key}",
            "params": ["train.${key}"],
            "deps": ["train.py", "${item.base}"],
            "outs": ["data/models/${key}"],
        },
    }
    (folder / "dvc.yaml").write_text(yaml.safe_dump(stages))
    (folder / "train.py").write_text(PROGRAM)
    with (folder / ".gitignore").open("a") as file:
        file.write("/data\n/plots\n")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PARTGEN_SCRATCH", str(folder / ".partgen"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PARTGEN_TEST_MARK", MARK)
    yield folder
    for pid in marked(MARK):  # of a test that failed
        psutil.Process(pid).kill()


def train_all(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "stages.cli", "train-all", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_trainings_are_started_watched_ended_and_gone_on_with(project: Path) -> None:
    before = contents(project)
    for options in (["--status"], ["--stop"]):
        assert train_all(*options).stderr.startswith("partgen: No trainings ")

    assert "There is no stage `train@segments`" in train_all("train@segments").stderr

    started = train_all("--preset", "nano", "--background")
    assert started.returncode == 0, started.stderr
    copy = project / ".partgen/runs/train-all-nano"
    assert f"Results: data/models, metrics/train and plots/train in {copy}." in started.stdout

    checkpoint = project / ".partgen/checkpoint-autoencoder"
    wait_for(lambda: checkpoint.exists() and checkpoint.read_text() == "29", seconds=200)
    said = train_all("--status").stdout
    assert re.search(
        r"train@autoencoder  running, step 29 of 0, [\d.]+ samples/s, about \d+ s left, "
        r"validation [\d.]+ \(first 2, least [\d.]+\)\ntrain@text_to_mv   waits\n",
        said,
    ), said
    again = train_all("--background")
    assert again.returncode == 2
    assert re.fullmatch(r"partgen: The trainings are running already \(process \d+\); .*\n", again.stderr)

    assert train_all("--stop").stdout.startswith("The trainings were ended during train@autoencoder; ")
    assert not marked(MARK)
    assert "was begun and is not running" in train_all("--status").stdout

    ended = train_all("--preset", "nano")
    assert ended.returncode == 0, ended.stderr
    assert "autoencoder: going on after step 29 of 60, priority 19, of its session 19" in ended.stdout
    assert (copy / "data/models/text_to_mv").is_dir()
    assert re.search(r"train@text_to_mv   made in \d+ s, validation 0.06667", train_all("--status").stdout)
    assert contents(project) == before
