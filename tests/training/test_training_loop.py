"""The training loop on a small network: killed and resumed, on several processes, accumulated, stopped by a NaN."""

import copy
import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

from pipeline.errors import UserError
from pipeline.shards.progress import Progress
from pipeline.training.average import Average
from pipeline.training.checkpoints import Checkpoints, load_tensors
from pipeline.training.folder import training_folder
from pipeline.training.loop import rate_share
from tests.training.regression import SCHEDULE, SETTINGS, Regression, Samples, flat, run, schedule

pytestmark = pytest.mark.slow


def steps_of(curve: Path) -> list[str]:
    return [line.partition(",")[0] for line in curve.read_text().splitlines()]


def elsewhere(folder: Path, *launcher: str, **values: Any) -> subprocess.CompletedProcess[str]:
    """Train in processes of their own."""
    values = {"folder": str(folder), **values}
    command = [sys.executable, *launcher, "-m", "tests.training.regression", json.dumps(values)]
    return subprocess.run(
        command, env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}, capture_output=True, text=True
    )


def test_it_learns(tmp_path: Path) -> None:
    objective = run(tmp_path, schedule=schedule(steps=120))
    losses = [float(line.split(",")[1]) for line in (tmp_path / "curve.csv").read_text().splitlines()[1:]]
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:10])
    assert not any(parameter.grad is not None for parameter in objective.module.parameters())


def test_killed_and_resumed_is_as_if_never_killed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Killed in the second micro batch of step 13: the weights and the curve are bit for bit the same, with dropout."""
    whole = run(tmp_path / "whole", Regression(dropout=0.5))
    broken = tmp_path / "broken"
    killed = elsewhere(broken, killed=12 * 8 + 5, dropout=0.5)
    assert killed.returncode == -signal.SIGKILL
    assert Checkpoints(broken / "training").latest() == 10
    assert steps_of(broken / "curve.csv")[-1] == "12"
    (broken / "training" / ".tmpAbC123").write_bytes(b"torn")  # as safetensors names what it begins
    with (broken / "training" / "journal.csv").open("a") as journal:
        journal.write("1")  # the start of a row, of step 13
    time.sleep(1.1)  # TensorBoard orders its files by the second; nobody starts a process faster than that
    (broken / "curve.csv").unlink()  # as DVC does before it runs a stage

    resumed = run(broken, Regression(dropout=0.5))
    assert "toy: going on after step 10 of 18." in capsys.readouterr().err
    assert torch.equal(flat(resumed.module), flat(whole.module))
    assert (broken / "curve.csv").read_text() == (tmp_path / "whole" / "curve.csv").read_text()
    assert steps_of(broken / "curve.csv") == ["step", *(str(step) for step in range(1, 19))]
    files = {path.name for path in (broken / "training").iterdir()}
    assert files == {"finished.safetensors", "journal.csv", "tensorboard"}

    board = EventAccumulator(str(broken / "training" / "tensorboard")).Reload()
    assert [event.step for event in board.Scalars("loss")] == list(range(1, 19))
    assert [event.step for event in board.Scalars("validation/loss")] == [0, 4, 8, 12, 16, 18]
    assert [event.step for event in board.Images("prediction")] == [8, 16, 18]


def test_processes_and_micro_batches_change_nothing(tmp_path: Path) -> None:
    """Gradients and weights of two steps: two processes, four micro batches, and one batch of 8 at once.

    The third step meets a NaN on the second process, so that the checkpoint after the second one stays to be compared;
    with betas of .9 and .999 its moments are the means of the gradients and of their squares.
    """
    spoilt = 2 * 8 + 3
    for name, micro_batch in (("once", 8), ("parts", 2)):
        with pytest.raises(UserError, match=f"the loss is nan at step 3, with the objects object-{spoilt};"):
            run(
                tmp_path / name,
                Regression(Samples(spoilt)),
                schedule(micro_batch=micro_batch),
                checkpoint_every=1,
            )
    # `--multi_gpu` is what starts several processes, on a CPU too.
    flags = "--multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no --dynamo_backend no"
    launch = ("-m", "accelerate.commands.launch", *flags.split(), "--main_process_port", "0")
    launched = elsewhere(tmp_path / "processes", *launch, spoilt=spoilt, micro_batch=2, checkpoint_every=1)
    said = set(re.findall(r"the loss is nan at step 3, with the objects (.*?);", launched.stderr))
    assert said == {f"object-{spoilt}"}, launched.stderr
    assert "".join(launched.stdout.split()) == "22", "two processes, and each knows"

    once, parts, processes = (
        load_tensors(Checkpoints(tmp_path / name / "training").path(2)) for name in ("once", "parts", "processes")
    )
    assert once.keys() == parts.keys() == processes.keys()
    assert {"optimizer/0.weight/exp_avg", "average/3.bias", "weights/0.bias"} <= once.keys()
    for name, value in once.items():
        torch.testing.assert_close(parts[name], value, rtol=1e-4, atol=1e-7)
        torch.testing.assert_close(processes[name], value, rtol=1e-4, atol=1e-7)
    assert steps_of(tmp_path / "processes" / "curve.csv") == ["step", "1", "2"], "one process writes"


def test_loader_workers_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a process of its own, as a training is: that of the tests holds what must not be forked."""
    run(tmp_path / "0")
    monkeypatch.setenv("PARTGEN_LOADER_WORKERS", "2")
    finished = elsewhere(tmp_path / "2")
    assert finished.returncode == 0, finished.stderr
    weights = [(tmp_path / name / "training" / "finished.safetensors").read_bytes() for name in ("0", "2")]
    assert weights[0] == weights[1]
    monkeypatch.setenv("PARTGEN_LOADER_WORKERS", "many")
    with pytest.raises(UserError, match="PARTGEN_LOADER_WORKERS is 'many'"):
        run(tmp_path / "many")


