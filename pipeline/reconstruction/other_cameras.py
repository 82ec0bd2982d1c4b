"""The project's four views as other models know them: another field of view, distance, frame, and kind of ray.

A picture cannot be given another perspective, but a larger field of view is exact: white is added around it, and the
world is scaled so that our distance becomes theirs.

Shape suffixes: B grids, V views, N = B * V, C channels, H W pixels.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.reconstruction.rays import split_views
from pipeline.views.cameras import GRID_AZIMUTHS, Camera, camera_to_world

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SMALL_VIEW = 200
"""Views of fewer pixels are enlarged so much for these models that their results say little of them."""


@dataclass(frozen=True)
class World:
    """From our frame to theirs: p to scale * rotation p."""

    rotation_33: np.ndarray
    """Of determinant 1."""
    scale: float

    def poses(self, camera: Camera, elevation_deg: float) -> np.ndarray:
        """Our four cameras (4, 4, 4) there, by our convention: right, up and backward."""
        poses = np.stack([camera_to_world(azimuth, elevation_deg, camera.distance) for azimuth in GRID_AZIMUTHS])
        poses[:, :3, :3] = self.rotation_33 @ poses[:, :3, :3]
        poses[:, :3, 3] = self.scale * poses[:, :3, 3] @ self.rotation_33.T
        return poses


def wider_views(grids_BCHW: Tensor, camera: Camera, fov_deg: float, size: int) -> Tensor:
    """The views of grids, as a camera of a field of view that is not smaller sees them: (B, 4, 3, size, size)."""
    white_NCHW = 1 - split_views(grids_BCHW[:, :3]).flatten(0, 1)  # 0 is white, as is what lies outside
    share = math.tan(math.radians(camera.fov_deg) / 2) / math.tan(math.radians(fov_deg) / 2)
    assert share <= 1 + 1e-9
    if size * share < camera.size:  # smaller: without aliasing first, then in the right place
        white_NCHW = resized(white_NCHW, math.ceil(size * share))
    place = ((torch.arange(size, device=grids_BCHW.device) + 0.5) * 2 / size - 1) / share
    row, column = torch.meshgrid(place, place, indexing="ij")
    places = torch.stack((column, row), dim=-1).to(white_NCHW.dtype).expand(len(white_NCHW), -1, -1, -1)
    views = 1 - F.grid_sample(white_NCHW, places, mode="bicubic", align_corners=False)
    return views.clamp(0, 1).unflatten(0, (-1, 4))


def resized(pictures_NCHW: Tensor, size: int) -> Tensor:
    """Pictures of `size` pixels a side, bicubic and without aliasing, in [0, 1]."""
    made = F.interpolate(pictures_NCHW, (size, size), mode="bicubic", antialias=True, align_corners=False)
    return made.clamp(0, 1)


def normalised(views: Tensor) -> Tensor:
    """Views (..., 3, H, W) in [0, 1] by ImageNet's mean and deviation."""
    mean, deviation = (views.new_tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (views - mean) / deviation


def middles(size: int) -> np.ndarray:
    """Where the centres of pixels stand along a picture's side, from -1/2 to 1/2."""
    return (np.arange(size) + 0.5) / size - 0.5


def plucker(poses_V44: np.ndarray, fov_deg: float, share: np.ndarray) -> Tensor:
    """Plücker coordinates of rays, the moment first and the direction second: (V, 6, H, W) float32.

    They go through these places along both sides of the pictures, from -1/2 at one border to 1/2 at the other.
    """
    slope = 2 * share * math.tan(math.radians(fov_deg) / 2)
    right, down = np.meshgrid(slope, slope)
    local_HW3 = np.stack((right, -down, -np.ones_like(right)), axis=-1)
    local_HW3 /= np.linalg.norm(local_HW3, axis=-1, keepdims=True)
    directions_VHW3 = np.einsum("vij,hwj->vhwi", poses_V44[:, :3, :3], local_HW3)
    moments_VHW3 = np.cross(poses_V44[:, None, None, :3, 3], directions_VHW3)
    both = np.concatenate((moments_VHW3, directions_VHW3), axis=-1)
    return torch.from_numpy(both).float().permute(0, 3, 1, 2)
