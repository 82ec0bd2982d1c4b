"""Reading tables: validated manifests, streaming, no more than a batch in memory."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import UserError

MANIFEST = "manifest.json"
MANIFEST_VERSION = 1


@dataclass(frozen=True)
class Shard:
    """One Parquet file of a table."""

    path: Path
    rows: int


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

    UserError when the folder holds no table, or a shard is missing, torn or extra.
    """
    try:
        data = (folder / MANIFEST).read_bytes()
        values = json.loads(data)
    except FileNotFoundError:
        raise UserError(f"{folder} holds no table yet; run the stage that makes it (`partgen run`).") from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise UserError(f"{folder / MANIFEST} is not JSON; run the stage that makes it again.") from None
    if values.get("manifest") != MANIFEST_VERSION:
        raise UserError(
            f"{folder / MANIFEST} has version {values.get('manifest')!r}, this program reads {MANIFEST_VERSION}."
        )
    expected = {shard["file"]: shard["bytes"] for shard in values["shards"]}
    found = {path.name: path.stat().st_size for path in folder.glob("*.parquet")}
    if expected != found:
        wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
        raise UserError(f"{folder}: shard {wrong[0]} differs from the manifest; run the stage that makes it again.")
    shards = [Shard(folder / shard["file"], shard["rows"]) for shard in values["shards"]]
    digest = hashlib.sha256(data).hexdigest()
    return Manifest(values["table"], values["version"], values["rows"], shards, values["settings"], digest)


def iter_batches(folder: Path, columns: Sequence[str] | None = None, batch_rows: int = 64) -> Iterator[pa.RecordBatch]:
    """The rows of a table in batches, shard after shard."""
    for shard in read_manifest(folder).shards:
        with pq.ParquetFile(shard.path, page_checksum_verification=True) as file:
            yield from file.iter_batches(batch_size=batch_rows, columns=list(columns) if columns is not None else None)


def iter_rows(folder: Path, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """The rows of a table as dictionaries, streamed."""
    for batch in iter_batches(folder, columns):
        yield from batch.to_pylist()


def read_table(folder: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """A whole table in memory; for tables without images."""
    manifest = read_manifest(folder)
    files = [
        pq.read_table(shard.path, columns=list(columns) if columns is not None else None) for shard in manifest.shards
    ]
    return pa.concat_tables(files)
