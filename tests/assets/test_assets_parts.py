"""The part rule, small parts, volumes and names."""

from typing import Any

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.assets.names import MAX_NAME_BYTES, clean_name, name_group, unique_names
from pipeline.assets.parts import Division, divide
from pipeline.assets.reasons import ObjectDropped
from pipeline.assets.surface import Material, Piece, Surface, components, surface_points, volume


def surface(mesh: trimesh.Trimesh) -> Surface:
    return Surface(np.asarray(mesh.vertices), np.asarray(mesh.faces), None, None, None, Material())


def box(side: float, x: float = 0, y: float = 0, z: float = 0) -> Surface:
    return surface(trimesh.creation.box((side,) * 3, trimesh.transformations.translation_matrix((x, y, z))))


def piece(node: str, material: str, side: float, *center: float) -> Piece:
    return Piece(node, node, material, box(side, *center))


def names(pieces: list[Piece], **changed: Any) -> tuple[Division, list[str]]:
    params: dict[str, Any] = {
        "max_parts": 10,
        "small_by": "surface",
        "small_share": 0.01,
        "small_parts": "merge",
        "too_many": "merge",
        "undivided": "drop",
        **changed,
    }
    division = divide(pieces, **params)
    return division, [part.name for part in division.parts]


def row(count: int, material: str = "wood", side: float = 1.0) -> list[Piece]:
    return [piece(f"box{chr(97 + k)}", material, side, 2.0 * k, 0, 0) for k in range(count)]


def test_nodes_when_two_to_ten() -> None:
    division, found = names(row(10))
    assert (division.rule, len(found)) == ("nodes", 10)


def test_a_node_with_two_materials_is_one_part() -> None:
    division, found = names(
        [piece("a", "wood", 2, 0, 0, 0), piece("a", "steel", 1, 3, 0, 0), piece("b", "wood", 1, 9, 0, 0)]
    )
    assert found == ["a", "b"]
    assert len(division.parts[0].surfaces) == 2


def test_materials_when_nodes_are_too_many() -> None:
    division, found = names(row(6, "wood") + [piece(f"s{k}", "steel", 0.5, k, 5, 0) for k in range(6)])
    assert (division.rule, found) == ("materials", ["wood", "steel"])


def test_materials_when_there_is_one_node() -> None:
    division, found = names([piece("all", "wood", 2, 0, 0, 0), piece("all", "steel", 1, 3, 0, 0)])
    assert (division.rule, found) == ("materials", ["wood", "steel"])


def test_small_nodes_are_not_counted() -> None:
    """Ten boxes and a screw are ten parts; a box and a screw are no two parts, so materials decide."""
    division, found = names([*row(10), piece("screw", "steel", 0.05, 18, 0.55, 0)])
    assert (division.rule, len(found), division.found) == ("nodes", 10, 11)
    screw = piece("screw", "chrome", 0.05, 0, 1, 0)
    division, found = names([piece("a", "wood", 2, 0, 0, 0), piece("a", "steel", 1, 3, 0, 0), screw])
    assert (division.rule, found) == ("materials", ["wood", "steel"])


def test_merging_keeps_the_nearest_together() -> None:
    """Twenty boxes in pairs: the partner is the closest."""
    pieces = [
        piece(f"{chr(97 + k)}{'xy'[j]}", "wood", 1 + k / 100, 10.0 * k + 1.1 * j, 0, 0)
        for k in range(10)
        for j in range(2)
    ]
    division, _ = names(pieces)
    assert (division.rule, division.found) == ("merged", 20)
    assert sorted(sorted(part.raw_names) for part in division.parts) == [[f"{c}x", f"{c}y"] for c in "abcdefghij"]


@pytest.mark.slow
def test_thousands_of_pieces_end_in_ten_parts() -> None:
    rng = np.random.default_rng(0)
    mesh = trimesh.util.concatenate(
        [
            trimesh.creation.box((0.1,) * 3, trimesh.transformations.translation_matrix(x))
            for x in rng.random((600, 3)) * 9
        ]
    )
    assert isinstance(mesh, trimesh.Trimesh)
    division, found = names([Piece("", "", "", surface(mesh))])
    assert (division.rule, division.found, len(found)) == ("components", 600, 10)
    assert sum(part.area for part in division.parts) == pytest.approx(mesh.area)


