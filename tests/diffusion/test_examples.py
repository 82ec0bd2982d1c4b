"""Training samples against the tables that they are made of: nothing untrue may reach a network."""

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import DataLoader

from pipeline.diffusion.examples import Examples
from pipeline.diffusion.samples import collate
from pipeline.diffusion.tasks import TASKS
from pipeline.params.base import load_group
from pipeline.params.diffusion import DiffusionParams
from pipeline.shards.read import read_table
from pipeline.shards.table import decode_png
from pipeline.training.order import shuffled
from pipeline.views.augment import Augmentation, view_of
from pipeline.views.cameras import over_white
from pipeline.views.part_colours import by_appearance, decode_colours, reference_colours
from tests.forked import in_new_process
from tests.toy_corpus import write_toy_corpus

NANO = Path(__file__).parents[2] / "presets/nano.yaml"
PARAMS = load_group(DiffusionParams, ["diffusion.palette=random"], NANO)
OBJECTS, VIEW_SIZE = 7, 16
TRAIN = [f"toy-{number:03d}" for number in range(5)]
COUNTS = {"text_to_mv": 5, "image_to_mv": 10, "segment": 5}  # objects, two views each
PARTS = 2 + 3 + 4 + 2 + 3


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project") / "data"
    write_toy_corpus(folder, OBJECTS, VIEW_SIZE, shards=3)
    return folder


def examples(data: Path, task: str, augment: bool = False, split: str = "train", **more: Any) -> Examples:
    return Examples(data, TASKS[task], split, more.pop("params", PARAMS), more.pop("seed", 3),
                    more.pop("drop_condition", 0.0), augment, **more)  # fmt: skip


@dataclass(frozen=True)
class Truth:
    """What the tables hold of one object, read without an index."""

    rgba: dict[int, Tensor]
    """(4, H, W) uint8 by part id, 0 for the whole."""
    labels: Tensor
    captions: dict[int, str]


@pytest.fixture(scope="module")
def truths(data: Path) -> dict[str, Truth]:
    grids: dict[str, dict[int, Tensor]] = {}
    for row in read_table(data / "renders/grids").to_pylist():
        grids.setdefault(row["object_id"], {})[row["part_id"]] = pixels(row["image"])
    captions: dict[str, dict[int, str]] = {}
    for row in read_table(data / "captions/captions").to_pylist():
        captions.setdefault(row["object_id"], {})[row["part_id"]] = row["caption"]
    labels = {row["object_id"]: pixels(row["labels"]) for row in read_table(data / "masks/labels").to_pylist()}
    return {object_id: Truth(grids[object_id], labels[object_id], captions[object_id]) for object_id in grids}


def pixels(cell: dict[str, Any]) -> Tensor:
    array = torch.from_numpy(decode_png(cell["bytes"]))
    return array if array.ndim == 2 else array.permute(2, 0, 1)


def drawn(rgba: Tensor) -> Tensor:
    return torch.from_numpy(over_white(rgba.permute(1, 2, 0).numpy())).permute(2, 0, 1)


