"""Reading tables: validated manifests, streaming, no more than a batch in memory.

What is read was checked before: the manifest and the footers of the shards by SHA-256, each page of a shard by the
checksum that Parquet keeps beside it. So the reader of a few rows need not read the whole of a file for it
(benchmarks/shards.py).
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import UserError

MANIFEST = "manifest.json"
MANIFEST_VERSION = 2


@dataclass(frozen=True)
class Shard:
    """One Parquet file of a table."""

    path: Path
    rows: int
    footer: str
    """The SHA-256 of its footer."""

    def metadata(self) -> pq.FileMetaData:
        """What the footer says. UserError when it is not the one that was written."""
        with reading(self.path):
            footer = footer_of(self.path)
            if hashlib.sha256(footer).hexdigest() != self.footer:
                raise UserError(f"{self.path} is damaged, or was just replaced; run the stage that makes it again.")
            return pq.read_metadata(pa.BufferReader(footer))

    def open(self, memory_map: bool = False, check_pages: bool = True) -> pq.ParquetFile:
        """The file, to be read within `reading`."""
        return pq.ParquetFile(
            self.path, metadata=self.metadata(), memory_map=memory_map, page_checksum_verification=check_pages
        )


@dataclass(frozen=True)
class Manifest:
    """What a table's folder holds."""

    table: str
    version: int
    rows: int
    shards: list[Shard]
    settings: dict[str, Any]
    """The settings of the stage that readers need, such as the cameras of `renders/grids`."""
    digest: str
    """Of everything in the table: the manifest names every shard's checksum."""


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a table, checked against the files beside it.

    UserError when the folder holds no table, the manifest is damaged, or a shard is missing, torn or extra.
    """
    data = _read_bytes(folder)
    while True:
        try:
            return _checked(folder, data)
        except (UserError, FileNotFoundError):
            again = _read_bytes(folder)
            if again == data:
                raise
            data = again  # another run has just put a new table in its place


def manifest_sum(values: Mapping[str, Any]) -> str:
    """The SHA-256 of what a manifest says, but for the checksum itself."""
    rest = {name: value for name, value in values.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def footer_of(path: Path) -> bytes:
    """The end of a Parquet file, which says where in it what lies."""
    with path.open("rb") as file:
        end = file.seek(0, 2)
        file.seek(max(0, end - 8))
        length = int.from_bytes(file.read(4), "little")
        file.seek(max(0, end - 8 - length))
        return file.read()


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """UserError in the place of what is raised when the file `path` is damaged or missing."""
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{path} is missing; run the stage that makes it again.") from None
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise _damaged(path) from None


def iter_batches(folder: Path, columns: Sequence[str] | None = None, batch_rows: int = 64) -> Iterator[pa.RecordBatch]:
    """The rows of a table in batches, shard after shard. UserError as soon as something is damaged."""
    for shard in read_manifest(folder).shards:
        with reading(shard.path), shard.open() as file:
            yield from file.iter_batches(batch_size=batch_rows, columns=list(columns) if columns is not None else None)


def iter_rows(folder: Path, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """The rows of a table as dictionaries, streamed."""
    for batch in iter_batches(folder, columns):
        yield from batch.to_pylist()


def read_table(folder: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """A whole table in memory; for tables without images."""
    parts = []
    for shard in read_manifest(folder).shards:
        with reading(shard.path), shard.open() as file:
            parts.append(file.read(columns=list(columns) if columns is not None else None))
    return pa.concat_tables(parts)


def _read_bytes(folder: Path) -> bytes:
    try:
        return (folder / MANIFEST).read_bytes()
    except FileNotFoundError:
        raise UserError(f"{folder} holds no table yet; run the stage that makes it (`partgen run`).") from None


def _checked(folder: Path, data: bytes) -> Manifest:
    path = folder / MANIFEST
    try:
        values = json.loads(data)
        version, right = values["manifest"], values.get("sha256") == manifest_sum(values)
    except (ValueError, TypeError, KeyError, RecursionError):
        raise _damaged(path) from None
    if version != MANIFEST_VERSION:
        raise UserError(
            f"{path} has version {version!r}, this program reads {MANIFEST_VERSION}; run the stage that makes it again."
        )
    if not right:
        raise _damaged(path)
    expected = {shard["file"]: shard["bytes"] for shard in values["shards"]}
    found = {path.name: path.stat().st_size for path in folder.glob("*.parquet") if path.exists()}
    if expected != found:
        wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
        raise UserError(f"{folder}: shard {wrong[0]} differs from the manifest; run the stage that makes it again.")
    shards = [Shard(folder / shard["file"], shard["rows"], shard["footer"]) for shard in values["shards"]]
    digest = hashlib.sha256(data).hexdigest()
    return Manifest(values["table"], values["version"], values["rows"], shards, values["settings"], digest)


def _damaged(path: Path) -> UserError:
    return UserError(f"{path} is damaged; run the stage that makes it again.")
