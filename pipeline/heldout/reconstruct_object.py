"""One object's parts in 3D: what the stage `reconstruct` runs in its pool processes (supplement A.1, A.7).

Shape suffixes: N parts, R rays, C channels of a field's volume, D H W its sides along z, y and x.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.errors import ObjectFailed
from pipeline.heldout.loading import worker_device
from pipeline.heldout.reconstruct_tables import AT_ONCE, FIELDS, KEPT, MESHED, OBJECTS, PARTS, PREDICTED, VIEWS
from pipeline.params.reconstruct import MeshParams, ReconstructParams
from pipeline.params.reconstruction import ReconstructionParams
from pipeline.programs import ProgramFailed
from pipeline.reconstruction.assembly import mesh_parts
from pipeline.reconstruction.field import Field
from pipeline.reconstruction.overlap import part_overlap
from pipeline.reconstruction.part_views import render_parts
from pipeline.reconstruction.rays import stacked, view_rays
from pipeline.reconstruction.reconstructor import Reconstructor, find_reconstructor
from pipeline.shards.table import WHOLE, decode_png, encode_png, image_cell
from pipeline.views.cameras import Camera, over_white, tile

CONTRACT = "reconstruct/4"
"""Raised when the same inputs give other rows."""
CHANGES = "reconstructed in 3D from four views by PartGen"
"""What was done to the object whose attribution a GLB carries; licences want it said."""


@dataclass(frozen=True)
class ReconstructTask:
    """What one object is reconstructed from."""

    object_id: str
    split: str
    whole: bytes
    """PNG of its 2x2 grid, with alpha."""
    parts: Mapping[int, bytes]
    """Of every true part alone, by part id, likewise."""
    labels: bytes
    """PNG of the true label map."""
    completed: Mapping[tuple[str, str], Mapping[int, bytes]]
    """By source and method, PNGs of the completed parts by label, without alpha."""
    cameras: Sequence[tuple[float, float]]
    """Azimuth and elevation of the four novel views, in degrees."""
    names: Mapping[int, str]
    """Of the true parts."""
    notice: str
    """The copyright of the object's own GLB."""
    extras: Mapping[str, Any]
    """Its attribution: name, author, licence, source, origin."""
    models: Path
    """The folder of trained models."""
    digests: Mapping[str, str]
    """Of the reconstruction model, by its name; empty where none is used."""
    params: ReconstructParams
    reconstruction: ReconstructionParams
    settings: Mapping[str, Any]
    """The cameras, as in the manifest of the renders."""


def reconstruct_object(task: ReconstructTask) -> dict[str, list[dict[str, Any]]]:
    """The object's rows of all tables. A part that has no surface is a row with the reason."""
    reconstructor, params = _reconstructor(task), task.params
    rows: dict[str, list[dict[str, Any]]] = {table.name: [] for table in (VIEWS, PARTS, OBJECTS, FIELDS)}
    for pair, grids in _work(task):
        identity = {"object_id": task.object_id, "split": task.split, "source": pair[0], "method": pair[1]}
        fields = _fields(reconstructor, grids, None if pair == AT_ONCE else _with_alpha(decode_png(task.whole)))
        for label, picture in _novel_views(task, fields, reconstructor.samples).items():
            rows[VIEWS.name].append({**identity, "label": label, "image": image_cell(encode_png(picture), "novel.png")})
        if pair in MESHED:
            parts, whole = _meshes(task, pair, fields)
            rows[PARTS.name] += [{**identity, **part} for part in parts]
            rows[OBJECTS.name].append({**identity, **whole, **_overlap(list(fields.values()), params.mesh)})
        if pair in KEPT:
            rows[FIELDS.name] += [{**identity, "label": label, "field": _file(one)} for label, one in fields.items()]
    return rows


def _work(task: ReconstructTask) -> Iterator[tuple[tuple[str, str], dict[int, np.ndarray]]]:
    """Source and method, and the grids (H, W, 3 or 4) float32 in [0, 1] by label."""
    whole, labels = decode_png(task.whole), decode_png(task.labels)
    parts = {part_id: decode_png(png) for part_id, png in task.parts.items()}
    yield AT_ONCE, {WHOLE: _with_alpha(whole)}
    yield ("truth", "oracle"), {part_id: _with_alpha(part) for part_id, part in parts.items()}
    seen = {part_id: whole * (labels == part_id)[..., None] for part_id in parts}
    yield ("truth", "none"), {part_id: _with_alpha(part) for part_id, part in seen.items()}
    # Where no part was found there is nothing to complete, and the object counts as one without parts.
    for pair, grids in {PREDICTED: {}, **task.completed}.items():
        yield pair, {label: decode_png(png).astype(np.float32) / 255 for label, png in grids.items()}


