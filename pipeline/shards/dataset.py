"""Random access to the rows of a table, by number (a map-style dataset for `torch.utils.data.DataLoader`) or object."""

from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.shards.read import Shard, read_manifest, read_table, reading
from pipeline.shards.table import WHOLE, decode_png


class TableRows:
    """The rows of a table by their number, in the order of its shards.

    Decodes one row group a read and keeps it, so that neighbouring rows cost one read; its pages are checked when it is
    read first, since a random row costs its whole group. Files are opened where they are read: a copy that is sent to a
    worker process opens its own. UserError, now or when a row is read, when the folder holds no table or a file of it
    is damaged.
    """

    def __init__(self, folder: Path, columns: Sequence[str] | None = None) -> None:
        self.columns = list(columns) if columns is not None else None
        self._groups: list[tuple[Shard, int]] = []
        self._starts: list[int] = []
        self._rows = 0
        for shard in read_manifest(folder).shards:
            metadata = shard.metadata()
            for group in range(metadata.num_row_groups):
                self._groups.append((shard, group))
                self._starts.append(self._rows)
                self._rows += metadata.row_group(group).num_rows
        self._files: dict[tuple[Path, bool], pq.ParquetFile] = {}
        self._checked: set[int] = set()
        self._held: tuple[int, pa.Table] | None = None

    def __len__(self) -> int:
        return self._rows

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < self._rows:
            raise IndexError(f"row {index} of a table of {self._rows}")
        group = bisect_right(self._starts, index) - 1
        if self._held is None or self._held[0] != group:
            shard, number = self._groups[group]
            key = shard.path, group not in self._checked
            with reading(shard.path):
                if key not in self._files:
                    self._files[key] = shard.open(memory_map=True, check_pages=key[1])
                rows = self._files[key].read_row_group(number, columns=self.columns, use_threads=False)
            self._checked.add(group)
            self._held = group, rows
        row, table = index - self._starts[group], self._held[1]
        return {name: values[row].as_py() for name, values in zip(table.column_names, table.columns, strict=True)}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_files": {}, "_checked": set(), "_held": None}


class DecodedRows:
    """The rows of a table by their number, their pictures decoded (`decode_png`), which the caller leaves as they are.

    Those that were asked for last are kept, up to `capacity` bytes of pixels; a copy that is sent to a worker process
    keeps its own.
    """

    def __init__(self, rows: TableRows, capacity: int) -> None:
        self._rows, self._capacity = rows, capacity
        self._kept: dict[int, tuple[dict[str, Any], int]] = {}
        self._bytes = 0

    def __getitem__(self, index: int) -> dict[str, Any]:
        row, size = self._kept.pop(index, (None, 0))
        if row is None:
            row = self._rows[index]
            for name, cell in row.items():
                if isinstance(cell, dict):
                    row[name] = decode_png(cell["bytes"])
                    size += row[name].nbytes
            self._bytes += size
            while self._bytes > self._capacity and self._kept:
                self._bytes -= self._kept.pop(next(iter(self._kept)))[1]
        self._kept[index] = row, size  # the last of the dict is the latest
        return row

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": {}, "_bytes": 0}


class ObjectRows:
    """The rows of a table by their object."""

    def __init__(self, folder: Path, columns: Sequence[str] | None = None) -> None:
        """`columns` are those that are read, all by default. UserError when the folder holds no table."""
        self._rows = TableRows(folder, columns)
        self.numbers: dict[str, list[int]] = {}
        for number, object_id in enumerate(read_table(folder, ["object_id"]).column("object_id").to_pylist()):
            self.numbers.setdefault(object_id, []).append(number)

    def of(self, object_id: str) -> list[dict[str, Any]]:
        """Those of one object, in the table's order; none where the table does not have it."""
        return [self._rows[number] for number in self.numbers.get(object_id, [])]

    def whole(self, object_id: str) -> dict[str, Any]:
        """The row of the whole object, the only one in tables without parts; else `part_id` is among the columns.

        KeyError where the table does not have the object.
        """
        rows = (self._rows[number] for number in self.numbers[object_id])
        return next(row for row in rows if row.get("part_id", WHOLE) == WHOLE)