def test_nan_stops_before_the_step(tmp_path: Path) -> None:
    objective = Regression(Samples(spoilt=11 * 8 + 6))
    with pytest.raises(UserError) as error:
        run(tmp_path, objective)
    kept = tmp_path / "training" / "step-00000010.safetensors"
    assert re.search(r"^toy: the loss is nan at step 12, with the objects object-94; ", str(error.value))
    assert f"checkpoint {kept} is kept" in str(error.value)
    assert kept.exists()
    assert flat(objective.module).isfinite().all()


def test_gradient_that_overflows_stops_too(tmp_path: Path) -> None:
    class Steep(Regression):
        def loss(self, module: nn.Module, batch: dict[str, Any]) -> Tensor:
            return torch.sqrt(super().loss(module, batch) * 0)  # 0, with an infinite slope

    with pytest.raises(UserError, match="the gradient's norm is nan at step 1, with the objects object-0, object-1, "):
        run(tmp_path, Steep())


def test_too_little_memory_is_said_in_one_sentence(tmp_path: Path) -> None:
    class Large(Regression):
        def loss(self, module: nn.Module, batch: dict[str, Any]) -> Tensor:
            raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(UserError, match="the memory is too small for micro_batch 4; halve it"):
        run(tmp_path, Large())


def test_validation_sees_the_averaged_weights_and_leaves_the_training_alone(tmp_path: Path) -> None:
    often = run(tmp_path / "often", Regression(dropout=0.5), validate_every=1)
    seldom = run(tmp_path / "seldom", Regression(dropout=0.5), validate_every=100)
    plain = run(tmp_path / "plain", Regression(dropout=0.5), ema_decay=0.0)
    assert torch.equal(flat(often.module), flat(seldom.module))
    assert torch.equal(often.seen[-1], flat(often.module))
    assert len(often.seen) == 1 + SCHEDULE.steps
    assert len(seldom.seen) == 2, "before the first step and after the last one"
    assert not torch.equal(flat(often.module), flat(plain.module))


def test_average_forgets_where_it_started() -> None:
    parameter = nn.Parameter(torch.tensor([7.0]))
    average = Average([parameter], decay=0.9)
    expected = 0.0
    for step in range(1, 200):
        with torch.no_grad():
            parameter.fill_(np.sin(step))
        average.update(step)
        keep = min(0.9, (step - 1) / (step + 8))
        expected = keep * expected + (1 - keep) * np.sin(step)
        assert average.values[0].item() == pytest.approx(expected, abs=1e-5)
    with average.in_place():
        assert parameter.item() == pytest.approx(expected, abs=1e-5)
    assert parameter.item() == pytest.approx(np.sin(199))


def test_finished_training_is_loaded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained = run(tmp_path)
    curve = (tmp_path / "curve.csv").read_text()
    (tmp_path / "curve.csv").unlink()
    again = run(tmp_path, Regression(Samples(spoilt=0)))  # a single step would stop with an error
    assert torch.equal(flat(again.module), flat(trained.module))
    assert (tmp_path / "curve.csv").read_text() == curve
    assert "trained before" in capsys.readouterr().err


