"""Random access to rows, as a torch DataLoader and as Hugging Face `datasets` read them."""

import pickle
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from pipeline.shards.dataset import DecodedRows, TableRows
from pipeline.shards.read import iter_rows
from pipeline.shards.table import decode_png, encode_png, image_cell
from pipeline.shards.write import ROW_GROUP_ROWS, shard_of, write_tables
from pipeline.views.mask_tables import LABELS
from pipeline.views.palette import PART_COLOURS
from pipeline.views.tables import GRIDS
from tests.forked import in_new_process

OBJECTS, PARTS, SHARDS = 60, 4, 3


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Grids and labels in shards of more than one row group; every picture is of its row's own colour."""
    folder = tmp_path_factory.mktemp("tables")
    contents: dict[int, dict[str, list[dict[str, Any]]]] = {n: {"grids": [], "labels": []} for n in range(SHARDS)}
    for number in range(OBJECTS):
        common = {"object_id": f"object-{number:03d}", "split": "train"}
        shard = contents[shard_of(common["object_id"], SHARDS)]
        for part in range(PARTS + 1):
            pixels = np.full((8, 8, 4), (number, part, 7, 200), np.uint8)
            shard["grids"].append({**common, "part_id": part, "image": image_cell(encode_png(pixels), "grid.png")})
        ids = np.full((8, 8), number % 11, np.uint8)
        cell = image_cell(encode_png(ids, PART_COLOURS), "labels.png")
        shard["labels"].append({**common, "labels": cell, "silhouette_iou": 1.0})
    shards = [
        (number, {t.name: pa.Table.from_pylist(rows[t.name], schema=t.storage_schema()) for t in (GRIDS, LABELS)})
        for number, rows in contents.items()
    ]
    write_tables(folder / "stage", [GRIDS, LABELS], shards, {})
    return folder / "stage"


def test_rows_by_number_are_the_rows_in_order(stages: Path) -> None:
    rows = TableRows(stages / "grids")
    in_order = list(iter_rows(stages / "grids"))
    assert len(rows) == len(in_order) == OBJECTS * (PARTS + 1) > SHARDS * ROW_GROUP_ROWS
    for index in np.random.default_rng(0).permutation(len(rows)).tolist():
        assert rows[index] == in_order[index]
    assert TableRows(stages / "grids", ["part_id"])[3] == {"part_id": in_order[3]["part_id"]}
    for outside in (-1, len(rows)):
        with pytest.raises(IndexError, match=f"row {outside} of a table of {len(rows)}"):
            rows[outside]


def test_a_copy_opens_files_of_its_own(stages: Path) -> None:
    rows = TableRows(stages / "grids")
    first = rows[0]
    copy = pickle.loads(pickle.dumps(rows))
    assert not copy._files
    assert copy[0] == first


def decoded(row: dict[str, Any]) -> tuple[int, int]:
    """Number of the object and of the part, out of the picture."""
    red, green = decode_png(row["image"]["bytes"])[0, 0, :2].tolist()
    assert row["object_id"] == f"object-{red:03d}"
    assert row["part_id"] == green
    return red, green


def collate(batch: list[dict[str, Any]]) -> list[tuple[int, int]]:
    return [decoded(row) for row in batch]


def read_by_loader(table: Path) -> list[tuple[int, int]]:
    rows: Any = TableRows(table)
    assert rows[0]  # a file is open already when the workers start
    loader: torch.utils.data.DataLoader[Any] = torch.utils.data.DataLoader(
        rows, batch_size=32, shuffle=True, num_workers=2, collate_fn=collate, multiprocessing_context="fork",
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    return [pair for batch in loader for pair in batch]


@pytest.mark.slow
def test_data_loader_sees_every_row_once(stages: Path) -> None:
    seen = in_new_process(read_by_loader, stages / "grids")
    assert sorted(seen) == [(number, part) for number in range(OBJECTS) for part in range(PARTS + 1)]
    assert seen != sorted(seen)


@pytest.mark.parametrize(("table", "column", "mode"), [("grids", "image", "RGBA"), ("labels", "labels", "P")])
def test_hugging_face_datasets_shows_pictures(
    stages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str, column: str, mode: str
) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    files = sorted(str(path) for path in (stages / table).glob("*.parquet"))
    loaded = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path))
    assert isinstance(loaded.features[column], datasets.Image)
    expected = list(iter_rows(stages / table))
    assert len(loaded) == len(expected)
    for index in (0, len(loaded) - 1):
        picture = loaded[index][column]
        assert isinstance(picture, Image.Image)
        assert picture.mode == mode
        assert np.array_equal(np.asarray(picture), decode_png(expected[index][column]["bytes"]))
        assert loaded[index]["object_id"] == expected[index]["object_id"]


def test_decoded_rows_keep_the_latest_pictures_within_their_capacity(stages: Path) -> None:
    picture = 8 * 8 * 4
    rows = TableRows(stages / "grids", ["object_id", "part_id", "image.bytes"])
    decoded, read = DecodedRows(rows, 3 * picture), []

    class Counted:
        def __getitem__(self, index: int) -> dict[str, Any]:
            read.append(index)
            return rows[index]

    decoded._rows = Counted()  # type: ignore[assignment]
    for index in (5, 9, 5, 200, 7, 5, 9, 5):
        row, stored = decoded[index], rows[index]
        assert (row["object_id"], row["part_id"]) == (stored["object_id"], stored["part_id"])
        assert np.array_equal(row["image"], decode_png(stored["image"]["bytes"]))
        assert sum(size for _, size in decoded._kept.values()) == decoded._bytes <= 3 * picture
    assert read == [5, 9, 200, 7, 9], "9 was the one that was asked for longest ago"
    sent = pickle.loads(pickle.dumps(DecodedRows(rows, 3 * picture)))
    assert np.array_equal(sent[5]["image"], decoded[5]["image"])
    tiny = DecodedRows(rows, 1)
    assert np.array_equal(tiny[5]["image"], decoded[5]["image"])
    assert np.array_equal(tiny[9]["image"], decoded[9]["image"])
    assert list(tiny._kept) == [9]
