"""Pair features of atoms."""

import numpy as np
import pytest

from pipeline.surface.features import PAIRS, atom_features
from pipeline.surface.points import Points


@pytest.mark.parametrize(("bend", "sign"), [(-1.0, -1), (0.0, 0), (1.0, 1)])
def test_concavity_is_positive_where_the_surface_bends_inwards(bend: float, sign: int) -> None:
    """A floor, and beyond its edge one that is flat, goes up (a corner of a room) or down (a corner of a box)."""
    rng = np.random.default_rng(0)
    floor = rng.random((3000, 3)) * [0.5, 1, 0] - [0.5, 0, 0]
    away, height = (1.0, 0.0) if bend == 0 else (0.0, bend)
    step = rng.random((3000, 1)) * 0.5
    beyond = step * [away, 0, height] + rng.random((3000, 1)) * [0, 1, 0]
    normal = np.repeat([[0.0, 0, 1], [-height, 0, away]], 3000, axis=0)
    points = Points(np.concatenate([floor, beyond]), normal, np.zeros((6000, 3)), np.repeat([0, 1], 3000))
    border_NN = np.array([[0.0, 1], [1, 0]])
    pairs = atom_features(points, np.array([0.5, 0.5]), None, border_NN).pairs_NNC
    concavity = pairs[0, 1, PAIRS.index("concavity")]
    assert abs(concavity) < 0.02 if sign == 0 else concavity * sign > 0.8
    assert pairs[0, 1, PAIRS.index("border")] == pytest.approx(0.5)
    np.testing.assert_allclose(pairs, pairs.swapaxes(0, 1))
