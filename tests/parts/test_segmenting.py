"""Several segmentation runs, and one of them as parts."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pipeline.parts.label_maps import cleaned, tidy, voted
from pipeline.parts.segmentation import recoloured, run_scores
from pipeline.reconstruction.carving import Carver
from pipeline.views.cameras import GRID_AZIMUTHS, Camera, over_white, tile
from tests.toy_corpus import draw_boxes

torch.set_num_threads(1)
SIDE = 8
"""Of a grid; a view has half of it."""

maps = arrays.arrays(np.uint8, (SIDE, SIDE), elements=st.integers(0, 10))
masks = arrays.arrays(np.bool_, (SIDE, SIDE))


@given(maps, masks, st.integers(1, 6), st.integers(0, 12))
@settings(max_examples=200, deadline=None)
def test_parts_are_numbered_by_size_and_keep_to_the_limits(
    labels: np.ndarray, shown: np.ndarray, most: int, least: int
) -> None:
    parts = tidy(labels, shown, most, least)
    ids, pixels = np.unique(parts.labels[parts.labels > 0], return_counts=True)
    assert ids.tolist() == list(range(1, len(ids) + 1))
    assert (np.diff(pixels) <= 0).all()
    assert len(ids) <= most
    assert len(ids) < 2 or pixels.min() >= least
    assert not parts.labels[~shown].any()
    before = len(np.unique(labels[shown & (labels > 0)]))
    assert len(parts.merged) == before - len(ids)
    assert all(1 <= target <= len(ids) for _, target in parts.merged)


def test_pixels_without_a_label_take_their_views_nearest() -> None:
    labels, shown = np.zeros((SIDE, SIDE), np.uint8), np.ones((SIDE, SIDE), bool)
    labels[0, 0], labels[0, 3] = 5, 9  # both in the first view
    assert tidy(labels, shown, 10, 0).labels[:4, :4].tolist() == [[1, 1, 2, 2]] * 4
    assert not tidy(labels, shown, 10, 0).labels[4:].any()  # the other views know no part


def test_specks_take_the_part_around_them() -> None:
    labels, shown = np.zeros((SIDE, SIDE), np.uint8), np.zeros((SIDE, SIDE), bool)
    shown[:, :4] = True
    labels[:4, :4] = [[1, 1, 2, 2], [1, 3, 2, 2], [1, 1, 4, 2], [1, 1, 2, 4]]  # 4 hangs together by its corners
    labels[4, 0] = 5  # the only one of its view
    labels[:4, 4:] = 6  # beside the object
    found = cleaned(labels, shown, 2)
    assert found[:4, :4].tolist() == [[1, 1, 2, 2], [1, 1, 2, 2], [1, 1, 4, 2], [1, 1, 2, 4]]
    assert (found[4:, :4] == 5).all()
    assert not found[:, 4:].any()


def test_views_agree_after_a_vote_and_colours_stay_apart() -> None:
    boxes = np.array([[[-0.15, -0.15, -0.8], [0.15, 0.15, 0.0]], [[-0.15, -0.15, 0.0], [0.15, 0.15, 0.8]]])
    colours = np.array([[0.9, 0.1, 0.1], [0.1, 0.1, 0.9]])
    camera = Camera(40.0, 3.1, 32)
    rgba = tile(np.stack([draw_boxes(boxes, colours, (azimuth, 20.0), camera.size) for azimuth in GRID_AZIMUTHS]))
    grid, shown = over_white(rgba), rgba[..., 3] >= 128
    truth = np.where(shown, np.where(grid[..., 0] > grid[..., 2], 1, 2), 0).astype(np.uint8)
    assert {1, 2} <= set(truth[shown].tolist())
    wrong = truth.copy()
    wrong[:32, :32] = np.where(truth[:32, :32] == 1, 3, truth[:32, :32])  # one view calls a part what no other does
    wrong[44:47] = 0  # and some pixels of two are not known
    carver = Carver(camera, 20.0, 32)
    once, unknown = voted([wrong, np.zeros_like(truth)], grid, shown, carver, radius=0.4, colour=0.1)
    assert (wrong != truth).sum() > 60
    assert (once != truth).sum() < 15
    assert not unknown.any()
    hidden = shown.copy()
    hidden[:32, :32] = False  # three views have no hull without the fourth, so there is nobody to ask
    np.testing.assert_array_equal(voted([wrong], grid, hidden, carver, 0.3, 0.1)[0], wrong)


@pytest.mark.slow
@given(maps, masks, st.integers(0, 6))
@settings(max_examples=200, deadline=None)
def test_a_clean_map_covers_the_object_and_stays_as_it_is(labels: np.ndarray, shown: np.ndarray, least: int) -> None:
    found = cleaned(labels, shown, least)
    half = SIDE // 2
    for y, x in np.ndindex(2, 2):
        view = np.s_[y * half : (y + 1) * half, x * half : (x + 1) * half]
        known = (labels[view] > 0) & shown[view]
        np.testing.assert_array_equal(found[view] > 0, shown[view] & known.any())
        assert {*found[view].flat} <= {*labels[view][known].flat, 0}
        if not least:
            np.testing.assert_array_equal(found[view][known], labels[view][known])
    np.testing.assert_array_equal(cleaned(found, shown, 0), found)


def test_a_small_region_joins_the_one_it_touches_most() -> None:
    labels, shown = np.zeros((SIDE, SIDE), np.uint8), np.zeros((SIDE, SIDE), bool)
    shown[:4, :4] = True
    labels[:4, :2], labels[:4, 2:4], labels[0, 2] = 3, 7, 4
    parts = tidy(labels, shown, 10, 2)
    assert parts.merged == [(1, 2)]  # two of its three neighbours are of 7, which is the smaller one
    assert parts.labels[0, 2] == parts.labels[0, 3] == 2


@given(st.integers(0, 2**63 - 1))
def test_a_recoloured_grid_fades_into_white_as_it_did(seed: int) -> None:
    grid = np.random.default_rng(seed).uniform(0.3, 0.7, (SIDE, SIDE, 3)).astype(np.float32)
    pale, white = 0.25 * grid + 0.75, np.ones_like(grid)
    changed = recoloured(grid, seed)
    np.testing.assert_allclose(recoloured(pale, seed), 0.25 * changed.clip(0, 1) + 0.75, atol=0.05)
    np.testing.assert_allclose(recoloured(white, seed), white, atol=1e-6)
    assert not np.array_equal(changed, grid)


def test_the_run_that_the_others_agree_with_scores_best() -> None:
    two_parts = np.zeros((SIDE, SIDE), np.uint8)
    two_parts[:, :4], two_parts[:, 4:] = 1, 2
    other_colours = np.where(two_parts == 1, 6, 3).astype(np.uint8)
    stripes = np.broadcast_to(np.arange(1, 9, dtype=np.uint8)[:, None], (SIDE, SIDE))
    one_part = np.ones((SIDE, SIDE), np.uint8)
    scores = run_scores(np.stack([stripes, one_part, two_parts, other_colours, np.zeros_like(one_part)]))
    assert scores[2] == scores[3] > max(scores[:2])
    assert scores[1] == 0.2, "of one part for all, only with itself"
    assert scores[4] == 0
    assert run_scores(one_part[None]).tolist() == [1.0]
