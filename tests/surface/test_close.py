"""Parts that a division opened, closed: watertight, with the rim's colours, and nothing of the original changed."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from trimesh import Trimesh
from trimesh.creation import annulus, box, capsule, cylinder, extrude_triangulation, icosphere, torus

from pipeline.assets.surface import Material, Surface, welded
from pipeline.surface.close import capped, completed
from pipeline.surface.division import SurfacePart

Cut = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Vertices, triangles, and the side of a plane on which each triangle is."""


def cut(mesh: Trimesh, normal: np.ndarray, offset: float) -> Cut:
    """A mesh whose triangles are divided at a plane that goes through no vertex."""
    height = mesh.vertices @ normal - offset
    assert np.abs(height).min() > 1e-9
    vertices, faces, middles = list(mesh.vertices), [], dict[tuple[int, int], int]()

    def middle(one: int, other: int) -> int:
        one, other = min(one, other), max(one, other)
        if (one, other) not in middles:
            share = height[one] / (height[one] - height[other])
            middles[one, other] = len(vertices)
            vertices.append(mesh.vertices[one] * (1 - share) + mesh.vertices[other] * share)
        return middles[one, other]

    sides = []
    for face in mesh.faces.tolist():
        above = height[face] > 0
        if above.all() or not above.any():
            faces.append(face)
            sides.append(bool(above[0]))
            continue
        alone = int(np.flatnonzero(above == (above.sum() == 1))[0])
        tip, one, other = face[alone], face[alone - 2], face[alone - 1]
        near, far = middle(tip, one), middle(other, tip)
        faces += [[tip, near, far], [near, one, other], [near, other, far]]
        sides += [bool(above[alone]), not above[alone], not above[alone]]
    return np.array(vertices), np.array(faces), np.array(sides).astype(int)


def surface_of(vertices: np.ndarray, faces: np.ndarray, **look: object) -> Surface:
    values: dict[str, object] = {"normals": None, "uv": None, "colors": None, "material": Material(), **look}
    return Surface(vertices, faces, **values)  # type: ignore[arg-type]


def parts_of(whole: Surface, part_F: np.ndarray) -> list[SurfacePart]:
    return [SurfacePart(str(part), [whole.take(part_F == part)]) for part in np.unique(part_F)]


def closed_mesh(part: SurfacePart) -> Trimesh:
    return Trimesh(*welded(part.surfaces), process=False)


def check_closed(whole: Surface, parts: list[SurfacePart]) -> list[SurfacePart]:
    """All parts are closed and keep their surfaces, and their volumes add up."""
    result = capped(parts)
    for part, before in zip(result, parts, strict=True):
        mesh = closed_mesh(part)
        assert mesh.is_watertight, part.name
        assert mesh.is_winding_consistent
        assert all(one is other for one, other in zip(part.surfaces, before.surfaces, strict=False))
        for cap in part.surfaces[len(before.surfaces) :]:
            assert cap.areas().min() > 0
    check_volumes(whole, result)
    return result


def check_volumes(whole: Surface, parts: list[SurfacePart]) -> None:
    volume = closed_mesh(SurfacePart("", [whole])).volume
    assert sum(closed_mesh(part).volume for part in parts) == pytest.approx(volume, rel=1e-6)


def check_balanced(part: SurfacePart) -> None:
    """Triangles have every edge as often in one direction as in the other: closed, even where rims touch."""
    edges = closed_mesh(part).edges
    _, which = np.unique(np.sort(edges, axis=1), axis=0, return_inverse=True)
    assert not np.bincount(which.reshape(-1), np.where(edges[:, 0] < edges[:, 1], 1, -1)).any()


def cap_area(part: SurfacePart) -> float:
    return float(part.surfaces[-1].areas().sum())


def l_shape() -> Trimesh:
    outline = np.array([[0, 0], [3, 0], [3, 1], [1, 1], [1, 3], [0, 3.0]])
    return extrude_triangulation(outline, np.array([[0, 1, 2], [0, 2, 3], [0, 3, 4], [0, 4, 5]]), height=1)


def shell() -> Trimesh:
    """A ball with a cavity."""
    outer, inner = icosphere(subdivisions=3), icosphere(subdivisions=2, radius=0.5)
    inner.invert()
    return Trimesh(
        np.concatenate([outer.vertices, inner.vertices]),
        np.concatenate([outer.faces, inner.faces + len(outer.vertices)]),
        process=False,
    )


