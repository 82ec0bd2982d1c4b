"""Content-keyed store of finished work: one file an object, so that a killed stage resumes where it was."""

import errno
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import BaseModel

from pipeline.shards.table import Table

Rows = Mapping[str, Sequence[Mapping[str, Any]]]
"""What a stage makes of one object: rows by table name."""


def content_key(contract: str, *inputs: bytes | str | BaseModel | Mapping[str, Any]) -> str:
    """The key of a result: `contract` (such as `render/1`, raised when the code's results change) and every input.

    Bytes count by their content; models and mappings by their sorted JSON.
    """
    digest = hashlib.sha256(contract.encode())
    for value in inputs:
        if isinstance(value, BaseModel):
            value = value.model_dump(mode="json")
        data = value if isinstance(value, bytes) else json.dumps(value, sort_keys=True).encode()
        digest.update(hashlib.sha256(data).digest())
    return digest.hexdigest()


class ResultStore:
    """Results of one stage under `root`, each file the Arrow streams of the stage's tables one after the other."""

    def __init__(self, root: Path, tables: Sequence[Table]) -> None:
        self.root = root
        self.schemas = {table.name: table.storage_schema() for table in tables}

    def path(self, key: str) -> Path:
        """Where the result under `key` lies."""
        return self.root / key[:2] / f"{key}.arrow"

    def get(self, key: str) -> dict[str, pa.Table] | None:
        """The tables of a finished result; None when there is none, or it is torn or of other schemas."""
        try:
            with pa.OSFile(str(self.path(key))) as source:
                tables = {name: pa.ipc.open_stream(source).read_all() for name in self.schemas}
        except pa.ArrowInvalid:
            return None
        except OSError as error:
            if error.errno not in (None, errno.ENOENT):  # Arrow reports a torn file without a number
                raise
            return None
        matches = all(tables[name].schema.equals(schema, check_metadata=True) for name, schema in self.schemas.items())
        return tables if matches else None

    def put(self, key: str, rows: Rows) -> None:
        """Keep a result; it appears whole or not at all. ValueError when rows do not fit the schemas."""
        unknown = set(rows) - set(self.schemas)
        if unknown:
            raise ValueError(f"rows for tables that the stage does not have: {sorted(unknown)}")
        path = self.path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.partial")
        try:
            with pa.OSFile(str(partial), "wb") as sink:
                for name, schema in self.schemas.items():
                    with pa.ipc.new_stream(sink, schema) as writer:
                        writer.write_table(checked_table(rows.get(name, ()), schema, name))
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def checked_table(rows: Sequence[Mapping[str, Any]], schema: pa.Schema, name: str) -> pa.Table:
    """Rows as an Arrow table; ValueError when a row lacks a column or has one too many."""
    columns = set(schema.names)
    for row in rows:
        if row.keys() != columns:
            raise ValueError(f"a row of `{name}` has columns {sorted(row)}, expected {sorted(columns)}")
    return pa.Table.from_pylist(list(rows), schema=schema)
