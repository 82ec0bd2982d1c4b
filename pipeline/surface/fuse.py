"""Objects as a scan or a generator would give them: one watertight skin with its colours baked in, and no pieces.

Shape suffixes: F triangles of all surfaces together, P points, X, Y, Z nodes of a grid.
"""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree
from skimage.color import lab2rgb
from skimage.measure import marching_cubes
from trimesh.triangles import closest_point

from pipeline.assets.srgb import linear
from pipeline.assets.surface import Material, Surface
from pipeline.surface.atoms import Triangles
from pipeline.surface.points import Points, sampled

CELLS = 128
"""Of the grid, along the object's longest side."""
POINTS = 250_000
SHRUNK = 0.6
"""How far the skin, which lies one cell outside, is drawn back to the surface, so that thin sheets stay thin."""
INSIDE = 0.9
"""Most distance, in cells, of what the outside does not reach: no skin is drawn there."""


def fused(surfaces: Sequence[Surface], part_F: np.ndarray) -> tuple[Surface, np.ndarray]:
    """The outside of surfaces as one skin with colours at its vertices, and of each of its triangles the part.

    `part_F` (F,) numbers the part of every triangle of `surfaces`; that of the skin is the nearest one's.
    """
    corners_F33 = Triangles(surfaces).corners_F33
    low, high = corners_F33.min(axis=(0, 1)), corners_F33.max(axis=(0, 1))
    cell = float((high - low).max()) / CELLS or 1.0
    points = sampled(surfaces, np.arange(len(corners_F33)), POINTS, each=1)
    tree = cKDTree(points.position_P3)
    corner = low - 3 * cell
    shape = tuple(np.ceil((high - corner) / cell + 4).astype(int))
    field_XYZ = _distances(tree, points, corners_F33, corner, cell, shape)
    rooms_XYZ, _ = ndimage.label(field_XYZ > cell)
    within_XYZ = rooms_XYZ != rooms_XYZ[0, 0, 0]
    field_XYZ[within_XYZ] = np.minimum(field_XYZ[within_XYZ], INSIDE * cell)
    vertices, faces, _, _ = marching_cubes(field_XYZ, cell, gradient_direction="descent")
    vertices = corner + vertices.astype(np.float64) * cell
    nearest = tree.query(vertices)[1]
    part = part_F[points.atom_P[tree.query(vertices[faces].mean(axis=1))[1]]]
    rgba = np.concatenate([linear(lab2rgb(points.lab_P3[nearest][None])[0]), np.ones((len(vertices), 1))], axis=1)
    drawn = closest_point(corners_F33[points.atom_P[nearest]], vertices)
    vertices += SHRUNK * (drawn - vertices)
    skin = Surface(vertices, faces.astype(np.int64), None, None, rgba.astype(np.float32), Material())
    return skin, part


def _distances(
    tree: cKDTree, points: Points, corners_F33: np.ndarray, low: np.ndarray, cell: float, shape: tuple[int, ...]
) -> np.ndarray:
    """(X, Y, Z) distances of the nodes of a grid from triangles; where they are beyond two cells, at least as much."""
    near_XYZ = np.zeros(shape, bool)
    near_XYZ[tuple(np.rint((points.position_P3 - low) / cell).astype(int).T)] = True
    near_XYZ = ndimage.binary_dilation(near_XYZ, np.ones((3, 3, 3), bool), iterations=2)
    nodes_P3 = np.argwhere(near_XYZ) * cell + low
    _, candidates = tree.query(nodes_P3, k=min(3, tree.n))
    distance = np.full(len(nodes_P3), np.inf)
    for one in candidates.reshape(len(nodes_P3), -1).T:
        place = closest_point(corners_F33[points.atom_P[one]], nodes_P3)
        distance = np.minimum(distance, np.linalg.norm(place - nodes_P3, axis=1))
    field_XYZ = np.full(shape, 2 * cell)
    field_XYZ[near_XYZ] = distance
    return field_XYZ
