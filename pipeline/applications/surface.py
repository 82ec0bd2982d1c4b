"""A 3D object in parts of its own surface, of which nothing is drawn anew but what closes it where that is asked for.

Shape suffixes: H W pixels of the 2x2 grid, N atoms.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Literal

import numpy as np

from pipeline.applications.assemble import Scene, remarks
from pipeline.applications.behind import closing, neural_glb, with_hidden_sides
from pipeline.applications.inputs import INPUT, Source
from pipeline.applications.models import Models
from pipeline.applications.naming import HIDDEN_NAME, PartName, name_parts
from pipeline.applications.part import OwnSurface, Part
from pipeline.applications.result import PartObject
from pipeline.applications.settings import Settings
from pipeline.assets.glb import Part as GLBPart
from pipeline.assets.glb import surface_glb
from pipeline.assets.names import unique_names
from pipeline.errors import Invalid
from pipeline.reconstruction.assembly import mark
from pipeline.shards.progress import step
from pipeline.shards.table import WHOLE
from pipeline.surface.close import Close
from pipeline.surface.division import Division, PartsFrom, divide
from pipeline.surface.merge import merge_glbs
from pipeline.surface.stored import restored, stored
from pipeline.views.cameras import GRID_AZIMUTHS, tile
from pipeline.views.labels import draw_labels

GROUPING = "grouping"
"""The folder of the grouping model."""


@dataclass(frozen=True)
class Wanted:
    """What is asked for of an object's own surface; it stands in the history."""

    parts: int | None
    """How many; None: as many as `divide` says."""
    parts_from: PartsFrom
    max_parts: int | None
    close: Close
    surface: Literal["original", "both"]
    """With `both` there are also the same parts made of fields."""
    seed: int


@dataclass(frozen=True)
class Grouping:
    """Which part each atom of an object's own surface is of."""

    label_N: np.ndarray
    """Labels, from 1, at most 255; there may be gaps."""
    names: Mapping[int, str] = field(default_factory=dict)
    """By label, what comes before all other names, which get a number where they are the same."""


def keep_surface(source: Source, wanted: Wanted, models: Models, settings: Settings, scene: Scene) -> PartObject:
    """The object in parts of its own surface, in the unit frame; the parts' label map is what the four cameras see.

    Invalid when it cannot be divided so.
    """
    with step("Parts of the surface"):
        division = divide(source.pieces, wanted.parts_from, wanted.max_parts, models.where(GROUPING))
        division.part_of_atoms(wanted.parts)  # says so, before the rest is done, when there cannot be so many
        files = stored(division)
        division = restored(files)  # with a file's precision, so that the same parts have the same bytes ever after
        atoms = [
            GLBPart(label, "", [one.to_trimesh() for one in part.surfaces])
            for label, part in enumerate(division.parts(np.arange(division.count)), 1)
        ]
        seen = draw_labels(atoms, scene.camera, [(azimuth, scene.elevation_deg) for azimuth in GRID_AZIMUTHS])
        atoms_HW = np.where(source.shown, tile(seen.labels), 0).astype(np.uint8)
    digests = {GROUPING: models.digest(models.where(GROUPING))}
    made = PartObject(
        name=source.name,
        caption="",
        grid=source.grid,
        labels=atoms_HW,
        parts=[],
        segmentations=[],
        merged=0,
        glb=None,
        overlap={},
        diagnostics=list(source.remarks),
        notice=source.notice,
        origin=source.origin,
        seed=wanted.seed,
        models=digests,
        settings={
            "cameras": dict(models.cameras),
            "captions": settings.captions.backend,
            "reconstruct": scene.params.deciding(),
            "frame": scene.frame,
            "close": wanted.close,
            "surface": wanted.surface,
        },
        history=[{"command": "decompose", "origin": source.origin, **asdict(wanted), "models": digests}],
        surface=OwnSurface.of(files, atoms_HW, division),
    )
    with step("Names"):
        whole = name_parts(settings.captions, source.grid, np.minimum(atoms_HW, 1), source.subject, quick=True)[WHOLE]
    made = replace(made, caption=whole.caption)
    return grouped(made, in_number(made, wanted.parts), models, settings, scene)