SOLIDS: dict[str, Callable[[], Trimesh]] = {
    "box": lambda: box(extents=[1, 2, 3]).subdivide(),
    "ball": lambda: icosphere(subdivisions=2),
    "capsule": lambda: capsule(count=[12, 8]),
    "tube": lambda: annulus(0.5, 1, 2, sections=17),
    "torus": lambda: torus(1, 0.4, major_sections=20, minor_sections=11),
    "L": l_shape,
    "shell": shell,
}


def test_a_cube_cut_in_two() -> None:
    vertices, faces, side = cut(box(), np.array([0.0, 0, 1]), 0.2)
    whole = surface_of(vertices, faces)
    for part in check_closed(whole, parts_of(whole, side)):
        assert cap_area(part) == pytest.approx(1)
        normal = part.surfaces[-1].normals
        assert normal is not None
        np.testing.assert_allclose(
            normal, np.broadcast_to([0, 0, 1 if part.name == "0" else -1], normal.shape), atol=1e-9
        )


def test_a_side_of_a_cube_gets_a_back() -> None:
    mesh = box()
    whole = surface_of(mesh.vertices, mesh.faces.astype(np.int64))
    top = (mesh.face_normals[:, 2] > 0.5).astype(int)
    others, side = check_closed(whole, parts_of(whole, top))
    assert closed_mesh(side).volume == pytest.approx(0)
    assert closed_mesh(others).volume == pytest.approx(1)


def test_a_torus_cut_through_its_hole_gets_two_discs_and_cut_like_a_bagel_an_annulus() -> None:
    ring = torus(1, 0.4, major_sections=64, minor_sections=32)
    for normal, area in (([1.0, 0, 0], 2 * np.pi * 0.4**2), ([0.0, 0, 1], np.pi * (1.4**2 - 0.6**2))):
        vertices, faces, side = cut(ring, np.array(normal), 0.011)
        whole = surface_of(vertices, faces)
        for part in check_closed(whole, parts_of(whole, side)):
            assert cap_area(part) == pytest.approx(area, rel=0.02)


def test_a_cavity_is_no_disc_of_its_own() -> None:
    vertices, faces, side = cut(shell(), np.array([0.0, 0.6, 0.8]), 0.103)
    whole = surface_of(vertices, faces)
    for part in check_closed(whole, parts_of(whole, side)):
        assert cap_area(part) == pytest.approx(np.pi * (1 - 0.5**2), rel=0.05)


def test_slices_of_a_cone_get_discs() -> None:
    """The smaller loop of a slice lies inside the larger one, seen from above."""
    vertices, faces, _ = cut(icosphere(subdivisions=3), np.array([0.0, 0, 1]), 0.71)
    again = Trimesh(vertices, faces, process=False)
    vertices, faces, upper = cut(again, np.array([0.0, 0, 1]), 0.83)
    middle = vertices[faces].mean(axis=1)[:, 2]
    whole = surface_of(vertices, faces)
    check_closed(whole, parts_of(whole, (middle > 0.71).astype(int) + upper))


@settings(max_examples=60)
@given(
    st.sampled_from(sorted(SOLIDS)),
    st.tuples(*[st.floats(-1, 1)] * 3),
    st.floats(-0.8, 0.8),
)
def test_plane_cuts_of_solids_add_up(name: str, normal: tuple[float, float, float], offset: float) -> None:
    assume(np.linalg.norm(normal) > 0.1)
    direction = np.array(normal) / np.linalg.norm(normal)
    solid = SOLIDS[name]()
    assume(np.abs(solid.vertices @ direction - offset).min() > 1e-4)
    vertices, faces, side = cut(solid, direction, offset)
    assume(0 < side.sum() < len(side))
    whole = surface_of(vertices, faces)
    below, above = check_closed(whole, parts_of(whole, side))
    assert cap_area(below) == pytest.approx(cap_area(above), rel=1e-9)
    for part in (below, above):
        assert np.abs(part.surfaces[-1].vertices @ direction - offset).max() < 1e-9


@settings(max_examples=40)
@given(st.sampled_from(sorted(SOLIDS)), st.integers(2, 5), st.integers(0, 1000))
def test_ragged_parts_are_closed(name: str, count: int, seed: int) -> None:
    """Triangles nearest to random seeds: the rims lie in no plane, several parts meet in a point."""
    mesh = SOLIDS[name]()
    rng = np.random.default_rng(seed)
    seeds = mesh.vertices[rng.integers(len(mesh.vertices), size=count)] + rng.normal(size=(count, 3)) * 0.1
    part_F = np.linalg.norm(mesh.triangles_center[:, None] - seeds[None], axis=2).argmin(axis=1)
    whole = surface_of(mesh.vertices, mesh.faces.astype(np.int64))
    parts = parts_of(whole, part_F)
    for part in capped(parts):
        check_balanced(part)
    if len(parts) == 2:
        check_volumes(whole, capped(parts))


