"""The training objects that are most like a picture."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import UserError
from pipeline.evaluation.image_metrics import SMALLEST_PX, StLpips
from pipeline.report.training_grids import TrainingGrids
from pipeline.shards.read import iter_rows
from pipeline.shards.table import decode_png
from pipeline.views.cameras import over_white, untile
from tests.toy_corpus import write_toy_corpus

pytestmark = pytest.mark.slow

VIEW_SIZE = SMALLEST_PX + 10


def wholes(data: Path) -> dict[str, np.ndarray]:
    rows = [row for row in iter_rows(data / "renders/grids") if not row["part_id"]]
    return {row["object_id"]: over_white(decode_png(row["image"]["bytes"])) for row in rows}


def test_a_copy_is_found_and_what_is_close_by_its_distance(tmp_path: Path) -> None:
    write_toy_corpus(tmp_path, 8, VIEW_SIZE)
    grids, training = wholes(tmp_path), TrainingGrids(tmp_path)
    assert sorted(training.object_ids) == [f"toy-{number:03d}" for number in range(6)]  # not those held out
    for object_id in training.object_ids:
        found = training.nearest(grids[object_id])
        assert found is not None
        assert found.object_id == object_id
        assert found.distance == pytest.approx(0, abs=1e-6)
        assert np.array_equal(found.grid, grids[object_id])
    found = training.nearest(grids["toy-007"])
    assert found is not None
    distance = StLpips()
    distances = {
        object_id: float(distance(untile(grids["toy-007"]), untile(grids[object_id])).mean())
        for object_id in training.object_ids
    }
    assert found.object_id == min(distances, key=distances.__getitem__)
    assert found.distance == pytest.approx(distances[found.object_id])


def test_there_may_be_none_and_views_may_be_too_small(tmp_path: Path) -> None:
    write_toy_corpus(tmp_path / "held-out", 2, VIEW_SIZE)
    assert TrainingGrids(tmp_path / "held-out").nearest(np.ones((2 * VIEW_SIZE, 2 * VIEW_SIZE, 3), np.float32)) is None
    write_toy_corpus(tmp_path / "small", 4, SMALLEST_PX - 6)
    training = TrainingGrids(tmp_path / "small")
    with pytest.raises(UserError, match="ST-LPIPS cannot see pictures of 16 x 16 px"):
        training.nearest(wholes(tmp_path / "small")["toy-000"])
