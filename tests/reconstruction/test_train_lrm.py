"""The reconstruction model's training at tiny size: samples that are true, a loss that falls, and what mistakes say."""

import csv
import json
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipeline.errors import UserError
from pipeline.folders import SUMS
from pipeline.params.base import load_group, validate
from pipeline.params.reconstruction import ReconstructionParams
from pipeline.params.render import RenderParams
from pipeline.params.train import TrainParams
from pipeline.reconstruction.drawn_objects import DrawnObjects, PosedViews
from pipeline.reconstruction.drawn_objects import over_white as picture_over_white
from pipeline.reconstruction.examples import Examples, collate
from pipeline.reconstruction.lrm import LRM, build_lrm
from pipeline.reconstruction.objective import LRMObjective
from pipeline.reconstruction.rays import Rays
from pipeline.shards.read import iter_rows
from pipeline.shards.table import decode_png
from pipeline.views.augment import Augmentation
from pipeline.views.cameras import GRID_AZIMUTHS, over_white, tile, untile
from stages.train_lrm import launch, run
from tests.toy_corpus import ELEVATION_DEG, hits, toy_boxes, write_toy_corpus

pytestmark = pytest.mark.slow

NANO = Path(__file__).parents[2] / "presets/nano.yaml"
OBJECTS, VIEW_SIZE = 6, 16
TRAIN = OBJECTS - 2
RENDER = load_group(RenderParams, path=NANO).model_copy(update={"view_size": VIEW_SIZE})
RECONSTRUCTION = validate(
    ReconstructionParams,
    load_group(ReconstructionParams, path=NANO).model_dump()
    | {
        "volume": 8, "channels": 8, "mlp_layers": 2, "mlp_width": 8, "prior": 4, "crop": 8, "samples": 12,
        "encoder": {"widths": [8, 8], "blocks": 1}, "refinement": {"widths": [8, 8], "blocks": 1},
        "refinement_stride": 1, "hull": True, "splat_samples": 8,
    },
    "reconstruction",
)  # fmt: skip
CHANGES = [Augmentation(turns, mirrored) for turns in range(4) for mirrored in (False, True)]


