"""Atoms of surfaces: what hangs together, what joins what, and the points on them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from skimage.color import rgb2lab
from trimesh.creation import box, icosphere

from pipeline.assets.surface import Material, Surface
from pipeline.surface.atoms import FEWEST_KEPT, MOST_ATOMS, Triangles, connected, joined
from pipeline.surface.points import sampled

RED, GREEN = [255, 0, 0, 255], [0, 255, 0, 255]


def boxed(*centre: float, size: float = 1.0, material: Material | None = None) -> Surface:
    mesh = box(extents=[size] * 3)
    return Surface(mesh.vertices + centre, mesh.faces.astype(np.int64), None, None, None, material or Material())


def test_atoms_are_what_hangs_together_by_place_within_a_group() -> None:
    apart, touching = boxed(0, 0, 0), boxed(3, 0, 0)
    corner = boxed(1, 1, 1)  # shares one corner with the first
    triangles = Triangles([apart, touching, corner])
    alone = connected(triangles, np.zeros(36, int))
    assert alone[0] == alone[-1]
    assert len(set(alone)) == 2
    assert len(set(connected(triangles, triangles.surface_F))) == 3


def test_surfaces_are_one_list_and_come_back() -> None:
    triangles = Triangles([boxed(0, 0, 0), boxed(3, 0, 0, size=2)])
    np.testing.assert_allclose([part.sum() for part in triangles.split(triangles.area_F)], [6, 24])
    assert triangles.corners_F3.max() == 15


@given(st.integers(1, 60), st.integers(0, 60))
@pytest.mark.slow
def test_small_atoms_join_the_closest_large_one(large: int, small: int) -> None:
    surfaces = [boxed(10 * number, 0, 0) for number in range(large)]
    surfaces += [boxed(10 * (number % large), 0.6, 0, size=0.01) for number in range(small)]
    triangles = Triangles(surfaces)
    atom_F = joined(triangles, triangles.surface_F)
    of_surface = np.array([values[0] for values in triangles.split(atom_F)])
    assert all(len(set(values)) == 1 for values in triangles.split(atom_F))
    if small <= FEWEST_KEPT - large or large >= FEWEST_KEPT:
        assert len(set(of_surface)) == max(large, min(large + small, FEWEST_KEPT))
    if large >= FEWEST_KEPT:
        np.testing.assert_array_equal(of_surface[large:], [of_surface[number % large] for number in range(small)])


def test_what_has_no_area_joins_however_few_there_are() -> None:
    flat = Surface(np.array([[2.0, 0, 0]] * 3), np.array([[0, 1, 2]]), None, None, None, Material())
    triangles = Triangles([boxed(0, 0, 0), boxed(2.6, 0, 0), flat])
    atom_F = joined(triangles, triangles.surface_F)
    assert set(atom_F[triangles.surface_F == 2]) == set(atom_F[triangles.surface_F == 1])
    assert len(set(atom_F)) == 2


def test_there_are_never_too_many() -> None:
    for side, atoms in ((14, MOST_ATOMS), (20, FEWEST_KEPT)):  # of the latter each is small
        triangles = Triangles([boxed(2.0 * x, 2.0 * y, 0) for x in range(side) for y in range(side)])
        assert len(set(joined(triangles, triangles.surface_F))) == atoms


def test_points_lie_on_their_atoms_as_many_as_their_area_says() -> None:
    ball = icosphere(subdivisions=3)
    surfaces = [Surface(ball.vertices, ball.faces.astype(np.int64), None, None, None, Material()), boxed(5, 0, 0)]
    triangles = Triangles(surfaces)
    points = sampled(surfaces, triangles.surface_F, 2000, each=300)
    counts = np.bincount(points.atom_P)
    assert abs(counts[0] - 2000 * triangles.area_F[:-12].sum() / triangles.area_F.sum()) <= 1
    assert counts[1] >= 300
    radius = np.linalg.norm(points.position_P3[points.atom_P == 0], axis=1)
    assert radius.min() > 0.98
    assert radius.max() <= 1 + 1e-9
    inside = np.abs(points.position_P3[points.atom_P == 1] - [5, 0, 0]).max(axis=1)
    np.testing.assert_allclose(inside, 0.5, atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(points.normal_P3, axis=1), 1)
    again = sampled(surfaces, triangles.surface_F, 2000, each=300)
    np.testing.assert_array_equal(points.position_P3, again.position_P3)


@pytest.mark.parametrize("wrap", [10497, 33648, 33071])
def test_the_colour_is_factor_times_texture_times_vertices(wrap: int) -> None:
    picture = Image.new("RGB", (4, 2), (255, 255, 255))
    picture.paste((128, 0, 0), (0, 0, 2, 2))  # the left half, u below 1/2
    corners = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    for start, red in ((0.1, True), (0.6, False), (1.1, wrap == 10497)):
        uv = np.full((3, 2), [start, 0.25])
        colors = np.full((3, 4), [1, 0.5, 1, 1], np.float32)
        material = Material(wrap=(wrap, wrap), baseColorTexture=picture, baseColorFactor=[255, 255, 128, 255])
        surface = Surface(corners, np.array([[0, 1, 2]]), None, uv, colors, material)
        lab = sampled([surface], np.zeros(1, int), 5, each=5).lab_P3
        np.testing.assert_allclose(lab, np.broadcast_to(lab[0], lab.shape))
        texel = np.array([((128 / 255 + 0.055) / 1.055) ** 2.4, 0, 0]) if red else np.ones(3)
        linear = texel * [1, 1, 128 / 255] * [1, 0.5, 1]
        srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
        np.testing.assert_allclose(lab[0], rgb2lab(srgb), atol=1e-4)
