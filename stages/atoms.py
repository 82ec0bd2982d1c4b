"""Stage `atoms`: what the grouping model is trained and measured on, out of the true parts of all objects."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.params.atoms import AtomsParams
from pipeline.shards.build import Item, Report, build_shards
from pipeline.shards.dataset import ObjectRows
from pipeline.shards.read import read_manifest, read_table
from pipeline.shards.store import content_key
from pipeline.shards.table import WHOLE
from pipeline.shards.write import write_metrics
from pipeline.surface.find_atoms import CONTRACT, AtomsTask, object_atoms
from pipeline.surface.object_atoms import ATOMS, REGIMES, SURFACES
from pipeline.views.cameras import Camera
from stages.entry import stage_main


def run(params: AtomsParams, data: Path = Path("data"), force: bool = False) -> Report:
    """Find the atoms of all rendered objects, and see them with the cameras of their grids."""
    cameras = read_manifest(data / "renders/grids").settings
    report = build_shards(
        stage="atoms",
        out=data / "atoms",
        tables=(ATOMS, SURFACES),
        items=list(items(data, cameras)),
        function=object_atoms,
        shards=cameras["shards"],
        settings=cameras,
        max_failed_share=params.max_failed_share,
        timeout_s=params.timeout_s,
        force=force,
    )
    write_metrics("atoms", _metrics(data / "atoms/atoms", report))
    return report


def items(data: Path, cameras: Mapping[str, Any]) -> Iterator[Item]:
    """The work on every object that was rendered and has parts."""
    camera = Camera(cameras["fov_deg"], cameras["distance"], cameras["view_size"])
    glbs = ObjectRows(data / "assets/glbs", ["split", "glb"])
    drawn = read_table(data / "renders/grids", ["object_id", "part_id"]).to_pylist()
    for object_id in dict.fromkeys(row["object_id"] for row in drawn if row["part_id"] != WHOLE):
        load = partial(_task, glbs, object_id, camera, cameras["elevation_deg"])
        task = load()
        inputs = {"object_id": object_id, "split": task.split, "elevation_deg": task.elevation_deg} | asdict(camera)
        yield Item(object_id, content_key(CONTRACT, task.glb, inputs), load)


def _task(glbs: ObjectRows, object_id: str, camera: Camera, elevation_deg: float) -> AtomsTask:
    row = glbs.whole(object_id)
    return AtomsTask(object_id, row["split"], row["glb"], camera, elevation_deg)


def _metrics(table: Path, report: Report) -> dict[str, Any]:
    rows = read_table(table, ["regime", "count"]).to_pydict()
    counts = np.array(rows["count"])
    return {
        "objects": report.total - len(report.failures),
        "failed": len(report.failures),
        "mean_atoms": {regime: counts[np.array(rows["regime"]) == regime].mean() for regime in REGIMES},
    }


if __name__ == "__main__":
    stage_main(AtomsParams, run)
