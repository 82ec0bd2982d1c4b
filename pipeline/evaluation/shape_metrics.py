"""Chamfer distance and F-score between meshes, which later work reports."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import trimesh
from scipy.spatial import cKDTree

POINTS = 10_000
F_THRESHOLDS = (0.02, 0.05, 0.1)

CONVENTIONS: Mapping[str, str] = {
    "frame": "as it stands: the whole object in the unit sphere, no alignment; a part stays in its object's frame",
    "points": f"{POINTS} of each surface, uniform by area, one seed a pair",
    "chamfer": "mean distance to the nearest point, not squared; the mean of both directions",
    "F-score": "harmonic mean of precision and recall, the shares of points nearer than the threshold",
    "empty mesh": "both empty: chamfer 0, F-score 1; one empty: chamfer 2, the sphere's diameter, and F-score 0",
}
"""What the figures depend on, as it is printed beside every table."""

FARTHEST = 2.0
"""The chamfer distance of a mesh that is missing: no two points of the unit sphere are farther apart."""


@dataclass(frozen=True)
class ShapeDistance:
    """Between a predicted and a true mesh, in units of the object's frame, where its bounding sphere has radius 1."""

    chamfer: float
    precision: dict[float, float]
    """By threshold: the share in [0, 1] of the prediction's points that are nearer than it to the truth."""
    recall: dict[float, float]
    """The share of the truth's points that are nearer than it to the prediction."""

    @property
    def f_score(self) -> dict[float, float]:
        """By threshold, in [0, 1]: 2 P R / (P + R), and 0 where both are."""
        return {
            threshold: 2 * precision * recall / (precision + recall) if precision + recall else 0.0
            for (threshold, precision), recall in zip(self.precision.items(), self.recall.values(), strict=True)
        }


def shape_distance(
    predicted: trimesh.Trimesh, truth: trimesh.Trimesh, seed: int, points: int = POINTS
) -> ShapeDistance:
    """Compare two meshes in the same frame; either may have no surface, see the CONVENTIONS.

    `seed` decides which points are drawn. ValueError when a vertex is not finite.
    """
    draws = np.random.default_rng(seed)
    one, other = (surface_points(mesh, points, draws) for mesh in (predicted, truth))
    if not len(one) or not len(other):
        same = float(len(one) == len(other))
        shares = dict.fromkeys(F_THRESHOLDS, same)
        return ShapeDistance(0.0 if same else FARTHEST, shares, shares)
    to_truth, to_predicted = cKDTree(other).query(one)[0], cKDTree(one).query(other)[0]
    return ShapeDistance(
        float((to_truth.mean() + to_predicted.mean()) / 2),
        {threshold: float((to_truth < threshold).mean()) for threshold in F_THRESHOLDS},
        {threshold: float((to_predicted < threshold).mean()) for threshold in F_THRESHOLDS},
    )


def surface_points(mesh: trimesh.Trimesh, count: int, draws: np.random.Generator) -> np.ndarray:
    """Points (count, 3) float64 on a mesh, uniform by area; (0, 3) when its area is zero.

    Every triangle counts, also those inside: artist-made meshes have no clear inside.
    """
    corners = np.asarray(mesh.triangles, dtype=np.float64).reshape(-1, 3, 3)
    if not np.isfinite(corners).all():
        raise ValueError("a mesh has a vertex that is not finite")
    along, across = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    areas = np.linalg.norm(np.cross(along, across), axis=1)
    ends = np.cumsum(areas)
    if not len(ends) or ends[-1] <= 0:
        return np.zeros((0, 3))
    face = np.searchsorted(ends, draws.uniform(0, ends[-1], count), side="right").clip(max=len(ends) - 1)
    u, v = draws.uniform(size=(2, count, 1))
    outside = u + v > 1
    u, v = np.where(outside, 1 - u, u), np.where(outside, 1 - v, v)
    points: np.ndarray = corners[face, 0] + u * along[face] + v * across[face]
    return points
