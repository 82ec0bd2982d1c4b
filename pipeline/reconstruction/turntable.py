"""Pictures of N fields together: from any view, as part ids, and as animations around the object.

Cameras are those of `pipeline.views.cameras`. Where parts were moved out of the objects' bounding sphere, the camera
steps back as far as the scene grew, so that nothing is cut and the perspective stays; else it stays where it is.

Shape suffixes: F frames, H W pixels.
"""

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image

from pipeline.errors import UserError
from pipeline.reconstruction.field import Field
from pipeline.reconstruction.rays import BOUND, view_rays
from pipeline.reconstruction.renderer import Overlap, Rendered, render
from pipeline.views.cameras import Camera
from pipeline.views.part_colours import colour_code

VISIBLE_ALPHA = 0.5
"""A pixel that hides less of the background than this belongs to no part."""

SUPPORT_FLOOR = 0.5
"""Opacity, per unit of length, below which a part that has no support is empty where its centre is sought."""

TURN_S = 4.0
"""Seconds that an animation takes for one turn."""


@dataclass(frozen=True)
class View:
    """One picture of all parts."""

    picture_HW3: np.ndarray
    """Over white, uint8 display values."""
    parts_HW: np.ndarray
    """uint8: the number in the list of fields, from 1, of the part in sight; 0 for the background."""


@dataclass(frozen=True)
class Turntable:
    """One turn around the object, counted as azimuths are, from azimuth 0."""

    pictures_FHW3: np.ndarray
    """As `View.picture_HW3`."""
    parts_FHW: np.ndarray
    """As `View.parts_HW`."""


def view(
    fields: Sequence[Field],
    camera: Camera,
    azimuth_deg: float,
    elevation_deg: float,
    samples: int,
    overlap: Overlap = "additive",
) -> View:
    """What one camera sees; `samples` of a ray through the objects' sphere, and more where the scene is larger.

    UserError without a field, or when a field's values are not finite.
    """
    return _Scene.of(fields).view(camera, azimuth_deg, elevation_deg, samples, overlap)


def turntable(
    fields: Sequence[Field],
    camera: Camera,
    elevation_deg: float,
    frames: int,
    samples: int,
    overlap: Overlap = "additive",
    advance: Callable[[], object] = lambda: None,
) -> Turntable:
    """Views from all around, as `view`; `advance` is called after each."""
    scene, views = _Scene.of(fields), []
    for frame in range(frames):
        views.append(scene.view(camera, 360 * frame / frames, elevation_deg, samples, overlap))
        advance()
    return Turntable(np.stack([one.picture_HW3 for one in views]), np.stack([one.parts_HW for one in views]))


def exploded(fields: Sequence[Field], explode: float) -> list[Field]:
    """The parts moved away from the scene's centre, each by `explode` times its own centre.

    That is the centre of gravity of its support's cells. A part without a support is given one, since far from the
    others one would see what its field makes up beyond the objects' sphere.
    """
    moved = []
    for field in fields:
        part = field if field.support_DHW is not None else field.supported(SUPPORT_FLOOR)
        moved.append(part if part.is_empty else part.moved((part.cells().mean(dim=0) * explode).tolist()))
    return moved


def part_picture(parts: np.ndarray, count: int) -> np.ndarray:
    """Part ids (..., H, W) in the reference colours of `count` parts, uint8 (..., H, W, 3); white background.

    UserError when there are not as many colours.
    """
    coloured = colour_code(torch.from_numpy(parts), torch.arange(1, count + 1))
    return (coloured.movedim(-3, -1) * 255).round().to(torch.uint8).numpy()


def gif(frames_FHW3: np.ndarray, turn_s: float = TURN_S) -> bytes:
    """Frames, uint8, as an animated GIF that runs for ever, `turn_s` seconds a turn, of one palette for all frames.

    The palette is adapted to the frames, and not dithered: with one of its own for each frame surfaces flicker.
    """
    count, height, width = frames_FHW3.shape[:3]
    strip = Image.fromarray(frames_FHW3.reshape(count * height, width, 3))
    strip = strip.quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    first, *others = [strip.crop((0, frame * height, width, (frame + 1) * height)) for frame in range(count)]
    duration_ms = max(20, 10 * round(100 * turn_s / count))  # viewers slow down what is faster
    file = io.BytesIO()
    first.save(file, "GIF", save_all=True, append_images=others, duration=duration_ms, loop=0)
    return file.getvalue()


@dataclass(frozen=True)
class _Scene:
    """Fields that were checked, and the radius of the sphere that holds them."""

    fields: Sequence[Field]
    bound: float

    @classmethod
    def of(cls, fields: Sequence[Field]) -> "_Scene":
        if not fields:
            raise UserError("There is no field to draw; give at least one part.")
        checked = [field.checked(f"Part {number}") for number, field in enumerate(fields, start=1)]
        return cls(checked, max([BOUND, *(field.reach() for field in checked if field.is_placed)]))

    @torch.no_grad()
    def view(self, camera: Camera, azimuth_deg: float, elevation_deg: float, samples: int, overlap: Overlap) -> View:
        far = replace(camera, distance=camera.distance * self.bound / BOUND)
        like = self.fields[0].volume_CDHW
        rays = view_rays(far, azimuth_deg, elevation_deg, bound=self.bound).flat().to(like)
        seen = render(self.fields, rays, math.ceil(samples * self.bound / BOUND), overlap=overlap)
        return _pixels(seen, camera.size)


def _pixels(seen: Rendered, size: int) -> View:
    """Rows of rays as a square picture."""
    picture = (seen.colour.clamp(0, 1) * 255).round().to(torch.uint8)
    parts = torch.where(seen.alpha >= VISIBLE_ALPHA, seen.shares.argmax(dim=1) + 1, 0).to(torch.uint8)
    return View(picture.view(size, size, 3).cpu().numpy(), parts.view(size, size).cpu().numpy())
