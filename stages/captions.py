"""Stage `captions`: a caption of every object and part, from its views with the part circled in red."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.captions.object_captions import CONTRACT, CaptionTask, Names, caption_object, prepare_backend
from pipeline.captions.tables import CAPTIONS, VIEWS
from pipeline.captions.template import TEMPLATE
from pipeline.params.captions import CaptionsParams
from pipeline.shards.build import Item, Report, build_shards
from pipeline.shards.dataset import ObjectRows
from pipeline.shards.read import read_manifest, read_table
from pipeline.shards.scratch import scratch
from pipeline.shards.store import content_key
from pipeline.shards.write import write_metrics
from stages.entry import stage_main

SOURCES = ("assets/glbs", "renders/grids", "masks/labels")


def run(params: CaptionsParams, data: Path = Path("data"), force: bool = False) -> Report:
    """Caption all objects that have masks."""
    shards = read_manifest(data / "masks/labels").settings["shards"]
    work = list(items(data, params))
    prepare_backend(params, scratch())
    report = build_shards(
        stage="captions",
        out=data / "captions",
        tables=(VIEWS, CAPTIONS),
        items=work,
        function=caption_object,
        shards=shards,
        settings={**params.deciding(), "shards": shards},
        max_failed_share=params.max_failed_share,
        timeout_s=params.timeout_s,
        force=force,
    )
    write_metrics("captions", _metrics(data / "captions", report))
    return report


def items(data: Path, params: CaptionsParams) -> Iterator[Item]:
    """The work on every object that has masks."""
    tables = [ObjectRows(data / folder) for folder in SOURCES]
    for names in _names(data):
        if names.object_id in tables[-1].numbers:  # objects without masks are failures of the stages before
            load = partial(_task, tables, names, params)
            task = load()
            inputs = (task.glb, task.grid, task.labels, asdict(names), params.deciding())
            yield Item(names.object_id, content_key(CONTRACT, *inputs), load)


def _task(tables: list[ObjectRows], names: Names, params: CaptionsParams) -> CaptionTask:
    glb, grid, labels = (table.whole(names.object_id) for table in tables)
    pictures = grid["image"]["bytes"], labels["labels"]["bytes"]
    return CaptionTask(names, glb["glb"], *pictures, params, scratch().resolve())


def _names(data: Path) -> Iterator[Names]:
    parts = defaultdict(list)
    for row in read_table(data / "assets/parts", ["object_id", "part_id", "name"]).to_pylist():
        parts[row["object_id"]].append((row["part_id"], row["name"]))
    for row in read_table(data / "assets/objects", ["object_id", "split", "name", "category"]).to_pylist():
        yield Names(**row, parts=tuple(sorted(parts[row["object_id"]])))


def _metrics(out: Path, report: Report) -> dict[str, Any]:
    """What lies in the tables; how long it took is in the log."""
    rows = read_table(out / "captions", ["caption", "backend", "views"]).to_pylist()
    backends = Counter(row["backend"] for row in rows)
    words = [len(row["caption"].split()) for row in rows] or [0]
    return {
        "objects": report.total - len(report.failures),
        "failed": len(report.failures),
        "captions": dict(backends),
        "template_share": backends[TEMPLATE] / max(1, len(rows)),
        "seen_in_no_view": sum(row["views"] == 0 for row in rows),
        "views": read_manifest(out / "views").rows,
        "words": {"mean": sum(words) / len(words), "max": max(words)},
    }


if __name__ == "__main__":
    stage_main(CaptionsParams, run)