def training(checkpoint_every: int = 1000, **schedule: Any) -> TrainParams:
    values = yaml.safe_load(NANO.read_text())["train"] | {"init_from": ""}
    values["loop"] |= {"warmup_steps": 0, "checkpoint_every": checkpoint_every, "validate_every": 1000}
    values["lrm"] |= {"steps": 2, "batch": 2, "micro_batch": 2, "pieces": 2} | schedule
    return validate(TrainParams, values, "train")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project") / "data"
    write_toy_corpus(folder, OBJECTS, VIEW_SIZE)
    return folder


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_toy_corpus(tmp_path / "data", OBJECTS, VIEW_SIZE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def examples(data: Path, seed: int = 0, pieces: int = 3, crop: int = 8, augment: bool = True) -> Examples:
    params = RECONSTRUCTION.model_copy(update={"crop": crop})
    return Examples(DrawnObjects(data, "train", RENDER), params, RENDER, pieces, seed, augment)


def changed_boxes(boxes: np.ndarray, change: Augmentation) -> np.ndarray:
    """Boxes (S, 2, 3) turned by -90 degrees about +Y as often, then mirrored at x = 0."""
    for _ in range(change.quarter_turns):
        boxes = np.stack([-boxes[..., 2], boxes[..., 1], boxes[..., 0]], axis=-1)
    return np.sort(boxes * (-1, 1, 1) if change.mirrored else boxes, axis=1)


def flat_drawing(boxes: np.ndarray, views: list[tuple[float, float]]) -> np.ndarray:
    """Pictures (V, H, W, 4) in a colour a box, without shading, which would not turn with the object."""
    labels = np.stack([hits(boxes, view, 32)[0] for view in views])
    return np.stack([labels * 40, labels * 20, labels * 10, (labels > 0) * np.uint8(255)], axis=-1)


@pytest.mark.parametrize("change", CHANGES)
def test_changed_pictures_are_those_of_the_changed_object(change: Augmentation) -> None:
    boxes, _ = toy_boxes(1)
    novel = [(33.0, -5.0), (250.0, 40.0)]
    grid = tile(flat_drawing(boxes, [(azimuth, ELEVATION_DEG) for azimuth in GRID_AZIMUTHS]))
    pictures = torch.from_numpy(flat_drawing(boxes, novel)).permute(0, 3, 1, 2)
    azimuths, elevations = zip(*novel, strict=True)
    drawn = PosedViews("toy", 0, torch.from_numpy(grid).permute(2, 0, 1), pictures, azimuths, elevations)
    views, cameras = drawn.changed(change, (2, 0, 1)).views(ELEVATION_DEG)
    expected = flat_drawing(changed_boxes(boxes, change), cameras)[..., [2, 0, 1, 3]]
    agree = (views.permute(0, 2, 3, 1).numpy() == expected).all(axis=-1)
    assert agree.mean(axis=(1, 2)).min() > 0.99  # but for pixels that an edge crosses through their centre


def test_without_augmentation_grids_are_as_they_were_drawn(data: Path) -> None:
    stored = {}
    for row in iter_rows(data / "renders/grids"):
        pixels = torch.from_numpy(decode_png(row["image"]["bytes"])).permute(2, 0, 1)
        stored[row["object_id"], row["part_id"]] = picture_over_white(pixels)[0]

    def same(samples: Examples) -> list[bool]:
        found = [samples[number] for number in range(8)]
        return [torch.equal(sample["grid"], stored[sample["object_id"], sample["part_id"]]) for sample in found]

    assert all(same(examples(data, augment=False)))
    assert not all(same(examples(data)))


def ray_hits(boxes: np.ndarray, rays: Rays) -> np.ndarray:
    """Which rays hit a box, (R,) bool."""
    slabs = np.sort((boxes[:, :, None] - rays.origins.numpy()) / rays.directions.numpy(), axis=1)
    hit: np.ndarray = (slabs[:, 0].max(-1) < slabs[:, 1].min(-1)).any(axis=0)
    return hit


def test_rays_see_what_the_object_in_the_grid_shows(data: Path) -> None:
    """The object is found by its grid, among all that augmentation may have made of it; its rays must hit it, too."""
    samples, kinds = examples(data), set()
    for number in range(24):
        sample = samples[number]
        boxes, _ = toy_boxes(int(sample["object_id"].removeprefix("toy-")))
        boxes = boxes[[sample["part_id"] - 1]] if sample["part_id"] else boxes
        filled = untile((sample["grid"].amin(dim=0) < 0.99).numpy())
        fitting = 0
        for change in CHANGES:
            candidate = changed_boxes(boxes, change)
            shown = flat_drawing(candidate, [(azimuth, ELEVATION_DEG) for azimuth in GRID_AZIMUTHS])[..., 3] > 0
            touched = shown.reshape(4, VIEW_SIZE, 2, VIEW_SIZE, 2).any(axis=(2, 4))  # FINER rays a pixel's side
            if (touched == filled).mean() > 0.999:
                fitting += 1
                clear = ((sample["alpha"] == 0) | (sample["alpha"] == 1)).numpy()
                hit = ray_hits(candidate, sample["rays"])
                assert (hit == (sample["alpha"] > 0.5).numpy())[clear].mean() > 0.99
        assert fitting
        kinds.add(sample["part_id"] > 0)
    assert kinds == {False, True}


def test_samples_hang_on_their_number_alone(data: Path) -> None:
    samples = examples(data)
    later = [samples[number] for number in (5, 3)]
    copy = pickle.loads(pickle.dumps(samples))
    for number, expected in zip((5, 3), later, strict=True):
        sample = copy[number]
        assert sample["object_id"] == expected["object_id"]
        for key in ("grid", "colour", "alpha"):
            assert torch.equal(sample[key], expected[key])
        assert torch.equal(sample["rays"].near, expected["rays"].near)
    assert not torch.equal(samples[0]["alpha"], examples(data, seed=1)[0]["alpha"])
    epoch = [samples[number]["object_id"] for number in range(TRAIN)]
    assert len(set(epoch)) == TRAIN


def test_pieces_lie_where_there_is_something_to_see(data: Path) -> None:
    samples = examples(data, pieces=8, crop=2)
    pieces = torch.cat([samples[number]["alpha"].view(8, -1).amax(dim=1) > 0 for number in range(20)])
    assert 0.85 < pieces.float().mean() < 1, "SEEN_SHARE of them, and some of the others"


def test_it_learns_and_what_it_learnt_is_written(project: Path) -> None:
    run(training(steps=60, batch=4, micro_batch=4, learning_rate=0.02), RECONSTRUCTION, RENDER)
    rows = list(csv.DictReader(Path("plots/train/lrm.csv").read_text().splitlines()))
    losses = [float(row["loss"]) for row in rows]
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:10])
    metrics = json.loads(Path("metrics/train/lrm.json").read_text())
    assert metrics["samples"] == 240
    assert float(rows[-1]["validation"]) == pytest.approx(metrics["validation"]["loss"], rel=1e-4)
    assert metrics["validation"]["loss"] < 0.8 * float(rows[0]["validation"]), "objects that were not trained on"
    picture = Image.open("plots/train/lrm.png")
    assert picture.size == (3 * (2 * VIEW_SIZE + 4), 2 * (2 * VIEW_SIZE + 4))  # one object of the split val, and a part
    model = LRM.from_pretrained("data/models/lrm")
    assert model.volumes(torch.ones(1, 3, 2 * VIEW_SIZE, 2 * VIEW_SIZE)).isfinite().all()


