"""Editing an object made of parts: a part is drawn anew or added, all others are kept (A.8, supplement C).

Shape suffixes: H W pixels of the 2x2 grid, or with C D channels and depth of a volume; M cells that a part claims.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.spatial.transform import Rotation
from torch import Tensor

from pipeline.applications.assemble import Scene, build
from pipeline.applications.inputs import INPUT
from pipeline.applications.models import Networks
from pipeline.applications.result import Part, PartObject
from pipeline.diffusion.pipelines import EditingPipeline
from pipeline.reconstruction.field import Field
from pipeline.reconstruction.turntable import grid_view
from pipeline.shards.progress import step
from pipeline.views.cameras import over_white


def imagined(result: PartObject, label: int, prompt: str, seed: int, networks: Networks) -> np.ndarray:
    """The grid (H, W, 3) uint8 of a part after a prompt, among what the others show of themselves (A.8).

    `label` is the part in whose place it comes, or one that is not there yet.
    """
    rest = (result.labels > 0) & (result.labels != label)
    with step("Drawing the part"):
        noise = torch.Generator().manual_seed(seed)
        (drawn,) = networks.get(EditingPipeline)(over_white(result.grid), rest, prompt, generator=noise).images
    picture: np.ndarray = (drawn * 255).round().astype(np.uint8)
    return picture


def changed(
    result: PartObject,
    parts: Sequence[Part],
    new: Part,
    scene: Scene,
    models: Mapping[str, str],
    entry: Mapping[str, Any],
) -> PartObject:
    """The object of `parts`, of which `new` was replaced or added; `models` and `entry` go into its history.

    It can no longer be divided anew.
    """
    with step("Joint views"):
        grid, labels = redrawn(result.grid, result.labels, parts, new.label, scene)
    built = build(parts, grid, labels, scene, result.notice, result.origin, result.merged)
    kept = [one for one in result.diagnostics if one.kind == INPUT]
    return replace(
        result,
        grid=grid,
        labels=labels,
        parts=built.parts,
        glb=built.glb,
        surface=None,
        neural=None,
        animations={},
        overlap=built.overlap,
        diagnostics=[*kept, *built.diagnostics],
        models={**result.models, **models},
        settings={**result.settings, "reconstruct": scene.params.deciding()},
        history=[*result.history, {**entry, "models": models}],
    )


def redrawn(
    grid: np.ndarray, labels_HW: np.ndarray, parts: Sequence[Part], label: int, scene: Scene
) -> tuple[np.ndarray, np.ndarray]:
    """The grid (H, W, 4) uint8 and the label map after one part, `label`, was replaced or added.

    All parts are rendered together from the grid's four cameras (A.7). Pixels that showed the part, or show it now, are
    taken from there; all others stay as they were. What reaches out of the views is cut.
    """
    samples = scene.reconstructor.samples
    seen = grid_view(scene.fields(parts), scene.camera, scene.elevation_deg, samples, scene.params.overlap)
    where_HW = (labels_HW == label) | (seen.labels_HW == label)
    shown = np.dstack([seen.picture_HW3, np.where(seen.labels_HW > 0, 255, 0)]).astype(np.uint8)
    return np.where(where_HW[..., None], shown, grid), np.where(where_HW, seen.labels_HW, labels_HW).astype(np.uint8)


def in_place(origin: Mapping[str, Any], field: Field) -> dict[str, Any]:
    """The origin of an added thing, whose matrix leads to where its field stands in the scene."""
    if "from_file" not in origin:
        return dict(origin)
    stood = np.diag([field.scale, field.scale, field.scale, 1.0])
    stood[:3, 3] = field.offset_3
    return {**origin, "from_file": (stood @ origin["from_file"]).tolist()}


def turned(field: Field, degrees_3: Sequence[float]) -> Field:
    """A thing's field, turned by so many degrees around its own X, Y and Z, one after another, by interpolation.

    It is for one within the unit sphere, which stays within the cube. Where colours depend on the direction of a ray,
    they do so as before.
    """
    matrix_33 = torch.from_numpy(Rotation.from_euler("XYZ", degrees_3, degrees=True).as_matrix())
    back_134 = F.pad(matrix_33.T, (0, 1))[None].to(field.volume_CDHW)

    def resampled(volume_CDHW: Tensor) -> Tensor:
        places = F.affine_grid(back_134, [1, *volume_CDHW.shape], align_corners=False)
        return F.grid_sample(volume_CDHW[None], places, align_corners=False)[0]

    volume_CDHW, support_DHW = field.volume_CDHW, field.support_DHW
    there = volume_CDHW.new_ones(volume_CDHW.shape[1:]) if support_DHW is None else support_DHW.to(volume_CDHW)
    return replace(
        field,
        volume_CDHW=resampled(volume_CDHW),
        support_DHW=resampled(there[None])[0] > 0,
        gaussians=None if field.gaussians is None else field.gaussians.turned(matrix_33, 1.0),
    )


def stand(field: Field, parts: Sequence[Part], place: Sequence[float] | None, scale: float) -> Field:
    """A thing's field with its centre at `place`, or at the +X side of all parts and on the same ground.

    UserError when `place` or `scale` are no such numbers.
    """
    sized = field.placed(place or (0, 0, 0), scale)
    there = [part.field.cells() for part in parts if part.field is not None and not part.field.is_empty]
    if place is not None or field.is_empty or not there:
        return sized
    cells_M3, others_M3 = sized.cells(), torch.cat(there)
    x = others_M3[:, 0].max() - cells_M3[:, 0].min()
    y = others_M3[:, 1].min() - cells_M3[:, 1].min()
    return sized.moved((float(x), float(y), 0))
