"""Fused objects: one watertight skin, with the colours and the parts of what lies nearest."""

import numpy as np
import pytest
from trimesh import Trimesh
from trimesh.creation import box

from pipeline.assets.surface import Material, Surface
from pipeline.surface.fuse import fused


def coloured_box(centre: list[float], size: float, rgba: list[int]) -> Surface:
    mesh = box(extents=[size] * 3)
    return Surface(
        mesh.vertices + centre, mesh.faces.astype(np.int64), None, None, None, Material(baseColorFactor=rgba)
    )


@pytest.mark.slow
def test_what_overlaps_is_one_skin_and_what_is_hidden_is_gone() -> None:
    surfaces = [
        coloured_box([0, 0, 0], 1, [255, 0, 0, 255]),
        coloured_box([0.7, 0.2, 0.2], 0.6, [0, 255, 0, 255]),
        coloured_box([0, 0, 0], 0.5, [0, 0, 255, 255]),
    ]
    skin, part = fused(surfaces, np.repeat([0, 1, 2], 12))
    mesh = Trimesh(skin.vertices, skin.faces, process=False)
    assert mesh.is_watertight
    assert mesh.body_count == 1
    assert mesh.volume == pytest.approx(1 + 0.6**3 - 0.1 * 0.6**2, rel=0.05)
    np.testing.assert_allclose(mesh.bounds, [[-0.5] * 3, [1, 0.5, 0.5]], atol=0.01)
    assert set(part) == {0, 1}
    middle = skin.vertices[skin.faces].mean(axis=1)
    assert (part[middle[:, 0] > 0.55] == 1).all()
    assert (part[middle[:, 0] < 0.35] == 0).all()
    assert skin.colors is not None
    assert np.abs(skin.colors[skin.vertices[:, 0] < 0.35] - [1, 0, 0, 1]).max() < 0.01
    assert np.abs(skin.colors[skin.vertices[:, 0] > 0.55] - [0, 1, 0, 1]).max() < 0.01


def test_a_sheet_without_thickness_becomes_a_thin_solid() -> None:
    corners = np.array([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
    sheet = Surface(corners, np.array([[0, 1, 2], [0, 2, 3]]), None, None, None, Material())
    skin, _ = fused([sheet], np.zeros(2, int))
    mesh = Trimesh(skin.vertices, skin.faces, process=False)
    assert mesh.is_watertight
    assert np.ptp(skin.vertices[:, 2]) < 0.01
    assert mesh.area == pytest.approx(2, rel=0.05)
