"""Content-keyed store of finished work: one file an object, so that a killed stage resumes where it was."""

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import BaseModel

from pipeline.folders import written
from pipeline.shards.table import Table

Rows = Mapping[str, Sequence[Mapping[str, Any]]]
"""What a stage makes of one object: rows by table name."""

SUM_BYTES = hashlib.sha256().digest_size


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
    """Results of one stage under `root`: a file holds the Arrow streams of the stage's tables, and their SHA-256."""

    def __init__(self, root: Path, tables: Sequence[Table]) -> None:
        self.root = root
        self.damage_told = False
        self.schemas = {table.name: table.storage_schema() for table in tables}

    def path(self, key: str) -> Path:
        """Where the result under `key` lies."""
        return self.root / key[:2] / f"{key}.arrow"

    def get(self, key: str) -> dict[str, pa.Table] | None:
        """The tables of a finished result; None when there is none, or it is damaged or of other schemas."""
        try:
            content = memoryview(self.path(key).read_bytes())
        except FileNotFoundError:
            return None
        streams, checksum = content[:-SUM_BYTES], content[-SUM_BYTES:]
        if hashlib.sha256(streams).digest() != checksum:
            if not self.damage_told:
                print(f"{self.path(key)} is damaged, or of an older version; it is computed again.", file=sys.stderr)
            self.damage_told = True
            return None
        source = pa.BufferReader(pa.py_buffer(streams))
        try:
            tables = {name: pa.ipc.open_stream(source).read_all() for name in self.schemas}
        except pa.ArrowInvalid:  # of a stage that made fewer tables
            return None
        matches = all(tables[name].schema.equals(schema, check_metadata=True) for name, schema in self.schemas.items())
        return tables if matches else None

    def put(self, key: str, rows: Rows) -> None:
        """Keep a result; it appears whole or not at all. ValueError when rows do not fit the schemas."""
        unknown = set(rows) - set(self.schemas)
        if unknown:
            raise ValueError(f"rows for tables that the stage does not have: {sorted(unknown)}")
        sink = pa.BufferOutputStream()
        for name, schema in self.schemas.items():
            with pa.ipc.new_stream(sink, schema) as writer:
                writer.write_table(checked_table(rows.get(name, ()), schema, name))
        streams = sink.getvalue()
        with written(self.path(key)) as partial, partial.open("wb") as file:
            file.write(streams)
            file.write(hashlib.sha256(streams).digest())


def checked_table(rows: Sequence[Mapping[str, Any]], schema: pa.Schema, name: str) -> pa.Table:
    """Rows as an Arrow table; ValueError when a row lacks a column or has one too many."""
    columns = set(schema.names)
    for row in rows:
        if row.keys() != columns:
            raise ValueError(f"a row of `{name}` has columns {sorted(row)}, expected {sorted(columns)}")
    return pa.Table.from_pylist(list(rows), schema=schema)
