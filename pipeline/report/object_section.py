"""What the page shows of one object: pictures of every stage, its models for the 3D view, its figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.heldout.generate_tables import FROM_IMAGE, FROM_TEXT
from pipeline.report.page_files import PageFiles
from pipeline.report.result_tables import ResultTable, figures_table
from pipeline.report.rows import require
from pipeline.report.taken_apart import FUSED, MODELLED, TakenApart, taken_apart
from pipeline.shards.dataset import ObjectRows
from pipeline.shards.table import WHOLE, decode_png
from pipeline.views.cameras import Camera, over_white
from pipeline.views.palette import PART_COLOURS
from pipeline.views.tables import GIVEN_VIEW

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
OWN = {MODELLED: "As modelled", FUSED: "Fused into one skin first"}
"""The regimes in which an object's own surface is shown in parts."""
"""Where not all of a table is needed: each part's own mesh is in its object's as well."""
MODELS = {
    ("predicted", "complete"): "Assembled from predicted parts",
    ("truth", "complete"): "Assembled from true parts, completed",
    ("truth", "oracle"): "Assembled from true parts, as rendered",
    ("whole", "whole"): "Whole, reconstructed at once",
}
"""The 3D models between the object's own surface in parts and the true object, by source and method."""
OVERLAY_OPACITY = 0.75
GREY = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Shown:
    """A picture with its words."""

    file: str
    title: str
    note: str = ""
    label: int = WHOLE
    """Of the part that it shows, for its colour."""


@dataclass(frozen=True)
class Model:
    """A choice of the 3D view; without a key there is nothing to show, and `reason` says why."""

    title: str
    key: str = ""
    reason: str = ""


@dataclass(frozen=True)
class NamedLabel:
    """An entry of a legend."""

    label: int
    name: str
    note: str = ""


@dataclass(frozen=True)
class OwnSurface:
    """An object taken apart on its own surface."""

    title: str
    note: str
    pictures: Sequence[Shown]
    parts: Sequence[NamedLabel]


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
    """Drawn from the caption, the view that was given, and drawn from it."""
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
    files: PageFiles,
    camera: Camera,
) -> ObjectSection:
    """The section of the object in `asset`, a row of assets/objects; its pictures and models are written to `files`."""
    rows = {name: table.of(asset["object_id"]) for name, table in tables.items()}
    names = {row["part_id"]: row["name"] for row in rows["parts"]}
    captions = {row["part_id"]: row["caption"] for row in rows["captions"]}
    renders = {row["part_id"]: over_white(_pixels(row["image"])) for row in rows["grids"]}
    section = _Pictures(f"{number:03d}", files)
    apart = taken_apart(rows["surfaces"], rows["divisions"], names)
    return ObjectSection(
        number=number,
        object_id=asset["object_id"],
        name=asset["name"],
        credit={column: asset[column] for column in ("author", "licence", "source", "origin") if asset[column]},
        caption=captions.get(WHOLE, ""),
        parts=[NamedLabel(part_id, name, captions.get(part_id, "")) for part_id, name in sorted(names.items())],
        own=[section.own(regime, apart[regime], camera) for regime in OWN if regime in apart],
        pictures=section.maps(renders, rows),
        generated=section.generated(rows),
        runs=section.runs(renders, rows),
        completed=section.completed(rows["completions"]),
        true_parts=section.true_parts(renders, names, rows["completions"]),
        novel=section.novel(rows),
        models=_models(f"{number:03d}", apart, rows, files),
        absent=_absent(rows["meshes"]),
        figures=figures_table(rows["figures"]),
        failures=failures,
    )


