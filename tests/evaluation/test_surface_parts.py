"""Parts of 3D objects: figures whose right values are known in closed form, and the words of their tables."""

import numpy as np
import pandas as pd
import pytest
import trimesh

from pipeline.evaluation.part_shapes import PartShapes, triangles
from pipeline.evaluation.summary import GAIN, summarise
from pipeline.evaluation.surface_proposals import average_precisions
from pipeline.evaluation.surface_tables import closing_rows, regime_rows, surface_label, what_runs_add
from pipeline.surface.scores import mean_best_iou, overlaps
from tests.evaluation.test_paper_tables import of_objects


def test_parts_of_all_levels_are_ranked_by_how_often_they_come() -> None:
    truth_NS = np.repeat(np.eye(2), 2, axis=0)  # four atoms of area 1, two a part
    levels = [np.array(part) for part in ([0, 0, 0, 0], [0, 0, 1, 1], [0, 0, 1, 2], [0, 1, 2, 3])]
    # Twice come {0, 1}, {2} and {3}; then the whole, {2, 3}, {0} and {1}. The second part is half found by {2}, at
    # once, and wholly by {2, 3}, at the fifth place.
    assert average_precisions(truth_NS, levels) == {"ap50": pytest.approx(100), "ap75": pytest.approx(50 * (1 + 2 / 5))}
    assert average_precisions(truth_NS, levels[1:2]) == {"ap50": 100, "ap75": 100}
    assert average_precisions(truth_NS, levels[:1]) == {"ap50": 50, "ap75": 0}


def test_areas_count_and_not_atoms() -> None:
    truth_NS = np.array([[3.0, 0.0], [0.0, 1.0]])
    assert mean_best_iou(truth_NS, np.array([0, 0])) == pytest.approx((3 / 4 + 1 / 4) / 2)
    assert average_precisions(truth_NS, [np.array([0, 0])]) == {"ap50": 50, "ap75": 50}


def square(height: float, side: float = 1.0) -> np.ndarray:
    """Two triangles (2, 3, 3)."""
    a, b, c, d = ([x * side, height, z * side] for x, z in ((0, 0), (1, 0), (1, 1), (0, 1)))
    return np.array([[a, b, c], [a, c, d]])


def test_plates_are_as_far_apart_as_they_lie() -> None:
    truths = [triangles(square(0.0)), triangles(square(2.0))]
    shapes = PartShapes(np.concatenate([square(0.07), square(2.0)]), np.array([0, 0, 1, 1]), truths, 0, 20_000)
    truth_NS = np.eye(2)
    apart = shapes.figures(np.array([0, 1]), overlaps(truth_NS, np.array([0, 1])))
    assert apart["chamfer"] == pytest.approx(0.07 / 2, abs=0.003)  # the second one is in its place
    assert (apart["f_score_5"], apart["f_score_10"]) == (pytest.approx(50, abs=0.1), pytest.approx(100, abs=0.1))
    whole = shapes.figures(np.array([0, 0]), overlaps(truth_NS, np.array([0, 0])))
    # Of the whole one half is a plate's own, the other 2 or 1.93 away: recall 1, precision 1/2.
    assert whole["chamfer"] == pytest.approx((0.07 + (2 + 1.93) / 2 / 2) / 2, abs=0.03)
    assert whole["f_score_10"] == pytest.approx(100 * 2 / 3, abs=1)
    assert len(shapes.known) == 4


def test_an_open_box_is_nearer_to_the_closed_one_with_its_lid() -> None:
    box = trimesh.creation.box().triangles
    lid = (box[:, :, 1] > 0).all(axis=1)
    figures = [
        PartShapes(some, np.zeros(len(some), int), [triangles(box)], 0, 20_000).figures(
            np.zeros(1, int), np.ones((1, 1))
        )
        for some in (box[~lid], box)
    ]
    # A sixth of the box is missing, whose points are at most 1/2, on average 1/6, from a rim.
    assert figures[0]["chamfer"] - figures[1]["chamfer"] == pytest.approx(1 / 6 / 6 / 2, abs=0.002)
    assert figures[0]["f_score_2"] < figures[1]["f_score_2"]


def test_the_tables_say_what_runs_add_and_what_was_not_run() -> None:
    rows = [
        *of_objects("surface", "grouping", "C", "iou", a=50.0, b=60.0),
        *of_objects("surface", "grouping", "C", "chamfer", a=0.5, b=0.25),
        *of_objects("surface", "grouping + 5 runs", "C", "iou", a=52.0, b=59.0),
        *of_objects("surface", "grouping + 10 runs", "C", "iou", a=53.0, b=61.0),
        *of_objects("surface", "grouping", "A", "iou", a=50.0, b=60.0),
        *of_objects("surface", "grouping + 10 runs", "A", "iou", a=53.0, b=59.0),
        *of_objects("surface", "one part", "C", "iou", a=10.0, b=10.0),
        *of_objects("surface", "cap", "closed", "chamfer", a=0.25, b=0.25),
    ]
    summary = summarise(pd.DataFrame(rows), seed=0)
    assert summary["surface"]["grouping + 10 runs"]["C"][GAIN] == {"mean": 2.0, "low": 1.0, "high": 3.0, "count": 2}
    assert GAIN not in summary["surface"]["grouping"]["C"] | summary["surface"]["one part"]["C"]
    modelled, fused = what_runs_add(summary)
    assert "10 runs of the segmentation add nothing that is sure: +1.0 [-1.0, 3.0]" in modelled
    assert "10 runs of the segmentation help" in fused
    rows_of_c = list(list(regime_rows(summary).values())[1])
    assert rows_of_c == ["one part", "grouping", "grouping + 5 runs", "grouping + 10 runs"]
    assert surface_label("grouping + 1 runs") == "... with 1 run of the segmentation"
    closing = closing_rows(summary)
    assert (closing["none"]["chamfer"]["mean"], closing["cap"]["chamfer"]["mean"]) == (0.375, 0.25)
    assert closing["complete"] == {}