def test_a_training_that_is_forced_starts_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path)
    with pytest.raises(UserError, match="the loss is nan at step 1"):
        run(tmp_path, Regression(Samples(spoilt=0)), force=True)


@pytest.mark.parametrize("name", ["finished.safetensors", "step-00000010.safetensors"])
def test_a_damaged_checkpoint_is_one_sentence(tmp_path: Path, name: str) -> None:
    """Wherever a bit is turned, and wherever the file is cut off."""
    spoilt = None if name.startswith("finished") else 11 * 8
    with pytest.raises(UserError) if spoilt else nullcontext():
        run(tmp_path, Regression(Samples(spoilt)))
    file = tmp_path / "training" / name
    whole = file.read_bytes()
    places = np.random.default_rng(0).integers(len(whole), size=60).tolist()
    flipped = [whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :] for at in (0, 9, *places)]
    for damaged in (*flipped, *(whole[:at] for at in (0, 4, *places[:5])), b"\xff" * len(whole)):
        file.write_bytes(damaged)
        said = ""
        try:
            objective = run(tmp_path)
        except UserError as error:
            said = str(error)
        if not said:  # what was turned is the spelling of the header, and all values are right
            assert len(whole) == len(damaged)
            assert torch.equal(flat(objective.module), flat(run(tmp_path / "other").module))
            (tmp_path / "training" / "finished.safetensors").unlink()
            continue
        assert said.startswith(f"The checkpoint {file} is damaged; ")
    assert file.exists(), "it is the user's to remove"
    file.write_bytes(whole)
    run(tmp_path)


def test_damaged_records_do_not_stop_a_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError):
        run(tmp_path, Regression(Samples(spoilt=11 * 8)))
    folder = tmp_path / "training"
    lines = (folder / "journal.csv").read_text().splitlines(keepends=True)
    lines[3:6] = ["\0\0\0\n", "4,0.5\n", "5,1..2,0.1\n"]
    (folder / "journal.csv").write_bytes("".join(lines).encode() + b"\xff\xfe,1,1\n")
    for events in (folder / "tensorboard").iterdir():
        events.write_bytes(b"\xff" * 50)
    run(tmp_path)
    assert steps_of(tmp_path / "curve.csv")[1:] == [str(step) for step in range(1, 19) if step not in (3, 4, 5)]
    assert f"{folder / 'journal.csv'} lacks 3 of 10 steps, and so does the curve." in capsys.readouterr().err


def test_no_steps_do_nothing_and_say_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    objective = Regression()
    before = copy.deepcopy(objective.module)
    run(tmp_path, objective, schedule(steps=0))
    assert torch.equal(flat(objective.module), flat(before))
    assert (tmp_path / "curve.csv").read_text() == "step,loss,validation\n"
    assert capsys.readouterr().err == "toy: steps is 0, so nothing is trained and the network stays as it is.\n"


def test_batch_that_cannot_be_split(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match="a batch of 8 cannot be split into micro batches of 3 on 1 process; choose a m"
    ):
        run(tmp_path, schedule=schedule(micro_batch=3))


def test_same_inputs_same_folder(scratch_of_its_own: Path) -> None:
    folder = training_folder("segment", SCHEDULE, {"shards": "abc"}, b"bytes")
    assert folder.parent == scratch_of_its_own / "training"
    assert folder.name.startswith("segment-")
    assert folder == training_folder("segment", SCHEDULE, {"shards": "abc"}, b"bytes")
    assert folder != training_folder("segment", schedule(steps=19), {"shards": "abc"}, b"bytes")
    assert folder != training_folder("segment", SCHEDULE, {"shards": "abd"}, b"bytes")


def test_estimate_counts_this_run_only(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("toy", total=1000, done=998, log_every_s=0) as progress:
        progress.started -= 10  # a step took 10 s
        progress.advance(note="loss 2")
        progress.advance(failed=True)
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["toy: 999 of 1000, about 10 s left, loss 2", "toy: 1000 of 1000, about 0 s left, 1 failed"]


def test_the_learning_rate_rises_stays_and_falls() -> None:
    settings = SETTINGS.model_copy(update={"warmup_steps": 4, "cooldown": 0.5})
    shares = [rate_share(step, 10, settings) for step in range(1, 11)]
    assert shares == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1, 0.8, 0.6, 0.4, 0.2])
    assert [rate_share(step, 10, settings.model_copy(update={"cooldown": 0.0})) for step in (5, 10)] == [1, 1]
