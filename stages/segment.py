"""Stage `segment`: several segmentations of each held-out object, ranked, and the one that is assembled."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from pipeline.folders import content_digest
from pipeline.heldout.segment_object import CONTRACT, SegmentTask, segment_object
from pipeline.heldout.segment_tables import PARTS, PROPOSALS, RUNS
from pipeline.params.segment import SegmentParams
from pipeline.shards.build import Item, Report, build_shards
from pipeline.shards.dataset import TableRows
from pipeline.shards.read import read_manifest, read_table
from pipeline.shards.store import content_key
from pipeline.shards.table import WHOLE
from pipeline.shards.write import write_metrics
from pipeline.views.cameras import Camera
from stages.entry import stage_main

HOW_TO_RUN = {"split", "max_failed_share", "timeout_s"}


def run(params: SegmentParams, data: Path = Path("data"), force: bool = False) -> Report:
    """Segment the grids of one split; objects without true masks, with which the stage masks failed, are left out."""
    cameras = read_manifest(data / "renders/grids").settings
    items = list(_items(data, params, cameras))
    if not items:
        raise UserError(f"There are no objects of the split `{params.split}` in {data / 'renders/grids'}.")
    report = build_shards(
        stage="segment",
        out=data / "segmentations",
        tables=(RUNS, PROPOSALS, PARTS),
        items=items,
        function=segment_object,
        shards=cameras["shards"],
        settings={**cameras, "segment": params.model_dump(exclude=HOW_TO_RUN)},
        max_failed_share=params.max_failed_share,
        timeout_s=params.timeout_s,
        force=force,
    )
    write_metrics("segment", _metrics(data / "segmentations", report))
    return report


def _items(data: Path, params: SegmentParams, cameras: Mapping[str, Any]) -> Iterator[Item]:
    camera = Camera(cameras["fov_deg"], cameras["distance"], cameras["view_size"])
    model = data / "models/segment"
    model_digest = content_digest(model)
    grids = TableRows(data / "renders/grids", ["object_id", "split", "image"])
    index = read_table(data / "renders/grids", ["object_id", "split", "part_id"]).to_pylist()
    known = set(read_table(data / "masks/labels", ["object_id"]).column("object_id").to_pylist())
    for number, row in enumerate(index):
        if row["part_id"] != WHOLE or row["split"] != params.split or row["object_id"] not in known:
            continue
        load = partial(_task, grids, number, model, params, camera, cameras["elevation_deg"])
        inputs = {"object_id": row["object_id"], "split": row["split"], "model": model_digest}
        inputs |= asdict(camera) | {"elevation_deg": cameras["elevation_deg"]}
        yield Item(
            row["object_id"], content_key(CONTRACT, load().grid, inputs, params.model_dump(exclude=HOW_TO_RUN)), load
        )


def _task(
    grids: TableRows, number: int, model: Path, params: SegmentParams, camera: Camera, elevation_deg: float
) -> SegmentTask:
    row = grids[number]
    return SegmentTask(row["object_id"], row["split"], row["image"]["bytes"], model, params, camera, elevation_deg)


def _metrics(out: Path, report: Report) -> dict[str, Any]:
    """What lies in the tables; how good it is, the stage `evaluate` says."""
    return {
        "objects": report.total - len(report.failures),
        "failed": len(report.failures),
        "runs": read_manifest(out / "runs").rows,
        "proposals": read_manifest(out / "proposals").rows,
    }


if __name__ == "__main__":
    stage_main(SegmentParams, run)
