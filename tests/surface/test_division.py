"""Objects divided on their own surface: nothing is lost, doubled or changed, and there are as many parts as wanted."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from trimesh.creation import box
from trimesh.transformations import translation_matrix

from pipeline.applications.render_input import read_object
from pipeline.assets.bundle import Bundle, read_bundle
from pipeline.assets.glb import read_header, surface_glb, to_unit
from pipeline.assets.load import load_pieces
from pipeline.assets.surface import Material, Piece, Surface
from pipeline.errors import Invalid
from pipeline.folders import write_sums
from pipeline.surface.atoms import MOST_LABELS, Triangles, connected
from pipeline.surface.division import PartsFrom, SurfacePart, divide, material_numbers
from pipeline.surface.grouping import GroupingModel
from pipeline.surface.merge import merge_glbs
from pipeline.surface.stored import HIERARCHY, restored, stored

ROOT = Path(__file__).parents[2]
SAMPLES = sorted((ROOT / "data/samples").glob("*.glb"))
CASES = sorted((ROOT / "tests/cases").rglob("*.glb"))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A grouping model of random weights."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "grouping"
    GroupingModel(width=12, layers=1, heads=2, pair_width=8).save(folder)
    write_sums(folder, "stage's output")
    return folder


def pieces_of(bundle: Bundle) -> list[Piece]:
    pieces, _ = load_pieces(bundle, 4096, 0.0, 10**7, np.eye(4))
    matrix = to_unit([piece.surface for piece in pieces])
    return [
        Piece(piece.node, piece.node_name, piece.material_name, piece.surface.transformed(matrix)) for piece in pieces
    ]


def glb_pieces(glb: bytes) -> list[Piece]:
    bundle = read_bundle("a.glb", lambda name, most: glb if name == "a.glb" else None, 10**9)
    return load_pieces(bundle, 4096, 0.0, 10**7, np.eye(4))[0]


def triangles_of(surfaces: list[Surface]) -> np.ndarray:
    """(F, 9): the corners of all triangles, in an order of their own."""
    corners = np.concatenate([surface.vertices[surface.faces].reshape(-1, 9) for surface in surfaces])
    return np.asarray(corners[np.lexsort(np.round(corners, 4).T)])


def area(surfaces: list[Surface]) -> float:
    return float(sum(surface.areas().sum() for surface in surfaces))


def check_whole(pieces: list[Piece], parts: list[SurfacePart]) -> None:
    before = [piece.surface for piece in pieces]
    after = [surface for part in parts for surface in part.surfaces]
    np.testing.assert_array_equal(triangles_of(before), triangles_of(after))
    assert area(after) == pytest.approx(area(before), rel=1e-6)


@pytest.mark.parametrize("by", ["nodes", "materials", "pieces", "model"])
@pytest.mark.parametrize("path", [*SAMPLES[::3], *CASES], ids=lambda path: path.stem)
def test_every_triangle_is_in_exactly_one_part(path: Path, by: PartsFrom, models: Path) -> None:
    pieces = pieces_of(read_object(path, 10**9))
    division = divide(pieces, by, None, models)
    parts = division.parts(division.part_of_atoms())
    assert len(parts) == division.chosen
    check_whole(pieces, parts)
    sizes = [area(part.surfaces) for part in parts]
    assert max(np.diff(sizes), default=0) <= 1e-9
    if by == "nodes":
        assert sorted(len(part.surfaces) for part in parts) == sorted(Counter(piece.node for piece in pieces).values())
    if by == "pieces":
        triangles = Triangles([piece.surface for piece in pieces])
        materials_F = material_numbers(pieces)[triangles.surface_F]
        assert division.chosen == len(set(connected(triangles, materials_F))) <= division.count


@pytest.mark.parametrize("by", ["nodes", "materials"])
def test_what_the_file_has_is_divided_further_and_joined_but_never_cut_across(by: PartsFrom, models: Path) -> None:
    pieces = pieces_of(read_object(ROOT / "data/samples/speaker2.glb", 10**9))
    division = divide(pieces, by, None, models)
    own = division.part_of_atoms()
    for number in range(1, division.count + 1):
        part_N = division.part_of_atoms(number)
        finer, coarser = (part_N, own) if number >= division.chosen else (own, part_N)
        assert all(len(set(coarser[finer == part])) == 1 for part in set(finer))


@pytest.mark.parametrize("path", [*SAMPLES[::2], *CASES[::3]], ids=lambda path: path.stem)
def test_a_stored_division_is_the_same(path: Path, models: Path) -> None:
    division = divide(pieces_of(read_object(path, 10**9)), "pieces", None, models)
    files = stored(division)
    again = restored(files)
    assert stored(again) == files
    np.testing.assert_array_equal(again.atom_F, division.atom_F)
    for one, other in zip(again.pieces, division.pieces, strict=True):
        assert (one.node, one.node_name, one.material_name) == (other.node, other.node_name, other.material_name)
        mine, theirs = (piece.surface.vertices[piece.surface.faces] for piece in (one, other))
        np.testing.assert_allclose(mine, theirs, atol=1e-6)
    for number in (1, division.count):
        np.testing.assert_array_equal(again.part_of_atoms(number), division.part_of_atoms(number))
    with pytest.raises(ValueError, match="another surface"):
        restored({**files, HIERARCHY: stored(replace(division, atom_F=division.atom_F[1:]))[HIERARCHY]})


@pytest.mark.slow
def test_no_more_atoms_than_labels(models: Path) -> None:
    boxes = [box(extents=[1.0] * 3, transform=translation_matrix([2.0 * x, 0, 0])) for x in range(300)]
    surfaces = [Surface(one.vertices / 600, one.faces.astype(np.int64), None, None, None, Material()) for one in boxes]
    pieces = [Piece(str(number), "", "", surface) for number, surface in enumerate(surfaces)]
    for by in get_args(PartsFrom):
        division = divide(pieces, by, None, models)
        assert division.count <= MOST_LABELS
        check_whole(pieces, division.parts(division.part_of_atoms()))


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_there_are_exactly_as_many_parts_as_wanted(path: Path, models: Path) -> None:
    pieces = pieces_of(read_object(path, 10**9))
    division = divide(pieces, "model", None, models)
    for wanted in {1, 2, min(division.count, 6), division.count}:
        parts = division.parts(division.part_of_atoms(wanted))
        assert len(parts) == wanted
        check_whole(pieces, parts)
    most = division.count
    with pytest.raises(Invalid, match=rf"can be divided into 1 to {most} parts, not {most + 1}"):
        division.part_of_atoms(most + 1)


@pytest.mark.parametrize("frame", [None, np.diag([-2.0, 3, 4, 1])], ids=["unit", "file"])
@pytest.mark.parametrize("path", [*SAMPLES[::4], *CASES], ids=lambda path: path.stem)
def test_the_glbs_of_parts_are_the_surface_and_so_is_the_one_of_all(
    path: Path, frame: np.ndarray | None, models: Path
) -> None:
    pieces = pieces_of(read_object(path, 10**9))
    division = divide(pieces, "nodes", None, models)
    parts = division.parts(division.part_of_atoms())
    glbs = [surface_glb(f"part {n}", n, part.surfaces, "by Ünal", {}, frame) for n, part in enumerate(parts, 1)]
    whole = merge_glbs(glbs)
    tree = read_header(whole)
    named = [node for node in tree["nodes"] if "mesh" in node]
    numbers = range(1, len(parts) + 1)
    assert [(node["name"], node["extras"]) for node in named] == [(f"part {n}", {"part": n}) for n in numbers]
    assert tree["asset"]["copyright"] == "by Ünal"
    assert len(tree["nodes"]) - len(named) == (frame is not None)
    apart = [piece for glb in glbs for piece in glb_pieces(glb)]
    together = glb_pieces(whole)
    assert len(together) == len(apart)
    for one, other in zip(together, apart, strict=True):
        np.testing.assert_array_equal(one.surface.vertices, other.surface.vertices)
        for name in ("faces", "normals", "uv", "colors"):
            np.testing.assert_array_equal(getattr(one.surface, name), getattr(other.surface, name))
        mine, theirs = one.surface.material, other.surface.material
        assert (mine.baseColorFactor is None) == (theirs.baseColorFactor is None)
        assert mine.wrap == theirs.wrap
        if theirs.baseColorTexture is not None:
            assert mine.baseColorTexture.tobytes() == theirs.baseColorTexture.tobytes()
    moved = [piece.surface.transformed(np.eye(4) if frame is None else frame) for piece in pieces]
    assert area([piece.surface for piece in together]) == pytest.approx(area(moved), rel=1e-5)
    pictures = [tree["bufferViews"][image["bufferView"]] for image in tree.get("images", [])]
    binary = whole[len(whole) - tree["buffers"][0]["byteLength"] :]
    contents = [binary[view["byteOffset"] : view["byteOffset"] + view["byteLength"]] for view in pictures]
    assert len(set(contents)) == len(contents), "a picture is kept once"