def in_number(result: PartObject, parts: int | None) -> Grouping:
    """Another number of parts out of the hierarchy that an object keeps, None: as at first; Invalid when it cannot be
    divided so, or as of `division_of`.
    """
    return Grouping(division_of(result).part_of_atoms(parts) + 1)


def division_of(result: PartObject) -> Division:
    """The surface of an object and all the ways to divide it; Invalid when it was not made of its own surface or was
    edited since.
    """
    if result.surface is None:
        edited = any(entry["command"] in ("edit", "add") for entry in result.history)
        why = "was edited since; regroup the result that was edited" if edited else "has no surface of its own"
        raise Invalid(f"{result.name} {why}, so its parts cannot be regrouped.")
    return result.surface.division


def grouped(result: PartObject, grouping: Grouping, models: Models, settings: Settings, scene: Scene) -> PartObject:
    """The same object in other parts of the same atoms; closed as it was, and with fields where it had them. `scene` is
    as of the result.

    Parts that stay as they are keep their names, captions and colours.
    """
    assert result.surface is not None
    label_N, division = grouping.label_N, division_of(result)
    labels, part_N = np.unique(label_N, return_inverse=True)
    labels_HW = np.concatenate([[0], label_N]).astype(np.uint8)[result.surface.atoms_HW]
    kept = {tuple(one.atoms): one for one in result.parts if one.atoms}
    divided = division.parts(part_N)
    atoms = {label: tuple(np.flatnonzero(label_N == label).tolist()) for label in labels.tolist()}
    known = {
        label: kept[atoms[label]].name if atoms[label] in kept else part.name
        for label, part in zip(atoms, divided, strict=True)
    } | dict(grouping.names)
    unnamed = [label for label in known if atoms[label] not in kept]
    told: Mapping[int, PartName] = {}
    if unnamed:
        told = name_parts(settings.captions, result.grid, labels_HW, result.name, unnamed, quick=True)
    order = sorted(known, key=lambda label: (label not in grouping.names, label))
    names = unique_names(
        known[label] or (told[label].name if label in told and (labels_HW == label).any() else HIDDEN_NAME)
        for label in order
    )
    called = dict(zip(order, names, strict=True))
    bare = []
    for label, mine in atoms.items():
        before = kept.get(mine)
        caption, colour = (told[label].caption, "") if before is None else (before.caption, before.colour)
        bare.append(Part(label, called[label], caption, None, original=True, atoms=mine, colour=colour))
    made = replace(result, labels=labels_HW, parts=bare, neural=None, animations={})
    made, closed = with_hidden_sides(made, divided, models, settings, scene)
    drawn_by = {name: digest for name, digest in made.models.items() if name != GROUPING}
    to_file = np.linalg.inv(result.origin["from_file"]) if result.settings["frame"] == "file" else None
    finished = []
    for one, part in zip(made.parts, closed, strict=True):
        digests = drawn_by if part.generated else {}
        extras = mark(digests) if digests else {}
        glb = surface_glb(one.name, one.label, part.surfaces, result.notice, extras, to_file)
        triangles = sum(len(surface.faces) for surface in part.surfaces)
        finished.append(replace(one, glb=glb, triangles=triangles, models=digests))
    diagnostics = [*(one for one in result.diagnostics if one.kind == INPUT), *remarks(finished)]
    made = replace(
        made,
        parts=finished,
        glb=merge_glbs([part.glb for part in finished if part.glb is not None]),
        diagnostics=diagnostics,
    )
    if closing(result)[1] != "both":
        return made
    neural, missing = neural_glb(made, drawn_by, scene, to_file)
    return replace(made, neural=neural, diagnostics=[*diagnostics, *missing])
