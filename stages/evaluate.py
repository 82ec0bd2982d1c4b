"""Stage `evaluate`: the paper's Tables 1 to 3 on the held-out objects, printed beside its numbers."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from pipeline.evaluation.conventions import conventions, lines
from pipeline.evaluation.evaluate_object import CONTRACT, evaluate_object
from pipeline.evaluation.evaluate_task import EvaluateTask
from pipeline.evaluation.figures import FIGURES
from pipeline.evaluation.paper_tables import print_tables
from pipeline.evaluation.part123 import made_objects, mesh_file
from pipeline.evaluation.part_objaverse import CONTRACT as LABELLED_CONTRACT
from pipeline.evaluation.part_objaverse import LabelledMesh, labelled_figures, labelled_mesh, mesh_files
from pipeline.evaluation.summary import Summary, headlines, summarise, write_recall
from pipeline.evaluation.surface_regimes import DIVISIONS
from pipeline.folders import content_digest
from pipeline.params.evaluate import EvaluateParams
from pipeline.shards.build import Item, Report, build_shards
from pipeline.shards.dataset import ObjectRows
from pipeline.shards.read import read_manifest, read_table
from pipeline.shards.store import content_key
from pipeline.shards.write import write_metrics
from pipeline.surface.grouping import load_grouping
from pipeline.views.cameras import Camera
from stages.entry import stage_main

METRICS = Path("metrics/evaluate.json")
RECALL = Path("plots/evaluate/recall.csv")
TABLES = {
    "grids": ("renders/grids", ["part_id", "image"]),
    "novel": ("renders/novel", ["part_id", "image"]),
    "given": ("renders/conditioning", ["view", "image"]),
    "labels": ("masks/labels", ["labels"]),
    "generations": ("generations/grids", ["method", "image"]),
    "runs": ("segmentations/runs", ["run", "score", "labels"]),
    "completions": ("completions/grids", ["source", "method", "label", "image"]),
    "views": ("reconstructions/views", ["source", "method", "label", "image"]),
    "parts": ("reconstructions/parts", ["source", "method", "label", "glb"]),
    "objects": (
        "reconstructions/objects",
        ["source", "method", "parts", "absent", "mean_iou", "max_iou", "contested", "glb"],
    ),
    "glbs": ("assets/glbs", ["glb"]),
    "assembled": ("segmentations/parts", ["labels"]),
    "atoms": ("atoms/atoms", ["regime", "arrays"]),
    "surfaces": ("atoms/surfaces", ["regime", "glb", "atom", "part"]),
}
"""By the field of a task, the table and the columns that count."""
STAGES = ("generations", "segmentations", "completions", "reconstructions")
"""Folders of the stages that may have failed with an object."""


def run(params: EvaluateParams, data: Path = Path("data"), force: bool = False) -> Report:
    """Evaluate all objects that were segmented."""
    work = [*items(data, params), *labelled_items(data, params)]
    settings = read_manifest(data / "reconstructions/views").settings
    report = build_shards(
        stage="evaluate",
        out=data / "evaluation",
        tables=(FIGURES, DIVISIONS),
        items=work,
        function=figures_of,
        shards=settings["shards"],
        settings={**settings, "evaluate": params.deciding()},
        max_failed_share=params.max_failed_share,
        timeout_s=params.timeout_s,
        force=force,
    )
    objects = len({*read_table(data / "segmentations/runs", ["object_id"]).column("object_id").to_pylist()})
    summary = summarise(read_table(data / "evaluation/figures").to_pandas(), params.seed)
    said = conventions(data, params)
    failed = {**_failures(data), "evaluate": len(report.failures)}
    write_metrics("evaluate", {**summary, "conventions": said, "objects": objects, "failed": failed})
    write_metrics("summary", {**headlines(summary), "objects": objects})
    write_recall(RECALL, summary["segmentation"])
    _print(summary, said, objects, failed)
    return report


def show(metrics: Path = METRICS, report: Path = Path("data/report/index.html")) -> None:
    """Print the tables as they were made last, and where the report is; UserError when they were not made yet."""
    if not metrics.is_file():
        raise UserError(f"There is no {metrics}; run the stage `evaluate`, which makes the tables.")
    values = json.loads(metrics.read_text(encoding="utf-8"))
    said, objects, failed = (values.pop(name) for name in ("conventions", "objects", "failed"))
    _print(values, said, objects, failed)
    if report.is_file():
        print(f"The report: {report.resolve()}")


def items(data: Path, params: EvaluateParams) -> Iterator[Item]:
    """The work on every object that was segmented.

    UserError when a table is missing, weights that are given are not there, or there are too few segmentations.
    """
    for name, path in params.weights().items():
        if not Path(path).exists():
            raise UserError(f"evaluate.{name} is {path!r}, where there is nothing; give the weights' path, or null.")
    stored = read_manifest(data / "segmentations/runs").settings["segment"]["runs"]
    if max(params.runs) > stored:
        raise UserError(
            f"evaluate.runs has {max(params.runs)}, and objects were segmented {stored} times; "
            "raise segment.runs and run the stage segment again."
        )
    if params.part123 is not None and not Path(params.part123).is_dir():
        raise UserError(f"evaluate.part123 is {params.part123!r}, where there is no folder; give Part123's, or null.")
    tables = {name: ObjectRows(data / folder, columns) for name, (folder, columns) in TABLES.items()}
    weights = {name: content_digest(Path(path)) for name, path in params.weights().items()}
    index = read_table(data / "segmentations/runs", ["object_id", "split"])
    splits = dict(zip(*index.to_pydict().values(), strict=True))
    made = read_manifest(data / "renders/grids").settings
    camera = Camera(made["fov_deg"], made["distance"], made["view_size"])
    wholes = {object_id: tables["grids"].whole(object_id)["image"]["bytes"] for object_id in sorted(splits)}
    meshes = {}
    if params.part123 is not None:
        meshes = {name: mesh_file(params.part123, name) for name in made_objects(params.part123, sorted(splits))}
        print(f"Part123 has a mesh of {len(meshes)} of {len(splits)} objects.")
    load_grouping(data / "models/grouping")  # says so, before the work, when it is not there
    grouping = content_digest(data / "models/grouping")
    everyone = content_key(*wholes, *wholes.values())
    for object_id, split in sorted(splits.items()):
        mesh = meshes.get(object_id)
        load = partial(_task, tables, wholes, object_id, split, camera, made["elevation_deg"], data, mesh, params)
        contents = [part for table in tables.values() for row in table.of(object_id) for part in _contents(row)]
        inputs = {"object_id": object_id, "split": split, "weights": weights, "beside": everyone}
        inputs |= asdict(camera) | {"elevation_deg": made["elevation_deg"], "grouping": grouping}
        if mesh is not None:
            inputs |= {"part123": content_digest(mesh)}
        key = content_key(CONTRACT, inputs, params.deciding(), *contents)
        yield Item(object_id, key, load)


def labelled_items(data: Path, params: EvaluateParams) -> Iterator[Item]:
    """The work on every object of the user's copy of PartObjaverse-Tiny; none where there is no such copy."""
    if params.part_objaverse_tiny is None:
        return
    grouping = data / "models/grouping"
    digest = content_digest(grouping)
    for mesh in mesh_files(Path(params.part_objaverse_tiny)):
        task = labelled_mesh(mesh, grouping)
        named = {"object_id": task.object_id, "grouping": digest, "labels": sorted(task.labels)}
        key = content_key(LABELLED_CONTRACT, named, task.glb, *task.labels.values())
        yield Item(task.object_id, key, partial(labelled_mesh, mesh, grouping))


