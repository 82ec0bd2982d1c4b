"""A streaming join of tables by object: which rows of each belong together, without reading more than ids.

All tables put an object into the same shard and sort a shard by object. So one pass over the ids of a shard, table
beside table, finds what belongs together, with a batch of rows of each in memory.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from pipeline.shards.read import Shard, read_manifest, reading
from pipeline.shards.table import WHOLE
from pipeline.training.index_file import NONE

BATCH_ROWS = 1024


@dataclass(frozen=True)
class Rows:
    """The rows of one object in a table, which stand together."""

    object_id: str
    split: str
    first: int
    """Number of the first one in the whole table."""
    parts: list[int]
    """The part id of each, 0 in tables without parts."""

    def of_part(self, part_id: int) -> int:
        """The row of a part; -1 when there is none."""
        return self.first + self.parts.index(part_id) if part_id in self.parts else NONE


def joined(tables: Mapping[str, Path]) -> Iterator[dict[str, Rows]]:
    """The rows of every object of the first table, in its order; a table that lacks the object is not named.

    `tables` are folders by name.
    """
    leading, *following = tables
    streams = {name: _by_shard(folder) for name, folder in tables.items()}
    for shard, leaders in streams[leading].items():
        others = {name: iter(streams[name].get(shard, ())) for name in following}
        heads = {name: next(rows, None) for name, rows in others.items()}
        for rows in leaders:
            together = {leading: rows}
            for name, stream in others.items():
                head = heads[name]
                while head is not None and head.object_id < rows.object_id:
                    head = next(stream, None)
                heads[name] = head
                if head is not None and head.object_id == rows.object_id:
                    together[name] = head
            yield together


def _by_shard(folder: Path) -> dict[str, Iterator[Rows]]:
    """For each file of a table what it holds of every object, read when asked for."""
    first = 0
    streams = {}
    for shard in read_manifest(folder).shards:
        streams[shard.path.name] = _rows_of(shard, first)
        first += shard.rows
    return streams


def _rows_of(shard: Shard, first: int) -> Iterator[Rows]:
    with reading(shard.path), shard.open() as file:
        names = ["object_id", "split", *(["part_id"] if "part_id" in file.schema_arrow.names else [])]
        rows = (row for batch in file.iter_batches(BATCH_ROWS, columns=names) for row in batch.to_pylist())
        for object_id, group in groupby(rows, key=lambda row: row["object_id"]):
            members = list(group)
            yield Rows(object_id, members[0]["split"], first, [row.get("part_id", WHOLE) for row in members])
            first += len(members)
