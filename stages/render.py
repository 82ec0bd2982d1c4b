"""Stage `render`: grids, part grids, novel views and conditioning views of all objects, drawn by Blender."""

import os
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.params.render import RenderParams
from pipeline.shards.build import Item, Report, build_shards
from pipeline.shards.dataset import ObjectRows
from pipeline.shards.execution import Execution
from pipeline.shards.read import read_manifest, read_table
from pipeline.shards.store import content_key
from pipeline.shards.write import write_metrics
from pipeline.views.cameras import GRID_AZIMUTHS
from pipeline.views.renders import CONTRACT, RenderJob, render_object
from pipeline.views.tables import CONDITIONING, GRIDS, NOVEL
from stages.entry import stage_main


def run(params: RenderParams, data: Path = Path("data"), force: bool = False) -> Report:
    """Draw all objects of the stage assets."""
    shards = read_manifest(data / "assets/glbs").settings["shards"]
    report = build_shards(
        stage="render",
        out=data / "renders",
        tables=(GRIDS, NOVEL, CONDITIONING),
        items=list(items(data, params)),
        function=render_object,
        shards=shards,
        settings={**params.deciding(), "azimuths_deg": list(GRID_AZIMUTHS), "shards": shards},
        max_failed_share=params.max_failed_share,
        timeout_s=params.timeout_s,
        force=force,
    )
    write_metrics("render", _metrics(data / "renders", report))
    return report


def items(data: Path, params: RenderParams) -> Iterator[Item]:
    """The work of every object of the stage assets; an item loads a RenderJob."""
    parts: dict[str, list[int]] = defaultdict(list)
    for row in read_table(data / "assets/parts", ["object_id", "part_id"]).to_pylist():
        parts[row["object_id"]].append(row["part_id"])
    threads = _threads(Execution.from_environment())
    glbs = ObjectRows(data / "assets/glbs")
    for object_id in glbs.numbers:
        row, ids = glbs.whole(object_id), tuple(sorted(parts[object_id]))
        inputs = {"object_id": object_id, "split": row["split"], "parts": ids, **params.deciding()}
        load = partial(_job, glbs, object_id, ids, params, threads)
        yield Item(object_id, content_key(CONTRACT, row["glb"], inputs), load)


def _job(glbs: ObjectRows, object_id: str, parts: tuple[int, ...], params: RenderParams, threads: int) -> RenderJob:
    row = glbs.whole(object_id)
    return RenderJob(object_id, row["split"], row["glb"], parts, params, threads)


def _threads(execution: Execution) -> int:
    """CPU threads of one Blender, so that the workers share the cores; Ray gives each object one core."""
    return 1 if execution.ray_address else max(1, (os.cpu_count() or 1) // execution.workers)


def _metrics(out: Path, report: Report) -> dict[str, Any]:
    """What lies in the tables; how long it took is in the log."""
    counts = {table.name: read_manifest(out / table.name).rows for table in (GRIDS, NOVEL, CONDITIONING)}
    return {"objects": report.total - len(report.failures), "failed": len(report.failures), **counts}


if __name__ == "__main__":
    stage_main(RenderParams, run)
