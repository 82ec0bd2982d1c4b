"""How many objects fail as supplement D describes: by views that disagree, by parts grouped together, by depth.

Each measure has a threshold of ours; none is published. Shape suffixes: V views of H x W pixels, N points.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import trimesh
from scipy.ndimage import binary_dilation

from pipeline.views.cameras import GRID_AZIMUTHS, Camera, camera_to_world, untile

LEAST_AGREEMENT = 0.9
"""IoU of outlines. Those of the ten samples, as rendered, have .99 at the least; with one of the four taken from
another object, 8 of the 10 have less than this."""
COVERED = 0.5
"""Of a part's pixels: a region with more of them has the part, and one that has two parts groups them. Half, as the IoU
from which on regions are the same (supplement B)."""
MOST_REGIONS = 10
"""More are merged into others; the paper's own limit."""
MOST_DEPTH = 0.1
"""Mean error of depth, where 1 is the radius of the object: a tenth of it, as the coarsest F-score allows."""
WHITE = 0.94
"""A pixel whose every channel is at least this is background, in what a network drew."""
CELLS, OUTLINE_PX, POINTS = 96, 64, 40_000
"""Of the hull a side, and of outlines and depth maps: cells are finer than pixels, and a pixel has several points."""

CONVENTIONS: Mapping[str, str] = {
    "views disagree": "a drawn grid of whose four outlines the visual hull has others: mean IoU below "
    f"{LEAST_AGREEMENT:g}",
    "parts grouped": "a region of the segmentation that the other runs agree with most, as drawn and before anything "
    f"is merged, has more than {COVERED:.0%} of the pixels of two or more true parts",
    "beyond ten": f"that segmentation has more than {MOST_REGIONS} regions, so that some are merged",
    "depth": "from the grid's cameras, mesh against true surface, pixels where both are: mean error above "
    f"{MOST_DEPTH:g} radii of the object",
}
"""As printed beside the tables."""


def disagreement(grid_HW3: np.ndarray, camera: Camera, elevation_deg: float) -> dict[str, float]:
    """Of a drawn grid, float32 in [0, 1] over white: how well its outlines are those of one body, and whether it fails.

    Empty when nothing is drawn.
    """
    outlines_VHW: np.ndarray = np.asarray((untile(grid_HW3) < WHITE).any(axis=-1))
    if not outlines_VHW.any():
        return {}
    agreement = outline_agreement(outlines_VHW, camera, elevation_deg)
    return {"agreement": agreement, "fails": float(agreement < LEAST_AGREEMENT)}


def outline_agreement(outlines_VHW: np.ndarray, camera: Camera, elevation_deg: float) -> float:
    """The mean IoU over views of the grid's outlines, bool, with those of their visual hull."""
    step = max(1, camera.size // OUTLINE_PX)
    # A pixel wider, so that what is thinner than a cell, such as a pane, is not missed; a view that shows nothing, such
    # as of that pane's edge, says nothing.
    outlines = [
        (azimuth, binary_dilation(outline_HW[step // 2 :: step, step // 2 :: step], np.ones((3, 3))))
        for azimuth, outline_HW in zip(GRID_AZIMUTHS, outlines_VHW, strict=True)
        if outline_HW.any()
    ]
    side = (np.arange(CELLS) + 0.5) * 2 / CELLS - 1
    points_N3 = np.stack(np.meshgrid(side, side, side, indexing="ij"), axis=-1).reshape(-1, 3)
    seen = [
        (outline_HW, _seen(points_N3, azimuth, elevation_deg, camera, len(outline_HW))[:2])
        for azimuth, outline_HW in outlines
    ]
    inside_N = np.all([outline_HW[yx] for outline_HW, yx in seen], axis=0)
    ious = []
    for outline_HW, (y, x) in seen:
        hull_HW = np.zeros_like(outline_HW)
        hull_HW[y[inside_N], x[inside_N]] = True
        ious.append((hull_HW & outline_HW).sum() / (hull_HW | outline_HW).sum())
    return float(np.mean(ious))


def _seen(
    points_N3: np.ndarray, azimuth_deg: float, elevation_deg: float, camera: Camera, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row and column of the pixel that shows each point, within a view of `size` pixels a side, and its depth."""
    pose = camera_to_world(azimuth_deg, elevation_deg, camera.distance)
    seen_N3 = (points_N3 - pose[:3, 3]) @ pose[:3, :3]
    depth_N = -seen_N3[:, 2]
    scale_N = size / 2 / np.tan(np.radians(camera.fov_deg) / 2) / depth_N
    y, x = (np.floor(size / 2 + sign * seen_N3[:, axis] * scale_N) for axis, sign in ((1, -1), (0, 1)))
    return y.clip(0, size - 1).astype(int), x.clip(0, size - 1).astype(int), depth_N


def grouping(labels_HW: np.ndarray, truth_HW: np.ndarray) -> dict[str, float]:
    """Of a segmentation: the share of the true parts in sight that share a region, and whether any does; whether it has
    more regions than can stay apart.
    """
    parts = np.unique(truth_HW[truth_HW > 0])
    owners = []
    for part in parts:
        counts = np.bincount(labels_HW[truth_HW == part], minlength=1)
        counts[0] = 0
        owners.append(int(counts.argmax()) if counts.max() > COVERED * (truth_HW == part).sum() else 0)
    shared = sum(owner > 0 and owners.count(owner) > 1 for owner in owners)
    regions = len(np.unique(labels_HW[labels_HW > 0]))
    return {
        "grouped": shared / len(parts),
        "fails": float(shared > 0),
        "beyond_ten": float(regions > MOST_REGIONS),
    }


def depth_error(
    mesh: trimesh.Trimesh, truth: trimesh.Trimesh, camera: Camera, elevation_deg: float, seed: int
) -> dict[str, float]:
    """Of a reconstruction: the mean error of depth from the grid's cameras, 1 the radius of the object, and whether it
    fails. Empty when no pixel shows both surfaces.
    """
    made_VHW, true_VHW = (_depth(one, camera, elevation_deg, seed) for one in (mesh, truth))
    both_VHW = np.isfinite(made_VHW) & np.isfinite(true_VHW)
    if not both_VHW.any():
        return {}
    error = float(np.abs(made_VHW[both_VHW] - true_VHW[both_VHW]).mean())
    return {"depth": error, "fails": float(error > MOST_DEPTH)}


def _depth(mesh: trimesh.Trimesh, camera: Camera, elevation_deg: float, seed: int) -> np.ndarray:
    """Of the nearest of many points of the surface, by pixel; infinite where there is none."""
    depth_VHW = np.full((len(GRID_AZIMUTHS), OUTLINE_PX, OUTLINE_PX), np.inf)
    if mesh.area > 0:
        points_N3 = trimesh.sample.sample_surface(mesh, POINTS, seed=seed)[0]
        for depth_HW, azimuth in zip(depth_VHW, GRID_AZIMUTHS, strict=True):
            y, x, depth_N = _seen(points_N3, azimuth, elevation_deg, camera, OUTLINE_PX)
            np.minimum.at(depth_HW, (y, x), depth_N)
    return depth_VHW


def assembled(runs: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The run that the others agree with most, the first of equal ones: the one that is assembled."""
    return max(sorted(runs, key=lambda row: row["run"]), key=lambda row: row["score"])
