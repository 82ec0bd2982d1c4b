"""The true parts of Table 1: all, and those that the paper counts."""

import numpy as np

from pipeline.evaluation.truths import LARGE, truths
from tests.toy_results import boxes_glb

SEEN = np.arange(12, dtype=np.uint8).reshape(3, 4)


def cube(x: float, side: float) -> list[list[float]]:
    return [[x, 0, 0], [x + side, side, side]]


def large(*boxes: list[list[float]]) -> np.ndarray | None:
    found = truths(SEEN, boxes_glb(np.array(boxes, dtype=float)))
    assert (found[""] == SEEN).all()
    return found.get(f", {LARGE}")


def test_a_small_part_goes_to_the_one_it_touches() -> None:
    labels = large(cube(0, 1), cube(5, 1), cube(6, 0.3))
    assert labels is not None
    assert labels.reshape(-1)[:4].tolist() == [0, 1, 2, 2]


def test_small_parts_that_touch_each_other_are_no_large_part() -> None:
    chain = [cube(5 + 0.3 * k, 0.3) for k in range(1, 4)]  # each 1.3 % of the volume
    labels = large(cube(0, 1), cube(4.3, 1), *chain)
    assert labels is not None
    assert labels.reshape(-1)[:6].tolist() == [0, 1, 2, 2, 2, 2]
    assert large(cube(0, 1), *(cube(4 + 0.37 * k, 0.37) for k in range(3))) is None  # 87 %, and 3 times 4.4 %
    labels = large(cube(0, 1), *(cube(4 + 0.4 * k, 0.4) for k in range(3)))  # 84 %, and 3 times 5.4 %
    assert labels is not None
    assert labels.reshape(-1)[:5].tolist() == [0, 1, 2, 3, 4]


def test_objects_that_the_paper_leaves_out_have_one_truth() -> None:
    assert large(cube(0, 1), cube(1, 0.3)) is None
    assert large(*(cube(2 * k, 1) for k in range(11))) is None
