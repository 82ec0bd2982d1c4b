"""What the page shows of one object: pictures of every stage, its models for the 3D view, its figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.report.object_pictures import (
    MODELS,
    REGIMES,
    NamedLabel,
    ObjectPictures,
    OwnSurface,
    Shown,
    TrainedOn,
    pixels_of,
)
from pipeline.report.page_files import PageFiles
from pipeline.report.result_tables import ResultTable, figures_table
from pipeline.report.rows import require
from pipeline.report.taken_apart import MODELLED, TakenApart, taken_apart
from pipeline.shards.dataset import ObjectRows
from pipeline.shards.table import WHOLE
from pipeline.views.cameras import Camera, over_white

TABLES = {
    "parts": "assets/parts",
    "glbs": "assets/glbs",
    "grids": "renders/grids",
    "novel": "renders/novel",
    "labels": "masks/labels",
    "captions": "captions/captions",
    "given": "renders/conditioning",
    "generated": "generations/grids",
    "runs": "segmentations/runs",
    "chosen": "segmentations/parts",
    "completions": "completions/grids",
    "views": "reconstructions/views",
    "meshes": "reconstructions/parts",
    "assembled": "reconstructions/objects",
    "figures": "evaluation/figures",
    "surfaces": "atoms/surfaces",
    "divisions": "evaluation/divisions",
}
"""By what the section is made from, the table."""
COLUMNS = {"meshes": ["source", "method", "label", "name", "absent"]}
"""Where not all of a table is needed: each part's own mesh is in its object's as well."""


@dataclass(frozen=True)
class Model:
    """A choice of the 3D view; without a key there is nothing to show, and `reason` says why."""

    title: str
    key: str = ""
    reason: str = ""


@dataclass(frozen=True)
class ObjectSection:
    """All of one object. Lists are empty where a stage failed with it."""

    number: int
    """From 1; files of the object are called after it."""
    object_id: str
    name: str
    credit: Mapping[str, str]
    """Author, licence, source and origin, as they are in assets/objects."""
    caption: str
    parts: Sequence[NamedLabel]
    """The true ones, with their captions."""
    own: Sequence[OwnSurface]
    """By regime; none where the stage `atoms` kept no surface."""
    pictures: Sequence[Shown]
    generated: Sequence[Shown]
    """Drawn from the caption, the view that was given, and drawn from it; each beside the closest training object."""
    runs: Sequence[Shown]
    completed: Sequence[Shown]
    """The predicted parts, and what was drawn for an empty mask."""
    true_parts: Sequence[tuple[Shown, Sequence[Shown]]]
    """A true part as rendered, and completed by the full network from its true mask."""
    novel: Sequence[Shown]
    models: Sequence[Model]
    absent: Mapping[str, Sequence[NamedLabel]]
    """By model, parts without a surface, each with its reason."""
    figures: Sequence[ResultTable]
    failures: Sequence[tuple[str, str]] = field(default=())
    """Stages that failed with it, and why."""


def read_tables(data: Path) -> dict[str, ObjectRows]:
    """All the tables that sections are made from; UserError that names the stage of one that is missing."""
    for folder in TABLES.values():
        require(data / folder)
    return {name: ObjectRows(data / folder, COLUMNS.get(name)) for name, folder in TABLES.items()}


def object_section(
    number: int,
    asset: Mapping[str, Any],
    tables: Mapping[str, ObjectRows],
    failures: Sequence[tuple[str, str]],
    trained: TrainedOn,
    files: PageFiles,
    camera: Camera,
) -> ObjectSection:
    """The section of the object in `asset`, a row of assets/objects; its pictures and models are written to `files`."""
    rows = {name: table.of(asset["object_id"]) for name, table in tables.items()}
    names = {row["part_id"]: row["name"] for row in rows["parts"]}
    captions = {row["part_id"]: row["caption"] for row in rows["captions"]}
    renders = {row["part_id"]: over_white(pixels_of(row["image"])) for row in rows["grids"]}
    section = ObjectPictures(f"{number:03d}", files)
    apart = taken_apart(rows["surfaces"], rows["divisions"], names)
    return ObjectSection(
        number=number,
        object_id=asset["object_id"],
        name=asset["name"],
        credit={column: asset[column] for column in ("author", "licence", "source", "origin") if asset[column]},
        caption=captions.get(WHOLE, ""),
        parts=[NamedLabel(part_id, name, captions.get(part_id, "")) for part_id, name in sorted(names.items())],
        own=[section.own(regime, apart[regime], camera) for regime in REGIMES if regime in apart],
        pictures=section.maps(renders, rows),
        generated=section.generated(rows, trained),
        runs=section.runs(renders, rows),
        completed=section.completed(rows["completions"]),
        true_parts=section.true_parts(renders, names, rows["completions"]),
        novel=section.novel(rows),
        models=_models(f"{number:03d}", apart, rows, files),
        absent=_absent(rows["meshes"]),
        figures=figures_table(rows["figures"]),
        failures=failures,
    )


def _models(
    stem: str, apart: Mapping[str, TakenApart], rows: Mapping[str, list[dict[str, Any]]], files: PageFiles
) -> list[Model]:
    glbs = {(row["source"], row["method"]): row["glb"] for row in rows["assembled"]}
    models = []
    if MODELLED in apart:
        models.append(Model("Taken apart on its own surface", files.model(f"{stem}-own", apart[MODELLED].glb())))
    for (source, method), title in MODELS.items():
        if (source, method) not in glbs:
            models.append(Model(title, reason="was not reconstructed"))
        elif not glbs[source, method]:
            models.append(Model(title, reason="no part of it has a surface"))
        else:
            models.append(Model(title, files.model(f"{stem}-{source}-{method}", glbs[source, method])))
    return [*models, *(Model("True object", files.model(f"{stem}-true", row["glb"])) for row in rows["glbs"])]


def _absent(meshes: Sequence[Mapping[str, Any]]) -> dict[str, list[NamedLabel]]:
    found: dict[str, list[NamedLabel]] = {}
    for row in meshes:
        if row["absent"] and (row["source"], row["method"]) in MODELS:
            of_model = found.setdefault(MODELS[row["source"], row["method"]], [])
            of_model.append(NamedLabel(row["label"], row["name"], row["absent"]))
    return found
