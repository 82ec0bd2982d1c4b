"""Cameras and the 2x2 grid of views.

Frame: glTF, +Y up, the object's front along +Z, its bounding sphere the unit sphere at the origin. A camera looks along
its own -Z with +Y up (OpenGL). Azimuth 0 sees the front; azimuth 90 stands at +X.
"""

import hashlib
from dataclasses import dataclass

import numpy as np

GRID_AZIMUTHS = (0.0, 90.0, 180.0, 270.0)
"""Degrees; in the grid top-left, top-right, bottom-left, bottom-right (main paper, Sec. 3.5)."""
CAMERA_KEYS = ("view_size", "fov_deg", "distance", "elevation_deg")
"""The settings of the stage `render` that a reconstruction depends on."""
OPAQUE = 128
"""From this alpha on, of 255, a pixel is the object's and not the background's."""


@dataclass(frozen=True)
class Camera:
    """A perspective camera: field of view in degrees, distance from the origin, `size` pixels a side."""

    fov_deg: float
    distance: float
    size: int


def camera_to_world(azimuth_deg: float, elevation_deg: float, distance: float) -> np.ndarray:
    """Pose (4, 4), float64, of a camera that looks at the origin from distance * (sin a cos e, sin e, cos a cos e).

    Azimuth a and elevation e in degrees; elevation within (-90, 90), where +Y is a valid up direction.
    """
    if not -90 < elevation_deg < 90:
        raise ValueError(f"elevation {elevation_deg} is not within (-90, 90) degrees")
    a, e = np.radians(azimuth_deg), np.radians(elevation_deg)
    backward = np.array([np.sin(a) * np.cos(e), np.sin(e), np.cos(a) * np.cos(e)])
    right = np.array([np.cos(a), 0.0, -np.sin(a)])
    pose = np.eye(4)
    pose[:3, 0], pose[:3, 1], pose[:3, 2] = right, np.cross(backward, right), backward
    pose[:3, 3] = distance * backward
    return pose


def random_views(
    object_id: str, seed: int, purpose: str, count: int, elevation_range_deg: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Azimuths and elevations in degrees, (count,) float64 each: uniform on the sphere between two elevations.

    They depend on the object, the seed and the purpose (such as `novel`) alone, not on which other objects there are.
    """
    digest = hashlib.sha256(f"{seed}/{purpose}/{object_id}".encode()).digest()
    generator = np.random.default_rng(int.from_bytes(digest[:16]))
    low, high = np.sin(np.radians(elevation_range_deg))
    azimuths = generator.uniform(0.0, 360.0, count)
    elevations = np.degrees(np.arcsin(generator.uniform(low, high, count)))
    return azimuths, elevations


def tile(views: np.ndarray) -> np.ndarray:
    """Four views (4, H, W, ...) as one grid (2H, 2W, ...)."""
    top, bottom = np.concatenate(views[:2], axis=1), np.concatenate(views[2:], axis=1)
    return np.concatenate([top, bottom], axis=0)


def untile(grid: np.ndarray) -> np.ndarray:
    """The four views (4, H, W, ...) of a grid (2H, 2W, ...)."""
    if grid.shape[0] % 2 or grid.shape[1] % 2:
        raise ValueError(f"a 2x2 grid has even sides, not {grid.shape[0]} x {grid.shape[1]} pixels")
    height, width = grid.shape[0] // 2, grid.shape[1] // 2
    return np.stack([grid[y : y + height, x : x + width] for y in (0, height) for x in (0, width)])


def over_white(rgba: np.ndarray) -> np.ndarray:
    """Straight-alpha RGBA (..., 4) uint8 over white: RGB (..., 3) float32 in [0, 1]."""
    values = rgba.astype(np.float32) / 255.0
    alpha = values[..., 3:]
    return values[..., :3] * alpha + (1.0 - alpha)


def shown(rgba: np.ndarray) -> np.ndarray:
    """Which pixels of straight-alpha RGBA (..., 4) uint8 are the object's, (...) bool: those of an alpha above 1/2."""
    pixels: np.ndarray = rgba[..., 3] >= OPAQUE
    return pixels
