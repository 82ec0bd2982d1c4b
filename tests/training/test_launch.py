"""Several processes that train on this machine: they end together, however one of them or their launcher ends."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch

from pipeline.errors import UserError
from pipeline.training.checkpoints import Checkpoints, load_tensors
from tests.training.regression import Regression, Samples, run

pytestmark = pytest.mark.slow

PROCESSES = 2


def launch(folder: Path, steps: int, spoilt: int | None = None) -> subprocess.Popen[str]:
    """The launcher, which trains for so many steps in `folder`."""
    folder.mkdir()
    environment = {**os.environ, "PARTGEN_PROCESSES": str(PROCESSES), "PARTGEN_TEST_MARK": str(folder)}
    arguments = [str(folder), str(steps), *([] if spoilt is None else [str(spoilt)])]
    return subprocess.Popen(
        # A shell in the background has its programs ignore Ctrl-C.
        ["env", "--default-signal=INT", sys.executable, "-m", "tests.training.ranks", *arguments],
        env={**environment, "CUDA_VISIBLE_DEVICES": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def alive(folder: Path) -> list[psutil.Process]:
    """The launcher of `folder` and all that come from it."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("PARTGEN_TEST_MARK") == str(folder) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:  # it ended meanwhile, or is someone else's
            continue
    return found


def wait_for(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def under_way(folder: Path) -> bool:
    curve = folder / "curve.csv"
    return curve.exists() and curve.read_text().count("\n") > 3


@pytest.mark.parametrize("order", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL, "SIGKILL while they start"])
def test_nothing_is_left_when_the_launcher_ends(tmp_path: Path, order: signal.Signals | str) -> None:
    folder = tmp_path / "training"
    launcher = launch(folder, steps=10**6)
    if isinstance(order, str):
        order = signal.SIGKILL
        wait_for(lambda: len(alive(folder)) == 1 + PROCESSES, 200)
    else:
        wait_for(lambda: under_way(folder), 200)
    launcher.send_signal(order)
    _, said = launcher.communicate(timeout=60)
    assert launcher.returncode == {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGKILL: -9}[order]
    assert "Traceback" not in said
    assert ("partgen: interrupted" in said) == (order == signal.SIGINT)
    wait_for(lambda: not alive(folder), 20)


def test_all_end_when_one_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "training"
    launcher = launch(folder, steps=10**6)
    wait_for(lambda: under_way(folder), 200)
    ranks = [process for process in alive(folder) if process.pid != launcher.pid]
    assert len(ranks) == PROCESSES
    ranks[-1].kill()
    _, said = launcher.communicate(timeout=60)
    assert launcher.returncode == 2
    assert "partgen: One of the 2 processes that train was ended by SIGKILL, and the others with it;" in said
    assert not alive(folder)


def test_they_train_as_one_would_and_what_stops_one_is_said(tmp_path: Path) -> None:
    """They meet a NaN in step 3; the checkpoint before it is that of one process."""
    spoilt = 2 * 8 + 3
    with pytest.raises(UserError):
        run(tmp_path / "alone", Regression(Samples(spoilt)), checkpoint_every=1)
    launcher = launch(tmp_path / "together", steps=18, spoilt=spoilt)
    _, said = launcher.communicate(timeout=150)
    assert launcher.returncode == 2
    assert re.search(r"^partgen: toy: the loss is nan at step 3, with the objects object-19;", said, re.MULTILINE)
    assert "Traceback" not in said
    alone, together = (
        load_tensors(Checkpoints(tmp_path / name / "training").path(2)) for name in ("alone", "together")
    )
    assert alone.keys() == together.keys()
    for name, value in alone.items():
        torch.testing.assert_close(together[name], value, rtol=1e-4, atol=1e-6)
