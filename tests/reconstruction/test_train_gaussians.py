"""The training of the gaussians' model at tiny size: true samples, a loss that falls, weights that come back."""

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from pipeline.errors import UserError
from pipeline.params.base import load_group, validate
from pipeline.params.gaussians import GaussiansParams
from pipeline.params.render import RenderParams
from pipeline.params.train import TrainParams
from pipeline.reconstruction.drawn_objects import DrawnObjects, over_white
from pipeline.reconstruction.examples import ViewExamples, collate
from pipeline.reconstruction.gaussians_objective import LEAST_SHOWN, GaussiansObjective
from pipeline.reconstruction.pixel_gaussians import build_gaussians, load_gaussians_model
from stages.train_gaussians import run
from tests.toy_corpus import write_toy_corpus

pytestmark = pytest.mark.slow

NANO = Path(__file__).parents[2] / "presets/nano.yaml"
VIEW_SIZE = 16
RENDER = load_group(RenderParams, path=NANO).model_copy(update={"view_size": VIEW_SIZE})
GAUSSIANS = validate(
    GaussiansParams,
    load_group(GaussiansParams, path=NANO).model_dump()
    | {"unet": {"widths": [16, 16], "blocks": 1}, "attention": [False, True], "head_channels": 8, "hull": 16},
    "gaussians",
)


def training(**schedule: Any) -> TrainParams:
    values = yaml.safe_load(NANO.read_text())["train"] | {"init_from": ""}
    values["loop"] |= {"warmup_steps": 0, "validate_every": 1000}
    values["gaussians"] |= {"steps": 2, "batch": 2, "micro_batch": 2, "views": 2} | schedule
    return validate(TrainParams, values, "train")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    write_toy_corpus(tmp_path / "data", 6, VIEW_SIZE)
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield tmp_path
    torch.set_num_threads(threads)


def test_samples_are_views_of_the_object_in_the_grid(project: Path) -> None:
    objects = DrawnObjects(Path("data"), "train", RENDER)
    samples = ViewExamples(objects, 8, 0, augment=False)
    drawn = {
        (one.object_id, one.part_id): one
        for place in range(objects.count)
        for one in (objects.read(place, part) for part in range(objects.parts(place) + 1))
    }
    kinds = set()
    for number in range(6):
        sample = samples[number]
        one = drawn[sample["object_id"], sample["part_id"]]
        rgba, cameras = one.views(RENDER.elevation_deg)
        colour, alpha = over_white(rgba)
        assert torch.equal(sample["grid"], torch.cat((over_white(one.grid)[0], over_white(one.grid)[1][None])))
        order = [cameras.index(tuple(camera)) for camera in sample["cameras"].tolist()]
        assert sorted(order) == list(range(8)), "all views, in an order of chance"
        assert torch.equal(sample["colour"], colour[order])
        assert torch.equal(sample["alpha"], alpha[order])
        kinds.add(sample["part_id"] > 0)
    assert kinds == {False, True}
    again = ViewExamples(objects, 8, 0, augment=True)
    assert torch.equal(again[3]["colour"], ViewExamples(objects, 8, 0, augment=True)[3]["colour"])


def test_the_loss_is_of_colour_and_of_alpha(project: Path) -> None:
    samples = ViewExamples(DrawnObjects(Path("data"), "train", RENDER), 3, 0, augment=True)
    torch.manual_seed(0)
    objective = GaussiansObjective(build_gaussians(GAUSSIANS, RENDER), samples, None, GAUSSIANS)
    batch = collate([samples[number] for number in range(3)])
    with torch.no_grad():
        loss = objective.loss(objective.module, batch)
        shown = objective.module.shown(batch["grid"])
        found = objective.module.gaussians(objective.module(objective.module.inputs(shown)), shown)
        for number, (one, cameras) in enumerate(zip(found, batch["cameras"].tolist(), strict=True)):
            drawn = objective._drawn(one, cameras)
            share = max(LEAST_SHOWN, float((batch["alpha"][number] > 0).float().mean()))
            colour = (drawn[:, :3] - batch["colour"][number]).square().mean()
            alpha = (drawn[:, 3] - batch["alpha"][number]).square().mean()
            assert loss[number] == pytest.approx(float((colour + 0.5 * alpha) / share), rel=1e-4)
    assert objective.validation() == {}


def test_it_learns_goes_on_and_is_read_again(project: Path) -> None:
    run(training(steps=30, batch=4, micro_batch=4, learning_rate=0.01), GAUSSIANS, RENDER)
    rows = list(csv.DictReader(Path("plots/train/gaussians.csv").read_text().splitlines()))
    losses = [float(row["loss"]) for row in rows]
    assert np.mean(losses[-8:]) < 0.8 * np.mean(losses[:4])
    metrics = json.loads(Path("metrics/train/gaussians.json").read_text())
    assert metrics["samples"] == 120
    assert metrics["validation"]["loss"] < 0.9 * float(rows[0]["validation"]), "an object that was not trained on"
    assert set(metrics["validation"]) == {"loss", "psnr", "psnr_parts"}
    picture = Image.open("plots/train/gaussians.png")
    assert picture.size == (3 * (2 * VIEW_SIZE + 4), 2 * (2 * VIEW_SIZE + 4))
    model = load_gaussians_model(Path("data/models/gaussians"))

    shutil.copytree("data/models", "weights")
    kept = training(steps=0).model_copy(update={"init_from": "weights"})
    run(kept, GAUSSIANS, RENDER)
    again = load_gaussians_model(Path("data/models/gaussians")).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in model.state_dict().items())
    with pytest.raises(UserError, match=r"weights/gaussians has hull=16, and the params ask for 0; give both the same"):
        run(kept, GAUSSIANS.model_copy(update={"hull": 0}), RENDER)
    with pytest.raises(UserError, match=r"was drawn with view_size=16 and the params say render.view_size=64; run"):
        run(kept, GAUSSIANS, RENDER.model_copy(update={"view_size": 64}))
