"""From the grids of an object's parts to the object: fields, meshes, one GLB, animations and diagnostics.

Shape suffixes: H W pixels of the 2x2 grid.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from pipeline.applications.diagnostics import Diagnostic, diagnose
from pipeline.applications.part import Part
from pipeline.applications.result_folder import ANIMATIONS
from pipeline.params.reconstruct import ReconstructParams
from pipeline.reconstruction.assembly import PartMesh, mesh_parts
from pipeline.reconstruction.field import Field
from pipeline.reconstruction.overlap import part_overlap
from pipeline.reconstruction.rays import BOUND
from pipeline.reconstruction.turntable import exploded, gif, turntable
from pipeline.shards.progress import Progress, step
from pipeline.surface.division import UNDIVIDED
from pipeline.surface.merge import merge_glbs
from pipeline.views.cameras import Camera, over_white
from pipeline.views.mesh_turntable import mesh_turntable

if TYPE_CHECKING:
    from pipeline.reconstruction.reconstructor import Reconstructor

Frame = Literal["unit", "file"]
"""In which GLBs stand: that of results, where 1 is the radius of the object, or that of the file it was made from."""
MESHES_PX = 384
"""Pixels a side of animations of meshes, at least; rendering fields takes longer."""
ANIMATIONS_LOG_S = 30.0
"""Between the lines of progress in a log: animations take seconds, but for a busy machine."""


@dataclass(frozen=True)
class Scene:
    """How the parts of an object are made 3D, and seen."""

    params: ReconstructParams
    load: Callable[[], "Reconstructor"]
    """What reads the reconstructor, when it is first needed; UserError when its model is not there."""
    camera: Camera
    elevation_deg: float
    device: torch.device
    frame: Frame = "unit"

    @cached_property
    def reconstructor(self) -> "Reconstructor":
        """What makes fields of grids."""
        return self.load()

    def fields(self, parts: Sequence[Part]) -> dict[int, Field]:
        """The fields of the parts that have one by label, where they are computed with."""
        return {part.label: _on(part.field, self.device) for part in parts if part.field is not None}


@dataclass(frozen=True)
class Built:
    """An object out of its parts; see `PartObject`."""

    parts: Sequence[Part]
    glb: bytes | None
    overlap: Mapping[str, float]
    diagnostics: Sequence[Diagnostic]


def fields_of(scene: Scene, grids: Mapping[int, np.ndarray], whole: np.ndarray | None = None) -> dict[int, Field]:
    """The fields of parts' grids, (H, W, 3) uint8 each; in the memory of the CPU, as all results are.

    `whole` (H, W, 4) uint8 is the grid of the object whose parts they are, where it shows them.
    """
    stack = torch.from_numpy(np.stack(list(grids.values()))).to(scene.device).permute(0, 3, 1, 2)
    shown = None if whole is None else torch.from_numpy(over_white(whole)).to(scene.device).movedim(-1, 0)
    with step("Reconstruction"):
        fields = scene.reconstructor.fields(stack.float() / 255, shown)
    return {label: _on(field, torch.device("cpu")) for label, field in zip(grids, fields, strict=True)}


def build(
    parts: Sequence[Part],
    grid: np.ndarray,
    labels: np.ndarray,
    scene: Scene,
    notice: str,
    origin: Mapping[str, Any],
    merged: int,
) -> Built:
    """Everything that follows from the parts' fields and from the object's grid, (H, W, 4) uint8, and label map."""
    params, fields = scene.params, scene.fields(parts)
    with step("Meshes"):
        to_file = np.linalg.inv(origin["from_file"]) if scene.frame == "file" else None
        names = {part.label: part.name for part in parts if not part.original}
        models = {part.label: part.models for part in parts}
        meshes, glb = mesh_parts({label: fields[label] for label in names}, names, params, notice, {}, models, to_file)
        meshed = [part if part.original else _with_mesh(part, meshes[part.label]) for part in parts]
        if len(names) < len(parts):
            glb = merge_glbs([part.glb for part in meshed if part.glb is not None])
    with step("Overlap and diagnostics"):
        overlap = part_overlap(list(fields.values()), params.mesh.resolution, params.mesh.level)
        in_place = {
            part.label: part.grid.astype(np.float32) / 255
            for part in parts
            if part.grid is not None and part.field is not None and not part.field.is_placed
        }
        found = diagnose(
            over_white(grid),
            labels,
            in_place,
            fields,
            scene.reconstructor.samples,
            scene.camera,
            scene.elevation_deg,
            merged,
            overlap,
            params.overlap,
        )
    return Built(meshed, glb, overlap=overlap.figures(), diagnostics=[*found, *remarks(meshed)])


def animations(parts: Sequence[Part], scene: Scene, to_unit: np.ndarray) -> dict[str, bytes]:
    """The parts from all around, as they are and pulled apart; see `PartObject.animations`.

    Of their meshes, which `to_unit`, (4, 4), moves to the unit frame, where some are of the object's own surface; else
    of the fields.
    """
    params, meshes = scene.params.turntable, any(part.original for part in parts)
    glbs = [part.glb for part in parts if part.glb is not None]
    fields = {} if meshes else scene.fields(parts)
    shown = [fields[part.label] for part in parts if fields and part.glb is not None] or list(fields.values())
    camera = replace(scene.camera, size=max(params.size, MESHES_PX) if meshes else params.size)
    drawn = {}
    with Progress("Animations", len(ANIMATIONS) * params.frames, log_every_s=ANIMATIONS_LOG_S) as progress:
        for name, explode in zip(ANIMATIONS, (0.0, params.explode), strict=True):
            if meshes:
                pictures = mesh_turntable(
                    glbs, camera, params.elevation_deg, params.frames, to_unit, explode, progress.advance
                )
            else:
                pictures = turntable(
                    exploded(shown, explode) if explode else shown, camera, params.elevation_deg, params.frames,
                    scene.reconstructor.samples, scene.params.overlap, progress.advance,
                ).pictures_FHW3  # fmt: skip
            drawn[name] = gif(pictures)
    return drawn


def _with_mesh(part: Part, mesh: PartMesh) -> Part:
    return replace(part, glb=mesh.glb, triangles=mesh.triangles, absent=mesh.absent.reason if mesh.absent else "")


def _on(field: Field, device: torch.device) -> Field:
    if field.volume_CDHW.device.type == device.type:
        return field
    support = field.support_DHW if field.support_DHW is None else field.support_DHW.to(device)
    decoder = deepcopy(field.decoder).to(device)
    gaussians = None if field.gaussians is None else field.gaussians.to(device)
    moved = replace(field, volume_CDHW=field.volume_CDHW.to(device), decoder=decoder, support_DHW=support)
    return replace(moved, gaussians=gaussians)


def remarks(parts: Sequence[Part]) -> Iterator[Diagnostic]:
    """What else a user should know of the parts."""
    if len(parts) == 1:
        advice = "--parts 2, or --parts-from pieces" if parts[0].original else "another seed, or --samples and --use"
        why = f": {UNDIVIDED}" if len(parts[0].atoms) == 1 else f"; try {advice}"
        yield Diagnostic("single", None, 1.0, f"The object has one part only{why}.")
    if not any(part.glb for part in parts):
        message = "No part has a surface, so there is no object.glb; try --reconstructor carve, or train for longer."
        yield Diagnostic("absent", None, 0.0, message)
    for part in parts:
        if part.field is None:
            continue
        if part.glb is None and not part.field.is_empty:
            yield Diagnostic("absent", part.label, 0.0, f"Part {part.label} is not in object.glb: {part.absent}")
        reach = part.field.reach() if part.field.is_placed else 0.0
        if reach > BOUND:
            yield Diagnostic(
                "out_of_view",
                part.label,
                reach,
                f"Part {part.label} reaches {reach:.2f} from the centre, and the four views show what is within "
                f"{BOUND:g}: in grid.png it is cut, in object.glb and the animations it is whole.",
            )
