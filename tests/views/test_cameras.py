"""Cameras and grids."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.views.cameras import GRID_AZIMUTHS, camera_to_world, over_white, random_views, tile, untile

angles = st.floats(-720, 720)
elevations = st.floats(-89, 89)


@given(angles, elevations, st.floats(0.5, 10))
def test_poses_are_rigid_upright_and_look_at_the_origin(azimuth: float, elevation: float, distance: float) -> None:
    pose = camera_to_world(azimuth, elevation, distance)
    rotation, position = pose[:3, :3], pose[:3, 3]
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1)
    np.testing.assert_allclose(position - distance * rotation[:, 2], 0, atol=1e-9)
    assert rotation[1, 1] > 0  # the image's up points up
    assert rotation[1, 0] == pytest.approx(0, abs=1e-12)  # the horizon is level


def test_the_four_views_stand_where_the_convention_says() -> None:
    positions = [camera_to_world(azimuth, 0, 2)[:3, 3] for azimuth in GRID_AZIMUTHS]
    np.testing.assert_allclose(positions, [[0, 0, 2], [2, 0, 0], [0, 0, -2], [-2, 0, 0]], atol=1e-12)


def test_straight_up_is_refused() -> None:
    with pytest.raises(ValueError, match="90"):
        camera_to_world(0, 90, 1)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32))
def test_untile_undoes_tile(height: int, width: int, seed: int) -> None:
    views = np.random.default_rng(seed).integers(0, 255, (4, height, width, 3), dtype=np.uint8)
    grid = tile(views)
    np.testing.assert_array_equal(untile(grid), views)
    np.testing.assert_array_equal(grid[:height, width:], views[1])
    np.testing.assert_array_equal(grid[height:, :width], views[2])


@given(st.text(min_size=1), st.integers(0, 10), st.integers(1, 50))
def test_random_views_depend_on_the_object_alone(object_id: str, seed: int, count: int) -> None:
    azimuths, heights = random_views(object_id, seed, "novel", count, (-20.0, 60.0))
    again = random_views(object_id, seed, "novel", count, (-20.0, 60.0))
    np.testing.assert_array_equal(again, (azimuths, heights))
    assert not np.array_equal(azimuths, random_views(object_id, seed, "other", count, (-20.0, 60.0))[0])
    assert ((heights >= -20) & (heights <= 60) & (azimuths >= 0) & (azimuths < 360)).all()


def test_over_white() -> None:
    rgba = np.array([[0, 0, 0, 0], [255, 0, 0, 255], [0, 0, 0, 51]], dtype=np.uint8)
    np.testing.assert_allclose(over_white(rgba), [[1.0, 1.0, 1.0], [1.0, 0.0, 0.0], [0.8, 0.8, 0.8]], atol=1e-6)
