"""Fused objects: one watertight skin, with the colours and the parts of what lies nearest."""

from pathlib import Path

import numpy as np
import pytest
from trimesh import Trimesh
from trimesh.creation import box

from pipeline.applications.render_input import read_object
from pipeline.assets.surface import Material, Piece, Surface
from pipeline.surface.features import PAIRS
from pipeline.surface.fuse import fused, fused_example
from tests.surface.test_division import pieces_of

ROOT = Path(__file__).parents[2]


def coloured_box(centre: list[float], size: float, rgba: list[int]) -> Surface:
    mesh = box(extents=[size] * 3)
    return Surface(
        mesh.vertices + centre, mesh.faces.astype(np.int64), None, None, None, Material(baseColorFactor=rgba)
    )


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


def test_examples_say_what_the_model_sees_and_the_truth() -> None:
    pieces: list[Piece] = pieces_of(read_object(ROOT / "data/samples/antiqueChair.glb", 10**9))
    part_F = np.concatenate([np.full(len(piece.surface.faces), number) for number, piece in enumerate(pieces)])
    features, truth_NS = fused_example(pieces, part_F)
    count = len(features.share_N)
    assert truth_NS.shape == (count, len(pieces))
    np.testing.assert_allclose(truth_NS.sum(axis=1) / truth_NS.sum(), features.share_N, atol=1e-5)
    assert features.pairs_NNC.shape == (count, count, len(PAIRS))
    np.testing.assert_allclose(features.pairs_NNC, features.pairs_NNC.swapaxes(0, 1), atol=1e-5)
    assert np.isfinite(features.pairs_NNC).all()
    assert truth_NS.max(axis=1).sum() > 0.9 * truth_NS.sum()
