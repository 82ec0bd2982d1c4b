"""Stage `reconstruct`: the parts of the completed objects as fields, meshes, and pictures from novel views."""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.assets.glb import read_header
from pipeline.folders import content_digest
from pipeline.heldout.reconstruct_object import CONTRACT, ReconstructTask, reconstruct_object
from pipeline.heldout.reconstruct_tables import FIELDS, OBJECTS, PARTS, VIEWS
from pipeline.params.base import load_group
from pipeline.params.reconstruct import ReconstructParams
from pipeline.params.reconstruction import ReconstructionParams
from pipeline.shards.build import Item, Report, build_shards
from pipeline.shards.dataset import ObjectRows
from pipeline.shards.read import read_manifest, read_table
from pipeline.shards.store import content_key
from pipeline.shards.table import WHOLE
from pipeline.shards.write import write_metrics
from pipeline.views.cameras import CAMERA_KEYS
from stages.entry import stage_main

SOURCES = ("truth", "predicted")
"""Whose completed parts are reconstructed; what was imagined with an empty mask is a part of no object."""


def run(
    params: ReconstructParams, reconstruction: ReconstructionParams, data: Path = Path("data"), force: bool = False
) -> Report:
    """Reconstruct the parts of all objects of the stage complete."""
    settings = read_manifest(data / "completions/grids").settings
    report = build_shards(
        stage="reconstruct",
        out=data / "reconstructions",
        tables=(VIEWS, PARTS, OBJECTS, FIELDS),
        items=list(items(data, params, reconstruction)),
        function=reconstruct_object,
        shards=settings["shards"],
        settings={**settings, "reconstruct": _deciding(params, reconstruction)},
        max_failed_share=params.max_failed_share,
        timeout_s=params.timeout_s,
        force=force,
    )
    write_metrics("reconstruct", _metrics(data / "reconstructions", report))
    return report


def _deciding(params: ReconstructParams, reconstruction: ReconstructionParams) -> dict[str, Any]:
    """The parameters that decide the tables; `support_floor` is included because the model does not store it."""
    return {**params.deciding("turntable"), "support_floor": reconstruction.support_floor}


def items(data: Path, params: ReconstructParams, reconstruction: ReconstructionParams) -> Iterator[Item]:
    """The work on every object that was completed; UserError when a table is missing."""
    tables, models = _Tables(data), data / "models"
    digests = {name: content_digest(file) for name, file in params.files(models).items()}
    how = {**_deciding(params, reconstruction), "models": digests}
    for object_id in tables.completions.numbers:
        load = partial(tables.task, object_id, models, digests, params, reconstruction)
        yield Item(object_id, _key(load(), how), load)


def _key(task: ReconstructTask, how: Mapping[str, Any]) -> str:
    pictures = {"whole": {WHOLE: task.whole}, "labels": {WHOLE: task.labels}, "parts": task.parts}
    pictures |= {f"{source}/{method}": grids for (source, method), grids in task.completed.items()}
    inputs = {
        "cameras": [task.settings, *task.cameras],
        "named": [task.object_id, task.split, task.names, task.notice, task.extras],
        "pictures": {name: list(grids) for name, grids in pictures.items()},
    }
    return content_key(CONTRACT, inputs, how, *(png for grids in pictures.values() for png in grids.values()))


class _Tables:
    """What objects are reconstructed from."""

    def __init__(self, data: Path) -> None:
        settings = read_manifest(data / "renders/grids").settings
        self.cameras = {key: settings[key] for key in CAMERA_KEYS}
        self.completions = ObjectRows(data / "completions/grids", ["split", "source", "method", "label", "image"])
        self.grids = ObjectRows(data / "renders/grids", ["part_id", "image"])
        self.novel = ObjectRows(data / "renders/novel", ["part_id", "azimuths", "elevations"])
        self.labels = ObjectRows(data / "masks/labels", ["labels"])
        self.glbs = ObjectRows(data / "assets/glbs", ["glb"])

    def task(
        self,
        object_id: str,
        models: Path,
        digests: Mapping[str, str],
        params: ReconstructParams,
        reconstruction: ReconstructionParams,
    ) -> ReconstructTask:
        """One object's."""
        parts = {row["part_id"]: row["image"]["bytes"] for row in self.grids.of(object_id)}
        whole, completions = parts.pop(WHOLE), self.completions.of(object_id)
        completed: dict[tuple[str, str], dict[int, bytes]] = {}
        for row in completions:
            if row["source"] in SOURCES:
                completed.setdefault((row["source"], row["method"]), {})[row["label"]] = row["image"]["bytes"]
        novel = self.novel.whole(object_id)
        # The attribution and the parts' names as they stand in the object's own GLB.
        header = read_header(self.glbs.whole(object_id)["glb"])
        return ReconstructTask(
            object_id=object_id,
            split=completions[0]["split"],
            whole=whole,
            parts=parts,
            labels=self.labels.whole(object_id)["labels"]["bytes"],
            completed=completed,
            cameras=list(zip(novel["azimuths"], novel["elevations"], strict=True)),
            names={node["extras"]["part"]: node["name"] for node in header["nodes"]},
            notice=header["asset"]["copyright"],
            extras=header["asset"]["extras"],
            models=models,
            digests=digests,
            params=params,
            reconstruction=reconstruction,
            settings=self.cameras,
        )


def _metrics(out: Path, report: Report) -> dict[str, Any]:
    """What lies in the tables; how good it is, the stage `evaluate` says."""
    parts = read_table(out / PARTS.name, ["absent", "triangles"])
    return {
        "objects": report.total - len(report.failures),
        "failed": len(report.failures),
        "parts": len(parts),
        "absent": sum(reason != "" for reason in parts.column("absent").to_pylist()),
        "triangles": sum(parts.column("triangles").to_pylist()),
    }


if __name__ == "__main__":
    stage_main(ReconstructParams, lambda params: run(params, load_group(ReconstructionParams)))
