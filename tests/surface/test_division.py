"""Objects divided on their own surface: nothing is lost, doubled or changed, and there are as many parts as wanted."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.applications.render_input import read_object
from pipeline.assets.bundle import Bundle, read_bundle
from pipeline.assets.glb import read_header, surface_glb, to_unit
from pipeline.assets.load import load_pieces
from pipeline.assets.surface import Piece, Surface
from pipeline.errors import Invalid
from pipeline.folders import write_sums
from pipeline.surface.division import PartsFrom, SurfacePart, divide
from pipeline.surface.grouping import GroupingModel
from pipeline.surface.merge import merge_glbs

ROOT = Path(__file__).parents[2]
SAMPLES = sorted((ROOT / "data/samples").glob("*.glb"))
CASES = sorted((ROOT / "tests/cases").rglob("*.glb"))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A grouping model of random weights."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "grouping"
    GroupingModel(width=12, layers=1, heads=2, pair_width=8).save_pretrained(folder)
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
    parts = divide(pieces, by, None, None, models)
    check_whole(pieces, parts)
    sizes = [area(part.surfaces) for part in parts]
    assert max(np.diff(sizes), default=0) <= 1e-9


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_there_are_exactly_as_many_parts_as_wanted(path: Path, models: Path) -> None:
    pieces = pieces_of(read_object(path, 10**9))
    most = len(divide(pieces, "pieces", None, None, models))
    for wanted in {1, 2, min(most, 6)}:
        parts = divide(pieces, "pieces", wanted, None, models)
        assert len(parts) == wanted
        check_whole(pieces, parts)
    with pytest.raises(Invalid, match=rf"can be divided into 1 to {most} parts, not {most + 1}"):
        divide(pieces, "pieces", most + 1, None, models)


@pytest.mark.parametrize("frame", [None, np.diag([-2.0, 3, 4, 1])], ids=["unit", "file"])
@pytest.mark.parametrize("path", [*SAMPLES[::4], *CASES], ids=lambda path: path.stem)
def test_the_glbs_of_parts_are_the_surface_and_so_is_the_one_of_all(
    path: Path, frame: np.ndarray | None, models: Path
) -> None:
    pieces = pieces_of(read_object(path, 10**9))
    parts = divide(pieces, "nodes", None, None, models)
    glbs = [surface_glb(f"part {n}", n, part.surfaces, "by Ünal", frame) for n, part in enumerate(parts, 1)]
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
