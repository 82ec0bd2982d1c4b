"""Tables of a run as DataFrames, by the public name."""

from pathlib import Path

import numpy as np
import pytest

from partgen import NotFound, table
from pipeline.shards.read import iter_rows
from pipeline.shards.table import decode_png
from tests.toy_corpus import write_toy_corpus


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("frames") / "data"
    write_toy_corpus(folder, objects=3)
    return folder


def test_rows_and_columns_are_those_of_the_table(data: Path) -> None:
    rows = list(iter_rows(data / "captions/captions"))
    assert table("captions/captions", data).to_dict("records") == rows
    pictures = table("renders/grids", data)
    assert pictures["image"].map(dict).tolist() == [row["image"] for row in iter_rows(data / "renders/grids")]


def test_pictures_are_decoded_on_demand(data: Path) -> None:
    grids, labels = (table(name, str(data), decode=True) for name in ("renders/grids", "masks/labels"))
    assert {pixels.shape for pixels in grids["image"]} == {(32, 32, 4)}
    (expected, *_) = iter_rows(data / "masks/labels")
    assert np.array_equal(labels["labels"][0], decode_png(expected["labels"]["bytes"]))
    assert grids.drop(columns="image").equals(table("renders/grids", data).drop(columns="image"))


def test_a_table_that_is_not_there_is_named_with_the_nearest(data: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"no table `renders/grid` .*did you mean `renders/grids`.*captions/captions, "):
        table("renders/grid", data)
    with pytest.raises(NotFound, match=r"it holds none; `partgen run`"):
        table("renders/grids", tmp_path)
