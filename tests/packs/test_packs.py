"""Packs of training samples, and trainings out of them, against the trainings out of the shards."""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import stages.train
from pipeline.diffusion import objective
from pipeline.diffusion.pipelines import pipeline_class
from pipeline.diffusion.tasks import BASE, TASKS, TRAININGS
from pipeline.diffusion.trainings import TrainingData
from pipeline.errors import UserError
from pipeline.packs import train as packed
from pipeline.packs import write as packing
from pipeline.packs.read import Pack
from pipeline.packs.write import write_pack
from pipeline.training.average import Average
from pipeline.training.checkpoints import Checkpoints, State
from tests.bare_environment import bare_python, link_packages
from tests.toy_models import ROOT, VIEW_SIZE, tiny

pytestmark = pytest.mark.slow

NEEDED = ("torch", "diffusers", "safetensors", "numpy", "accelerate")
STEPS, BATCH = 4, 7
"""More samples than there are captions, so that the stage computes their tokens beforehand, too."""
UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, toy_models: Path) -> Path:
    """Shards, `init` with the network that others start from, two trained networks, and a pack of all tasks."""
    folder = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("PARTGEN_SCRATCH", str(folder / ".partgen"))
        patch.setattr(packing, "PIECE_BYTES", 30_000)
        patch.setattr(objective, "VALIDATION", 8)
        torch.set_num_threads(1)
        unused = (name for name in TRAININGS if name not in ("autoencoder", BASE))
        shutil.copytree(toy_models / "data", folder / "data", ignore=shutil.ignore_patterns(*unused))
        params, diffusion = tiny(steps=STEPS, batch=BATCH, micro_batch=BATCH)
        for task in ("segment", "edit"):
            stages.train.run(task, params, diffusion, VIEW_SIZE)
        shutil.copytree(f"data/models/{BASE}", f"init/{BASE}")
        training = TrainingData(Path("data"), diffusion, params.loop.seed, VIEW_SIZE, params.loop.augment)
        write_pack(Path("pack"), list(TASKS), params, training, Path("data/models"))
    return folder


def apart(one: Path, other: Path) -> float:
    """The largest difference of two networks' weights."""
    ours, theirs = load_file(one / UNET), load_file(other / UNET)
    assert ours.keys() == theirs.keys()
    return max(float((ours[name] - theirs[name]).abs().max()) for name in ours)


@pytest.mark.parametrize("task", TASKS)
def test_samples_of_a_pack_are_those_of_the_shards(project: Path, task: str) -> None:
    pack = Pack(project / "pack")
    params, diffusion = tiny()
    training = TrainingData(project / "data", diffusion, params.loop.seed, VIEW_SIZE, params.loop.augment)
    for split, found in (("train", training.examples(TASKS[task], 0.1)), ("val", training.validation(TASKS[task]))):
        assert found is not None
        ours = pack.samples(TASKS[task], split, 0.1 if split == "train" else 0.0, split == "train")
        assert ours is not None
        assert len(ours) == len(found)
        for number in range(2 * len(found)):
            one, other = ours[number], found[number]
            for kind in ("images", "masks"):
                assert one[kind].keys() == other[kind].keys()
                assert all(torch.equal(one[kind][name], other[kind][name]) for name in one[kind])
            for name in ("caption", "dropped", "object_id", "part_id"):
                assert one[name] == other[name]


def test_pieces_are_small_and_checked(project: Path, tmp_path: Path) -> None:
    pieces = sorted((project / "pack").glob("grids-*.safetensors"))
    assert len(pieces) > 1
    assert all(path.stat().st_size <= 30_000 for path in pieces)
    copy = tmp_path / "pack"
    shutil.copytree(project / "pack", copy)
    content = bytearray((copy / pieces[0].name).read_bytes())
    content[-1] ^= 1
    (copy / pieces[0].name).write_bytes(content)
    with pytest.raises(UserError, match=r"grids-00000.safetensors is damaged"):
        Pack(copy)
    with pytest.raises(UserError, match=r"is no pack of this version"):
        Pack(tmp_path)