class _Pictures:
    """Pictures of one object, whose files begin with `stem`."""

    def __init__(self, stem: str, files: PageFiles) -> None:
        self.stem, self.files = stem, files

    def shown(self, name: str, pixels: np.ndarray, title: str, note: str = "", label: int = WHOLE) -> Shown:
        """`pixels`: RGB (H, W, 3), uint8, or float in [0, 1]."""
        return Shown(self.files.picture(f"{self.stem}-{name}", pixels), title, note, label)

    def own(self, regime: str, apart: TakenApart, camera: Camera) -> OwnSurface:
        drawn = apart.pictures(camera)
        shown = [self.shown(f"own-{regime}-{place}", *one[::-1]) for place, one in enumerate(drawn.items())]
        parts = [NamedLabel(label, name) for label, name in enumerate(apart.names, start=1)]
        return OwnSurface(OWN[regime], f"{_count(len(parts), 'part')}, IoU {apart.iou:.0f} %", shown, parts)

    def maps(self, renders: Mapping[int, np.ndarray], rows: Mapping[str, list[dict[str, Any]]]) -> list[Shown]:
        whole = renders[WHOLE]
        found = [self.shown("grid", whole, "Rendered from four sides")]
        for row in rows["labels"]:
            found.append(self.shown("truth", overlay(_pixels(row["labels"]), whole), "True parts"))
        for row in rows["chosen"]:
            labels = _pixels(row["labels"])
            note = f"run {row['run'] + 1}, {_count(len(np.unique(labels[labels > 0])), 'part')}"
            note += f", {_count(row['merged'], 'region')} merged" if row["merged"] else ""
            found.append(self.shown("predicted", overlay(labels, whole), "Segmentation that was assembled", note))
        return found

    def generated(self, rows: Mapping[str, list[dict[str, Any]]]) -> list[Shown]:
        drawn = {row["method"]: _pixels(row["image"]) for row in rows["generated"]}
        views = {row["view"]: over_white(_pixels(row["image"])) for row in rows["given"]}
        if not drawn:
            return []
        return [
            self.shown("from-text", drawn[FROM_TEXT], "From the caption"),
            self.shown("view", views[GIVEN_VIEW], "One view"),
            self.shown("from-view", drawn[FROM_IMAGE], "From that view"),
        ]

    def runs(self, renders: Mapping[int, np.ndarray], rows: Mapping[str, list[dict[str, Any]]]) -> list[Shown]:
        """Every segmentation, those that the others agree with most first."""
        found = []
        for row in sorted(rows["runs"], key=lambda row: (-row["score"], row["run"])):
            labels = _pixels(row["labels"])
            note = f"score {row['score']:.2f}, {_count(len(np.unique(labels[labels > 0])), 'region')}"
            picture = overlay(labels, renders[WHOLE])
            found.append(self.shown(f"run-{row['run']:02d}", picture, f"Run {row['run'] + 1}", note))
        return found

    def completed(self, completions: Sequence[Mapping[str, Any]]) -> list[Shown]:
        """The parts of the segmentation that was assembled, and what the network adds when it is given no part."""
        found = []
        for row in completions:
            if row["source"] == "predicted":
                title, note = f"Part {row['label']}", f"from {row['pixels']:,} px in sight"
                found.append(self.shown(f"part-{row['label']:03d}", _pixels(row["image"]), title, note, row["label"]))
        for row in completions:
            if row["source"] == "imagined":
                found.append(self.shown("imagined", _pixels(row["image"]), "Imagined", "from an empty mask"))
        return found

    def true_parts(
        self, renders: Mapping[int, np.ndarray], names: Mapping[int, str], completions: Sequence[Mapping[str, Any]]
    ) -> list[tuple[Shown, Sequence[Shown]]]:
        drawn = {row["label"]: row for row in completions if (row["source"], row["method"]) == ("truth", "complete")}
        found: list[tuple[Shown, Sequence[Shown]]] = []
        for part_id, name in sorted(names.items()):
            if part_id not in renders:
                continue
            rendered = self.shown(f"true-{part_id:03d}", renders[part_id], name, "rendered", part_id)
            completed = []
            if part_id in drawn:
                row = drawn[part_id]
                note = f"completed from {row['pixels']:,} px in sight"
                completed.append(self.shown(f"drawn-{part_id:03d}", _pixels(row["image"]), name, note, part_id))
            found.append((rendered, completed))
        return found

    def novel(self, rows: Mapping[str, list[dict[str, Any]]]) -> list[Shown]:
        """The whole object from four new views: rendered, and of every model."""
        found = [
            self.shown("novel-truth", over_white(_pixels(row["image"])), "Rendered")
            for row in rows["novel"]
            if row["part_id"] == WHOLE
        ]
        views = {(row["source"], row["method"]): row for row in rows["views"] if row["label"] == WHOLE}
        for key, title in MODELS.items():
            if key in views:
                found.append(self.shown(f"novel-{'-'.join(key)}", _pixels(views[key]["image"]), title))
        return found


def overlay(labels: np.ndarray, render: np.ndarray) -> np.ndarray:
    """A label map (H, W) in the colours of its parts over the greys of a render (H, W, 3) float in [0, 1]."""
    grey = (render @ np.array(GREY, np.float32))[..., None]
    colours = PART_COLOURS[labels].astype(np.float32) / 255
    mixed = OVERLAY_OPACITY * colours + (1 - OVERLAY_OPACITY) * grey
    return np.where(labels[..., None] > 0, mixed, 1 - (1 - np.repeat(grey, 3, axis=2)) * (1 - OVERLAY_OPACITY))


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


def _pixels(cell: Mapping[str, Any]) -> np.ndarray:
    return decode_png(cell["bytes"])


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
