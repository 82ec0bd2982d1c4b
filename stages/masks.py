"""Stage `masks`: the part label map of every grid, and which parts are in sight."""

from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.params.masks import MasksParams
from pipeline.shards.build import Item, Report, build_shards
from pipeline.shards.dataset import ObjectRows
from pipeline.shards.read import read_manifest, read_table
from pipeline.shards.store import content_key
from pipeline.shards.write import write_metrics
from pipeline.views.cameras import Camera
from pipeline.views.mask_tables import LABELS, VISIBILITY
from pipeline.views.masks import CONTRACT, DISAGREEMENT, MaskSettings, MaskTask, draw_masks
from stages.entry import stage_main


def run(params: MasksParams, data: Path = Path("data"), force: bool = False) -> Report:
    """Draw the masks of all rendered objects, with the cameras they were rendered with."""
    cameras = read_manifest(data / "renders/grids").settings
    settings = MaskSettings(
        camera=Camera(cameras["fov_deg"], cameras["distance"], cameras["view_size"]),
        views=tuple((azimuth, cameras["elevation_deg"]) for azimuth in cameras["azimuths_deg"]),
        min_silhouette_iou=params.min_silhouette_iou,
    )
    report = build_shards(
        stage="masks",
        out=data / "masks",
        tables=(LABELS, VISIBILITY),
        items=list(items(data, settings)),
        function=draw_masks,
        shards=cameras["shards"],
        settings=cameras,
        max_failed_share=params.max_failed_share,
        timeout_s=params.timeout_s,
        force=force,
    )
    write_metrics("masks", _metrics(data / "masks", report))
    return report


def items(data: Path, settings: MaskSettings) -> Iterator[Item]:
    """The work on every object that was rendered."""
    glbs = ObjectRows(data / "assets/glbs", ["split", "glb"])
    grids = ObjectRows(data / "renders/grids", ["part_id", "image"])
    for object_id in grids.numbers:
        load = partial(_task, glbs, grids, object_id, settings)
        task = load()
        identity = {"object_id": task.object_id, "split": task.split}
        yield Item(object_id, content_key(CONTRACT, task.glb, task.grid, identity, asdict(settings)), load)


def _task(glbs: ObjectRows, grids: ObjectRows, object_id: str, settings: MaskSettings) -> MaskTask:
    row = glbs.whole(object_id)
    return MaskTask(object_id, row["split"], row["glb"], grids.whole(object_id)["image"]["bytes"], settings)


def _column(folder: Path, name: str) -> list[Any]:
    values: list[Any] = read_table(folder, [name]).column(name).to_pylist()
    return values


def _metrics(out: Path, report: Report) -> dict[str, Any]:
    """What lies in the tables; how long it took is in the log."""
    agreement = np.array(_column(out / "labels", "silhouette_iou"))
    seen = np.count_nonzero(np.array(_column(out / "visibility", "pixels")).reshape(-1, 4), axis=1)
    return {
        "objects": len(agreement),
        "failed": len(report.failures),
        "under_min_silhouette_iou": sum(one.reason.startswith(DISAGREEMENT) for one in report.failures.values()),
        "silhouette_iou": {
            "min": agreement.min(),
            "mean": agreement.mean(),
            **{f"p{percent:02d}": np.percentile(agreement, percent) for percent in (1, 5, 25, 50)},
        },
        "parts": len(seen),
        "parts_seen_in_views": {str(views): int(np.count_nonzero(seen == views)) for views in range(5)},
    }


if __name__ == "__main__":
    stage_main(MasksParams, run)
