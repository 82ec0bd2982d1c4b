"""The joint model's training at tiny size: true samples, a loss that is what it says, weights that come back."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import Tensor

from pipeline.errors import UserError
from pipeline.params.base import load_group, validate
from pipeline.params.reconstruction import ReconstructionParams
from pipeline.params.render import RenderParams
from pipeline.params.train import JointLrmParams, TrainParams
from pipeline.reconstruction.disturbed import disturbed
from pipeline.reconstruction.drawn_objects import DrawnObjects, over_white
from pipeline.reconstruction.joint_examples import JointExamples
from pipeline.reconstruction.joint_lrm import joint_of, load_joint_lrm
from pipeline.reconstruction.joint_objective import JointObjective, overlap
from pipeline.reconstruction.lrm import build_lrm
from pipeline.reconstruction.rays import Rays, split_views
from pipeline.reconstruction.renderer import render_reference
from pipeline.shards.dataset import ObjectRows
from pipeline.shards.table import decode_png
from stages.train_lrm_joint import run
from tests.toy_corpus import toy_boxes, write_toy_corpus

pytestmark = pytest.mark.slow

NANO = Path(__file__).parents[2] / "presets/nano.yaml"
VIEW_SIZE = 16
RENDER = load_group(RenderParams, path=NANO).model_copy(update={"view_size": VIEW_SIZE})
RECONSTRUCTION = validate(
    ReconstructionParams,
    load_group(ReconstructionParams, path=NANO).model_dump()
    | {
        "volume": 8, "channels": 8, "mlp_layers": 2, "mlp_width": 8, "prior": 4, "crop": 8, "samples": 12,
        "encoder": {"widths": [8, 8], "blocks": 1}, "refinement": {"widths": [8, 8], "blocks": 1},
        "refinement_stride": 1, "hull": False, "splat_samples": 8, "gain": 2.0,
    },
    "reconstruction",
)  # fmt: skip


def training(checkpoint_every: int = 1000, init_from: str = "", **schedule: Any) -> TrainParams:
    values = yaml.safe_load(NANO.read_text())["train"] | {"init_from": init_from}
    values["loop"] |= {"warmup_steps": 0, "checkpoint_every": checkpoint_every, "validate_every": 1000}
    values["lrm_joint"] |= {"steps": 2, "batch": 2, "micro_batch": 2, "pieces": 2} | schedule
    return validate(TrainParams, values, "train")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    write_toy_corpus(tmp_path / "data", 6, VIEW_SIZE)
    torch.manual_seed(0)
    build_lrm(RECONSTRUCTION, RENDER).save_pretrained(tmp_path / "data/models/lrm")
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield tmp_path
    torch.set_num_threads(threads)


def examples(augment: bool = False, **schedule: Any) -> JointExamples:
    chosen: JointLrmParams = training(**schedule).lrm_joint
    objects = DrawnObjects(Path("data"), "train", RENDER)
    return JointExamples(objects, Path("data"), RECONSTRUCTION, RENDER, chosen, 0, augment)


def first_hits(boxes: np.ndarray, rays: Rays) -> np.ndarray:
    """The number from 1 of the box that each ray hits first, 0 for none, (R,)."""
    slabs = np.sort((boxes[:, :, None] - rays.origins.numpy()) / rays.directions.numpy(), axis=1)
    near, far = slabs[:, 0].max(-1), slabs[:, 1].min(-1)
    near[near >= far] = np.inf
    return np.where(np.isinf(near).all(axis=0), 0, near.argmin(axis=0) + 1)


def test_samples_are_objects_in_their_parts(project: Path) -> None:
    """Rays of each part hit its box; of the whole they hit first the box of the part that is said to be in sight."""
    samples = examples(disturbed=0.0, pieces=4)
    drawn = {samples.objects.read(place).object_id: place for place in range(samples.objects.count)}
    kinds = set()
    for number in range(40):
        sample = samples[number]
        place = drawn[sample["object_id"]]
        boxes, _ = toy_boxes(int(sample["object_id"][-3:]))
        if sample["whole"] is None:
            kinds.add("alone")
            assert torch.equal(sample["grids"], over_white(samples.objects.read(place).grid)[0][None])
            continue
        true = [over_white(samples.objects.read(place, 1 + part).grid)[0] for part in range(len(boxes))]
        order = [next(k for k, one in enumerate(true) if torch.equal(one, grid)) for grid in sample["grids"]]
        assert len(set(order)) == len(order) <= 4
        kinds.add("all" if len(order) == len(boxes) else "some")
        assert torch.equal(sample["whole"], over_white(samples.objects.read(place).grid)[0])
        for part, rays, alpha in zip(
            order, [sample["rays"][k] for k in range(len(order))], sample["alpha"], strict=True
        ):
            shown = first_hits(boxes[part : part + 1], rays) > 0
            assert (shown == (alpha > 0.5).numpy()).mean() > 0.9, "soft edges apart"
        rays, seen = sample["joint_rays"], sample["seen"].numpy()
        assert len(rays) == len(seen) == len(sample["joint_colour"]) == len(sample["joint_alpha"])
        truth = first_hits(boxes, rays)
        said = seen >= 0
        if said.any():
            assert (truth[said] == 1 + np.array(order)[seen[said]]).mean() > 0.9
        if len(order) < len(boxes):
            left_out = ~np.isin(truth, [0, *(1 + np.array(order))])
            assert left_out.mean() < 0.1, "what shows a part that is left out is not known"
            assert (sample["joint_alpha"][~torch.from_numpy(said)] == 0).all()
        assert sample["points"].norm(dim=1).max() <= 1
    assert kinds == {"alone", "all", "some"}
    again = examples(augment=True)
    assert torch.equal(again[3]["grids"], examples(augment=True)[3]["grids"])


def test_disturbed_grids_are_wrong_where_completions_are(project: Path) -> None:
    samples = examples()
    whole, part = samples.objects.read(1), samples.objects.read(1, 1)
    labels = torch.from_numpy(
        decode_png(ObjectRows(Path("data/masks/labels")).whole(whole.object_id)["labels"]["bytes"])
    )
    visible, white = labels == part.part_id, torch.ones(3, *labels.shape)
    shown, true = over_white(whole.grid)[0], over_white(part.grid)[0]
    found = [disturbed(part.grid, whole.grid, labels, part.part_id, np.random.default_rng(seed)) for seed in range(30)]
    assert len({grid.numpy().tobytes() for grid in found}) > 10
    for grid in found:
        assert grid.shape == true.shape
        inner = torch.nn.functional.avg_pool2d(visible[None].float(), 3, stride=1, padding=1)[0] > 0.99
        assert torch.equal(grid[:, inner], shown[:, inner]), "the middle of what is visible stays"
        beyond = torch.nn.functional.max_pool2d((whole.grid[3:] > 0).float(), 3, stride=1, padding=1)[0] == 0
        assert torch.equal(grid[:, beyond], white[:, beyond])
    assert any(not torch.equal(grid, true) for grid in found)


def test_the_loss_is_of_parts_alone_and_together(project: Path) -> None:
    """Against the reference renderer and plain sums."""
    samples = examples(pieces=3)
    torch.manual_seed(0)
    model = joint_of(build_lrm(RECONSTRUCTION, RENDER))
    objective = JointObjective(model, samples, None, RECONSTRUCTION, 0.5)
    chosen = [samples[number] for number in range(12)]
    assert {sample["whole"] is None for sample in chosen} == {True, False}

    def errors(seen: Any, colour: Tensor, alpha: Tensor) -> float:
        return float((seen.colour - colour).square().mean() + 0.5 * (seen.alpha - alpha).square().mean())

    with torch.no_grad():
        losses = objective.loss(model, objective.collate(chosen))
        for sample, loss in zip(chosen, losses.tolist(), strict=True):
            fields, count = model.fields(sample["grids"], sample["whole"]), len(sample["grids"])
            expected = np.mean(
                [
                    errors(render_reference([field], sample["rays"][k], 12), sample["colour"][k], sample["alpha"][k])
                    for k, field in enumerate(fields)
                ]
            )
            if sample["whole"] is not None:
                seen = render_reference(fields, sample["joint_rays"], 12)
                expected += errors(seen, sample["joint_colour"], sample["joint_alpha"])
                known = sample["seen"] >= 0
                if known.any():
                    truth = torch.eye(count)[sample["seen"][known]] * sample["joint_alpha"][known, None]
                    expected += 0.5 * float((seen.shares[known] - truth).square().sum(dim=1).mean())
                expected += 0.5 * float(overlap(fields, sample["points"]))
            assert loss == pytest.approx(expected, rel=1e-4)
    assert objective.validation() == {}


def test_it_learns_goes_on_and_is_read_again(project: Path) -> None:
    params = training(steps=24, batch=4, micro_batch=2, learning_rate=0.01)
    run(params, RECONSTRUCTION, RENDER)
    rows = list(csv.DictReader(Path("plots/train/lrm_joint.csv").read_text().splitlines()))
    losses = [float(row["loss"]) for row in rows]
    assert np.mean(losses[-8:]) < 0.8 * np.mean(losses[:4])
    metrics = json.loads(Path("metrics/train/lrm_joint.json").read_text())
    assert metrics["samples"] == 96
    assert metrics["validation"]["loss"] < 0.9 * float(rows[0]["validation"]), "an object that was not trained on"
    assert set(metrics["validation"]) == {"loss", "psnr", "psnr_parts", "overlap"}
    assert Image.open("plots/train/lrm_joint.png").size == (3 * (2 * VIEW_SIZE + 4), 2 * VIEW_SIZE + 4)
    model = load_joint_lrm(Path("data/models/lrm_joint"))
    assert model.state_dict()["refinement.context.weight"].any(), "it looks at the others"

    Path("data/models").rename("weights")
    kept = training(steps=0, init_from="weights")
    run(kept, RECONSTRUCTION, RENDER)
    again = load_joint_lrm(Path("data/models/lrm_joint")).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in model.state_dict().items())
    with pytest.raises(
        UserError, match=r"weights/lrm_joint has gain=2.0, and the params ask for 5.0; give both the same"
    ):
        run(kept, RECONSTRUCTION.model_copy(update={"gain": 5.0}), RENDER)
    with pytest.raises(UserError, match=r"data/models/lrm holds no reconstruction model; run the stage `train_lrm`"):
        run(training(steps=0), RECONSTRUCTION, RENDER)


def test_a_grid_and_its_views_stay_together(project: Path) -> None:
    """Augmentation changes part, whole and label map alike: visible pixels of a part are those of the whole."""
    samples = examples(augment=True, disturbed=0.0)
    for number in range(20):
        sample = samples[number]
        if sample["whole"] is None:
            continue
        whole, parts = split_views(sample["whole"][None])[0], split_views(sample["grids"])
        same = ((parts - whole[None]).abs().amax(dim=2) < 1e-6) & (whole.amin(dim=1) < 0.9)[None]
        assert same.any(dim=0).float().mean() > 0