def test_small_parts_go_to_the_part_they_touch() -> None:
    pieces = [piece("big", "w", 4, 0, 0, 0), piece("near", "w", 2, 10, 0, 0), piece("screw", "w", 0.1, 8.95, 0, 0)]
    division, found = names(pieces)
    assert found == ["big", "near"]
    assert division.parts[1].raw_names == ["near", "screw"]
    assert division.culled_surface == 0


def test_small_parts_are_culled() -> None:
    pieces = [piece("big", "w", 4, 0, 0, 0), piece("near", "w", 2, 10, 0, 0), piece("screw", "w", 0.1, 8.95, 0, 0)]
    division, found = names(pieces, small_parts="cull")
    assert found == ["big", "near"]
    assert division.culled_surface == pytest.approx(0.06 / (96 + 24 + 0.06))
    assert division.parts[1].raw_names == ["near"]


def test_too_many_parts_are_dropped_before_other_rules_are_tried() -> None:
    two_materials = [*row(11), piece("last", "steel", 1, 30, 0, 0)]
    division, _ = names(two_materials)
    assert division.rule == "materials"
    with pytest.raises(ObjectDropped, match="more than 10 parts"):
        names(two_materials, too_many="drop")
    division, found = names(row(10), too_many="drop")
    assert (division.rule, len(found)) == ("nodes", 10)
    with pytest.raises(ObjectDropped, match="more than 10 parts"):
        names([Piece("", "", "", every.surface) for every in row(11)], too_many="drop")


def test_the_papers_rule_culls_by_volume_before_it_counts() -> None:
    paper = {"small_by": "volume", "small_share": 0.05, "small_parts": "cull", "too_many": "drop"}
    screws = [piece(f"screw{chr(97 + k)}", "w", 0.5, 2.0 * k, 0, 5) for k in range(9)]  # each 1/8 of a box's volume
    division, found = names([*row(3), *screws], **paper)
    assert (found, division.found) == (["boxa", "boxb", "boxc"], 12)
    with pytest.raises(ObjectDropped, match="single part"):
        names([piece("big", "w", 4, 0, 0, 0), piece("small", "w", 1, 9, 0, 0)], **paper)


def test_undivided_objects_are_kept_whole() -> None:
    small = [piece("big", "w", 4, 0, 0, 0), piece("screw", "w", 0.1, 2.05, 0, 0)]
    for pieces, changed in ((small, {"small_parts": "cull"}), (row(11), {"too_many": "drop"})):
        division, _ = names(pieces, undivided="keep", **changed)
        assert (division.rule, len(division.parts), division.culled_surface) == ("undivided", 1, 0)
        assert division.parts[0].area == pytest.approx(sum(every.surface.areas().sum() for every in pieces))
    assert names(row(3), undivided="keep")[0].rule == "nodes"


def test_small_by_volume() -> None:
    plate = surface(trimesh.creation.box((4, 4, 0.001), trimesh.transformations.translation_matrix((0, 0, 3))))
    pieces = [piece("a", "w", 2, 0, 0, 0), piece("b", "w", 2, 5, 0, 0), Piece("plate", "plate", "w", plate)]
    assert names(pieces)[1] == ["plate", "a", "b"]
    assert names(pieces, small_by="volume")[1] == ["a", "b"]


def test_small_parts_that_grow_together_do_not_become_too_many() -> None:
    pieces = row(10) + [piece(f"s{chr(97 + k)}", "wood", 0.2, 100 + 0.2 * k, 0, 0) for k in range(9)]
    division, found = names(pieces)
    assert division.rule == "nodes"
    assert len(found) == 10


def test_one_part_is_dropped() -> None:
    for pieces in ([piece("a", "w", 1, 0, 0, 0)], [piece("a", "w", 1, 0, 0, 0), piece("b", "w", 0.01, 1, 0, 0)]):
        with pytest.raises(ObjectDropped, match="single part"):
            names(pieces)


@settings(deadline=None, max_examples=40)
@given(sides=st.lists(st.floats(0.1, 5), min_size=2, max_size=14), cull=st.booleans())
def test_parts_are_sorted_and_whole(sides: list[float], cull: bool) -> None:
    pieces = [piece(f"n{chr(97 + k)}", "w", side, 11.0 * k, 0, 0) for k, side in enumerate(sides)]
    try:
        division, found = names(pieces, small_parts="cull" if cull else "merge")
    except ObjectDropped:
        return
    areas = [part.area for part in division.parts]
    assert areas == sorted(areas, reverse=True)
    assert 2 <= len(areas) <= 10
    assert len(set(found)) == len(found)
    whole = sum(6 * side**2 for side in sides)
    assert sum(areas) + division.culled_surface * whole == pytest.approx(whole)
    if not cull:
        assert sum(len(part.surfaces) for part in division.parts) == len(pieces)