def test_what_was_open_stays_open() -> None:
    tube = cylinder(1, 4, sections=16)
    tube.update_faces(np.abs(tube.face_normals[:, 2]) < 0.5)  # without its ends
    vertices, faces, side = cut(tube, np.array([0.0, 0, 1]), 0.3)
    whole = surface_of(vertices, faces)
    for part in capped(parts_of(whole, side)):
        mesh = closed_mesh(part)
        left = np.unique(mesh.edges_sorted, axis=0, return_counts=True)
        borders = mesh.vertices[left[0][left[1] == 1]]
        assert len(borders) == 16
        np.testing.assert_allclose(np.abs(borders[..., 2]), 2)
    vertices, faces, side = cut(tube, np.array([1.0, 0, 0]), 0.1)  # from end to end: surrounds nothing
    parts = parts_of(surface_of(vertices, faces), side)
    assert [len(part.surfaces) for part in capped(parts)] == [1, 1]


def test_the_cap_has_the_rims_colours() -> None:
    vertices, faces, side = cut(box().subdivide(), np.array([0.0, 0, 1]), 0.2)
    picture = Image.new("RGB", (2, 2), (0, 0, 255))
    uv = np.full((len(vertices), 2), 0.5)
    textured = Material(baseColorTexture=picture, roughnessFactor=0.25, metallicFactor=0.5)
    colors = np.tile(np.array([0.25, 0.5, 0.75, 0.5], np.float32), (len(vertices), 1))
    looks: list[tuple[dict[str, Any], list[float], float | None]] = [
        ({"uv": uv, "material": textured}, [0, 0, 1, 1], 0.25),
        ({"colors": colors}, [0.25, 0.5, 0.75, 0.5], None),
        ({"material": Material(baseColorFactor=[255, 0, 0, 51])}, [1, 0, 0, 1], None),
    ]
    for look, colour, rough in looks:
        whole = surface_of(vertices, faces, **look)
        for part in check_closed(whole, parts_of(whole, side)):
            cap = part.surfaces[-1]
            assert cap.colors is not None
            np.testing.assert_allclose(
                cap.colors, np.broadcast_to(np.array(colour, np.float32), cap.colors.shape), atol=1e-6
            )
            assert cap.material.baseColorTexture is None
            assert cap.material.roughnessFactor == rough
            alpha = 51 if look.get("material", textured).baseColorFactor is not None else 255
            assert cap.material.baseColorFactor[3] == alpha


def test_a_cap_blends_the_colours_of_a_rim_of_two_materials() -> None:
    vertices, faces, side = cut(box(extents=[1, 1, 2]).subdivide(), np.array([0.0, 0, 1]), 0.2)
    left = vertices[faces].mean(axis=1)[:, 0] < 0
    whole = surface_of(vertices, faces)
    red, blue = (Material(baseColorFactor=[*rgb, 255]) for rgb in ([255, 0, 0], [0, 0, 255]))
    parts = []
    for number in (0, 1):
        ones = [whole.take((side == number) & left), whole.take((side == number) & ~left)]
        parts.append(SurfacePart(str(number), [surface_of(one.vertices, one.faces, material=material)
                                             for one, material in zip(ones, (red, blue), strict=True)]))  # fmt: skip
    for part in check_closed(whole, parts):
        cap = part.surfaces[-1]
        assert cap.colors is not None
        far = np.abs(cap.vertices[:, 0]) > 0.4
        np.testing.assert_allclose(cap.colors[far, 0], cap.vertices[far, 0] < 0, atol=1e-6)
        np.testing.assert_allclose(cap.colors[far, 2], cap.vertices[far, 0] > 0, atol=1e-6)


