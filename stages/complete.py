"""Stage `complete`: every true and every predicted part of the segmented objects, whole and alone."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.folders import content_digest
from pipeline.heldout.complete_object import COMPLETIONS, CONTRACT, FULL, CompleteTask, complete_object
from pipeline.params.complete import CompleteParams
from pipeline.shards.build import Item, Report, build_shards
from pipeline.shards.dataset import ObjectRows
from pipeline.shards.read import read_manifest
from pipeline.shards.store import content_key
from pipeline.shards.table import WHOLE
from pipeline.shards.write import write_metrics
from pipeline.views.cameras import Camera
from stages.entry import stage_main


def run(params: CompleteParams, data: Path = Path("data"), force: bool = False) -> Report:
    """Complete the parts of all objects of the stage segment."""
    settings = read_manifest(data / "segmentations/parts").settings
    report = build_shards(
        stage="complete",
        out=data / "completions",
        tables=(COMPLETIONS,),
        items=list(items(data, params, settings)),
        function=complete_object,
        shards=settings["shards"],
        settings={**settings, "complete": params.deciding()},
        max_failed_share=params.max_failed_share,
        timeout_s=params.timeout_s,
        force=force,
    )
    write_metrics("complete", _metrics(data / "completions", report))
    return report


def items(data: Path, params: CompleteParams, settings: Mapping[str, Any]) -> Iterator[Item]:
    """The work on every object that was segmented."""
    camera = Camera(settings["fov_deg"], settings["distance"], settings["view_size"])
    elevation_deg = settings["elevation_deg"]
    tables = {
        "grids": ObjectRows(data / "renders/grids", ["part_id", "image"]),
        "truth": ObjectRows(data / "masks/labels", ["labels"]),
        "predicted": ObjectRows(data / "segmentations/parts"),
    }
    digests = {name: content_digest(data / "models" / name) for name in sorted({FULL, *params.methods})}
    for object_id in tables["predicted"].numbers:
        load = partial(_task, tables, object_id, data / "models", params, camera, elevation_deg)
        task = load()
        inputs = {"object_id": object_id, "split": task.split, "parts": task.parts, "models": digests}
        inputs |= asdict(camera) | {"elevation_deg": elevation_deg}
        yield Item(object_id, content_key(CONTRACT, task.grid, *task.labels.values(), inputs, params.deciding()), load)


def _task(
    tables: Mapping[str, ObjectRows],
    object_id: str,
    models: Path,
    params: CompleteParams,
    camera: Camera,
    elevation_deg: float,
) -> CompleteTask:
    predicted = tables["predicted"].whole(object_id)
    grids = {row["part_id"]: row["image"]["bytes"] for row in tables["grids"].of(object_id)}
    whole, truth = grids.pop(WHOLE), tables["truth"].whole(object_id)["labels"]["bytes"]
    labels = {"truth": truth, "predicted": predicted["labels"]["bytes"]}
    return CompleteTask(
        object_id, predicted["split"], whole, labels, sorted(grids), models, params, camera, elevation_deg
    )


def _metrics(out: Path, report: Report) -> dict[str, Any]:
    """What lies in the table; how good it is, the stage `evaluate` says."""
    return {
        "objects": report.total - len(report.failures),
        "failed": len(report.failures),
        "grids": read_manifest(out / COMPLETIONS.name).rows,
    }


if __name__ == "__main__":
    stage_main(CompleteParams, run)