@pytest.mark.parametrize("task", TASKS)
def test_samples_are_what_the_tables_hold(data: Path, truths: dict[str, Truth], task: str) -> None:
    samples = examples(data, task)
    views = read_table(data / "renders/conditioning").to_pylist()
    captions = read_table(data / "captions/captions").to_pylist()
    assert samples.count == len(samples) == COUNTS.get(task, PARTS)
    seen = set()
    for number in range(samples.count):
        item = samples[number]
        truth, part = truths[item["object_id"]], item["part_id"]
        mask, rest = truth.labels == part, (truth.labels != part) & (truth.labels != 0)
        whole = drawn(truth.rgba[0])
        expected = {
            "whole": whole,
            "part": drawn(truth.rgba[part]),
            "masked": torch.where(mask, whole, torch.ones(3, 1, 1)),
            "rest": torch.where(rest, whole, torch.ones(3, 1, 1)),
        }
        if item["image_row"] >= 0:
            row = views[item["image_row"] // 2]
            assert item["image_row"] % 2 == 0
            assert row["object_id"] == item["object_id"]
            expected["view"] = drawn(pixels(row["image"]))
        masks = {"mask": mask[None].float(), "rest_mask": rest[None].float()}
        if TASKS[task].views == 1:
            expected = {name: view_of(image, number % 4) for name, image in expected.items()}
            masks = {name: view_of(image, number % 4) for name, image in masks.items()}
        assert tuple(item["images"]) == TASKS[task].images
        for name, image in item["images"].items():
            if name != "colours":
                assert image.dtype == torch.float32
                assert torch.allclose(image, expected[name], atol=1e-6), name
        assert set(item["masks"]) == {TASKS[task].stacked_mask} - {None}
        for name, image in item["masks"].items():
            assert torch.equal(image, masks[name])
        if TASKS[task].caption is None:
            assert (item["caption"], item["text_row"]) == ("", -1)
        else:
            assert item["caption"] == truth.captions[part] == captions[item["text_row"]]["caption"]
        seen.add((item["object_id"], part, item["image_row"]))
    assert len(seen) == samples.count
    assert {object_id for object_id, _, _ in seen} == set(TRAIN)


@pytest.mark.parametrize("augment", [False, True])
def test_parts_drawn_together_are_those_of_one_object_changed_alike(data: Path, augment: bool) -> None:
    joint, single = (examples(data, task, augment, drop_condition=0.3) for task in ("complete_joint", "complete"))
    every = {(item["object_id"], item["part_id"]) for item in (joint[number] for number in range(joint.count))}
    all_parts, subsets = 0, set[int]()
    for number in range(3 * joint.count):
        item, alone = joint[number], single[number]
        others = item["others"]
        assert all(torch.equal(item["images"][name], alone["images"][name]) for name in alone["images"])
        assert [item[key] for key in ("object_id", "part_id", "dropped")] == [
            alone[key] for key in ("object_id", "part_id", "dropped")
        ]
        drawn = [(part["object_id"], part["part_id"]) for part in (item, *others)]
        assert len(set(drawn)) == len(drawn)
        known = {part for part in every if part[0] == item["object_id"]}
        assert set(drawn) <= known
        for part in others:
            assert (part["number"], part["dropped"]) == (number, item["dropped"])
            assert torch.equal(part["images"]["whole"], item["images"]["whole"])
            assert not (part["masks"]["mask"] * item["masks"]["mask"]).any()
        all_parts += set(drawn) == known
        subsets.add(len(others))
    assert 0.5 < all_parts / (3 * joint.count) < 0.95
    assert subsets == {0, 1, 2, 3}


def test_a_batch_of_parts_drawn_together(data: Path) -> None:
    samples = examples(data, "complete_joint", augment=True)
    items = [samples[number] for number in range(4)]
    batch, sizes = collate(items), [1 + len(item["others"]) for item in items]
    assert len(set(sizes)) > 1
    assert batch["number"].tolist() == [number for number, size in enumerate(sizes) for _ in range(size)]
    assert batch["object_id"] == [item["object_id"] for item in items]
    assert len(batch["caption"]) == len(batch["images"]["part"]) == len(batch["masks"]["mask"]) == sum(sizes)
    first = torch.tensor(sizes).cumsum(0) - torch.tensor(sizes)
    assert torch.equal(batch["images"]["part"][first], torch.stack([item["images"]["part"] for item in items]))


def transforms(grid: Tensor) -> list[Tensor]:
    """The grid after every roll, then the same mirrored."""
    return [Augmentation(turns, mirrored).grid(grid) for mirrored in (False, True) for turns in range(4)]


@pytest.mark.parametrize("task", ["complete", "complete_no_context"])
def test_augmented_parts_stay_true(data: Path, truths: dict[str, Truth], task: str) -> None:
    samples = examples(data, task, augment=True)
    used, changed = set(), 0
    for number in range(3 * samples.count):
        item = samples[number]
        truth, part = truths[item["object_id"]], item["part_id"]
        images = item["images"]
        whole, alone = truth.rgba[0], truth.rgba[part]
        alphas = zip(transforms(alone[3]), transforms(truth.labels), transforms(whole), transforms(alone), strict=True)
        fits = []
        for place, (alpha, labels, whole_rgba, part_rgba) in enumerate(alphas):
            mask = labels == part
            if not torch.equal((images["part"] == 1).all(0) | (alpha > 0), torch.ones_like(mask)):
                continue
            if not torch.equal((images["masked"] < 1).any(0) & ~mask, torch.zeros_like(mask)):
                continue
            if "mask" in item["masks"] and not torch.equal(item["masks"]["mask"][0].bool(), mask):
                continue
            fits.append((place, mask, whole_rgba, part_rgba))
        assert fits
        place, mask, whole_rgba, part_rgba = fits[0]
        used.update({place} if len(fits) == 1 else set())
        if "whole" in images:
            assert torch.equal(images["masked"], torch.where(mask, images["whole"], 1.0))
            assert (images["whole"][:, whole_rgba[3] == 0] == 1).all()
            same = (whole_rgba == part_rgba).all(0)  # the part as it is seen in the whole, also after the jitter
            assert torch.equal(images["whole"][:, same], images["part"][:, same])
        changed += not torch.allclose(images["part"], drawn(part_rgba), atol=1e-3)
    assert changed > samples.count
    assert used == set(range(8))


def test_augmented_colours_lie_on_their_parts(data: Path, truths: dict[str, Truth]) -> None:
    samples = examples(data, "segment", augment=True)
    colourings = set()
    for number in range(8 * samples.count):
        item = samples[number]
        truth, images = truths[item["object_id"]], item["images"]
        codes = decode_colours(images["colours"], PARAMS.colours)
        assert torch.equal(images["colours"], reference_colours(PARAMS.colours)[codes].permute(2, 0, 1))
        whole = transforms(truth.rgba[0])
        fits = [
            place
            for place, labels in enumerate(transforms(truth.labels))
            if torch.equal(labels == 0, codes == 0) and (images["whole"][:, whole[place][3] == 0] == 1).all()
        ]
        assert len(fits) == 1
        labels = transforms(truth.labels)[fits[0]]
        pairs = set(zip(labels.flatten().tolist(), codes.flatten().tolist(), strict=True))
        present = set(labels.unique().tolist())
        assert len(pairs) == len(present) == len({code for _, code in pairs})  # one colour a part, in all views
        if item["object_id"] == "toy-000":
            colourings.add(tuple(sorted(pairs)))
    assert len(colourings) > 4


def test_colours_by_appearance_follow_the_picture_as_it_is_shown(data: Path) -> None:
    samples = examples(data, "segment", augment=True, params=PARAMS.model_copy(update={"palette": "appearance"}))
    told = set()
    for number in range(4 * samples.count):
        images = samples[number]["images"]
        codes = decode_colours(images["colours"], PARAMS.colours)
        ids = [code for code in codes.unique().tolist() if code]
        labels = torch.zeros_like(codes)
        for part, code in enumerate(ids, 1):
            labels[codes == code] = part
        assert by_appearance(labels, images["whole"], PARAMS.colours)[: len(ids)].tolist() == ids
        told.add(tuple(ids))
    assert len(told) > 1


def test_captions_are_never_of_another_picture(data: Path) -> None:
    for task in ("text_to_mv", "edit"):
        plain, augmented = examples(data, task), examples(data, task, augment=True)
        for number in range(augmented.count):
            assert_same(augmented[number], plain[number])


def test_grid_and_single_view_are_mirrored_together(data: Path, truths: dict[str, Truth]) -> None:
    samples = examples(data, "image_to_mv", augment=True)
    views = read_table(data / "renders/conditioning").to_pylist()
    seen = set()
    for number in range(2 * samples.count):
        item = samples[number]
        mirrored = item["image_row"] % 2
        whole, view = drawn(truths[item["object_id"]].rgba[0]), drawn(pixels(views[item["image_row"] // 2]["image"]))
        assert torch.allclose(item["images"]["whole"], Augmentation(mirrored=mirrored).grid(whole), atol=1e-6)
        assert torch.allclose(item["images"]["view"], view.flip(-1) if mirrored else view, atol=1e-6)
        seen.add(mirrored)
    assert seen == {0, 1}


def test_one_view_of_all_pictures(data: Path, truths: dict[str, Truth]) -> None:
    samples = examples(data, "complete_single_view", augment=True)
    seen = set()
    for number in range(4 * samples.count):
        item = samples[number]
        shown, mask = truths[item["object_id"]].labels == item["part_id"], item["masks"]["mask"]
        assert {image.shape for image in item["images"].values()} == {(3, VIEW_SIZE, VIEW_SIZE)}
        assert torch.equal(item["images"]["masked"], torch.where(mask.bool(), item["images"]["whole"], 1.0))
        fits = {
            (view, flip)
            for view in range(4)
            for flip in (False, True)
            if torch.equal(view_of(shown, view).flip([1] * flip), mask[0].bool())
        }
        assert fits
        seen |= fits if len(fits) == 1 else set()
    assert seen == {(view, flip) for view in range(4) for flip in (False, True)}


@pytest.mark.parametrize("task", ["complete", "edit"])
def test_a_part_in_sight_nowhere_is_still_a_sample(data: Path, task: str) -> None:
    samples = examples(data, task, only=["toy-002"])
    (item,) = (item for item in map(samples.__getitem__, range(samples.count)) if item["part_id"] == 4)
    if task == "complete":
        assert not item["masks"]["mask"].any()
        assert (item["images"]["masked"] == 1).all()
    assert (item["images"]["part"] < 1).any()


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    for key, value in one.items():
        if isinstance(value, dict):
            assert value.keys() == other[key].keys()
            assert all(torch.equal(image, other[key][name]) for name, image in value.items())
        else:
            assert value == other[key], key


def read_by_workers(samples: Examples, count: int) -> list[dict[str, Any]]:
    loader = DataLoader(samples, 4, sampler=range(count), num_workers=2, collate_fn=collate,
                        multiprocessing_context="fork")  # fmt: skip
    return list(loader)


@pytest.mark.slow
def test_a_sample_hangs_on_seed_and_number_alone(data: Path) -> None:
    samples = examples(data, "complete", augment=True, drop_condition=0.5)
    forward = [samples[number] for number in range(30)]
    copy = pickle.loads(pickle.dumps(samples))
    for number in reversed(range(30)):
        assert_same(copy[number], forward[number])
    elsewhere = examples(data, "complete", augment=True, drop_condition=0.5, seed=4)
    assert [item["object_id"] for item in forward] != [elsewhere[number]["object_id"] for number in range(30)]
    batches = in_new_process(read_by_workers, samples, 30)
    assert len(batches) == 8
    for start, batch in enumerate(batches):
        expected = collate(forward[4 * start : 4 * start + 4])
        assert torch.equal(batch["number"], expected["number"])
        assert all(torch.equal(image, expected["images"][name]) for name, image in batch["images"].items())


def test_every_epoch_sees_every_sample_once_in_its_own_order(data: Path) -> None:
    samples = examples(data, "edit")
    orders = []
    for epoch in range(3):
        items = [samples[epoch * samples.count + place] for place in range(samples.count)]
        orders.append([(item["object_id"], item["part_id"]) for item in items])
    assert all(sorted(order) == sorted(orders[0]) for order in orders)
    assert len(set(orders[0])) == samples.count
    assert orders[0] != orders[1] != orders[2]


@given(st.integers(1, 300), st.integers(0, 2**40))
def test_an_order_is_a_permutation(count: int, key: int) -> None:
    assert sorted(shuffled(position, count, (1, key)) for position in range(count)) == list(range(count))


def test_every_place_is_as_likely_as_every_other() -> None:
    orders = np.array([[shuffled(position, 7, (0, key)) for position in range(7)] for key in range(3000)])
    counts = np.stack([np.bincount(orders[:, position], minlength=7) for position in range(7)])
    assert np.abs(counts - 3000 / 7).max() < 5 * np.sqrt(3000 / 7)
    assert abs((np.diff(orders, axis=1) == 1).mean() - 1 / 7) < 0.02  # 6 of the 42 ordered pairs


def test_conditions_are_dropped_at_their_share(data: Path) -> None:
    samples = examples(data, "text_to_mv", drop_condition=0.25)
    assert 70 <= sum(samples[number]["dropped"] for number in range(400)) <= 130
    assert not any(examples(data, "text_to_mv")[number]["dropped"] for number in range(50))


def test_a_batch(data: Path) -> None:
    samples = examples(data, "complete", drop_condition=0.5)
    items = [samples[number] for number in range(6)]
    batch = collate(items)
    assert batch.keys() == items[0].keys()
    size = 2 * VIEW_SIZE
    assert tuple(batch["images"]) == ("part", "masked", "whole")
    assert {image.shape for image in batch["images"].values()} == {(6, 3, size, size)}
    assert batch["masks"]["mask"].shape == (6, 1, size, size)
    assert batch["number"].tolist() == list(range(6))
    assert batch["number"].dtype == batch["text_row"].dtype == batch["part_id"].dtype == torch.int64
    assert batch["dropped"].tolist() == [item["dropped"] for item in items]
    assert batch["object_id"] == [item["object_id"] for item in items]
