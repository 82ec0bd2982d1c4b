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
from pipeline.shards.dataset import TableRows
from pipeline.shards.read import read_manifest, read_table
from pipeline.shards.store import content_key
from pipeline.shards.table import WHOLE
from pipeline.shards.write import write_metrics
from pipeline.views.cameras import Camera
from stages.entry import stage_main

HOW_TO_RUN = {"max_failed_share", "timeout_s"}


def run(params: CompleteParams, data: Path = Path("data"), force: bool = False) -> Report:
    """Complete the parts of all objects of the stage segment."""
    settings = read_manifest(data / "segmentations/parts").settings
    report = build_shards(
        stage="complete",
        out=data / "completions",
        tables=(COMPLETIONS,),
        items=list(_items(data, params, settings)),
        function=complete_object,
        shards=settings["shards"],
        settings={**settings, "complete": params.model_dump(exclude=HOW_TO_RUN)},
        max_failed_share=params.max_failed_share,
        timeout_s=params.timeout_s,
        force=force,
    )
    write_metrics("complete", _metrics(data / "completions", report))
    return report


def _items(data: Path, params: CompleteParams, settings: Mapping[str, Any]) -> Iterator[Item]:
    camera = Camera(settings["fov_deg"], settings["distance"], settings["view_size"])
    shards = _Shards(data, camera, settings["elevation_deg"])
    digests = {name: content_digest(data / "models" / name) for name in sorted({FULL, *params.methods})}
    for number in range(len(shards.predicted)):
        load = partial(shards.task, number, params)
        task = load()
        inputs = {"object_id": task.object_id, "split": task.split, "parts": task.parts, "models": digests}
        inputs |= asdict(shards.camera) | {"elevation_deg": shards.elevation_deg}
        key = content_key(CONTRACT, task.grid, *task.labels.values(), inputs, params.model_dump(exclude=HOW_TO_RUN))
        yield Item(task.object_id, key, load)


class _Shards:
    """What a completion is made from, by the number of its object in the table of segmentations."""

    def __init__(self, data: Path, camera: Camera, elevation_deg: float) -> None:
        self.models, self.camera, self.elevation_deg = data / "models", camera, elevation_deg
        self.predicted = TableRows(data / "segmentations/parts")
        self.truth = TableRows(data / "masks/labels", ["object_id", "labels"])
        self.grids = TableRows(data / "renders/grids", ["object_id", "image"])
        of_truth = read_table(data / "masks/labels", ["object_id"]).column("object_id").to_pylist()
        self.truth_rows = {object_id: row for row, object_id in enumerate(of_truth)}
        self.whole_rows: dict[str, int] = {}
        self.parts: dict[str, list[int]] = {}
        drawn = read_table(data / "renders/grids", ["object_id", "part_id"])
        for row, (object_id, part_id) in enumerate(zip(*drawn.to_pydict().values(), strict=True)):
            if part_id == WHOLE:
                self.whole_rows[object_id] = row
            else:
                self.parts.setdefault(object_id, []).append(part_id)

    def task(self, number: int, params: CompleteParams) -> CompleteTask:
        """One object's."""
        row = self.predicted[number]
        object_id = row["object_id"]
        grid = self.grids[self.whole_rows[object_id]]["image"]["bytes"]
        truth = self.truth[self.truth_rows[object_id]]["labels"]["bytes"]
        labels = {"truth": truth, "predicted": row["labels"]["bytes"]}
        parts = sorted(self.parts[object_id])
        return CompleteTask(
            object_id, row["split"], grid, labels, parts, self.models, params, self.camera, self.elevation_deg
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
