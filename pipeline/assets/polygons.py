"""Polygons, strips and fans as triangles that cover what the polygon covers, and corners as vertices."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_THIN = 1e-9
"""Of the polygon's size squared: triangles with less area do not tell on which side a corner lies."""


@dataclass(frozen=True)
class Polygons:
    """Polygons of any number of corners."""

    corners: np.ndarray
    """(C,) int64: numbers of vertices, polygon after polygon."""
    counts: np.ndarray
    """(P,) int64: corners of each polygon; those with fewer than three give no triangle."""


def triangulate(polygons: Polygons, vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Triangles (T, 3) as places in `polygons.corners`, in the polygons' order and winding, and whose they are (T,).

    Convex polygons are fans of their first corner, concave ones are cut by their ears, both seen along the polygon's
    normal (Newell's). Vertices (V, 3) float64.
    """
    starts = np.concatenate([[0], np.cumsum(polygons.counts)[:-1]]) if len(polygons.counts) else np.zeros(0, np.int64)
    triangles, owners = [np.zeros((0, 3), np.int64)], [np.zeros(0, np.int64)]
    for count in np.unique(polygons.counts[polygons.counts >= 3]):
        owner = np.flatnonzero(polygons.counts == count)
        places = starts[owner][:, None] + np.arange(count)
        local, whose = _same_size(vertices[polygons.corners[places]])
        triangles.append(places[whose[:, None], local])
        owners.append(owner[whose])
    order = np.argsort(np.concatenate(owners), kind="stable")
    return np.concatenate(triangles)[order], np.concatenate(owners)[order]


def _same_size(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Triangles (T, 3) of the polygons (P, N, 3), in corners of each, and whose they are (T,)."""
    count = points.shape[1]
    fan = np.stack([np.zeros(count - 2, int), np.arange(1, count - 1), np.arange(2, count)], axis=1)
    if count == 3:
        return np.tile(fan, (len(points), 1)), np.arange(len(points))
    flat = _projected(points)
    size = np.maximum(np.ptp(flat, axis=1).max(axis=1), 1e-300)[:, None]
    fans = _areas(flat[:, :1], flat[:, 1:-1], flat[:, 2:]) / size**2
    if count == 4:  # one of its two diagonals lies inside
        other = (fans < -_THIN).any(axis=1)
        local = np.where(other[:, None, None], [[0, 1, 3], [1, 2, 3]], fan)
        return local.reshape(-1, 3), np.repeat(np.arange(len(points)), 2)
    around = _areas(np.roll(flat, 1, axis=1), flat, np.roll(flat, -1, axis=1)) / size**2
    convex = (around > _THIN).all(axis=1) & (fans > _THIN).all(axis=1)
    made = [(np.tile(fan, (int(convex.sum()), 1)), np.repeat(np.flatnonzero(convex), count - 2))]
    for polygon in np.flatnonzero(~convex):
        ears = _ears(flat[polygon])
        made.append((fan if ears is None else ears, np.full(count - 2 if ears is None else len(ears), polygon)))
    return np.concatenate([local for local, _ in made]), np.concatenate([whose for _, whose in made])


def _projected(points: np.ndarray) -> np.ndarray:
    """Polygons (P, N, 3) in their own planes, (P, N, 2), counter-clockwise."""
    points = points - points.mean(axis=1, keepdims=True)
    normal = np.cross(points, np.roll(points, -1, axis=1)).sum(axis=1)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-300)
    across = np.cross(np.eye(3)[np.abs(normal).argmin(axis=1)], normal)
    across /= np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-300)
    return np.stack([np.einsum("pni,pi->pn", points, axis) for axis in (across, np.cross(normal, across))], axis=-1)


def _areas(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Twice the areas of triangles in the plane, positive when counter-clockwise."""
    one, other = b - a, c - a
    return np.asarray(one[..., 0] * other[..., 1] - one[..., 1] * other[..., 0])


def _ears(flat: np.ndarray) -> np.ndarray | None:
    """Triangles (T, 3) of a polygon (N, 2) in the plane, counter-clockwise; None when it has no inside."""
    from mapbox_earcut import triangulate_float64  # few objects have such polygons

    if not np.isfinite(flat).all():
        return None
    found = triangulate_float64(np.ascontiguousarray(flat), np.array([len(flat)], np.uint32))
    ears = found.reshape(-1, 3).astype(np.int64)
    if not len(ears):
        return None
    turned = _areas(*(flat[ears[:, k]] for k in range(3))) < 0
    ears[turned] = ears[turned][:, ::-1]
    return ears


def strip_triangles(indices: np.ndarray) -> np.ndarray:
    """The triangles (T, 3) of a strip (N,): every second one is turned over."""
    triangles = np.stack([indices[:-2], indices[1:-1], indices[2:]], axis=1) if len(indices) > 2 else _no_triangles()
    triangles[1::2] = triangles[1::2][:, [1, 0, 2]]
    return triangles


def fan_triangles(indices: np.ndarray) -> np.ndarray:
    """The triangles (T, 3) of a fan (N,) about its first vertex."""
    if len(indices) < 3:
        return _no_triangles()
    return np.stack([np.full(len(indices) - 2, indices[0]), indices[1:-1], indices[2:]], axis=1)


def distinct_corners(columns: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Of corners that refer to several things each (N,): the first of each kind (K,), and the kinds of all (N,)."""
    kind = np.zeros(len(columns[0]), np.int64)
    for column in columns:
        values = np.unique(column, return_inverse=True)[1]
        kind = np.unique(kind * (values.max(initial=0) + 1) + values, return_inverse=True)[1]
    return np.unique(kind, return_index=True)[1], kind


def _no_triangles() -> np.ndarray:
    return np.zeros((0, 3), np.int64)
