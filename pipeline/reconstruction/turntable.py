"""Pictures of N fields together: from any view, in a grid, as part ids, and as animations around the object.

Cameras are those of `pipeline.views.cameras`. Where parts were moved out of the objects' bounding sphere, the camera
steps back as far as the scene grew, so that nothing is cut and the perspective stays; else it stays where it is.

Shape suffixes: F frames, V views, R rays, H W pixels.
"""

import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image

from pipeline.errors import UserError
from pipeline.reconstruction.field import Field
from pipeline.reconstruction.rays import BOUND, Rays, stacked, view_rays
from pipeline.reconstruction.renderer import Overlap, render
from pipeline.views.cameras import GRID_AZIMUTHS, Camera, tile
from pipeline.views.part_colours import colour_code

VISIBLE_ALPHA = 0.5
"""A pixel that hides less of the background than this belongs to no part."""

SUPPORT_FLOOR = 0.5
"""Opacity, per unit of length, below which a part that has no support is empty where its centre is sought."""

TURN_S = 4.0
"""Seconds that an animation takes for one turn."""


@dataclass(frozen=True)
class View:
    """All parts together (A.7), as one camera or the four of a grid see them."""

    colour_HW3: np.ndarray
    """Over white, float32 in [0, 1]."""
    labels_HW: np.ndarray
    """uint8: the label of the part in sight, from 1; 0 for the background."""

    @property
    def picture_HW3(self) -> np.ndarray:
        """The colours as display values, uint8."""
        picture: np.ndarray = (self.colour_HW3 * 255).round().astype(np.uint8)
        return picture


@dataclass(frozen=True)
class Turntable:
    """One turn around the object, counted as azimuths are, from azimuth 0."""

    pictures_FHW3: np.ndarray
    """As `View.picture_HW3`."""
    labels_FHW: np.ndarray
    """As `View.labels_HW`."""


def view(
    fields: Sequence[Field],
    camera: Camera,
    azimuth_deg: float,
    elevation_deg: float,
    samples: int,
    overlap: Overlap = "additive",
) -> View:
    """What one camera sees; `samples` of a ray through the objects' sphere, and more where the scene is larger.

    A part's label is its number in the list, from 1. UserError without a field, or when values are not finite.
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
    scene, pictures, labels = _Scene.of(fields), [], []
    for frame in range(frames):
        seen = scene.view(camera, 360 * frame / frames, elevation_deg, samples, overlap)
        pictures.append(seen.picture_HW3)
        labels.append(seen.labels_HW)
        advance()
    return Turntable(np.stack(pictures), np.stack(labels))


def grid_view(
    fields: Mapping[int, Field], camera: Camera, elevation_deg: float, samples: int, overlap: Overlap = "additive"
) -> View:
    """What the four cameras of a grid see of fields by label, tiled; as `view`, but that the cameras never step back.

    So parts that were placed far outside the objects' sphere are cut by the views' edges.
    """
    scene = _Scene.of(list(fields.values()))
    rays = stacked([view_rays(camera, azimuth, elevation_deg, bound=scene.bound) for azimuth in GRID_AZIMUTHS])
    colour_VHW3, numbers_VHW = scene.rendered(rays, samples, overlap)
    return View(tile(colour_VHW3), tile(np.array([0, *fields], dtype=np.uint8)[numbers_VHW]))


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

    def view(self, camera: Camera, azimuth_deg: float, elevation_deg: float, samples: int, overlap: Overlap) -> View:
        far = replace(camera, distance=camera.distance * self.bound / BOUND)
        return View(*self.rendered(view_rays(far, azimuth_deg, elevation_deg, bound=self.bound), samples, overlap))

    @torch.no_grad()
    def rendered(self, rays: Rays, samples: int, overlap: Overlap) -> tuple[np.ndarray, np.ndarray]:
        """Colours (..., 3) and the numbers (...), from 1, of the parts in sight."""
        like = self.fields[0].volume_CDHW
        seen = render(self.fields, rays.flat().to(like), math.ceil(samples * self.bound / BOUND), overlap=overlap)
        numbers_R = torch.where(seen.alpha >= VISIBLE_ALPHA, seen.shares.argmax(dim=1) + 1, 0).to(torch.uint8)
        shape = rays.near.shape
        return seen.colour.clamp(0, 1).view(*shape, 3).cpu().numpy(), numbers_R.view(shape).cpu().numpy()
