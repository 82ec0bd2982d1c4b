"""Stage `segment`: several segmentations of each held-out object, ranked, and the one that is assembled."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.errors import NoObjects
from pipeline.folders import content_digest
from pipeline.heldout.segment_object import CONTRACT, SegmentTask, segment_object
from pipeline.heldout.segment_tables import PARTS, PROPOSALS, RUNS
from pipeline.params.segment import SegmentParams
from pipeline.shards.build import Item, Report, build_shards
from pipeline.shards.dataset import ObjectRows
from pipeline.shards.read import read_manifest, read_table
from pipeline.shards.store import content_key
from pipeline.shards.table import WHOLE
from pipeline.shards.write import write_metrics
from pipeline.views.cameras import Camera
from stages.entry import stage_main


def run(params: SegmentParams, data: Path = Path("data"), force: bool = False) -> Report:
    """Segment the grids of one split; objects without true masks, with which the stage masks failed, are left out."""
    cameras = read_manifest(data / "renders/grids").settings
    work = list(items(data, params, cameras))
    if not work:
        raise NoObjects(f"There are no objects of the split `{params.split}` in {data / 'renders/grids'}.")
    report = build_shards(
        stage="segment",
        out=data / "segmentations",
        tables=(RUNS, PROPOSALS, PARTS),
        items=work,
        function=segment_object,
        shards=cameras["shards"],
        settings={**cameras, "segment": params.deciding()},
        max_failed_share=params.max_failed_share,
        timeout_s=params.timeout_s,
        force=force,
    )
    write_metrics("segment", _metrics(data / "segmentations", report))
    return report


def items(data: Path, params: SegmentParams, cameras: Mapping[str, Any]) -> Iterator[Item]:
    """The work on every object of the split that has parts and true masks."""
    camera = Camera(cameras["fov_deg"], cameras["distance"], cameras["view_size"])
    model = data / "models/segment"
    model_digest = content_digest(model)
    grids = ObjectRows(data / "renders/grids", ["object_id", "split", "part_id", "image"])
    drawn = read_table(data / "renders/grids", ["object_id", "split", "part_id"]).to_pylist()
    splits = {row["object_id"]: row["split"] for row in drawn if row["part_id"] != WHOLE}
    known = set(read_table(data / "masks/labels", ["object_id"]).column("object_id").to_pylist())
    for object_id, split in splits.items():
        if split != params.split or object_id not in known:
            continue
        load = partial(_task, grids, object_id, model, params, camera, cameras["elevation_deg"])
        inputs = {"object_id": object_id, "split": split, "model": model_digest}
        inputs |= asdict(camera) | {"elevation_deg": cameras["elevation_deg"]}
        yield Item(object_id, content_key(CONTRACT, load().grid, inputs, params.deciding()), load)


def _task(
    grids: ObjectRows, object_id: str, model: Path, params: SegmentParams, camera: Camera, elevation_deg: float
) -> SegmentTask:
    row = grids.whole(object_id)
    return SegmentTask(object_id, row["split"], row["image"]["bytes"], model, params, camera, elevation_deg)


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
