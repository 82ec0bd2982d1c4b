"""A 3D object in parts of its own surface, of which nothing is drawn anew but what closes it where that is asked for.

Shape suffixes: H W pixels of the 2x2 grid, N atoms.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Literal

import numpy as np

from pipeline.applications.assemble import Scene, remarks
from pipeline.applications.behind import closing, neural_glb, with_hidden_sides
from pipeline.applications.inputs import INPUT, Source
from pipeline.applications.models import Networks, Settings
from pipeline.applications.naming import HIDDEN_NAME, PartName, name_parts
from pipeline.applications.result import OwnSurface, Part, PartObject
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


def keep_surface(source: Source, wanted: Wanted, networks: Networks, settings: Settings, scene: Scene) -> PartObject:
    """The object in parts of its own surface, in the unit frame; the parts' label map is what the four cameras see.

    Invalid when it cannot be divided so.
    """
    with step("Parts of the surface"):
        division = divide(source.pieces, wanted.parts_from, wanted.max_parts, networks.folder(GROUPING))
        division.part_of_atoms(wanted.parts)  # says so, before the rest is done, when there cannot be so many
        files = stored(division)
        division = restored(files)  # with a file's precision, so that the same parts have the same bytes ever after
        atoms = [
            GLBPart(label, "", [one.to_trimesh() for one in part.surfaces])
            for label, part in enumerate(division.parts(np.arange(division.count)), 1)
        ]
        seen = draw_labels(atoms, scene.camera, [(azimuth, scene.elevation_deg) for azimuth in GRID_AZIMUTHS])
        atoms_HW = np.where(source.shown, tile(seen.labels), 0).astype(np.uint8)
    models = {GROUPING: networks.digest(networks.folder(GROUPING))}
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
        models=models,
        settings={
            "cameras": dict(networks.cameras),
            "captions": settings.captions.backend,
            "reconstruct": scene.params.deciding(),
            "frame": scene.frame,
            "close": wanted.close,
            "surface": wanted.surface,
        },
        history=[{"command": "decompose", "origin": source.origin, **asdict(wanted), "models": models}],
        surface=OwnSurface(files, atoms_HW),
    )
    with step("Names"):
        whole = name_parts(settings.captions, source.grid, np.minimum(atoms_HW, 1), source.subject, quick=True)[WHOLE]
    return _divided(replace(made, caption=whole.caption), division, wanted.parts, networks, settings, scene)


def regrouped(
    result: PartObject, parts: int | None, networks: Networks, settings: Settings, scene: Scene
) -> PartObject:
    """The same object in another number of parts out of the hierarchy that it keeps, None: as at first; closed as it
    was, and with fields where it had them. `scene` is as of the result.

    Parts that stay as they are keep their names and captions. Invalid when it cannot be divided so, or when it was
    not made of its own surface or was edited since.
    """
    if result.surface is None:
        edited = any(entry["command"] in ("edit", "add") for entry in result.history)
        why = "was edited since; regroup the result that was edited" if edited else "has no surface of its own"
        raise Invalid(f"{result.name} {why}, so its parts cannot be regrouped.")
    return _divided(result, restored(result.surface.files), parts, networks, settings, scene)


def _divided(
    result: PartObject, division: Division, parts: int | None, networks: Networks, settings: Settings, scene: Scene
) -> PartObject:
    assert result.surface is not None
    part_N = division.part_of_atoms(parts)
    labels_HW = np.concatenate([[0], part_N + 1]).astype(np.uint8)[result.surface.atoms_HW]
    kept = {tuple(one.atoms): one for one in result.parts if one.atoms}
    divided = division.parts(part_N)
    atoms = {label: tuple(np.flatnonzero(part_N == label - 1).tolist()) for label in range(1, len(divided) + 1)}
    known = {
        label: kept[atoms[label]].name if atoms[label] in kept else part.name for label, part in enumerate(divided, 1)
    }
    unnamed = [label for label in known if atoms[label] not in kept]
    told: Mapping[int, PartName] = {}
    if unnamed:
        told = name_parts(settings.captions, result.grid, labels_HW, result.name, unnamed, quick=True)
    names = unique_names(
        name or (told[label].name if label in told and (labels_HW == label).any() else HIDDEN_NAME)
        for label, name in known.items()
    )
    captions = {label: kept[atoms[label]].caption if atoms[label] in kept else told[label].caption for label in known}
    bare = [
        Part(label, name, captions[label], None, original=True, atoms=atoms[label])
        for label, name in zip(known, names, strict=True)
    ]
    made = replace(result, labels=labels_HW, parts=bare, neural=None, animations={})
    made, closed = with_hidden_sides(made, divided, networks, settings, scene)
    drawn_by = {name: digest for name, digest in made.models.items() if name != GROUPING}
    to_file = np.linalg.inv(result.origin["from_file"]) if result.settings["frame"] == "file" else None
    finished = []
    for one, part in zip(made.parts, closed, strict=True):
        models = drawn_by if part.generated else {}
        extras = mark(models) if models else {}
        glb = surface_glb(one.name, one.label, part.surfaces, result.notice, extras, to_file)
        triangles = sum(len(surface.faces) for surface in part.surfaces)
        finished.append(replace(one, glb=glb, triangles=triangles, models=models))
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
