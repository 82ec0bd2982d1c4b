"""Diagnostics: nothing is said of true parts, and each failure of supplement D is told where it was brought about."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.applications.diagnostics import (
    LEAST_KEPT,
    LEAST_OUTLINE,
    LEAST_PSNR,
    MOST_CONTESTED,
    MOST_HIDDEN,
    MOST_OUTSIDE,
    Diagnostic,
    diagnose,
    measure,
)
from pipeline.reconstruction.carving import Carver
from pipeline.reconstruction.field import Field
from pipeline.reconstruction.overlap import part_overlap
from pipeline.reconstruction.turntable import grid_view
from pipeline.views.cameras import GRID_AZIMUTHS, Camera, over_white, tile
from tests.toy_corpus import draw_boxes, hits

SIZE, ELEVATION_DEG, RESOLUTION = 32, 20.0, 32
CAMERA, SAMPLES = Camera(40.0, 3.1, SIZE), 3 * RESOLUTION // 2
SEAT, BACK, BASE = 1, 2, 3
BOXES = np.array(
    [
        [[-0.6, -0.1, -0.5], [0.6, 0.1, 0.5]],
        [[-0.6, 0.1, -0.5], [0.6, 0.7, -0.3]],
        [[-0.2, -0.7, -0.2], [0.2, -0.1, 0.2]],
    ]
)
COLOURS = np.array([[200, 40, 40], [40, 160, 60], [40, 60, 200]])


class Chair:
    """A chair of three boxes, its parts completed as they are and carved; tests break copies of it."""

    def __init__(self) -> None:
        views = [(azimuth, ELEVATION_DEG) for azimuth in GRID_AZIMUTHS]
        self.grid = self.drawn(BOXES, COLOURS)
        self.labels = tile(np.stack([hits(BOXES, view, SIZE)[0] for view in views])).astype(np.uint8)
        self.part_grids = {
            label: self.drawn(BOXES[label - 1 : label], COLOURS[label - 1 : label]) for label in (SEAT, BACK, BASE)
        }

    @staticmethod
    def drawn(boxes: np.ndarray, colours: np.ndarray) -> np.ndarray:
        return over_white(
            tile(np.stack([draw_boxes(boxes, colours, (azimuth, ELEVATION_DEG), SIZE) for azimuth in GRID_AZIMUTHS]))
        )

    def fields(self) -> dict[int, Field]:
        stack = torch.from_numpy(np.stack(list(self.part_grids.values()))).permute(0, 3, 1, 2)
        return dict(zip(self.part_grids, Carver(CAMERA, ELEVATION_DEG, RESOLUTION).fields(stack), strict=True))

    def diagnosed(
        self, fields: dict[int, Field] | None = None, merged: int = 0
    ) -> dict[tuple[str, int | None], Diagnostic]:
        fields = self.fields() if fields is None else fields
        overlap = part_overlap(list(fields.values()), RESOLUTION, level=10.0)
        found = diagnose(
            self.grid, self.labels, self.part_grids, fields, SAMPLES, CAMERA, ELEVATION_DEG, merged, overlap
        )
        for one in found:
            assert one.message.endswith(".")
            assert one.message.count(". ") == 0  # one sentence
            assert np.isfinite(one.value)
            assert one.part is None or f"art {one.part} " in one.message
        return {(one.kind, one.part): one for one in found}


@pytest.fixture
def chair() -> Chair:
    return Chair()


def test_true_parts_pass(chair: Chair) -> None:
    assert chair.diagnosed() == {}


def test_figures_of_true_parts(chair: Chair) -> None:
    seen = grid_view(chair.fields(), CAMERA, ELEVATION_DEG, SAMPLES)
    found = measure(chair.grid, chair.labels, chair.part_grids, seen)
    assert found.outline > 0.9
    assert found.psnr > 18
    assert set(found.kept) == set(found.outside) == {SEAT, BACK, BASE}
    assert min(found.kept.values()) > 17
    assert max(found.outside.values()) < 0.01
    assert not found.lost
    same = measure(chair.grid, chair.labels, {SEAT: chair.grid}, seen)
    assert same.kept[SEAT] == np.inf


def test_rendering_shows_which_part_is_where(chair: Chair) -> None:
    seen = grid_view(chair.fields(), CAMERA, ELEVATION_DEG, SAMPLES)
    assert seen.colour_HW3.shape == chair.grid.shape
    assert (seen.labels_HW == chair.labels).mean() > 0.95


def test_views_that_contradict_one_another(chair: Chair) -> None:
    """The view from the right is pushed out of line, in grid and parts; a body that all four views show is less."""
    half = np.s_[:SIZE, SIZE:]
    for pictures in (chair.grid, chair.labels, *chair.part_grids.values()):
        pictures[half] = np.roll(pictures[half], 11, axis=0)
    found = chair.diagnosed()
    assert ("outline", None) in found
    assert found["outline", None].value < LEAST_OUTLINE
    assert "another seed" in found["outline", None].message


def test_other_colours_than_the_grid(chair: Chair) -> None:
    fields = chair.fields()
    chair.grid[chair.labels > 0] = 1 - chair.grid[chair.labels > 0]
    found = chair.diagnosed(fields)
    assert found["colour", None].value < LEAST_PSNR
    assert ("outline", None) not in found


def test_repainted_part(chair: Chair) -> None:
    shown = chair.labels == BACK
    chair.part_grids[BACK][shown] = chair.part_grids[BACK][shown][:, ::-1] * 0.3 + 0.5
    found = chair.diagnosed()
    assert found["changed", BACK].value < LEAST_KEPT
    assert {part for kind, part in found if kind == "changed"} == {BACK}


def test_part_that_sticks_out(chair: Chair) -> None:
    large = np.array([[[-0.6, -0.75, -0.55], [0.6, 0.75, 0.55]]])
    chair.part_grids[BASE] = chair.drawn(large, COLOURS[BASE - 1 :])
    found = chair.diagnosed()
    assert found["outside", BASE].value > MOST_OUTSIDE
    assert found["hides", BASE].value > MOST_HIDDEN
    assert {part for kind, part in found if kind == "outside"} == {BASE}


def test_parts_in_one_place(chair: Chair) -> None:
    """Each was completed to the whole object."""
    chair.part_grids = {label: chair.grid.copy() for label in chair.part_grids}
    found = chair.diagnosed()
    assert found["overlap", None].value > MOST_CONTESTED
    assert "densest" in found["overlap", None].message


@pytest.mark.parametrize("count", [1, 3])
def test_merged_regions(chair: Chair, count: int) -> None:
    found = chair.diagnosed(merged=count)
    assert list(found) == [("merged", None)]
    assert found["merged", None].value == count
    assert found["merged", None].message.startswith(
        "1 small or surplus region was" if count == 1 else "3 small or surplus regions were"
    )


def emptied(chair: Chair) -> dict[int, Field]:
    chair.part_grids[BASE] = np.ones_like(chair.grid)
    return chair.fields()


def faded(chair: Chair) -> dict[int, Field]:
    fields = chair.fields()
    return {**fields, BASE: replace(fields[BASE], volume_CDHW=fields[BASE].volume_CDHW - 50)}


@pytest.mark.parametrize(("broken", "words"), [(emptied, "is empty, although"), (faded, "cannot be seen")])
def test_empty_parts(chair: Chair, broken: Callable[[Chair], dict[int, Field]], words: str) -> None:
    pixels = int((chair.labels == BASE).sum())
    one = chair.diagnosed(broken(chair))["empty", BASE]
    assert one.value == pixels
    assert words in one.message
    assert str(pixels) in one.message


def test_imagined_part_that_is_empty(chair: Chair) -> None:
    """Nobody sees it in the grid, and it has no pixels that it could have lost."""
    chair.part_grids[4] = np.ones_like(chair.grid)
    found = chair.diagnosed()
    assert list(found) == [("empty", 4)]
    assert "the grid shows nothing of it" in found["empty", 4].message


def test_parts_that_were_placed_elsewhere_are_seen_there(chair: Chair) -> None:
    """Also where they stand out of the sphere that holds all others; they have no grid."""
    fields = chair.fields()
    fields[BASE] = fields[BASE].moved((0.9, 0.0, 0.0))
    front = grid_view(fields, CAMERA, ELEVATION_DEG, SAMPLES).labels_HW[:SIZE, :SIZE]
    rightmost = SIZE / 2 * (1 + 1.1 / (CAMERA.distance * np.tan(np.radians(CAMERA.fov_deg / 2))))
    assert np.flatnonzero((front == BASE).any(axis=0)).max() == pytest.approx(rightmost, abs=1)
    del chair.part_grids[BASE]
    assert {part for _, part in chair.diagnosed(fields)} <= {None, BASE}
