"""The trainings at tiny size on a corpus of toys: real networks, real shards, the real loop."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import stages.train
from pipeline.diffusion import objective
from pipeline.diffusion.autoencoder_objective import Pictures
from pipeline.diffusion.denoiser import Conditions
from pipeline.diffusion.objective import DiffusionObjective, part_weights
from pipeline.diffusion.pipelines import CompletionPipeline, pipeline_class
from pipeline.diffusion.tasks import TASKS, TRAININGS
from pipeline.diffusion.trainings import TrainingData, autoencoder_objective, task_objective
from pipeline.errors import UserError
from pipeline.folders import STAGE, write_sums
from pipeline.params.diffusion import SamplersParams
from pipeline.params.train import TrainParams
from pipeline.shards.read import iter_rows
from pipeline.shards.scratch import scratch
from pipeline.shards.table import decode_png
from pipeline.views.cameras import over_white
from pipeline.views.part_colours import decode_colours
from stages.train import BASE, launch, run
from tests.toy_corpus import write_toy_corpus
from tests.toy_models import SCRATCH, VIEW_SIZE, tiny

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_toy_corpus(tmp_path / "data", objects=6, view_size=VIEW_SIZE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(objective, "VALIDATION", 8)
    torch.set_num_threads(1)
    return tmp_path


@pytest.fixture
def trained(project: Path, toy_models: Path) -> Path:
    """The folder of networks that the stage has trained with `tiny()` on the corpus of the project."""
    return toy_models / "data/models"


def take(trained: Path, *networks: str) -> None:
    """Put networks where their trainings would leave them."""
    for network in networks:
        shutil.copytree(trained / network, Path("data/models") / network)


def test_every_network_is_trained_saved_and_sampled(
    toy_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(toy_models, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PARTGEN_SCRATCH", str(tmp_path / SCRATCH))
    for task in TRAININGS:
        metrics = json.loads(Path(f"metrics/train/{task}.json").read_text())
        assert metrics["samples"] == 4
        assert metrics["validation"]["loss"] > 0
        assert Path(f"plots/train/{task}.csv").read_text().startswith("step,loss,validation\n")
        assert Image.open(f"plots/train/{task}.png").height >= VIEW_SIZE
        if task in TASKS:
            model = pipeline_class(task).from_pretrained(Path("data/models") / task)
            assert model.config.grid_size == 2 * VIEW_SIZE
            assert model.unet.config.in_channels == TASKS[task].in_channels(8)

    params, diffusion = tiny()
    training = TrainingData(Path("data"), diffusion, 0, VIEW_SIZE, augment=True)
    checkpointed = {task: task_objective(TASKS[task], params, training).module for task in ("edit", "segment")}
    assert {task: network.is_gradient_checkpointing for task, network in checkpointed.items()} == {
        "edit": True,
        "segment": False,
    }

    weights = Path("data/models/segment/unet/diffusion_pytorch_model.safetensors")
    before = weights.read_bytes()
    capsys.readouterr()
    run("segment", *tiny(), VIEW_SIZE)
    assert "trained before" in capsys.readouterr().err
    assert weights.read_bytes() == before


def test_a_network_is_written_by_one_training_at_a_time(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has the right to write the model's folder keeps it until its metrics and pictures are written too."""
    program = (
        "from pathlib import Path\n"
        "from pipeline.shards.scratch import only_writer\n"
        "with only_writer(Path('data/models/autoencoder')):\n"
        "    files = 'data/models/autoencoder/config.json', 'metrics/train/autoencoder.json'\n"
        "    print(all(Path(file).exists() for file in (*files, 'plots/train/autoencoder.png')))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    written = stages.train.report
    others = list[subprocess.Popen[str]]()

    def report(*arguments: Any) -> None:
        command, pipe = [sys.executable, "-c", program], subprocess.PIPE
        others.append(subprocess.Popen(command, env=environment, text=True, stdout=pipe, stderr=pipe))
        assert others[0].stderr is not None
        line = others[0].stderr.readline()
        assert line == "data/models/autoencoder is being written by another run; waiting for it to end.\n"
        written(*arguments)

    monkeypatch.setattr("stages.train.report", report)
    run("autoencoder", *tiny(), VIEW_SIZE)
    assert others[0].communicate(timeout=60)[0] == "True\n"


def test_a_folder_of_others_stops_a_training_before_it_starts(project: Path) -> None:
    Path("data/models/autoencoder").mkdir(parents=True)
    Path("data/models/autoencoder/thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="data/models/autoencoder holds files that "):
        run("autoencoder", *tiny(), VIEW_SIZE)
    assert not list((scratch() / "training").glob("*"))
    assert Path("data/models/autoencoder/thesis.txt").read_text() == "mine"


def test_trainings_see_the_pictures_as_they_are_where_augmentation_is_off(project: Path) -> None:
    diffusion = tiny()[1].model_copy(update={"palette": "random"})
    stored = [over_white(decode_png(row["image"]["bytes"])) for row in iter_rows(Path("data/renders/grids"))]

    def among(picture: torch.Tensor) -> bool:
        return any(np.allclose(picture.permute(1, 2, 0).numpy(), grid, atol=1e-6) for grid in stored)

    for augment in (False, True):
        training = TrainingData(Path("data"), diffusion, 0, VIEW_SIZE, augment)
        for task, name in (("segment", "whole"), ("complete", "part")):
            samples = training.examples(TASKS[task])
            assert all(among(samples[number]["images"][name]) for number in range(8)) != augment
        pictures = Pictures(Path("data"), "train", diffusion, 0, augment)
        assert all(among(pictures.grid(number)[0]) for number in range(1, 16, 2)) != augment


def test_pixels_of_small_parts_count_more(project: Path, trained: Path) -> None:
    pictures = torch.ones(3, 3, 20, 20)
    pictures[0, 1, :6, :4] = 0.5  # 6 %
    pictures[1, 2, :3, :2] = 0.0  # a quarter of that
    weights = part_weights(pictures, 0.5)
    assert weights.shape == (3, 20, 20)
    assert torch.equal(weights[0], torch.ones(20, 20))
    assert weights[1, :3, :2] == pytest.approx(torch.full((3, 2), 2.0))
    assert weights[1].sum() == pytest.approx(394 + 6 * 2)
    assert torch.equal(weights[2], torch.ones(20, 20))  # there is no part
    assert part_weights(pictures, 4.0).max() == 10

    train, diffusion = tiny()
    training = TrainingData(Path("data"), diffusion, 0, VIEW_SIZE, augment=True)
    take(trained, "autoencoder", BASE)
    for task, differs in (("complete", True), ("segment", False)):
        torch.manual_seed(0)
        objective = task_objective(TASKS[task], train, training)
        batch = objective.collate([objective.examples()[number] for number in range(4)])
        balanced = objective.loss(objective.module, batch)
        objective.part_balance = 0.0
        assert torch.equal(balanced, objective.loss(objective.module, batch)) != differs


def test_conditions_condition(project: Path, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After some steps, what belongs to another sample makes the loss larger."""
    losses: dict[str, tuple[float, float]] = {}
    original = DiffusionObjective.pictures

    def compare(of_task: DiffusionObjective) -> dict[str, Any]:
        examples = of_task.examples()
        batches = [of_task.collate([examples[n] for n in range(s, s + 4)]) for s in range(0, 32, 4)]
        right = [of_task.loss(of_task.module, batch).mean() for batch in batches]
        own = of_task.conditions
        with monkeypatch.context() as patch:
            patch.setattr(of_task, "conditions", lambda batch: rolled(own(batch)))
            wrong = [of_task.loss(of_task.module, batch).mean() for batch in batches]
        losses[of_task.task.name] = float(torch.stack(right).mean()), float(torch.stack(wrong).mean())
        return original(of_task)

    monkeypatch.setattr(DiffusionObjective, "pictures", compare)
    take(trained, "autoencoder")
    for task in (BASE, "complete"):
        run(task, *tiny(steps=60, batch=8, micro_batch=8, learning_rate=0.003), VIEW_SIZE)
    assert losses.keys() == {BASE, "complete"}
    for task, (right, wrong) in losses.items():
        assert wrong > 1.02 * right, task


def rolled(conditions: Conditions) -> Conditions:
    """Each sample's conditions given to the next one."""
    values = (conditions.text_BLD, conditions.pooled_BP, conditions.stacked_BKHW, conditions.beside_BCHW)
    moved = [None if value is None else value.roll(1, dims=0) for value in (*values, conditions.image_BNE)]
    assert moved[0] is not None
    return Conditions(moved[0], *moved[1:])


def test_the_autoencoder_learns_all_colours_whoever_gets_them(project: Path) -> None:
    train, diffusion = tiny()
    assert diffusion.palette == "appearance"
    training = TrainingData(Path("data"), diffusion, 0, VIEW_SIZE, augment=True)
    pictures = autoencoder_objective(train, training).examples()
    seen = set()
    for number in range(0, 80, 2):
        sample = pictures[number]
        assert sample["coloured"]
        seen |= set(decode_colours(sample["picture"], diffusion.colours).unique().tolist())
    assert len(seen) == diffusion.colours + 1


def test_text_to_mv_learns_from_the_objects_of_a_list(project: Path, trained: Path) -> None:
    train, diffusion = tiny()
    take(trained, "autoencoder")

    def listed(*ids: str) -> TrainParams:
        Path("best.txt").write_text("\n".join(ids))
        return train.model_copy(update={BASE: train.text_to_mv.model_copy(update={"objects": "best.txt"})})

    training = TrainingData(Path("data"), diffusion, 0, VIEW_SIZE, augment=False)
    samples = task_objective(TASKS[BASE], listed("toy-002", "toy-000"), training).examples()
    assert {samples[number]["object_id"] for number in range(8)} == {"toy-000", "toy-002"}
    others = task_objective(TASKS[BASE], train, training).examples()
    assert {others[number]["object_id"] for number in range(8)} == {f"toy-{number:03d}" for number in range(4)}
    with pytest.raises(UserError, match=r"no object toy-009 in the split train for text_to_mv; name others"):
        run(BASE, listed("toy-002", "toy-009"), diffusion, VIEW_SIZE)
    for params in (listed(), train.model_copy(update={BASE: train.text_to_mv.model_copy(update={"objects": "no"})})):
        with pytest.raises(UserError, match=r"train\.text_to_mv\.objects is '\S+', which is no text file with ids"):
            run(BASE, params, diffusion, VIEW_SIZE)
    for ids in (("toy-000",), ("toy-001",)):
        run(BASE, listed(*ids), diffusion, VIEW_SIZE)
    assert len(list((scratch() / "training").glob(f"{BASE}-*"))) == 2, "another list is another training"


def test_another_sampler_trains_nothing_anew(project: Path, toy_models: Path) -> None:
    train, diffusion = tiny()
    take(toy_models / "data/models", "autoencoder", BASE, "segment")
    shutil.copytree(toy_models / SCRATCH / "training", scratch() / "training")
    folders = sorted((scratch() / "training").iterdir())
    quicker = {task: sampler | {"steps": 1} for task, sampler in diffusion.sampler.model_dump().items()}
    resampled = diffusion.model_copy(update={"sampler": SamplersParams.model_validate(quicker)})
    for task in (BASE, "segment"):
        run(task, train, resampled, VIEW_SIZE)
        assert json.loads(Path(f"data/models/{task}/model_index.json").read_text())["steps"] == 1
    assert sorted((scratch() / "training").iterdir()) == folders
    run("segment", tiny(steps=1)[0], resampled, VIEW_SIZE)
    assert len(list((scratch() / "training").iterdir())) == len(folders) + 1


def test_trainings_go_on_from_a_folder_of_models(project: Path, trained: Path) -> None:
    train, diffusion = tiny()
    take(trained, "autoencoder", BASE, "segment")
    shutil.copytree("data/models", "weights")
    file = "diffusion_pytorch_model.safetensors"
    half = {name: value.half() for name, value in load_file(f"weights/segment/unet/{file}").items()}
    save_file(half, f"weights/segment/unet/{file}")
    write_sums(Path("weights/segment"), STAGE)
    shutil.rmtree(f"data/models/{BASE}/unet")  # not needed

    kept = tiny(steps=0)[0].model_copy(update={"init_from": "weights"})
    for task, network in (("autoencoder", "autoencoder"), ("segment", "segment/unet")):
        run(task, kept, diffusion, VIEW_SIZE)
        now, then = (load_file(f"{folder}/{network}/{file}") for folder in ("data/models", "weights"))
        assert now.keys() == then.keys()
        assert all(value.dtype == torch.float32 and torch.equal(value, then[key].float()) for key, value in now.items())
    configs = [json.loads(file.read_text()) for file in Path("data/models").rglob("config.json")]
    assert configs
    assert not [config for config in configs if config.get("_name_or_path")], "where a network came from is kept in it"

    with pytest.raises(UserError, match=r"nowhere/segment/unet holds no network"):
        run("segment", train.model_copy(update={"init_from": "nowhere"}), diffusion, VIEW_SIZE)
    wider = diffusion.model_copy(update={"unet": diffusion.unet.model_copy(update={"channels": [16, 48]})})
    with pytest.raises(UserError, match=r"weights/segment/unet: the layer \S+ is [\d x]+, expected was"):
        run("segment", train.model_copy(update={"init_from": "weights"}), wider, VIEW_SIZE)


def test_parts_are_trained_together_from_complete(
    project: Path, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take(trained, "autoencoder", BASE, "complete", "segment")
    shutil.copytree("data/models", "weights")
    train, diffusion = tiny(steps=0)
    kept = train.model_copy(update={"complete_joint": train.complete_joint.model_copy(update={"steps": 0})})
    file = "unet/diffusion_pytorch_model.safetensors"
    base = load_file(f"weights/complete/{file}")
    for init_from in ("", "weights"):
        run("complete_joint", kept.model_copy(update={"init_from": init_from}), diffusion, VIEW_SIZE)
        start = load_file(f"data/models/complete_joint/{file}")
        assert all(torch.equal(start[name], base[name]) for name in base)
        assert not any(start[name].any() for name in start if name.endswith("processor.to_out.weight"))

    schedule = train.complete_joint.model_copy(update={"steps": 4, "batch": 4, "micro_batch": 2, "learning_rate": 0.01})
    seen = list[list[int]]()
    loss = DiffusionObjective.loss

    def counted(objective: DiffusionObjective, module: Any, batch: dict[str, Any]) -> torch.Tensor:
        seen.append(batch["number"].tolist())
        losses = loss(objective, module, batch)
        assert len(losses) == len(batch["object_id"]) == 2
        return losses

    monkeypatch.setattr(DiffusionObjective, "loss", counted)
    run("complete_joint", train.model_copy(update={"complete_joint": schedule}), diffusion, VIEW_SIZE)
    assert [sorted(set(numbers)) for numbers in seen] == [[2 * step, 2 * step + 1] for step in range(8)]
    assert max(map(len, seen)) > 2
    metrics = json.loads(Path("metrics/train/complete_joint.json").read_text())
    assert metrics["samples"] == 16
    assert metrics["validation"]["loss"] > 0
    learnt = load_file(f"data/models/complete_joint/{file}")
    assert all(learnt[name].any() for name in learnt if name.endswith("processor.to_out.weight"))
    assert CompletionPipeline.from_pretrained("data/models/complete_joint").trained_task == TASKS["complete_joint"]


def test_mistakes_are_one_sentence(project: Path, trained: Path) -> None:
    train, diffusion = tiny()
    with pytest.raises(UserError, match=r"views of 16 px and the params say render.view_size=64"):
        run("autoencoder", train, diffusion, view_size=64)
    with pytest.raises(UserError, match=r"data/models/autoencoder"):
        run("text_to_mv", train, diffusion, VIEW_SIZE)
    take(trained, "autoencoder")
    with pytest.raises(UserError, match=r"data/models/text_to_mv"):
        run("segment", train, diffusion, VIEW_SIZE)
    with pytest.raises(UserError, match=r"no training `segmnt` \(did you mean `segment`\?\)"):
        launch("segmnt")
    with pytest.raises(UserError, match=r"no training `lrm`; the LRM is trained by `partgen stage train_lrm`"):
        launch("lrm")


def test_more_parts_than_colours(project: Path) -> None:
    train, diffusion = tiny()
    few = diffusion.model_copy(update={"colours": 2})
    with pytest.raises(UserError, match=r"parts.*colours"):
        run("autoencoder", train, few, VIEW_SIZE)
