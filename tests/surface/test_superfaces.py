"""Superfaces: they hang together, keep to creases, colours and atoms, and only skins are divided into them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trimesh import Trimesh
from trimesh.creation import box, icosphere

from pipeline.assets.surface import Material, Surface
from pipeline.surface.atoms import Triangles
from pipeline.surface.points import colours
from pipeline.surface.superfaces import (
    MOST,
    borders,
    fused_atoms,
    shared_borders,
    superfaces,
    with_superfaces,
)


def surface_of(mesh: Trimesh, colors: np.ndarray | None = None) -> Surface:
    return Surface(np.asarray(mesh.vertices), np.asarray(mesh.faces, np.int64), None, None, colors, Material())


def fine_box(times: int, jitter: float = 0.0) -> Surface:
    """A cube of edge 1 with 12 * 4^times triangles, moved a little along its faces."""
    mesh = box()
    for _ in range(times):
        mesh = mesh.subdivide()
    vertices = np.array(mesh.vertices)
    inner = np.abs(vertices) < 0.5 - 1e-9
    vertices += inner * np.random.default_rng(0).normal(size=vertices.shape) * jitter
    return surface_of(Trimesh(vertices, mesh.faces, process=False))


def purity(atom_F: np.ndarray, truth_F: np.ndarray, area_F: np.ndarray) -> float:
    table = np.zeros((atom_F.max() + 1, truth_F.max() + 1))
    np.add.at(table, (atom_F, truth_F), area_F)
    return float(table.max(axis=1).sum() / table.sum())


def pieces_of(triangles: Triangles, atom_F: np.ndarray) -> int:
    """Into how many pieces atoms fall when triangles that share an edge hang together."""
    import networkx

    graph = networkx.empty_graph(len(atom_F))
    pairs = borders(triangles)[0]
    graph.add_edges_from(pairs[atom_F[pairs[:, 0]] == atom_F[pairs[:, 1]]])
    return networkx.number_connected_components(graph)


def test_they_keep_to_creases_and_hang_together() -> None:
    triangles = Triangles([fine_box(5, jitter=0.003)])
    atom_F = superfaces(triangles, np.zeros(12288, int), np.zeros((12288, 3)))
    normal_F3 = np.cross(*(triangles.corners_F33[:, k] - triangles.corners_F33[:, 0] for k in (1, 2)))
    side_F = np.abs(normal_F3).argmax(axis=1) * 2 + (normal_F3.max(axis=1) > -normal_F3.min(axis=1))
    assert 6 <= atom_F.max() + 1 <= MOST
    assert purity(atom_F, side_F, triangles.area_F) > 0.999
    assert pieces_of(triangles, atom_F) == atom_F.max() + 1


def test_they_keep_to_edges_of_colour_where_there_is_no_crease() -> None:
    ball = icosphere(subdivisions=5)
    red = ball.vertices @ [0.3, 0.8, 0.5] > 0.2
    rgba = np.where(red[:, None], [1.0, 0.1, 0.1, 1], [0.2, 0.3, 0.9, 1]).astype(np.float32)
    triangles = Triangles([surface_of(ball, rgba)])
    atom_F = superfaces(triangles, np.zeros(20480, int), colours(triangles.surfaces))
    assert purity(atom_F, (red[ball.faces].sum(axis=1) >= 2).astype(int), triangles.area_F) > 0.99


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 4), st.integers(1, 5), st.integers(0, 1000))
def test_none_lies_in_two_atoms_and_none_is_left_out(boxes: int, atoms: int, seed: int) -> None:
    """Also where atoms do not hang together at all."""
    rng = np.random.default_rng(seed)
    vertices = fine_box(2)
    moved = [
        vertices.transformed(np.block([[np.eye(3), rng.normal(size=(3, 1))], [0, 0, 0, 1.0]])) for _ in range(boxes)
    ]
    triangles = Triangles(moved)
    given_F = np.unique(rng.integers(atoms, size=192 * boxes), return_inverse=True)[1]
    atom_F = superfaces(triangles, given_F, np.zeros((192 * boxes, 3)))
    assert set(atom_F) == set(range(atom_F.max() + 1))
    assert given_F.max() < atom_F.max() + 1 <= max(MOST, given_F.max() + 1)
    assert purity(atom_F, given_F, triangles.area_F) == pytest.approx(1)


def test_degenerate_and_doubled_triangles_have_one_too() -> None:
    one = fine_box(3)
    flat = np.repeat(one.faces[:50, :1], 3, axis=1)
    faces = np.concatenate([one.faces, one.faces[:40], one.faces[:40, ::-1], flat])
    triangles = Triangles([Surface(one.vertices, faces, None, None, None, Material())])
    atom_F = superfaces(triangles, np.zeros(len(faces), int), np.zeros((len(faces), 3)))
    assert len(atom_F) == len(faces)
    assert set(atom_F) == set(range(atom_F.max() + 1))
    assert 100 < atom_F.max() + 1 <= MOST


def test_triangles_of_no_area_belong_to_what_is_beside_them() -> None:
    skin = fine_box(5)
    corner = np.arange(0, len(skin.faces), 97)
    points = np.repeat(skin.faces[corner, :1], 3, axis=1)  # as remeshing leaves them: a point three times
    alone = len(skin.vertices)
    more = np.concatenate([skin.vertices, [[0, 0.8, 0]] * 3])
    faces = np.concatenate([skin.faces, points, [[alone, alone + 1, alone + 2]]])
    triangles = Triangles([Surface(more, faces, None, None, None, Material())])
    whole_F = np.zeros(len(faces), int)
    atom_F = with_superfaces(triangles, whole_F)
    assert np.bincount(atom_F, triangles.area_F).min() > 0
    np.testing.assert_array_equal(
        atom_F[: len(skin.faces)], with_superfaces(Triangles([skin]), whole_F[: len(skin.faces)])
    )
    touching = [set(atom_F[:-1][(triangles.corners_F3[:-1] == triangles.corners_F3[row, 0]).any(axis=1)])
                for row in range(len(skin.faces), len(faces) - 1)]  # fmt: skip
    assert all(atom in beside for atom, beside in zip(atom_F[len(skin.faces) : -1], touching, strict=True))


def test_only_skins_are_divided() -> None:
    skin, modelled = surface_of(icosphere(subdivisions=5)), fine_box(2)
    beside = modelled.transformed(np.diag([0.2, 0.2, 0.2, 1.0]) + np.eye(4, k=3) * 3)
    triangles = Triangles([beside, skin, modelled])
    fused = fused_atoms(triangles, triangles.surface_F, colours(triangles.surfaces))
    assert list(fused) == [False, True, False]
    atom_F = with_superfaces(triangles, triangles.surface_F)
    first, second, third = triangles.split(atom_F)
    assert len(set(first)) == len(set(third)) == 1
    assert len(set(second)) == MOST
    assert set(atom_F) == set(range(MOST + 2))
    small = Triangles([beside, modelled])
    np.testing.assert_array_equal(with_superfaces(small, small.surface_F), small.surface_F)


def test_baked_colours_make_a_skin_of_fewer_triangles() -> None:
    ball = icosphere(subdivisions=4)
    half = (ball.vertices[:, 0] > 0)[:, None] * np.ones((1, 4), np.float32)
    for colors, fused in ((None, False), (half.astype(np.float32), True)):
        triangles = Triangles([surface_of(ball, colors)])
        assert fused_atoms(triangles, np.zeros(5120, int), colours(triangles.surfaces))[0] == fused


def test_shared_borders_are_lengths_of_edges() -> None:
    triangles = Triangles([fine_box(2)])
    normal_F3 = np.cross(*(triangles.corners_F33[:, k] - triangles.corners_F33[:, 0] for k in (1, 2)))
    side_F = np.abs(normal_F3).argmax(axis=1) * 2 + (normal_F3.max(axis=1) > -normal_F3.min(axis=1))
    opposite = np.arange(6)[:, None] // 2 == np.arange(6) // 2
    np.testing.assert_allclose(shared_borders(triangles, side_F), np.where(opposite, 0, 1), atol=1e-9)
