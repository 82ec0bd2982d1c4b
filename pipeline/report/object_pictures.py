"""The pictures of one object, written to the page's files: what every stage made of it.

Shape suffixes: H W pixels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.heldout.generate_tables import FROM_IMAGE, FROM_TEXT
from pipeline.report.page_files import PageFiles
from pipeline.report.taken_apart import FUSED, MODELLED, TakenApart
from pipeline.report.training_grids import TrainingGrids
from pipeline.shards.table import WHOLE, decode_png
from pipeline.views.cameras import Camera, over_white
from pipeline.views.palette import PART_COLOURS
from pipeline.views.tables import GIVEN_VIEW

REGIMES = {MODELLED: "As modelled", FUSED: "Fused into one skin first"}
"""The regimes in which an object's own surface is shown in parts."""
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


class ObjectPictures:
    """Pictures of one object, whose files begin with `stem`."""

    def __init__(self, stem: str, files: PageFiles) -> None:
        self.stem, self.files = stem, files

    def shown(self, name: str, pixels: np.ndarray, title: str, note: str = "", label: int = WHOLE) -> Shown:
        """`pixels`: RGB (H, W, 3), uint8, or float in [0, 1]."""
        return Shown(self.files.picture(f"{self.stem}-{name}", pixels), title, note, label)

    def own(self, regime: str, apart: TakenApart, camera: Camera) -> OwnSurface:
        """The object taken apart on its own surface, in a regime of `REGIMES`."""
        drawn = apart.pictures(camera)
        shown = [self.shown(f"own-{regime}-{place}", *one[::-1]) for place, one in enumerate(drawn.items())]
        parts = [NamedLabel(label, name) for label, name in enumerate(apart.names, start=1)]
        return OwnSurface(REGIMES[regime], f"{_count(len(parts), 'part')}, IoU {apart.iou:.0f} %", shown, parts)

    def maps(self, renders: Mapping[int, np.ndarray], rows: Mapping[str, list[dict[str, Any]]]) -> list[Shown]:
        """The grid, its true parts, and the segmentation that was assembled."""
        whole = renders[WHOLE]
        found = [self.shown("grid", whole, "Rendered from four sides")]
        for row in rows["labels"]:
            found.append(self.shown("truth", overlay(pixels_of(row["labels"]), whole), "True parts"))
        for row in rows["chosen"]:
            labels = pixels_of(row["labels"])
            note = f"run {row['run'] + 1}, {_count(len(np.unique(labels[labels > 0])), 'part')}"
            note += f", {_count(row['merged'], 'region')} merged" if row["merged"] else ""
            found.append(self.shown("predicted", overlay(labels, whole), "Segmentation that was assembled", note))
        return found

    def generated(self, rows: Mapping[str, list[dict[str, Any]]], trained: "TrainedOn") -> list[Shown]:
        """What was drawn of the caption, the view that was given, and what was drawn of that, each beside the closest
        object that was trained on.
        """
        drawn = {row["method"]: pixels_of(row["image"]) for row in rows["generated"]}
        views = {row["view"]: over_white(pixels_of(row["image"])) for row in rows["given"]}
        if not drawn:
            return []
        return [
            self.shown("from-text", drawn[FROM_TEXT], "From the caption"),
            *trained.closest(self, "from-text", drawn[FROM_TEXT]),
            self.shown("view", views[GIVEN_VIEW], "One view"),
            self.shown("from-view", drawn[FROM_IMAGE], "From that view"),
            *trained.closest(self, "from-view", drawn[FROM_IMAGE]),
        ]

    def runs(self, renders: Mapping[int, np.ndarray], rows: Mapping[str, list[dict[str, Any]]]) -> list[Shown]:
        """Every segmentation, those that the others agree with most first."""
        found = []
        for row in sorted(rows["runs"], key=lambda row: (-row["score"], row["run"])):
            labels = pixels_of(row["labels"])
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
                found.append(self.shown(f"part-{row['label']:03d}", pixels_of(row["image"]), title, note, row["label"]))
        for row in completions:
            if row["source"] == "imagined":
                found.append(self.shown("imagined", pixels_of(row["image"]), "Imagined", "from an empty mask"))
        return found

    def true_parts(
        self, renders: Mapping[int, np.ndarray], names: Mapping[int, str], completions: Sequence[Mapping[str, Any]]
    ) -> list[tuple[Shown, Sequence[Shown]]]:
        """Every true part that a view shows, and the same completed by the full network where that was done."""
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
                completed.append(self.shown(f"drawn-{part_id:03d}", pixels_of(row["image"]), name, note, part_id))
            found.append((rendered, completed))
        return found

    def novel(self, rows: Mapping[str, list[dict[str, Any]]]) -> list[Shown]:
        """The whole object from four new views: rendered, and of every model."""
        found = [
            self.shown("novel-truth", over_white(pixels_of(row["image"])), "Rendered")
            for row in rows["novel"]
            if row["part_id"] == WHOLE
        ]
        views = {(row["source"], row["method"]): row for row in rows["views"] if row["label"] == WHOLE}
        for key, title in MODELS.items():
            if key in views:
                found.append(self.shown(f"novel-{'-'.join(key)}", pixels_of(views[key]["image"]), title))
        return found


class TrainedOn:
    """What the page shows of the objects that the networks were trained on: those closest to what they drew."""

    def __init__(self, data: Path, names: Mapping[str, str]) -> None:
        """`names` of objects by id."""
        self._grids, self._names = TrainingGrids(data), names
        self.shown: set[str] = set()
        """Objects that the page shows."""

    def __len__(self) -> int:
        return len(self._grids.object_ids)

    def closest(self, pictures: ObjectPictures, name: str, drawn: np.ndarray) -> list[Shown]:
        """The object that is closest to a grid (2H, 2W, 3) uint8; none where nothing was trained on."""
        found = self._grids.nearest(drawn.astype(np.float32) / 255)
        if found is None:
            return []
        self.shown.add(found.object_id)
        note = f"{self._names[found.object_id]}, ST-LPIPS {found.distance:.2f}"
        return [pictures.shown(f"{name}-closest", found.grid, "Closest training object", note)]


def overlay(labels: np.ndarray, render: np.ndarray) -> np.ndarray:
    """A label map (H, W) in the colours of its parts over the greys of a render (H, W, 3) float in [0, 1]."""
    grey = (render @ np.array(GREY, np.float32))[..., None]
    colours = PART_COLOURS[labels].astype(np.float32) / 255
    mixed = OVERLAY_OPACITY * colours + (1 - OVERLAY_OPACITY) * grey
    return np.where(labels[..., None] > 0, mixed, 1 - (1 - np.repeat(grey, 3, axis=2)) * (1 - OVERLAY_OPACITY))


def pixels_of(cell: Mapping[str, Any]) -> np.ndarray:
    """The picture of a table's cell."""
    return decode_png(cell["bytes"])


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
