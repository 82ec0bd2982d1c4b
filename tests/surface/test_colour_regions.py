"""Pieces divided where their colour steps."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trimesh.creation import box, icosphere

from pipeline.assets.surface import Material, Surface
from pipeline.surface.atoms import Triangles, connected
from pipeline.surface.colour_regions import colour_regions, surface_atoms

WHITE, GREY, RED = (0.9, 0.9, 0.9), (0.2, 0.2, 0.2), (0.8, 0.05, 0.05)


def ball(colour_F3: np.ndarray | None = None, subdivisions: int = 3) -> Surface:
    """A ball whose triangles have corners of their own, and colours."""
    mesh = icosphere(subdivisions=subdivisions)
    corners = mesh.vertices[mesh.faces].reshape(-1, 3)
    faces = np.arange(len(corners)).reshape(-1, 3)
    colours = np.ones((len(corners), 4), np.float32)
    if colour_F3 is not None:
        colours[:, :3] = np.repeat(colour_F3, 3, axis=0)
    return Surface(corners, faces, None, None, colours, Material())


def middles(surface: Surface) -> np.ndarray:
    return np.asarray(surface.vertices[surface.faces].mean(axis=1))


def regions(*surfaces: Surface) -> np.ndarray:
    triangles = Triangles(surfaces)
    return colour_regions(triangles, connected(triangles, np.zeros(len(triangles.surface_F), int)))


@given(st.integers(1, 4), st.integers(0, 2**32 - 1))
@pytest.mark.slow
def test_bands_of_one_texture_are_the_regions(bands: int, seed: int) -> None:
    colours = np.random.default_rng(seed).permutation([WHITE, GREY, RED])
    height = middles(ball())[:, 1]
    band = np.minimum((height + 1) / 2 * bands, bands - 1).astype(int)
    found = regions(ball(colours[band % 3]))
    assert len(set(found)) == bands
    assert len(set(zip(found, band, strict=True))) == bands


def test_what_is_grained_or_shaded_stays_whole() -> None:
    height = middles(ball())[:, 1]
    grained = np.random.default_rng(0).uniform(0, 1, (len(height), 3))
    shaded = np.repeat((height[:, None] + 1.2) / 2.4, 3, axis=1)
    spotted = np.where(np.arange(len(height))[:, None] % 40 == 0, GREY, WHITE)
    for colours in (grained, shaded, spotted):
        assert len(set(regions(ball(np.asarray(colours))))) == 1


def test_one_grained_piece_leaves_the_others_to_their_colours() -> None:
    grained = np.random.default_rng(0).uniform(0, 1, (1280, 3))
    halves = ball(np.where(middles(ball())[:, :1] > 0, WHITE, RED))
    aside = Surface(halves.vertices + np.array([3, 0, 0]), halves.faces, None, None, halves.colors, Material())
    found = regions(ball(grained), aside)
    assert len(set(found[:1280])) == 1
    assert len(set(found[1280:])) == 2
    assert not set(found[:1280]) & set(found[1280:])


def test_pieces_of_two_materials_that_touch_are_told_apart_by_colour_alone() -> None:
    """As modelled a box on a box, both as one welded mesh with one texture: regime B."""
    lower, upper = box(extents=[1, 1, 1]), box(extents=[1, 1, 1])
    upper.apply_translation([0, 1, 0])
    made = [
        Surface(mesh.vertices, mesh.faces.astype(np.int64), None, None, np.tile([*colour, 1], (8, 1)), Material())
        for mesh, colour in ((lower, WHITE), (upper, RED))
    ]
    triangles = Triangles(made)
    atom_F = surface_atoms(triangles, np.zeros(24, int))
    assert [len(set(atoms)) for atoms in triangles.split(atom_F)] == [1, 1]
    assert len(set(atom_F)) == 2
    same = Triangles([made[0], Surface(upper.vertices, made[1].faces, None, None, made[0].colors, Material())])
    assert len(set(surface_atoms(same, np.zeros(24, int)))) == 1