def test_sheets_that_end_on_another_part_are_left() -> None:
    """Three triangles at an edge: that border was open before, as far as it says."""
    mesh = box()
    sheet = np.array([[0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [2, 0.5, 0.5]])
    parts = [
        SurfacePart("box", [surface_of(mesh.vertices, mesh.faces.astype(np.int64))]),
        SurfacePart("sheet", [surface_of(sheet, np.array([[0, 1, 2]]))]),
    ]
    assert [len(part.surfaces) for part in capped(parts)] == [1, 1]


def test_a_rim_that_meets_itself_is_taken_apart() -> None:
    """Two opposite quarters of a lid are one part, which touch in the middle."""
    mesh = box().subdivide()
    centre = mesh.triangles_center
    lid = (centre[:, 2] > 0.499) & (centre[:, 0] * centre[:, 1] > 0)
    whole = surface_of(mesh.vertices, mesh.faces.astype(np.int64))
    others, quarters = capped(parts_of(whole, lid.astype(int)))
    check_balanced(others)
    check_balanced(quarters)
    check_volumes(whole, [others, quarters])
    assert cap_area(quarters) == pytest.approx(0.5)


def half_ball() -> tuple[Surface, list[SurfacePart]]:
    vertices, faces, side = cut(icosphere(subdivisions=4), np.array([0.0, 0, 1]), 0.005)
    whole = surface_of(vertices, faces)
    return whole, parts_of(whole, side)


@pytest.mark.slow
def test_a_completed_shape_fills_in_what_is_behind_the_rim() -> None:
    """The completed shape of the lower half is a whole ball, blue, a little smaller, and something that sticks out."""
    _, parts = half_ball()
    ball, outside = icosphere(subdivisions=4, radius=0.9), box(extents=[0.1, 0.1, 3])
    mesh = ball + outside.subdivide_to_size(0.05)
    blue = np.tile([0.0, 0, 1, 1], (len(mesh.vertices), 1))
    lower, upper = completed(parts, [(mesh.vertices, mesh.faces, blue), None], tolerance=0.05)
    assert lower.surfaces[0] is parts[0].surfaces[0]
    assert (lower.generated, upper.generated) == (True, False)
    (added,) = lower.surfaces[1:]
    assert added.vertices[:, 2].min() > -0.01
    assert 0.8 < added.vertices[:, 2].max() < 1
    inner = np.linalg.norm(added.vertices[:, :2], axis=1) < 0.6
    height = np.sqrt(0.9**2 - np.square(added.vertices[inner, :2]).sum(axis=1))
    assert np.abs(added.vertices[inner, 2] - height).mean() < 0.05
    assert added.colors is not None
    assert added.colors[inner].mean(axis=0) == pytest.approx([0, 0, 1, 1], abs=0.1)
    assert added.areas().min() > 0
    for one in (lower, upper):  # there was no shape of the upper one
        assert closed_mesh(one).is_watertight


@pytest.mark.parametrize(("radius", "noise", "tolerance"), [(0.95, 0.0, 0.05), (0.8, 0.1, 0.05), (0.9, 0.3, 0.2)])
def test_whatever_the_shape_is_what_was_closed_is_closed_again(radius: float, noise: float, tolerance: float) -> None:
    """The rims have few and long edges, beside which a cap is not divided into slivers."""
    vertices, faces, side = cut(icosphere(subdivisions=2), np.array([0.0, 1, 0]), 0.005)
    parts = parts_of(surface_of(vertices, faces), side)
    mesh = icosphere(subdivisions=3, radius=radius)
    mesh.vertices += np.random.default_rng(0).normal(size=mesh.vertices.shape) * noise
    shape = (mesh.vertices, mesh.faces, np.ones((len(mesh.vertices), 4)))
    for one in completed(parts, [shape, shape], tolerance):
        assert one.generated
        assert one.surfaces[-1].areas().min() > 1e-6
        assert closed_mesh(one).is_watertight


def test_a_shape_with_nothing_behind_the_rim_leaves_a_cap() -> None:
    """The shape that was completed is what the part shows already."""
    _, parts = half_ball()
    lower = closed_mesh(parts[0])
    shape = (lower.vertices, lower.faces, np.ones((len(lower.vertices), 4)))
    for one, other in zip(completed(parts, [shape, None], 0.05), capped(parts), strict=True):
        np.testing.assert_array_equal(one.surfaces[-1].vertices, other.surfaces[-1].vertices)
        assert closed_mesh(one).is_watertight


def test_rims_around_more_than_is_wanted_stay_open() -> None:
    """A cap of half a ball has half its area, on either side of the rim."""
    whole, parts = half_ball()
    assert [len(part.surfaces) for part in capped(parts, largest=0.48)] == [1, 1]
    assert [len(part.surfaces) for part in capped(parts, largest=0.52)] == [2, 2]
    check_closed(whole, parts)


def test_long_rims_are_filled_in_two_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.surface.patches.MOST_LEAST_AREA", 16)
    ball = icosphere(subdivisions=4)
    x, y, z = ball.triangles_center.T
    whole = surface_of(ball.vertices, ball.faces.astype(np.int64))
    parts = capped(parts_of(whole, (z > 0.3 * np.sin(4 * np.arctan2(y, x))).astype(int)))
    for part in parts:
        check_balanced(part)
        assert np.pi < cap_area(part) < 1.6 * np.pi
    check_volumes(whole, parts)