def test_volumes() -> None:
    assert volume([box(2)]) == (pytest.approx(8), "mesh")
    inside_out = trimesh.creation.box((1, 1, 1))
    inside_out.invert()
    assert volume([surface(inside_out)]) == (pytest.approx(1), "mesh")
    ball = trimesh.creation.icosphere()
    ball.update_faces(np.arange(len(ball.faces)) > 5)
    assert volume([surface(ball)]) == (pytest.approx(ball.convex_hull.volume), "hull")
    sheet = trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]])
    assert volume([surface(sheet)]) == (0.0, "flat")
    halves = [surface(trimesh.Trimesh(BOX.vertices, BOX.faces[part])) for part in (slice(0, 6), slice(6, 12))]
    assert volume(halves) == (pytest.approx(1), "mesh")  # two materials of one closed box


BOX = trimesh.creation.box((1, 1, 1))


@settings(deadline=None, max_examples=40)
@given(count=st.integers(1, 6), gap=st.floats(1.01, 9))
def test_components_are_all_triangles_once(count: int, gap: float) -> None:
    mesh = trimesh.util.concatenate(
        [
            trimesh.creation.box((1, 1, 1), trimesh.transformations.translation_matrix((gap * k, 0, 0)))
            for k in range(count)
        ]
    )
    assert isinstance(mesh, trimesh.Trimesh)
    found = components(surface(mesh))
    assert len(found) == count
    assert sum(len(part.faces) for part in found) == len(mesh.faces)
    for k, part in enumerate(found):
        np.testing.assert_allclose(part.vertices[:, 0].mean(), gap * k, atol=1e-6)


def test_surface_points_lie_on_the_surface() -> None:
    points = surface_points([box(2)], 200)
    np.testing.assert_allclose(np.abs(points).max(axis=1), 1, atol=1e-9)
    assert len(points) > 200
    np.testing.assert_array_equal(points, surface_points([box(2)], 200))


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("left_cushion_Cube.002", "left cushion"),
        ("WheelHub_Circle.000", "wheel hub"),
        ("Stick_of_Butter_Stick_of_butter", "stick of butter"),
        ("Sink_Sink_Top", "sink top"),
        ("holder.001_arch27_005.001", "holder"),
        ("Cube.001_Cube.002_Frame", "frame"),
        ("hood_Cube_hood_Cube_base", "hood base"),
        ("air_plane", "air plane"),
        ("wood_oak.jpg", "wood oak"),
        ("Spoke7_Cylinder", "spoke"),
        ("Cube.001", ""),
        ("initialShadingGroup", ""),
        ("Material#26", ""),
        ("01-Default", ""),
        ("", ""),
        ("\n\0\t", ""),
    ],
)
def test_clean_names(raw: str, clean: str) -> None:
    assert clean_name(raw) == clean


@pytest.mark.slow
@settings(deadline=None, max_examples=40)
@given(st.text(max_size=90))
def test_any_name_can_be_cleaned(raw: str) -> None:
    clean = clean_name(raw)
    assert len(clean.encode()) <= MAX_NAME_BYTES
    assert clean == clean.strip()
    assert all(character.isprintable() for character in clean)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.sampled_from(["", "leg", "leg 2", "x" * 60, "ä" * 30]), max_size=12))
def test_unique_names(raw: list[str]) -> None:
    found = unique_names(raw)
    assert len(set(found)) == len(raw)
    assert all(0 < len(name.encode()) <= MAX_NAME_BYTES for name in found)


@pytest.mark.parametrize(
    ("stem", "group"),
    [
        ("speaker2", "speaker"),
        ("armChair2", "armchair"),
        ("window_2x3_arched", "window"),
        ("girlSittingTable", "girl"),
        ("sitFemale03", "female"),
        ("man-pose1", "man"),
        ("concept-sedan-01v2", "conceptsedan"),
        ("12-oz-glass", "ozglass"),
        ("0f3a", "0f3a"),
        ("square", "square"),
    ],
)
def test_name_groups(stem: str, group: str) -> None:
    assert name_group(stem) == group
