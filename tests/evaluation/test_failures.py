"""The failures of supplement D on boxes and label maps whose faults are known."""

import numpy as np
import pytest
import trimesh

from pipeline.evaluation.failures import assembled, depth_error, disagreement, grouping
from pipeline.views.cameras import GRID_AZIMUTHS, Camera, over_white, tile, untile
from tests.toy_corpus import DISTANCE, ELEVATION_DEG, FOV_DEG, draw_boxes

CAMERA = Camera(FOV_DEG, DISTANCE, 64)
BOX = np.array([[[-0.7, -0.3, -0.2], [0.7, 0.3, 0.2]]])
RED = np.array([[200, 30, 30]])


def drawn(box: np.ndarray = BOX) -> np.ndarray:
    views = [over_white(draw_boxes(box, RED, (azimuth, ELEVATION_DEG), 64)) for azimuth in GRID_AZIMUTHS]
    return tile(np.stack(views))


def test_views_of_one_body_agree_and_one_that_is_turned_does_not() -> None:
    grid = drawn()
    true = disagreement(grid, CAMERA, ELEVATION_DEG)
    assert true["agreement"] > 0.97
    assert true["fails"] == 0
    views = untile(grid).copy()
    views[1] = views[0]  # the right side as wide as the front
    turned = disagreement(tile(views), CAMERA, ELEVATION_DEG)
    assert turned["agreement"] < true["agreement"] - 0.1
    assert turned["fails"] == 1
    assert disagreement(np.ones_like(grid), CAMERA, ELEVATION_DEG) == {}


def test_a_region_that_has_two_true_parts_groups_them() -> None:
    truth = np.repeat(np.arange(4, dtype=np.uint8), 16).reshape(8, 8)  # a background and three parts
    assert grouping(truth, truth) == {"grouped": 0.0, "fails": 0.0, "beyond_ten": 0.0}
    joined = np.where(truth == 3, 2, truth)
    assert grouping(joined, truth) == {"grouped": pytest.approx(2 / 3), "fails": 1.0, "beyond_ten": 0.0}
    half = truth.copy()
    half[truth == 3] = np.array([2, 9]).repeat(8)  # no more than half of it joins another
    assert grouping(half, truth)["fails"] == 0
    assert grouping(np.zeros_like(truth), truth)["fails"] == 0  # missed, and not grouped
    many = np.where(truth > 0, np.arange(64).reshape(8, 8) % 11 + 1, 0)
    assert grouping(many, truth)["beyond_ten"] == 1


def test_depth_is_off_by_how_far_a_face_was_moved() -> None:
    box = trimesh.creation.box(bounds=BOX[0])
    same = depth_error(box, box, CAMERA, ELEVATION_DEG, seed=0)
    assert same == {"depth": 0.0, "fails": 0.0}
    larger = depth_error(trimesh.creation.box(bounds=BOX[0] * 1.4), box, CAMERA, ELEVATION_DEG, seed=0)
    assert 0.08 < larger["depth"] < 0.3
    assert larger["fails"] == 1
    assert depth_error(trimesh.Trimesh(), box, CAMERA, ELEVATION_DEG, seed=0) == {}


def test_the_run_that_is_assembled_has_the_best_score_and_is_the_first() -> None:
    runs = [{"run": 2, "score": 0.5}, {"run": 1, "score": 0.5}, {"run": 0, "score": 0.1}]
    assert assembled(runs) == {"run": 1, "score": 0.5}
