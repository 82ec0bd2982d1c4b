"""The harness of a stage: map a function over objects, keep what is finished, write the shards."""

import os
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.errors import UserError, refused, system_fault
from pipeline.shards.execution import Execution, Failure
from pipeline.shards.progress import Progress
from pipeline.shards.scratch import check_writable, only_writer, scratch
from pipeline.shards.store import ResultStore, Rows
from pipeline.shards.table import FAILURES, Table, empty_table
from pipeline.shards.write import check_tables_replaceable, shard_of, write_tables

ACCEPT = "PARTGEN_ACCEPT_KILLED"
"""Environment variable: with 1, objects that were killed, took too long or wanted memory are like others that fail.
It says how a stage is run, which is no part of its hash in DVC."""


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
    failures: dict[str, Failure] = field(default_factory=dict)
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
    is given, more than `max_failed_share` of them fail, some were killed, took too long or wanted memory and ACCEPT is
    not set, or the system refuses to write; finished objects stay in the store.
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
            check_tables_replaceable(out)
            check_writable(out.parent)
            check_writable(store.root)
            waiting = [item for item in items if force or store.get(item.key) is None]
            report.reused = len(items) - len(waiting)
            _compute(stage, waiting, function, store, report, timeout_s, tasks_per_worker)
            _check_failures(stage, report, max_failed_share)
            write_tables(out, [*tables, FAILURES], _shards(items, tables, store, report.failures, shards), settings)
    except Exception as error:
        fault = system_fault(error)
        if fault is None:
            raise
        raise UserError(f"{stage}: {refused(fault)}; finished objects are kept.") from None
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
    with (
        Progress(stage, len(items)) as progress,
        closing(Execution.from_environment().map(function, tasks, timeout_s, tasks_per_worker)) as outcomes,
    ):
        for object_id, rows, failure in outcomes:
            if failure is None:
                failure = _kept(store, keys[object_id], rows)
            if failure is None:
                report.computed += 1
            else:
                report.failures[object_id] = failure
            progress.advance(failed=failure is not None)


def _kept(store: ResultStore, key: str, rows: Rows | None) -> Failure | None:
    """Keep an object's rows, if it has any that can be kept."""
    if rows is None:
        return Failure("object", "returned nothing")
    try:
        store.put(key, rows)
    except UnicodeEncodeError as error:
        wrong = error.object[error.start : error.end]
        return Failure("object", f"a text of it has characters that are none ({wrong!a})")
    return None


def _check_failures(stage: str, report: Report, max_failed_share: float) -> None:
    lost = {object_id: failure for object_id, failure in report.failures.items() if failure.kind != "object"}
    if lost and os.environ.get(ACCEPT) != "1":
        object_id, failure = min(lost.items(), key=itemgetter(0))
        raise UserError(
            f"{stage}: {len(lost)} of {report.total} objects were not finished, alone neither, which may be the "
            f"machine's fault; the first is {object_id}: {failure.reason}; run it again with more memory or a larger "
            f"{stage}.timeout_s, or with {ACCEPT}=1 to go on without them; finished objects are kept."
        )
    if len(report.failures) > max_failed_share * report.total:
        object_id, failure = min(report.failures.items(), key=itemgetter(0))
        raise UserError(
            f"{stage}: {len(report.failures)} of {report.total} objects failed, more than {stage}.max_failed_share = "
            f"{max_failed_share:g} allows; the first is {object_id}: {failure.reason}."
        )


def _shards(
    items: Sequence[Item], tables: Sequence[Table], store: ResultStore, failures: Mapping[str, Failure], shards: int
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
        rows = [{"object_id": object_id, **vars(failures[object_id])} for object_id in failed]
        schema = FAILURES.storage_schema()
        contents[FAILURES.name] = pa.Table.from_pylist(rows, schema=schema) if rows else empty_table(FAILURES)
        yield index, contents
