"""Parts that are merged, split, taken out, renamed and recoloured stay the file's own triangles, each in one part."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.app.commands import python_lines, shell_lines
from pipeline.applications.correct import atoms_at, recoloured, renamed
from pipeline.applications.part import OwnSurface
from pipeline.applications.partgen import PartGenPipeline
from pipeline.applications.result import PartObject
from pipeline.applications.surface import division_of
from pipeline.assets.glb import read_header
from pipeline.assets.surface import Material, Piece, Surface
from pipeline.errors import Invalid, NotFound
from pipeline.surface.division import Division
from pipeline.surface.hierarchy import halves, most_itself
from pipeline.surface.stored import stored
from tests.applications.test_result import an_object

ROOT = Path(__file__).parents[2]
SIDE, ATOMS = 8, 6
HEIGHTS = (0.1, 0.2, 0.25, 0.6, 0.7)
MERGES = np.array([[0, 1], [6, 2], [3, 4], [7, 8], [9, 5]])
"""((0 1) 2) and (3 4), which are joined before 5 is."""


@cache
def pipeline() -> PartGenPipeline:
    return PartGenPipeline.from_pretrained(ROOT / "weights/nano", params=ROOT / "presets/nano.yaml")


@cache
def table() -> PartObject:
    """Six boxes of different sizes, an atom each, as three parts; every atom is in sight of the first view."""
    pieces = []
    for number in range(ATOMS):
        mesh = trimesh.creation.box(extents=[0.1 + 0.05 * number] * 3)
        faces = mesh.subdivide().faces if number == 0 else mesh.faces
        vertices = mesh.subdivide().vertices if number == 0 else mesh.vertices
        place = vertices + np.array([number / 3 - 1, 0, 0])
        pieces.append(
            Piece(str(number), f"thing {number}", "wood", Surface(place, faces, None, None, None, Material()))
        )
    atom_F = np.repeat(np.arange(ATOMS), [len(piece.surface.faces) for piece in pieces])
    merges = np.c_[MERGES, HEIGHTS, np.arange(2, 7)].astype(float)
    atoms_HW = np.zeros((2 * SIDE, 2 * SIDE), np.uint8)
    atoms_HW[0, :ATOMS] = np.arange(1, ATOMS + 1)
    grid = np.dstack([np.full((2 * SIDE, 2 * SIDE, 3), 90, np.uint8), (atoms_HW > 0).astype(np.uint8) * 255])
    made = replace(
        an_object(),
        grid=grid,
        labels=atoms_HW,
        parts=[],
        segmentations=[],
        diagnostics=[],
        settings={"cameras": {"view_size": SIDE}, "close": "none", "frame": "unit"},
        origin={"kind": "object", "file": "table.glb", "from_file": np.eye(4).tolist()},
        history=[{"command": "decompose", "origin": {"kind": "object", "file": "table.glb"}, "parts": 3, "seed": 0}],
        surface=OwnSurface(stored(Division(pieces, atom_F, merges, 3)), atoms_HW),
    )
    return replace(pipeline().regroup(made, 3), history=made.history)


def atoms(result: PartObject) -> dict[int, set[int]]:
    return {part.label: set(part.atoms) for part in result.parts}


def check(result: PartObject) -> None:
    """All triangles are in exactly one part each, and all that is said of parts agrees."""
    assert sorted(atom for part in result.parts for atom in part.atoms) == list(range(ATOMS))
    assert sum(part.triangles for part in result.parts) == sum(part.triangles for part in table().parts)
    assert len({part.name for part in result.parts}) == len(result.parts)
    assert [part.label for part in result.parts] == sorted({part.label for part in result.parts})
    assert result.glb is not None
    assert [node["name"] for node in read_header(result.glb)["nodes"]] == [part.name for part in result.parts]
    surface = result.surface
    assert surface is not None
    for part in result.parts:
        np.testing.assert_array_equal(result.labels == part.label, np.isin(surface.atoms_HW, np.array(part.atoms) + 1))


def test_parts_are_merged_and_the_others_stay_as_they_are() -> None:
    before = {part.label: part for part in table().parts}
    assert sorted(map(sorted, atoms(table()).values())) == [[0, 1, 2], [3, 4], [5]]
    made = pipeline().merge(table(), ["1", "3"])
    check(made)
    assert [part.label for part in made.parts] == [1, 2]
    assert made.part("2") == before[2]
    larger = max((before[1], before[3]), key=lambda part: part.triangles)
    assert made.part("1").name == larger.name
    named = pipeline().merge(table(), ["2", "1"], name=f"  {before[3].name} ")
    assert named.part("1").name == f"{before[3].name} 2"
    for some in (["1"], ["1", "1"], []):
        with pytest.raises(Invalid, match="name two or more"):
            pipeline().merge(table(), some)
    with pytest.raises(NotFound):
        pipeline().merge(table(), ["1", "nothing"])


def test_a_part_is_split_where_the_hierarchy_divides_it() -> None:
    of = next(part for part in table().parts if set(part.atoms) == {0, 1, 2})
    made = pipeline().split(table(), of.name)
    check(made)
    assert sorted(map(sorted, atoms(made).values())) == [[0, 1], [2], [3, 4], [5]]
    assert made.part(of.name).label == of.label
    assert set(atoms(made)) == {1, 2, 3, 4}
    single = next(part for part in table().parts if len(part.atoms) == 1)
    with pytest.raises(Invalid, match="is one piece"):
        pipeline().split(table(), single.name)


def test_what_is_at_a_seed_point_is_taken_out() -> None:
    assert atoms_at(table(), [(0, 0, 0)]) == [0], "0 and 1 are joined at 0.1, and with 2 at 0.2: 0 stays as long"
    assert atoms_at(table(), [(3, 0, 0)]) == [3]
    assert atoms_at(table(), [(3, 0, 0), (5, 0, 0), (0, 0, 0)]) == [0, 3, 5]
    made = pipeline().take_out(table(), atoms=[0, 3, 5])
    check(made)
    assert {0, 3, 5} in atoms(made).values()
    assert len(made.parts) == 3, "the part that was 5 alone is gone"
    for points, words in (([(0, 1, 0)], "is background"), ([(8, 0, 0)], "outside"), ([(5, 0, 0)], "is one piece")):
        with pytest.raises(Invalid, match=words):
            atoms_at(table(), points)
    with pytest.raises(Invalid, match="is a part of its own already"):
        pipeline().take_out(table(), atoms=[3, 4])
    with pytest.raises(Invalid, match="from 0 to 5"):
        pipeline().take_out(table(), atoms=[6])


def test_names_and_colours(tmp_path: Path) -> None:
    other = table().parts[1].name
    made = renamed(table(), "1", f" {other}\n ")
    check(made)
    assert made.part("1").name == f"{other} 2"
    painted = recoloured(made, "1", "#0A0b0c")
    read = PartObject.load(painted.save(tmp_path / "painted"))
    assert (read.part("1").colour, read.part("1").name) == ("#0a0b0c", f"{other} 2")
    assert pipeline().regroup(read, 3).part("1").name == f"{other} 2"
    assert recoloured(read, "1", "").part("1").colour == ""
    for colour in ("red", "#12345", "#12345g", "url(x)"):
        with pytest.raises(Invalid, match="give one such as"):
            recoloured(made, "1", colour)
    with pytest.raises(Invalid, match="is empty"):
        renamed(made, "1", " \n")


@settings(max_examples=25)
@given(data=st.data())
def test_any_sequence_of_corrections_keeps_all_that_is_promised(data: st.DataObject) -> None:
    result = table()
    for _ in range(data.draw(st.integers(1, 5))):
        labels = [part.label for part in result.parts]
        what = data.draw(st.sampled_from(["merge", "split", "take out", "regroup", "rename"]))
        some = data.draw(st.lists(st.sampled_from(labels), min_size=2, max_size=3))
        try:
            if what == "merge":
                name = data.draw(st.sampled_from(["", "thing", "leg"]))
                result = pipeline().merge(result, list(map(str, some)), name=name)
            elif what == "split":
                result = pipeline().split(result, str(some[0]))
            elif what == "take out":
                pieces = data.draw(st.lists(st.integers(0, ATOMS - 1), min_size=1, max_size=3))
                result = pipeline().take_out(result, atoms=pieces)
            elif what == "rename":
                result = renamed(result, str(some[0]), data.draw(st.sampled_from(["leg", "leg 2", "<b>"])))
            else:
                result = pipeline().regroup(result, data.draw(st.integers(1, ATOMS)))
        except Invalid:
            continue
        check(result)
    merges = division_of(result).merges
    np.testing.assert_array_equal(merges[:, :2], MERGES)


@given(data=st.data(), count=st.integers(2, 12))
def test_halves_and_what_is_most_itself(data: st.DataObject, count: int) -> None:
    """Against plain sets of atoms."""
    groups: dict[int, frozenset[int]] = {atom: frozenset([atom]) for atom in range(count)}
    alive, rows, height = list(range(count)), [], 0.0
    for number in range(count - 1):
        one, other = data.draw(st.permutations(alive))[:2]
        height += data.draw(st.floats(0.01, 1))
        rows.append((one, other, height, 0))
        groups[count + number] = groups[one] | groups[other]
        alive = [node for node in alive if node not in (one, other)] + [count + number]
    merges = np.array(rows, float)
    within = data.draw(st.sets(st.integers(0, count - 1), min_size=2))
    some = np.array(sorted(within))
    first, second = halves(merges, some)
    above = min((group for group in groups.values() if within <= group), key=len)
    row = next(row for row, node in zip(rows, range(count, 2 * count), strict=False) if groups[node] == above)
    assert {frozenset(first.tolist()), frozenset(second.tolist())} == {groups[row[0]] & within, groups[row[1]] & within}
    atom = data.draw(st.sampled_from(sorted(within)))
    found = frozenset(most_itself(merges, atom, some).tolist())
    chain = sorted({group & within for group in groups.values() if atom in group}, key=len)
    assert found in chain[:-1]


def test_what_was_done_can_be_done_again_in_a_shell_and_in_python() -> None:
    history = [
        *table().history,
        {"command": "merge", "parts": ["seat", "left leg"], "name": ""},
        {"command": "take-out", "points": [[3, 4, 1]], "atoms": [2, 3]},
        {"command": "rename", "part": "seat", "name": "it's; rm -rf /"},
        {"command": "regroup", "parts": None},
    ]
    assert shell_lines(history, "table") == [
        "partgen decompose table.glb --parts 3 --out results/table-1",
        "partgen merge results/table-1 seat 'left leg' --out results/table-2",
        "partgen take-out results/table-2 --atoms 2,3 --out results/table-3",
        "partgen rename results/table-3 seat 'it'\"'\"'s; rm -rf /' --out results/table-4",
        "partgen regroup results/table-4 --out results/table-5",
    ]
    assert python_lines(history)[3:] == [
        "result = partgen.decompose('table.glb', parts=3)",
        "result = partgen.merge(result, ['seat', 'left leg'])",
        "result = partgen.take_out(result, atoms=(2, 3))",
        "result = partgen.rename(result, 'seat', \"it's; rm -rf /\")",
        "result = partgen.regroup(result)",
    ]