def figures_of(task: EvaluateTask | LabelledMesh) -> dict[str, list[dict[str, Any]]]:
    """The rows of an object that was segmented, or of one of PartObjaverse-Tiny."""
    if isinstance(task, EvaluateTask):
        return evaluate_object(task)
    common = {"object_id": task.object_id, "split": "part-objaverse-tiny", "table": "surface"}
    return {FIGURES.name: [{**common, **row} for row in labelled_figures(task)]}


def _failures(data: Path) -> dict[str, int]:
    """How many objects each stage before could not process; their figures are missing from the tables."""
    return {stage: read_manifest(data / stage / "failures").rows for stage in STAGES}


def _task(
    tables: dict[str, ObjectRows],
    wholes: Mapping[str, bytes],
    object_id: str,
    split: str,
    camera: Camera,
    elevation_deg: float,
    data: Path,
    part123: Path | None,
    params: EvaluateParams,
) -> EvaluateTask:
    rows: dict[str, Any] = {name: table.of(object_id) for name, table in tables.items()}
    rows |= {"camera": camera, "elevation_deg": elevation_deg, "grouping": data / "models/grouping", "part123": part123}
    return EvaluateTask(object_id=object_id, split=split, wholes=wholes, params=params, **rows)


def _contents(row: dict[str, Any]) -> Iterator[bytes | dict[str, Any]]:
    """A row as parts of a content key."""
    images = {name: cell["bytes"] for name, cell in row.items() if isinstance(cell, dict)}
    binary = {name: cell for name, cell in row.items() if isinstance(cell, bytes)}
    yield {name: cell for name, cell in row.items() if name not in images and name not in binary}
    yield from images.values()
    yield from binary.values()


def _print(summary: Summary, said: dict[str, Any], objects: int, failed: dict[str, int]) -> None:
    print("What the figures depend on", *lines(said), sep="\n")
    print_tables(summary)
    print(f"\n{objects} objects; failed: {', '.join(f'{stage} {number}' for stage, number in failed.items())}")


if __name__ == "__main__":
    stage_main(EvaluateParams, run)
