"""Rays of the project's cameras (`pipeline.views.cameras`), bounded by the sphere that holds every object.

Shape suffixes: S samples of a ray, B grids, C channels, H W pixels of a grid or view, Y X a grid's rows and columns of
views.
"""

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.views.cameras import GRID_AZIMUTHS, Camera, camera_to_world

BOUND = 1.0
"""Radius of the objects' bounding sphere: nothing is sampled outside it."""


@dataclass(frozen=True)
class Rays:
    """Rays of any leading shape, that of a picture (H, W) or a list of them (R,).

    Samples are equidistant from `near` to `far`, both included, as in Lightplane; where they are equal the ray misses
    the object and sees the background.
    """

    origins: Tensor
    """(..., 3)"""
    directions: Tensor
    """(..., 3), of length 1."""
    near: Tensor
    """(...), distance from the origin."""
    far: Tensor
    """(...), not less than `near`."""

    def __getitem__(self, where: Any) -> "Rays":
        """Some of the rays, by an index into the leading axes."""
        return Rays(*(getattr(self, field.name)[where] for field in fields(self)))

    def __len__(self) -> int:
        return len(self.near)

    def flat(self) -> "Rays":
        """As a list, in the order of rows."""
        return Rays(
            self.origins.reshape(-1, 3), self.directions.reshape(-1, 3), self.near.flatten(), self.far.flatten()
        )

    def to(self, *args: Any, **kwargs: Any) -> "Rays":
        """On another device or of another type, as `Tensor.to`."""
        return Rays(*(getattr(self, field.name).to(*args, **kwargs) for field in fields(self)))

    def steps(self, samples: int) -> Tensor:
        """The distance between samples, Delta of A.7, (...); as in Lightplane each sample stands for one."""
        return (self.far - self.near) / (samples - 1)

    def lengths(self, samples: int) -> Tensor:
        """Distances of the samples from the origin, (..., S); at least 2."""
        assert samples >= 2
        share_S = torch.linspace(0, 1, samples, dtype=self.near.dtype, device=self.near.device)
        return self.near[..., None] + share_S * (self.far - self.near)[..., None]

    def points(self, samples: int) -> Tensor:
        """The samples x_ij of A.7, (..., S, 3)."""
        return self.origins[..., None, :] + self.lengths(samples)[..., None] * self.directions[..., None, :]

    def jittered(self, samples: int, generator: torch.Generator | None = None) -> "Rays":
        """Each moved along itself by up to half a step either way, so that training sees all depths."""
        noise = torch.rand(self.near.shape, dtype=self.near.dtype, device=self.near.device, generator=generator)
        offset = (noise - 0.5) * self.steps(samples)
        return Rays(self.origins, self.directions, self.near + offset, self.far + offset)


def view_rays(
    camera: Camera, azimuth_deg: float, elevation_deg: float, device: torch.device | str = "cpu", bound: float = BOUND
) -> Rays:
    """The rays of one view through its pixels' centres, (H, W), float32."""
    pose = camera_to_world(azimuth_deg, elevation_deg, camera.distance)
    slope = math.tan(math.radians(camera.fov_deg) / 2) * ((np.arange(camera.size) + 0.5) * 2 / camera.size - 1)
    right, down = np.meshgrid(slope, slope)
    directions = np.stack((right, -down, -np.ones_like(right)), axis=-1) @ pose[:3, :3].T
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    origins = np.broadcast_to(pose[:3, 3], directions.shape)
    # |o + t d| = bound, a quadratic in t; a ray that misses keeps its point nearest to the centre.
    middle = -(origins * directions).sum(-1)
    half = np.sqrt(np.maximum(middle**2 - (origins**2).sum(-1) + bound**2, 0.0))
    tensors = (np.array(values, np.float32) for values in (origins, directions, middle - half, middle + half))
    return Rays(*(torch.from_numpy(values).to(device) for values in tensors))


def grid_rays(camera: Camera, elevation_deg: float, device: torch.device | str = "cpu") -> Rays:
    """The rays of the four views of a grid in its order: top-left, top-right, bottom-left, bottom-right; (4, H, W)."""
    return stacked([view_rays(camera, azimuth, elevation_deg, device) for azimuth in GRID_AZIMUTHS])


def stacked(rays: list[Rays]) -> Rays:
    """Rays of equal shapes along a new first axis."""
    return Rays(*(torch.stack([getattr(one, field.name) for one in rays]) for field in fields(Rays)))


def split_views(grids_BCHW: Tensor) -> Tensor:
    """Grids (B, C, 2H, 2W) as their views (B, 4, C, H, W), in the order of `pipeline.views.cameras.untile`."""
    tiles_BCYHXW = grids_BCHW.unflatten(3, (2, -1)).unflatten(2, (2, -1))
    return tiles_BCYHXW.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
