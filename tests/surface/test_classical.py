"""Classical segmentations of a skin."""

import numpy as np
import pytest
from trimesh.creation import icosphere

from pipeline.assets.surface import Material, Surface
from pipeline.surface.atoms import Triangles
from pipeline.surface.classical import clustered, linked_parts
from pipeline.surface.fuse import fused
from pipeline.surface.points import colours
from tests.surface.test_superfaces import purity

pytestmark = pytest.mark.slow


def test_two_balls_that_grew_together_are_told_apart() -> None:
    ball = icosphere(subdivisions=3)
    surfaces = [Surface(ball.vertices + np.array([x, 0, 0]), ball.faces.astype(np.int64), None, None, None, Material())
                for x in (-0.85, 0.85)]  # fmt: skip
    skin, truth_F = fused(surfaces, np.repeat([0, 1], len(ball.faces)))
    triangles = Triangles([skin])
    colour_F3 = colours([skin])
    assert purity(linked_parts(triangles, colour_F3, 2), truth_F, triangles.area_F) > 0.95
    assert purity(clustered(triangles, colour_F3, 2), truth_F, triangles.area_F) > 0.9
    for parts in (1, 2, 7):
        assert linked_parts(triangles, colour_F3, parts).max() + 1 == parts
        assert clustered(triangles, colour_F3, parts).max() + 1 == parts
