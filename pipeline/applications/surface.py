"""A 3D object in parts of its own surface, of which nothing is drawn anew.

Shape suffixes: H W pixels of the 2x2 grid, N atoms.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from pipeline.applications.assemble import Scene, remarks
from pipeline.applications.inputs import Source
from pipeline.applications.models import Networks, Settings
from pipeline.applications.naming import HIDDEN_NAME, PartName, name_parts
from pipeline.applications.result import OwnSurface, Part, PartObject
from pipeline.assets.glb import Part as GLBPart
from pipeline.assets.glb import surface_glb
from pipeline.assets.names import unique_names
from pipeline.assets.surface import Piece
from pipeline.errors import Invalid
from pipeline.shards.progress import step
from pipeline.shards.table import WHOLE
from pipeline.surface.close import Close, capped
from pipeline.surface.division import Division, PartsFrom, divide
from pipeline.surface.merge import merge_glbs
from pipeline.surface.stored import restored, stored
from pipeline.views.cameras import GRID_AZIMUTHS, tile
from pipeline.views.labels import draw_labels

GROUPING = "grouping"
"""The folder of the grouping model."""


def keep_surface(
    pieces: Sequence[Piece],
    source: Source,
    parts: int | None,
    parts_from: PartsFrom,
    most: int | None,
    close: Close,
    seed: int,
    networks: Networks,
    settings: Settings,
    scene: Scene,
) -> PartObject:
    """The object in `parts` parts of its own surface, in the unit frame, or in as many as `divide` says.

    The parts' label map is what the four cameras see of them. Invalid when it cannot be divided so.
    """
    with step("Parts of the surface"):
        division = divide(pieces, parts_from, most, networks.folder(GROUPING))
        division.part_of_atoms(parts)  # says so, before the rest is done, when there cannot be so many
        files = stored(division)
        division = restored(files)  # with a file's precision, so that the same parts have the same bytes ever after
        atoms = [
            GLBPart(label, "", [one.to_trimesh() for one in part.surfaces])
            for label, part in enumerate(division.parts(np.arange(division.count)), 1)
        ]
        seen = draw_labels(atoms, scene.camera, [(azimuth, scene.elevation_deg) for azimuth in GRID_AZIMUTHS])
        atoms_HW = np.where(source.shown, tile(seen.labels), 0).astype(np.uint8)
    surface = OwnSurface(files, atoms_HW)
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
        seed=seed,
        models=models,
        settings={
            "cameras": dict(networks.cameras),
            "captions": settings.captions.backend,
            "reconstruct": scene.params.deciding(),
            "frame": scene.frame,
            "close": close,
        },
        history=[
            {
                "command": "decompose", "origin": source.origin, "parts": parts, "parts_from": parts_from,
                "max_parts": most, "close": close, "seed": seed, "models": models,
            }
        ],
        surface=surface,
    )  # fmt: skip
    with step("Names"):
        whole = name_parts(settings.captions, source.grid, np.minimum(atoms_HW, 1), source.subject, quick=True)[WHOLE]
    return regrouped(replace(made, caption=whole.caption), parts, settings)


def regrouped(result: PartObject, parts: int | None, settings: Settings) -> PartObject:
    """The same object in another number of parts out of the hierarchy that it keeps, None: as at first; closed as it
    was.

    Parts that stay as they are keep their names and captions. Invalid when it cannot be divided so, or when it was
    not made of its own surface or was edited since.
    """
    division = division_of(result)
    return grouped(result, division, division.part_of_atoms(parts) + 1, settings)


def division_of(result: PartObject) -> Division:
    """The surface of an object and all the ways to divide it; Invalid when it was not made of its own surface or was
    edited since.
    """
    if result.surface is None:
        edited = any(entry["command"] in ("edit", "add") for entry in result.history)
        why = "was edited since; regroup the result that was edited" if edited else "has no surface of its own"
        raise Invalid(f"{result.name} {why}, so its parts cannot be regrouped.")
    return result.surface.division


def grouped(
    result: PartObject,
    division: Division,
    label_N: np.ndarray,
    settings: Settings,
    given: Mapping[int, str] | None = None,
) -> PartObject:
    """The same object in the parts that its atoms' labels make, from 1, at most 255; closed as it was.

    Parts that stay as they are keep their names, captions and colours. Names that are `given` by label come before all
    others, which get a number where they are the same.
    """
    assert result.surface is not None
    labels, part_N = np.unique(label_N, return_inverse=True)
    labels_HW = np.concatenate([[0], label_N]).astype(np.uint8)[result.surface.atoms_HW]
    kept = {tuple(one.atoms): one for one in result.parts if one.atoms}
    divided = division.parts(part_N)
    if result.settings["close"] == "cap":
        divided = capped(divided)
    atoms = {label: tuple(np.flatnonzero(label_N == label).tolist()) for label in labels.tolist()}
    known = {
        label: kept[atoms[label]].name if atoms[label] in kept else part.name
        for label, part in zip(atoms, divided, strict=True)
    } | dict(given or {})
    unnamed = [label for label in known if atoms[label] not in kept]
    told: Mapping[int, PartName] = {}
    if unnamed:
        told = name_parts(settings.captions, result.grid, labels_HW, result.name, unnamed, quick=True)
    order = sorted(known, key=lambda label: (label not in (given or {}), label))
    names = unique_names(
        known[label] or (told[label].name if label in told and (labels_HW == label).any() else HIDDEN_NAME)
        for label in order
    )
    called = dict(zip(order, names, strict=True))
    to_file = np.linalg.inv(result.origin["from_file"]) if result.settings["frame"] == "file" else None
    made = []
    for label, part in zip(atoms, divided, strict=True):
        name, before = called[label], kept.get(atoms[label])
        caption, colour = (told[label].caption, "") if before is None else (before.caption, before.colour)
        glb = surface_glb(name, label, part.surfaces, result.notice, to_file)
        triangles = sum(len(surface.faces) for surface in part.surfaces)
        made.append(
            Part(
                label, name, caption, None, glb=glb, triangles=triangles, original=True, atoms=atoms[label],
                colour=colour,
            )
        )  # fmt: skip
    others = [one for one in result.diagnostics if one.kind == "input"]
    return replace(
        result,
        labels=labels_HW,
        parts=made,
        glb=merge_glbs([part.glb for part in made if part.glb is not None]),
        diagnostics=[*others, *remarks(made)],
        animations={},
    )
