"""The harness of a stage: map a function over objects, keep what is finished, write the shards."""

import errno
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.errors import UserError
from pipeline.shards.execution import Execution
from pipeline.shards.progress import Progress
from pipeline.shards.scratch import only_writer, scratch
from pipeline.shards.store import ResultStore, Rows
from pipeline.shards.table import FAILURES, Table, empty_table
from pipeline.shards.write import shard_of, write_tables


@dataclass(frozen=True)
class Item:
    """One object's work."""

    object_id: str
    key: str
    """Content key of the result, see `content_key`."""
    load: Callable[[], Any]
    """Reads the payload when a worker is nearly free for it."""


@dataclass
class Report:
    """How a run of a stage went; what lies in the shards is in the metrics instead."""

    total: int
    computed: int = 0
    reused: int = 0
    failures: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    def __str__(self) -> str:
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / (1 << (30 if sys.platform == "darwin" else 20))
        return (
            f"{self.total} objects: {self.computed} computed, {self.reused} reused, {len(self.failures)} failed, "
            f"in {self.seconds:.1f} s; largest worker {peak:.2f} GiB"
        )


def build_shards(
    *,
    stage: str,
    out: Path,
    tables: Sequence[Table],
    items: Sequence[Item],
    function: Callable[[Any], Rows],
    shards: int,
    settings: Mapping[str, Any],
    max_failed_share: float,
    timeout_s: float,
    tasks_per_worker: int = 0,
    force: bool = False,
) -> Report:
    """Write `tables` and the table of failures into `out`, computing only what the store does not hold.

    `function` is pure: payload in, rows by table name out. `force` computes every object anew. UserError when no object
    is given, more than `max_failed_share` of them fail, or the disk is full; finished objects stay in the store.
    """
    if not items:
        raise UserError(
            f"The stage {stage} was given no objects; look at what the stage before it made (`partgen show`)."
        )
    started = time.monotonic()
    store = ResultStore(scratch() / "store" / stage, tables)
    report = Report(total=len(items))
    try:
        with only_writer(out):
            waiting = [item for item in items if force or store.get(item.key) is None]
            report.reused = len(items) - len(waiting)
            _compute(stage, waiting, function, store, report, timeout_s, tasks_per_worker)
            _check_failures(stage, report, max_failed_share)
            write_tables(out, [*tables, FAILURES], _shards(items, tables, store, report.failures, shards), settings)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(
            f"The disk is full: writing {error.filename or out} failed; free some space and run {stage} again, "
            "finished objects are kept."
        ) from None
    report.seconds = time.monotonic() - started
    print(f"{stage}: {report}", file=sys.stderr, flush=True)
    return report


def _compute(
    stage: str,
    items: Sequence[Item],
    function: Callable[[Any], Rows],
    store: ResultStore,
    report: Report,
    timeout_s: float,
    tasks_per_worker: int,
) -> None:
    if not items:
        return
    keys = {item.object_id: item.key for item in items}
    tasks = ((item.object_id, item.load) for item in items)
    with Progress(stage, len(items)) as progress:
        for object_id, rows, reason in Execution.from_environment().map(function, tasks, timeout_s, tasks_per_worker):
            if reason is None and rows is not None:
                store.put(keys[object_id], rows)
                report.computed += 1
            else:
                report.failures[object_id] = reason or "returned nothing"
            progress.advance(failed=reason is not None)


def _check_failures(stage: str, report: Report, max_failed_share: float) -> None:
    if len(report.failures) > max_failed_share * report.total:
        object_id, reason = min(report.failures.items())
        raise UserError(
            f"{stage}: {len(report.failures)} of {report.total} objects failed, more than {stage}.max_failed_share = "
            f"{max_failed_share:g} allows; the first is {object_id}: {reason}."
        )


def _shards(
    items: Sequence[Item], tables: Sequence[Table], store: ResultStore, failures: Mapping[str, str], shards: int
) -> Iterator[tuple[int, dict[str, pa.Table]]]:
    """The finished rows, one shard at a time."""
    members: dict[int, list[Item]] = {}
    for item in sorted(items, key=lambda item: item.object_id):
        members.setdefault(shard_of(item.object_id, shards), []).append(item)
    for index in sorted(members):
        parts: dict[str, list[pa.Table]] = {table.name: [empty_table(table)] for table in tables}
        failed = [item.object_id for item in members[index] if item.object_id in failures]
        for item in members[index]:
            if item.object_id in failures:
                continue
            result = store.get(item.key)
            if result is None:
                raise UserError(
                    f"The finished work of {item.object_id} vanished from {store.root}; run the stage again."
                )
            for name, rows in result.items():
                parts[name].append(rows)
        contents = {name: pa.concat_tables(pieces) for name, pieces in parts.items()}
        rows = [{"object_id": object_id, "reason": failures[object_id]} for object_id in failed]
        schema = FAILURES.storage_schema()
        contents[FAILURES.name] = pa.Table.from_pylist(rows, schema=schema) if rows else empty_table(FAILURES)
        yield index, contents
