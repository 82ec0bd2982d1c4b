"""Editing an object made of parts: a part is drawn anew or added, all others are kept (A.8, supplement C).

Shape suffixes: H W pixels of the 2x2 grid, or with C D channels and depth of a volume; M cells that a part claims.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.spatial.transform import Rotation
from torch import Tensor

from pipeline.applications.assemble import Scene, build, fields_of
from pipeline.applications.create import check_up, drawn_object
from pipeline.applications.decompose import with_fields
from pipeline.applications.inputs import INPUT, Source, checked_prompt, from_picture, from_prompt, short_name
from pipeline.applications.models import Models
from pipeline.applications.part import Part, free_name
from pipeline.applications.result import PartObject
from pipeline.applications.session import Session
from pipeline.assets.surface import Up
from pipeline.diffusion.pipelines import EditingPipeline
from pipeline.errors import Invalid, UserError
from pipeline.reconstruction.field import Field, check_placement
from pipeline.reconstruction.turntable import grid_view
from pipeline.shards.progress import step
from pipeline.views.cameras import over_white

MOST_LABELS = 255
ADDED_SCALE = 0.5
"""Size of an added thing beside the object that it is added to, unless said otherwise."""


@dataclass(frozen=True)
class Addition:
    """What is added to an object, one of a text, an image and a 3D object, and where; see `PartGenPipeline.add`."""

    text: str | None
    image: str | Path | Image.Image | None
    object: str | Path | None
    up: Up
    place: Sequence[float] | None
    scale: float | None
    turn: Sequence[float]

    def check(self) -> None:
        """UserError when it cannot be added to anything."""
        if [self.text, self.image, self.object].count(None) != 2:
            raise Invalid("Give one of a text, an image and an object to add.")
        check_up(self.up)
        if self.place is not None and len(self.place) != 3:
            raise Invalid(f"The place {tuple(self.place)} has {len(self.place)} numbers; give x, y and z.")
        if len(self.turn) != 3 or not np.isfinite(self.turn).all():
            raise Invalid(f"The turn {tuple(self.turn)} is not three numbers; give degrees around x, y and z.")
        check_placement(self.place or (0, 0, 0), self.size)

    @property
    def size(self) -> float:
        """1 is the radius of the bounding sphere of the object that it is added to."""
        return ADDED_SCALE if self.scale is None else self.scale

    @property
    def is_placed(self) -> bool:
        """Whether it is said where or how it stands; what is not is drawn in place."""
        return self.place is not None or self.scale is not None or any(self.turn)


def edited(
    session: Session, result: PartObject, part: str, prompt: str, name: str, seed: int, reconstructor: str | None
) -> PartObject:
    """The object with one part drawn anew; see `PartGenPipeline.edit`."""
    old, text = result.part(part), session.allowed(checked_prompt(prompt))
    scene = session.resume(result, reconstructor)
    result = with_fields(result, [one.label for one in result.parts], session.models, session.settings, scene)
    old = result.part(part)
    grid = imagined(result, old.label, text, seed, session.models)
    called = free_name(name.strip() or short_name(text), [one for one in result.parts if one is not old])
    field = fields_of(scene, {old.label: grid})[old.label]
    entry = {"command": "edit", "part": old.name, "name": called, "prompt": text, "seed": seed}
    digests = session.models.digests(*EditingPipeline.tasks) | session.models.reconstructing(scene.params)
    new = replace(
        old, name=called, caption=text, score=None, grid=grid, field=field, original=False, models=digests, atoms=()
    )
    parts = [new if one is old else one for one in result.parts]
    return session.allowed(changed(result, parts, new, scene, digests, entry))


def added(
    session: Session, result: PartObject, addition: Addition, name: str, seed: int, reconstructor: str | None
) -> PartObject:
    """The object with one part more; see `PartGenPipeline.add`."""
    addition.check()
    label = 1 + max(one.label for one in result.parts)
    if label > MOST_LABELS:
        raise UserError(f"{result.name} has a part {MOST_LABELS} already; more cannot be told apart.")
    turn = addition.turn
    prompt = "" if addition.text is None else session.allowed(checked_prompt(addition.text))
    scene = session.resume(result, reconstructor)
    result = with_fields(result, [one.label for one in result.parts], session.models, session.settings, scene)
    if prompt and not addition.is_placed:
        grid = imagined(result, label, prompt, seed, session.models)
        field, called = fields_of(scene, {label: grid})[label], short_name(prompt)
        names: Sequence[str] = EditingPipeline.tasks
        origin: Mapping[str, Any] = {"kind": "text", "prompt": prompt}
    else:
        source = _source(session, addition, prompt, seed)
        grid = (over_white(source.grid) * 255).round().astype(np.uint8)
        field = fields_of(scene, {label: grid})[label]
        field = turned(field, turn) if any(turn) and addition.object is None else field
        field = stand(field, result.parts, addition.place, addition.size)
        called, names, origin = source.name, source.models, in_place(source.origin, field)
        notices = dict.fromkeys(filter(None, (result.notice, source.notice)))
        remarks = [*result.diagnostics, *source.remarks]
        result = replace(result, notice="; ".join(notices), diagnostics=remarks)
    called = free_name(name.strip() or called, result.parts)
    digests = session.models.digests(*names) | session.models.reconstructing(scene.params)
    new = Part(label, called, prompt or called, None, grid, field, models=digests)
    placement = {"offset": field.offset_3, "scale": field.scale}
    entry = {"command": "add", "part": called, "origin": origin, "placement": placement, "seed": seed}
    entry |= {"turn": list(turn)} if any(turn) else {}
    return session.allowed(changed(result, [*result.parts, new], new, scene, digests, entry))


def imagined(result: PartObject, label: int, prompt: str, seed: int, models: Models) -> np.ndarray:
    """The grid (H, W, 3) uint8 of a part after a prompt, among what the others show of themselves (A.8).

    `label` is the part in whose place it comes, or one that is not there yet.
    """
    rest = (result.labels > 0) & (result.labels != label)
    with step("Drawing the part"):
        noise = torch.Generator().manual_seed(seed)
        (drawn,) = models.get(EditingPipeline)(over_white(result.grid), rest, prompt, generator=noise).images
    picture: np.ndarray = (drawn * 255).round().astype(np.uint8)
    return picture


def changed(
    result: PartObject,
    parts: Sequence[Part],
    new: Part,
    scene: Scene,
    digests: Mapping[str, str],
    entry: Mapping[str, Any],
) -> PartObject:
    """The object of `parts`, of which `new` was replaced or added; `digests` and `entry` go into its history.

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
        models={**result.models, **digests},
        settings={**result.settings, "reconstruct": scene.params.deciding()},
        history=[*result.history, {**entry, "models": digests}],
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


def _source(session: Session, addition: Addition, prompt: str, seed: int) -> Source:
    if addition.object is not None:
        return drawn_object(session, addition.object, addition.up, addition.turn)
    if addition.image is not None:
        return from_picture(addition.image, session.models, seed, session.allowed)
    return from_prompt(prompt, session.models, seed)