def test_a_killed_training_goes_on_to_the_same_weights(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    weights, params = Path("data/models/lrm/diffusion_pytorch_model.safetensors"), training(2, steps=5)
    run(params, RECONSTRUCTION, RENDER)
    expected = weights.read_bytes(), Path("plots/train/lrm.csv").read_bytes()
    run(params, RECONSTRUCTION, RENDER)
    assert "trained before" in capsys.readouterr().err

    loss, calls = LRMObjective.loss, iter(range(100))

    def killed(objective: LRMObjective, module: torch.nn.Module, batch: dict[str, Any]) -> Tensor:
        if next(calls) == 3:
            raise KeyboardInterrupt
        return loss(objective, module, batch)

    with monkeypatch.context() as patch:
        patch.setattr(LRMObjective, "loss", killed)
        with pytest.raises(KeyboardInterrupt):
            run(params, RECONSTRUCTION, RENDER, force=True)
    run(params, RECONSTRUCTION, RENDER)
    assert "going on after step 2 of 5" in capsys.readouterr().err
    assert (weights.read_bytes(), Path("plots/train/lrm.csv").read_bytes()) == expected


def test_it_goes_on_from_a_folder_of_models(project: Path) -> None:
    run(training(), RECONSTRUCTION, RENDER)
    weights = Path("data/models/lrm/diffusion_pytorch_model.safetensors")
    half = {name: value.half() for name, value in load_file(weights).items()}
    shutil.copytree("data/models", "weights")
    save_file(half, Path("weights/lrm") / weights.name)
    (Path("weights/lrm") / SUMS).unlink()

    kept = training(steps=0).model_copy(update={"init_from": "weights"})
    run(kept, RECONSTRUCTION, RENDER)
    now = load_file(weights)
    assert now.keys() == half.keys()
    assert all(value.dtype == torch.float32 and torch.equal(value, half[name].float()) for name, value in now.items())
    with pytest.raises(UserError, match=r"weights/lrm has gain=10.0, and the params ask for 5.0; give both the same"):
        run(kept, RECONSTRUCTION.model_copy(update={"gain": 5.0}), RENDER)
    with pytest.raises(UserError, match=r"nowhere/lrm holds no reconstruction model"):
        run(kept.model_copy(update={"init_from": "nowhere"}), RECONSTRUCTION, RENDER)


def test_validation_is_psnr_of_whole_novel_views(data: Path) -> None:
    torch.manual_seed(0)
    low = RECONSTRUCTION.model_copy(update={"opacity_bias": -50.0})
    objects = DrawnObjects(data, "val", RENDER)
    objective = LRMObjective(build_lrm(low, RENDER), examples(data), objects, low)
    expected: dict[str, list[float]] = {"psnr": [], "psnr_parts": []}
    for row in iter_rows(data / "renders/novel"):
        if row["split"] == "val" and row["part_id"] in (0, 1):  # the whole, and the part that stands for its object
            error = (
                1 - over_white(untile(decode_png(row["image"]["bytes"])))
            ) ** 2  # nothing is drawn, so all is white
            expected["psnr_parts" if row["part_id"] else "psnr"] += (
                -10 * np.log10(error.mean(axis=(1, 2, 3)))
            ).tolist()
    found = objective.validation()
    for name, values in expected.items():
        assert found[name] == pytest.approx(np.mean(values), abs=1e-4)
    assert LRMObjective(build_lrm(low, RENDER), examples(data), None, low).validation() == {}


def test_the_loss_is_of_colour_and_of_alpha_and_most_of_all_of_the_object(data: Path) -> None:
    samples = examples(data)
    objective = LRMObjective(build_lrm(RECONSTRUCTION, RENDER), samples, None, RECONSTRUCTION)
    batch = collate([samples[number] for number in range(3)])
    loss = objective.loss(objective.module, batch)
    assert loss.shape == (3,)
    seen = objective.module(batch["grid"], batch["rays"])
    colour_BR = (seen.colour - batch["colour"]).square().mean(dim=2)
    alpha_BR = (seen.alpha - batch["alpha"]).square()
    twice_BR = 1 + batch["alpha"]  # the object counts twice as much as what is around it
    expected = ((colour_BR + 0.5 * alpha_BR) * twice_BR).sum(dim=1) / twice_BR.sum(dim=1)
    torch.testing.assert_close(loss, expected)


def test_mistakes_are_one_sentence(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = training()
    other = RENDER.model_copy(update={"view_size": 64})
    with pytest.raises(UserError, match=r"was drawn with view_size=16 and the params say render.view_size=64; run"):
        run(params, RECONSTRUCTION, other)
    with pytest.raises(UserError, match=r"fov_deg=40.0 and the params say render.fov_deg=30.0"):
        run(params, RECONSTRUCTION, RENDER.model_copy(update={"fov_deg": 30.0}))
    write_toy_corpus(project / "few/data", objects=2, view_size=VIEW_SIZE)
    with pytest.raises(UserError, match=r"no objects of the split train"):
        run(params, RECONSTRUCTION, RENDER, project / "few/data")
    with pytest.raises(UserError, match=r"renders/grids holds no table yet"):
        run(params, RECONSTRUCTION, RENDER, project / "none")
    monkeypatch.setenv("PARTGEN_PROCESSES", "two")
    with pytest.raises(UserError, match=r"PARTGEN_PROCESSES is 'two'"):
        launch()
