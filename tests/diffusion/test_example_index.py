"""Which samples a corpus has, and what a user is told when they cannot be made."""

import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipeline.diffusion.examples import Examples
from pipeline.diffusion.tasks import TASKS
from pipeline.errors import UserError
from pipeline.params.base import load_group
from pipeline.params.diffusion import DiffusionParams
from pipeline.shards.read import read_manifest
from pipeline.shards.write import write_tables
from pipeline.views.mask_tables import LABELS, VISIBILITY
from tests.toy_corpus import write_toy_corpus

PARAMS = load_group(DiffusionParams, [], Path(__file__).parents[2] / "presets/nano.yaml")
OBJECTS = 7
PARTS = 2 + 3 + 4 + 2 + 3


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project") / "data"
    write_toy_corpus(folder, OBJECTS, shards=3)
    return folder


def examples(data: Path, task: str, split: str = "train", params: DiffusionParams = PARAMS, **more: Any) -> Examples:
    return Examples(data, TASKS[task], split, params, seed=3, drop_condition=0.0, augment=False, **more)


def test_objects_without_masks_are_left_out_aloud(
    data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(data, tmp_path / "data")
    keep_masks(copy, {"toy-001", "toy-004", "toy-006"})
    assert {examples(copy, "complete")[number]["object_id"] for number in range(6)} == {"toy-001", "toy-004"}
    assert "complete: 3 of 5 objects of train have no masks" in capfd.readouterr().err
    assert examples(copy, "text_to_mv").count == 5
    assert not capfd.readouterr().err
    with pytest.raises(UserError, match="no sample of the split val for segment"):
        examples(copy, "segment", split="val")


def test_undivided_objects_are_seen_whole_and_by_no_task_that_needs_parts(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_toy_corpus(tmp_path / "data", OBJECTS, undivided={"toy-000", "toy-003"})

    def seen(task: str) -> set[str]:
        samples = examples(tmp_path / "data", task)
        return {samples[number]["object_id"] for number in range(samples.count)}

    divided, every = {"toy-001", "toy-002", "toy-004"}, {f"toy-{number:03d}" for number in range(5)}
    assert {task: seen(task) for task in TASKS} == {
        task: every if task in ("text_to_mv", "image_to_mv") else divided for task in TASKS
    }
    assert not capfd.readouterr().err


def keep_masks(data: Path, ids: set[str]) -> None:
    """Rewrite the stage masks as if all other objects had failed."""
    contents: dict[int, dict[str, Any]] = {}
    settings = read_manifest(data / "masks/labels").settings
    for table in (LABELS, VISIBILITY):
        for path in sorted((data / "masks" / table.name).glob("*.parquet")):
            rows = pq.read_table(path)
            kept = rows.filter([object_id in ids for object_id in rows["object_id"].to_pylist()])
            contents.setdefault(int(path.stem), {})[table.name] = kept.cast(table.storage_schema())
    write_tables(data / "masks", [LABELS, VISIBILITY], sorted(contents.items()), settings)


def test_a_new_corpus_gets_a_new_index(data: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(data, tmp_path / "data")
    assert examples(copy, "segment").count == 5
    keep_masks(copy, {"toy-001", "toy-004"})
    assert examples(copy, "segment").count == 2
    assert examples(data, "segment").count == 5


def test_a_user_is_told_what_is_wrong(data: Path, tmp_path: Path) -> None:
    few = PARAMS.model_copy(update={"colours": 3})
    assert examples(data, "segment").count == 5  # that there are enough of ten is known; it says nothing of three
    with pytest.raises(UserError, match=r"toy-002 has 4 parts and there are 3 reference .* diffusion\.colours=4"):
        examples(data, "segment", params=few)
    assert examples(data, "complete", params=few).count == PARTS
    with pytest.raises(UserError, match=r"views of 16 px and the params say render\.view_size=64; run"):
        examples(data, "segment", expected_view_size=64)
    assert examples(data, "segment", expected_view_size=16).count == 5
    with pytest.raises(UserError, match="no object toy-006 in the split train"):
        examples(data, "segment", only=["toy-001", "toy-006"])
    with pytest.raises(UserError, match="no sample of the split dev for complete"):
        examples(data, "complete", split="dev")
    copy = shutil.copytree(data, tmp_path / "data")
    shutil.rmtree(copy / "captions")
    assert examples(copy, "complete").count == PARTS
    for task in ("text_to_mv", "edit"):
        with pytest.raises(UserError, match="captions/captions holds no table yet; run the stage that makes it"):
            examples(copy, task)
    write_toy_corpus(tmp_path / "larger", OBJECTS, 32)
    shutil.rmtree(copy / "masks")
    shutil.copytree(tmp_path / "larger/masks", copy / "masks")
    with pytest.raises(UserError, match=r"masks/labels has views of 32 px and .* of 16 px; run the stage masks again"):
        examples(copy, "segment")
