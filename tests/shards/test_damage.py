"""Damaged tables, finished work and indexes: told in one sentence or made again, never read as if they were whole."""

import pickle
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.errors import UserError
from pipeline.shards.dataset import ObjectRows, TableRows
from pipeline.shards.read import MANIFEST, iter_rows, read_manifest, read_table
from pipeline.shards.store import ResultStore
from pipeline.shards.table import Table, image_cell, image_field
from pipeline.shards.write import write_tables
from pipeline.training.index_file import IndexFile, build_index_file
from pipeline.training.join import joined
from tests.squares import SQUARES, build

ROWS, TRIALS = 40, 120
SCHEMA = pa.schema(
    [("object_id", pa.string()), ("split", pa.string()), ("angles", pa.list_(pa.float64())), image_field("image")]
)
PICTURES = Table("pictures", 1, SCHEMA)
PLAIN = Table("plain", 1, SCHEMA.remove(3))


def damages(data: bytes, seed: int) -> Iterator[bytes]:
    """The data with a bit flipped at many places; torn, emptied, partly zeroed, and replaced by other bytes."""
    draws = random.Random(seed)
    for _ in range(TRIALS):
        place = draws.randrange(len(data))
        yield data[:place] + bytes([data[place] ^ 1 << draws.randrange(8)]) + data[place + 1 :]
    for _ in range(10):
        place = draws.randrange(len(data))
        yield data[:place]
        yield data[:place] + bytes(len(data[place : place + 64])) + data[place + 64 :]
    yield draws.randbytes(len(data))
    yield b"[" * len(data)


def by_number(folder: Path) -> list[dict[str, Any]]:
    rows = TableRows(folder)
    return [rows[number] for number in range(len(rows))]


def by_object(folder: Path) -> list[dict[str, Any]]:
    rows = ObjectRows(folder)
    return [row for object_id in rows.numbers for row in rows.of(object_id)]


READERS: list[Callable[[Path], list[dict[str, Any]]]] = [
    by_number, by_object, lambda folder: list(iter_rows(folder)), lambda folder: read_table(folder).to_pylist()
]  # fmt: skip


@pytest.fixture
def stage(tmp_path: Path) -> Path:
    """A stage of two tables, one of them compressed."""
    draws = np.random.default_rng(0)
    rows = [
        {
            "object_id": f"object-{n:02d}",
            "split": "train",
            "angles": [n / 7, 2.0],
            "image": image_cell(draws.bytes(200), "a.png"),
        }
        for n in range(ROWS)
    ]
    plain = [{name: value for name, value in row.items() if name != "image"} for row in rows]
    contents = {
        "pictures": pa.Table.from_pylist(rows, schema=PICTURES.storage_schema()),
        "plain": pa.Table.from_pylist(plain, schema=PLAIN.storage_schema()),
    }
    write_tables(tmp_path / "data", [PICTURES, PLAIN], [(0, contents)], {"fov_deg": 30.0, "azimuths": [0, 90]})
    return tmp_path / "data"


@pytest.mark.parametrize("table", ["pictures", "plain"])
@pytest.mark.parametrize("name", ["00000.parquet", MANIFEST])
def test_what_is_read_of_a_damaged_table_is_what_was_written(stage: Path, table: str, name: str) -> None:
    folder = stage / table
    expected = [reader(folder) for reader in READERS]
    known, whole = read_manifest(folder), (folder / name).read_bytes()
    told = 0
    for number, data in enumerate(damages(whole, seed=1)):
        (folder / name).write_bytes(data)
        reader = number % len(READERS)
        try:
            found = read_manifest(folder)
            rows = READERS[reader](folder)
        except UserError as error:
            assert str(error).endswith("; run the stage that makes it again.")  # noqa: PT017
            told += 1
        else:
            assert (found.rows, found.settings, found.table) == (known.rows, known.settings, known.table)
            assert rows == expected[reader]
    assert told > TRIALS / 2
    (folder / name).write_bytes(whole)
    assert [reader(folder) for reader in READERS] == expected


def test_a_join_of_damaged_tables_is_one_sentence(stage: Path) -> None:
    shard = stage / "plain/00000.parquet"
    data = shard.read_bytes()
    shard.write_bytes(data[:60] + bytes([data[60] ^ 1]) + data[61:])
    with pytest.raises(UserError, match=r"00000\.parquet is damaged; run the stage that makes it again"):
        list(joined({"plain": stage / "plain", "pictures": stage / "pictures"}))


def test_a_manifest_of_another_version_says_what_to_do(stage: Path) -> None:
    path = stage / "plain" / MANIFEST
    path.write_text(path.read_text().replace('"manifest": 2', '"manifest": 1'))
    with pytest.raises(UserError, match="has version 1, this program reads 2; run the stage that makes it again"):
        read_manifest(stage / "plain")


@pytest.mark.slow
def test_damaged_finished_work_is_computed_again(
    tmp_path: Path, scratch_of_its_own: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    build(tmp_path / "out", [1, 2, 3])
    store = ResultStore(scratch_of_its_own / "store/squares", [SQUARES])
    files = sorted(store.root.rglob("*.arrow"))
    whole = files[0].read_bytes()
    for data in damages(whole, seed=2):
        files[0].write_bytes(data)
        assert store.get(files[0].stem) is None
    assert capfd.readouterr().err.count("is damaged, or of an older version; it is computed again") == 1
    assert build(tmp_path / "again", [1, 2, 3]).computed == 1
    assert files[0].read_bytes() == whole


def test_a_damaged_index_is_made_again(capfd: pytest.CaptureFixture[str]) -> None:
    record = np.dtype([("first", "<i8"), ("second", "<i8")])
    wanted = [(number, -number) for number in range(9)]

    def index() -> IndexFile:
        return IndexFile(build_index_file("key", record, lambda: wanted), record)

    whole = index().path.read_bytes()
    for data in damages(whole, seed=3):
        index().path.write_bytes(data)
        assert [index()[place] for place in range(len(index()))] == wanted
        assert index().path.read_bytes() == whole
    assert "is damaged, or of an older version; it is made again" in capfd.readouterr().err
    read = index()
    assert read[3] == (3, -3)
    copy = pickle.loads(pickle.dumps(read))
    assert copy._records is None
    assert copy[4] == (4, -4)
