"""Chamfer distance and F-score, against formulas and a brute-force reference."""

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.evaluation.shape_metrics import F_THRESHOLDS, shape_distance, surface_points

NOTHING = trimesh.Trimesh()


def square(height: float, side: float = 1.0) -> trimesh.Trimesh:
    corners = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]) * side + [0, 0, height]
    return trimesh.Trimesh(corners, [[0, 1, 2], [0, 2, 3]], process=False)


def test_parallel_squares_are_their_distance_apart() -> None:
    result = shape_distance(square(0.0), square(0.07), seed=0)
    assert result.chamfer == pytest.approx(0.07, abs=0.002)
    assert result.f_score[0.02] == result.f_score[0.05] == 0.0
    assert result.f_score[0.1] > 0.99


def test_a_sphere_that_is_too_large_is_as_far_as_the_radii() -> None:
    one, other = (trimesh.creation.icosphere(4, radius) for radius in (0.5, 0.6))
    assert shape_distance(one, other, seed=1).chamfer == pytest.approx(0.1, abs=0.003)


def joined(*meshes: trimesh.Trimesh) -> trimesh.Trimesh:
    together = trimesh.util.concatenate(list(meshes))
    assert isinstance(together, trimesh.Trimesh)
    return together


def test_the_same_mesh_is_as_near_as_its_points_are() -> None:
    box = trimesh.creation.box((0.8, 0.8, 0.8))
    result = shape_distance(box, box, seed=2)
    assert result.chamfer < 0.012
    assert result.f_score[0.05] == 1.0


def test_half_of_a_mesh_is_all_right_and_half_complete() -> None:
    both = joined(square(0.0), square(1.0))
    result = shape_distance(square(0.0), both, seed=3)
    assert result.precision[0.1] == 1.0
    assert result.recall[0.1] == pytest.approx(0.5, abs=0.02)
    assert result.f_score[0.1] == pytest.approx(2 / 3, abs=0.02)
    assert result.chamfer == pytest.approx(0.25, abs=0.02)  # (0 + 1/2 * 1) / 2


@settings(max_examples=20)
@given(st.integers(0, 1000))
def test_figures_are_those_of_all_pairs_of_points(seed: int) -> None:
    draws = np.random.default_rng(seed)
    meshes = [trimesh.Trimesh(draws.normal(size=(6, 3)) / 3, draws.integers(0, 6, (4, 3))) for _ in range(2)]
    if min(mesh.area for mesh in meshes) < 1e-6:
        return
    result = shape_distance(meshes[0], meshes[1], seed=seed, points=40)
    again = np.random.default_rng(seed)
    one, other = (surface_points(mesh, 40, again) for mesh in meshes)
    apart = np.linalg.norm(one[:, None] - other[None], axis=-1)
    assert result.chamfer == pytest.approx((apart.min(axis=1).mean() + apart.min(axis=0).mean()) / 2)
    for threshold in F_THRESHOLDS:
        precision, recall = ((apart.min(axis=axis) < threshold).mean() for axis in (1, 0))
        expected = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        assert result.f_score[threshold] == pytest.approx(expected)


def test_points_are_uniform_by_area() -> None:
    mesh = joined(square(0.0), square(1.0, side=2.0))  # areas 1 and 4
    points = surface_points(mesh, 20_000, np.random.default_rng(0))
    high = points[points[:, 2] > 0.5]
    assert len(high) / len(points) == pytest.approx(0.8, abs=0.01)
    corner = (high[:, :2] < 1).all(axis=1)
    assert corner.mean() == pytest.approx(0.25, abs=0.015)
    assert high[:, :2].mean(axis=0) == pytest.approx([1.0, 1.0], abs=0.02)


def test_missing_meshes_have_the_stated_figures() -> None:
    flat = trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [2, 0, 0]], [[0, 1, 2]], process=False)
    for nothing in (NOTHING, flat):
        for pair in ((nothing, square(0.0)), (square(0.0), nothing)):
            result = shape_distance(*pair, seed=0)
            assert result.chamfer == 2.0
            assert set(result.f_score.values()) == {0.0}
    both = shape_distance(NOTHING, flat, seed=0)
    assert both.chamfer == 0.0
    assert set(both.f_score.values()) == {1.0}


def test_vertices_that_are_not_finite_are_refused() -> None:
    broken = square(0.0)
    broken.vertices[0] = np.nan
    with pytest.raises(ValueError, match="finite"):
        shape_distance(broken, square(0.0), seed=0)


def test_a_seed_repeats() -> None:
    pair = trimesh.creation.icosphere(2), trimesh.creation.box()
    assert shape_distance(*pair, seed=5) == shape_distance(*pair, seed=5)
    assert shape_distance(*pair, seed=5) != shape_distance(*pair, seed=6)
