"""What of a drawn grid is its object: a lattice of dots and specks are not, thin and pale true parts are."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.applications.backgrounds import find_object
from pipeline.applications.inputs import MOST_BACKGROUND
from pipeline.reconstruction.carving import silhouettes
from pipeline.views.cameras import GRID_AZIMUTHS, over_white, tile, untile
from tests.toy_corpus import ELEVATION_DEG, draw_boxes, toy_boxes

CASES = Path(__file__).parents[1] / "cases"
SIZE = 64


def carved(grid_HW3: np.ndarray) -> np.ndarray:
    """What carving takes for an object: all that is not white."""
    views = torch.from_numpy(untile(grid_HW3)).permute(0, 3, 1, 2)
    return tile(silhouettes(views).numpy() > 0)


def toy(number: int, grey: int | None = None) -> np.ndarray:
    boxes, names = toy_boxes(number)
    colours = (
        np.full((len(names), 3), grey) if grey else np.random.default_rng(number).integers(0, 200, (len(names), 3))
    )
    views = [draw_boxes(boxes, colours, (azimuth, ELEVATION_DEG), SIZE) for azimuth in GRID_AZIMUTHS]
    return over_white(tile(np.stack(views)))


def with_lattice(grid_HW3: np.ndarray, strength: float) -> np.ndarray:
    """Dots on every other pixel, each of its own colour, as a network leaves them."""
    dots = np.random.default_rng(0).exponential(strength, grid_HW3.shape).astype(np.float32)
    dots[::2, ::2] = 0
    return (grid_HW3 - dots).clip(0, 1)


def test_a_lattice_that_a_network_drew_is_background() -> None:
    """A small red car by text_to_mv of weights/nano, seed 0."""
    with Image.open(CASES / "img/lattice.png") as image:
        drawn = np.asarray(image, np.float32) / 255
    shown, taken = find_object(drawn)
    assert carved(drawn).mean() > 0.45
    assert 0.2 < shown.mean() < 0.25
    assert taken == pytest.approx(1 - shown.sum() / carved(drawn).sum())
    assert taken > MOST_BACKGROUND
    for view in untile(shown):
        assert not view[:15].any()
        assert not view[57:].any()
        assert 700 < view.sum() < 1100


@pytest.mark.parametrize("number", range(4))
def test_under_a_lattice_the_object_is_found(number: int) -> None:
    grid = toy(number)
    true = carved(grid)
    found, taken = find_object(with_lattice(grid, 0.03))
    assert (found & true).sum() / (found | true).sum() > 0.9
    assert taken > 0.3


@pytest.mark.parametrize("grid", [*(toy(number) for number in range(4)), toy(1, grey=236)])
def test_of_a_clean_grid_nothing_is_taken(grid: np.ndarray) -> None:
    found, taken = find_object(grid)
    np.testing.assert_array_equal(found, carved(grid))
    assert taken == 0


def test_thin_and_loose_parts_stay_and_pale_specks_go() -> None:
    grid = toy(1)
    grid[2, 2:60] = 0.9  # a pale wire of a pixel
    grid[4, 4] = 0.2  # a dark screw
    grid[60, 60] = 0.9  # a speck
    found, taken = find_object(grid)
    expected = carved(grid)
    expected[60, 60] = False
    np.testing.assert_array_equal(found, expected)
    assert 0 < taken < MOST_BACKGROUND


def test_an_object_that_fills_its_views_is_no_background() -> None:
    full = np.full((2 * SIZE, 2 * SIZE, 3), 0.6, np.float32)
    assert find_object(full)[0].all()
    empty, taken = find_object(np.ones_like(full))
    assert not empty.any()
    assert taken == 0
