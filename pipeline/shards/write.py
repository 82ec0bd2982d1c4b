"""Writing tables: stable shards, explicit schemas, the same bytes for the same rows."""

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import UserError
from pipeline.folders import put_in_place, written
from pipeline.shards.read import MANIFEST, MANIFEST_VERSION, footer_of, manifest_sum, read_manifest
from pipeline.shards.table import IMAGE_TYPE, Table, empty_table

ROW_GROUP_ROWS = 16
"""Rows of a row group: few, since a reader of one random row finds its way through the group (benchmarks/shards.py)."""
METRIC_DIGITS = 5
"""Further ones are of the processor's rounding, and would show as changes."""


def shard_of(object_id: str, shards: int) -> int:
    """The shard of an object: by its id alone, so that a new object changes one file a table."""
    return int.from_bytes(hashlib.sha256(object_id.encode()).digest()[:8]) % shards


def write_tables(
    out: Path,
    tables: Sequence[Table],
    shards: Iterable[tuple[int, Mapping[str, pa.Table]]],
    settings: Mapping[str, Any],
) -> None:
    """Replace the folder `out` by `tables`, a folder each, from the rows of one shard after another.

    Written beside `out` and put in its place when whole and validated, so that a reader finds the old or the new one at
    any moment. The caller sees to it that nobody else writes `out`; what a killed writer left is removed. UserError as
    `check_tables_replaceable`.
    """
    check_tables_replaceable(out)
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        entries: dict[str, list[dict[str, Any]]] = {table.name: [] for table in tables}
        for index, contents in shards:
            for table in tables:
                if len(contents[table.name]):
                    entries[table.name].append(_write_shard(partial / table.name, table, index, contents[table.name]))
        for table in tables:
            if not entries[table.name]:
                entries[table.name].append(_write_shard(partial / table.name, table, 0, empty_table(table)))
            _write_manifest(partial / table.name, table, entries[table.name], settings)
            read_manifest(partial / table.name)
        put_in_place(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def check_tables_replaceable(out: Path) -> None:
    """UserError unless `out` is not there, or a folder with nothing in it but tables."""
    if out.is_symlink():
        raise UserError(
            f"{out} is a link, which is not replaced; remove it (the folder that it lies in may be a link)."
        )
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is no folder; move it away.")
    for path in sorted(out.iterdir()) if out.exists() else ():
        if not (path / MANIFEST).is_file():
            raise UserError(f"{out} would be replaced, and {path.name} in it is no table; move it away.")


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """JSON with sorted keys, written whole or not at all."""
    text = json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    with written(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_metrics(stage: str, values: Mapping[str, Any]) -> None:
    """The metrics of a stage, where dvc.yaml declares them; numbers in `METRIC_DIGITS` significant digits."""
    write_json(Path("metrics") / f"{stage}.json", rounded(values))


def rounded(value: Any) -> Any:
    """Its numbers, in mappings and lists too, in METRIC_DIGITS significant digits."""
    if isinstance(value, Mapping):
        return {key: rounded(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(one) for one in value]
    return float(f"{value:.{METRIC_DIGITS}g}") + 0.0 if isinstance(value, float) else value


def _write_shard(folder: Path, table: Table, index: int, rows: pa.Table) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{index:05d}.parquet"
    order = [(name, "ascending") for name in ("object_id", *table.sort)]
    has_images = any(field.type == IMAGE_TYPE for field in table.schema)
    pq.write_table(
        rows.sort_by(order),
        path,
        row_group_size=ROW_GROUP_ROWS,
        compression="NONE" if has_images else "ZSTD",  # PNG bytes are compressed already
        use_dictionary=False,
        write_page_checksum=True,
    )
    return {
        "file": path.name,
        "rows": len(rows),
        "bytes": path.stat().st_size,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "footer": hashlib.sha256(footer_of(path)).hexdigest(),
    }


def _write_manifest(folder: Path, table: Table, entries: list[dict[str, Any]], settings: Mapping[str, Any]) -> None:
    values = {
        "manifest": MANIFEST_VERSION,
        "table": table.name,
        "version": table.version,
        "rows": sum(entry["rows"] for entry in entries),
        "shards": entries,
        "settings": dict(settings),
    }
    write_json(folder / MANIFEST, {**values, "sha256": manifest_sum(values)})
