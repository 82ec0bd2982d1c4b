"""Augmentation against pictures of the very object that it claims to show, drawn anew."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pipeline.diffusion.tasks import TASKS
from pipeline.views.augment import Augmentation, ColourShift, jitter, view_of
from pipeline.views.cameras import GRID_AZIMUTHS, over_white, tile, untile
from tests.toy_corpus import COLOURS, ELEVATION_DEG, draw_boxes, hits, toy_boxes

SIZE = 24
VIEWS = [(azimuth, ELEVATION_DEG) for azimuth in GRID_AZIMUTHS]


def label_grid(boxes: np.ndarray) -> Tensor:
    return torch.from_numpy(tile(np.stack([hits(boxes, view, SIZE)[0] for view in VIEWS])))


def picture_grid(boxes: np.ndarray) -> Tensor:
    """RGBA (4, H, W) uint8 with a colour a box."""
    colours = np.array(list(COLOURS.values()))[: len(boxes)]
    grid = tile(np.stack([draw_boxes(boxes, colours, view, SIZE) for view in VIEWS]))
    return torch.from_numpy(grid).permute(2, 0, 1)


def moved(boxes: np.ndarray, matrix: list[list[int]]) -> np.ndarray:
    """The boxes after a map that keeps the axes' directions."""
    return np.sort(boxes @ np.array(matrix).T, axis=1)


QUARTER_TURN = [[0, 0, -1], [0, 1, 0], [1, 0, 0]]  # what faced azimuth 90 faces azimuth 0
MIRROR = [[-1, 0, 0], [0, 1, 0], [0, 0, 1]]


@pytest.mark.parametrize("number", range(4))
def test_roll_is_the_object_turned(number: int) -> None:
    boxes = toy_boxes(number)[0]
    rolled, turned = label_grid(boxes), boxes
    for turns in range(1, 5):
        turned = moved(turned, QUARTER_TURN)
        rolled = Augmentation(quarter_turns=turns).grid(label_grid(boxes))
        assert torch.equal(rolled, label_grid(turned))
        assert torch.equal(rolled, label_grid(boxes)) == (turns == 4)


@pytest.mark.parametrize("number", range(4))
def test_mirror_is_the_object_mirrored(number: int) -> None:
    boxes = toy_boxes(number)[0]
    mirrored = moved(boxes, MIRROR)
    assert torch.equal(Augmentation(mirrored=True).grid(label_grid(boxes)), label_grid(mirrored))
    assert torch.equal(Augmentation(mirrored=True).grid(picture_grid(boxes)), picture_grid(mirrored))
    assert not torch.equal(label_grid(boxes), label_grid(mirrored))
    for azimuth in (30.0, 200.0):
        seen = torch.from_numpy(hits(mirrored, (azimuth, 10.0), SIZE)[0])
        before = torch.from_numpy(hits(boxes, (-azimuth, 10.0), SIZE)[0])
        assert torch.equal(Augmentation(mirrored=True).view(before), seen)


def test_views_are_in_the_order_of_the_grid() -> None:
    grid = torch.arange(3 * 4 * 6).view(3, 4, 6)
    for index, view in enumerate(untile(grid.permute(1, 2, 0).numpy())):
        assert np.array_equal(view_of(grid, index).permute(1, 2, 0).numpy(), view)


shifts = st.builds(ColourShift.of, st.floats(-180, 180), st.floats(-0.3, 0.3), st.floats(0.5, 1.5))


@given(shifts, st.integers(0, 2**32 - 1))
def test_jitter_leaves_the_background_white_and_treats_all_pictures_alike(shift: ColourShift, seed: int) -> None:
    generator = np.random.default_rng(seed)
    rgba = torch.from_numpy(generator.integers(0, 256, (4, 6, 6), dtype=np.uint8))
    rgba[3, :3] = 0
    rgba[3, 4] = 255
    change = Augmentation(colours=shift)
    picture = change.over_white(rgba)
    assert torch.equal(picture[:, :3], torch.ones(3, 3, 6))
    assert picture.min() >= 0
    assert picture.max() <= 1
    mask = torch.from_numpy(generator.random((6, 6)) < 0.5)
    hidden = rgba * mask  # the masked picture as it would be stored: no alpha elsewhere
    assert torch.equal(torch.where(mask, picture, 1.0), change.over_white(hidden))
    assert torch.allclose(picture[:, 4], jitter(rgba[:3, 4:5].float() / 255, shift)[:, 0])


@given(st.integers(0, 2**32 - 1))
def test_every_part_is_recoloured_in_its_own_way(seed: int) -> None:
    generator = np.random.default_rng(seed)
    rgba = torch.from_numpy(generator.integers(0, 256, (4, 6, 6), dtype=np.uint8))
    labels = torch.from_numpy(generator.integers(0, 3, (6, 6), dtype=np.uint8))
    shifts = (ColourShift.of(90, 0, 1), ColourShift.of(0, 0, 1, (0.2, 0.0, -0.1)))
    picture = Augmentation(part_colours=shifts).over_white(rgba, labels)
    for part, change in enumerate((Augmentation(), *(Augmentation(colours=shift) for shift in shifts))):
        assert torch.allclose(picture[:, labels == part], change.over_white(rgba)[:, labels == part], atol=1e-6)


@given(st.integers(0, 2**32 - 1))
def test_no_change_is_the_picture_over_white(seed: int) -> None:
    rgba = np.random.default_rng(seed).integers(0, 256, (6, 8, 4), dtype=np.uint8)
    expected = torch.from_numpy(over_white(rgba)).permute(2, 0, 1)
    stored = torch.from_numpy(rgba).permute(2, 0, 1)
    assert torch.allclose(Augmentation().over_white(stored), expected, atol=1e-6)
    assert torch.allclose(Augmentation(colours=ColourShift.of(0, 0, 1)).over_white(stored), expected, atol=1e-5)


def test_colours_turn_about_grey() -> None:
    red, grey = torch.tensor([1.0, 0.0, 0.0]).view(3, 1, 1), torch.full((3, 1, 1), 0.3)
    third = ColourShift.of(120, 0, 1)
    assert torch.allclose(jitter(red, third).flatten(), torch.tensor([0.0, 1.0, 0.0]), atol=1e-6)
    assert torch.allclose(jitter(grey, third), grey, atol=1e-6)
    assert torch.allclose(jitter(grey, ColourShift.of(0, 0.1, 1)), grey + 0.1, atol=1e-6)
    assert torch.allclose(jitter(grey, ColourShift.of(0, 0, 2)), torch.full((3, 1, 1), 0.1), atol=1e-6)


def test_only_what_a_task_allows_is_drawn() -> None:
    for task in TASKS.values():
        drawn = [Augmentation.drawn(np.random.default_rng(seed), task.augmentations) for seed in range(40)]
        assert {change.quarter_turns for change in drawn} == ({0, 1, 2, 3} if "roll" in task.augmentations else {0})
        assert {change.mirrored for change in drawn} == ({False, True} if "mirror" in task.augmentations else {False})
        assert {change.colours is None for change in drawn} == {"jitter" not in task.augmentations}
        recoloured = {bool(change.part_colours) for change in drawn}
        assert recoloured == ({False, True} if "recolour" in task.augmentations else {False})
        if task.caption:  # it names places and colours
            assert drawn == [Augmentation()] * 40
        if task.image_tokens:  # which are computed of the picture as it is, and of its mirror image
            assert not {"roll", "jitter", "recolour"} & set(task.augmentations)