def _with_alpha(rgba: np.ndarray) -> np.ndarray:
    return np.concatenate((over_white(rgba), rgba[..., 3:].astype(np.float32) / 255), axis=-1)


def _reconstructor(task: ReconstructTask) -> Reconstructor:
    groups = task.params.model_dump_json(), task.reconstruction.model_dump_json()
    return _found(task.models, *groups, json.dumps(dict(task.settings), sort_keys=True))


@lru_cache(maxsize=1)
def _found(models: Path, params: str, reconstruction: str, settings: str) -> Reconstructor:
    """Once a process; groups and settings come as JSON, which can be compared."""
    groups = ReconstructParams.model_validate_json(params), ReconstructionParams.model_validate_json(reconstruction)
    return find_reconstructor(*groups, models, json.loads(settings), worker_device())


def _fields(
    reconstructor: Reconstructor, grids: Mapping[int, np.ndarray], whole: np.ndarray | None
) -> dict[int, Field]:
    if not grids:
        return {}
    stack = torch.from_numpy(np.stack(list(grids.values()))).movedim(-1, 1).to(worker_device())
    whole_CHW = None if whole is None else torch.from_numpy(whole).movedim(-1, 0).to(worker_device())
    try:
        return dict(zip(grids, reconstructor.fields(stack, whole_CHW), strict=True))
    except ProgramFailed as error:
        raise ObjectFailed(error.reason) from None


def _novel_views(task: ReconstructTask, fields: Mapping[int, Field], samples: int) -> dict[int, np.ndarray]:
    """The pictures (2H, 2W, 3) uint8 of every label, and of all together."""
    camera = Camera(task.settings["fov_deg"], task.settings["distance"], task.settings["view_size"])
    rays = stacked([view_rays(camera, *angles, worker_device()) for angles in task.cameras]).flat()
    alone_NR3, joint_R3 = render_parts(list(fields.values()), rays, samples, task.params.overlap)
    colours = {**dict(zip(fields, alone_NR3, strict=True)), WHOLE: joint_R3}
    return {label: _tiled(colour_R3, camera.size) for label, colour_R3 in colours.items()}


def _tiled(colour_R3: Tensor, size: int) -> np.ndarray:
    views = (colour_R3.clamp(0, 1) * 255).round().to(torch.uint8)
    return tile(views.view(-1, size, size, 3).cpu().numpy())


def _meshes(
    task: ReconstructTask, pair: tuple[str, str], fields: Mapping[int, Field]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """What `parts` says of every part, and `objects` of their assembly."""
    names = {label: _name(task, pair, label) for label in fields}
    extras, models = {**task.extras, "changes": CHANGES}, dict.fromkeys(fields, task.digests)
    parts, assembled = mesh_parts(fields, names, task.params, task.notice, extras, models)
    rows = [
        {
            "label": label,
            "name": names[label],
            "absent": str(part.absent or ""),
            "triangles": part.triangles,
            "glb": part.glb or b"",
        }
        for label, part in parts.items()
    ]
    absent = sum(part.glb is None for part in parts.values())
    return rows, {"parts": len(rows), "absent": absent, "glb": assembled or b""}


def _name(task: ReconstructTask, pair: tuple[str, str], label: int) -> str:
    if pair == AT_ONCE:
        return str(task.extras["name"])
    return f"part {label}" if pair == PREDICTED else task.names[label]


def _overlap(fields: Sequence[Field], mesh: MeshParams) -> dict[str, float]:
    """As `PartOverlap.figures`; 0 where there is no pair of fields."""
    if len(fields) < 2:
        return {"mean_iou": 0.0, "max_iou": 0.0, "contested": 0.0}
    return part_overlap(fields, mesh.resolution, mesh.level).figures()


def _file(field: Field) -> bytes:
    """The field as a file; features that its support never reads are zero, which packs well."""
    if field.support_DHW is not None:
        support_DHW = F.adaptive_max_pool3d(field.support_DHW[None].float(), field.volume_CDHW.shape[1:])
        read_DHW = F.max_pool3d(support_DHW, 3, stride=1, padding=1)
        field = replace(field, volume_CDHW=field.volume_CDHW * read_DHW)
    return field.encoded()