def test_with_nothing_else_installed_and_gone_on_with_elsewhere(project: Path, tmp_path: Path) -> None:
    """The first step where there is no Parquet, encoder or validation of params; the others here."""
    linked = link_packages(tmp_path / "site", NEEDED)
    assert not linked & {"pyarrow", "pydantic", "transformers", "scipy", "dvc", "typer", "rich", "tensorboard"}
    out = tmp_path / "out"
    command = [*bare_python(), "-m", "pipeline.packs.train", "edit", "--pack", str(project / "pack")]
    command += ["--init", str(project / "init"), "--out", str(out), "--minutes", "0"]
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path / 'site'}:{ROOT}", "OMP_NUM_THREADS": "1"}
    said = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert said.returncode == 3, said.stderr
    assert "edit: the time is up" in said.stderr
    assert [path.name for path in (out / "training/edit").glob("step-*")] == ["step-00000001-1-of-1.safetensors"]

    assert packed.run("edit", Pack(project / "pack"), project / "init", out)
    assert apart(out / "edit", project / "data/models/edit") == 0
    assert pipeline_class("edit").from_pretrained(out / "edit").config.grid_size == 2 * VIEW_SIZE


def test_a_training_in_many_sittings_is_that_of_the_stage(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed, "CHECKPOINT_BYTES", 2**21)
    monkeypatch.setattr(objective, "VALIDATION", 8)
    folder, sittings = tmp_path / "training/segment", 1
    while not packed.run("segment", Pack(project / "pack"), project / "init", tmp_path, until=0.0):
        files = sorted(folder.glob("step-*"))
        assert [path.name for path in files] == [f"step-{sittings:08d}-{n}-of-3.safetensors" for n in (1, 2, 3)]
        assert all(path.stat().st_size < 2**21 + 2**17 for path in files)
        sittings += 1
    assert sittings == STEPS
    assert apart(tmp_path / "segment", project / "data/models/segment") == 0
    curve = np.loadtxt(folder / "curve.csv", delimiter=",", skiprows=1)
    assert np.array_equal(curve, np.loadtxt(project / "plots/train/segment.csv", delimiter=",", skiprows=1))

    shutil.copytree(project / "init" / BASE, tmp_path / BASE)
    assert packed.run("segment", Pack(project / "pack"), tmp_path, tmp_path)  # it is finished, and not its own start
    pack = Pack(project / "pack")
    pack.schedules["segment"].learning_rate = 0.5
    with pytest.raises(UserError, match="a training that began with other settings; name another folder"):
        packed.run("segment", pack, project / "init", tmp_path)


def test_a_checkpoint_that_lacks_a_file_is_none_and_a_damaged_one_is_told(tmp_path: Path) -> None:
    module = torch.nn.Linear(64, 64)
    optimizer = torch.optim.AdamW(module.parameters(), fused=True)
    module(torch.ones(1, 64)).sum().backward()
    optimizer.step()
    state = State(module, optimizer, Average(list(module.parameters()), 0.9))
    checkpoints = Checkpoints(tmp_path, piece_bytes=2**15)
    checkpoints.write(3, state)
    files = checkpoints.files(3)
    assert len(files) > 1
    assert checkpoints.latest() == 3
    found = checkpoints.read(3)
    assert all(torch.equal(found[name], value) for name, value in state.tensors().items())

    content = files[1].read_bytes()
    files[1].write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(UserError, match=rf"{files[1].name} is damaged"):
        checkpoints.read(3)
    files[1].unlink()
    assert checkpoints.latest() == 0
    Checkpoints(tmp_path).write(4, state)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000004.safetensors"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--set", "step=3"], "There is no setting `step` (did you mean `steps`?)"),
        (["--set", "steps=many"], "steps is 4 in the pack and cannot be 'many'"),
        ([], "segment is fine-tuned from text_to_mv; name a folder that has it (--init)."),
    ],
)
def test_mistakes_are_one_sentence(
    project: Path, tmp_path: Path, options: list[str], sentence: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    arguments = ["packed", "segment", "--pack", str(project / "pack"), "--out", str(tmp_path), *options]
    monkeypatch.setattr("sys.argv", arguments)
    assert packed.main() == 2
    assert capsys.readouterr().err.startswith(f"partgen: {sentence}")
