"""Atoms: the regions of a surface that are never divided, of which parts are unions.

Shape suffixes: F triangles of all surfaces together, V positions, N atoms, P points.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from pipeline.assets.surface import Surface
from pipeline.surface.points import sampled

SMALL_SHARE = 0.003
"""Of the object's area; smaller atoms join the closest of the others."""
MOST_ATOMS = 160
FEWEST_KEPT = 48
"""The largest atoms stay themselves, however small they are: an object may be made of nothing but slats."""
MOST_LABELS = 255
"""Atoms at the very most; label maps tell no more apart."""
POINTS_TO_JOIN = 16_384


@dataclass(frozen=True)
class Triangles:
    """The triangles of several surfaces as one list; equal positions are one vertex."""

    surfaces: Sequence[Surface]

    @cached_property
    def corners_F3(self) -> np.ndarray:
        """Indices of positions."""
        vertices = np.concatenate([surface.vertices for surface in self.surfaces])
        starts = np.cumsum([0, *(len(surface.vertices) for surface in self.surfaces[:-1])])
        faces = [surface.faces + start for surface, start in zip(self.surfaces, starts, strict=True)]
        size = float(np.ptp(vertices, axis=0).max()) or 1.0
        _, index = np.unique(np.round(vertices / size, 6), axis=0, return_inverse=True)
        return np.asarray(index.reshape(-1)[np.concatenate(faces)])

    @cached_property
    def corners_F33(self) -> np.ndarray:
        """Positions."""
        return np.concatenate([surface.vertices[surface.faces] for surface in self.surfaces])

    @cached_property
    def surface_F(self) -> np.ndarray:
        """Which surface a triangle is of."""
        return np.repeat(np.arange(len(self.surfaces)), [len(surface.faces) for surface in self.surfaces])

    @cached_property
    def area_F(self) -> np.ndarray:
        """Areas."""
        return np.concatenate([surface.areas() for surface in self.surfaces])

    def split(self, values_F: np.ndarray) -> list[np.ndarray]:
        """Values of all triangles, surface by surface."""
        return np.split(values_F, np.cumsum([len(surface.faces) for surface in self.surfaces[:-1]]))


def connected(triangles: Triangles, group_F: np.ndarray) -> np.ndarray:
    """The atom of every triangle, (F,) from 0: what hangs together by shared positions within one group."""
    corners_F3 = triangles.corners_F3
    count = int(corners_F3.max()) + 1
    _, nodes = np.unique(group_F[:, None] * count + corners_F3, return_inverse=True)
    nodes_F3 = nodes.reshape(-1, 3)
    edges = np.concatenate([nodes_F3[:, [0, 1]], nodes_F3[:, [1, 2]]])
    graph = coo_array((np.ones(len(edges), bool), (edges[:, 0], edges[:, 1])), shape=(int(nodes.max()) + 1,) * 2)
    labels = connected_components(graph, directed=False)[1][nodes_F3[:, 0]]
    return np.asarray(np.unique(labels, return_inverse=True)[1])


def joined(triangles: Triangles, atom_F: np.ndarray, group_F: np.ndarray | None = None) -> np.ndarray:
    """Atoms of which small ones, those of no area, and those beyond MOST_ATOMS, have joined the closest others; the
    largest is 0.

    Where the group of every triangle is given, at most MOST_LABELS, atoms lie within one, join others of their own, and
    the largest of each stays.
    """
    area_N = np.bincount(atom_F, triangles.area_F)
    order = np.argsort(-area_N, kind="stable")
    large = int(np.sum(area_N >= SMALL_SHARE * area_N.sum()))
    group_N = np.zeros(len(area_N), int)
    if group_F is not None:
        group_N[atom_F] = group_F
    largest = order[np.unique(group_N[order], return_index=True)[1]]
    stays_N = np.zeros(len(area_N), bool)
    stays_N[order[: min(MOST_ATOMS, max(large, FEWEST_KEPT), MOST_LABELS - len(largest) + 1)]] = True
    stays_N &= area_N > 0
    stays_N[largest] = True
    target_N = np.full(len(area_N), -1)
    kept = order[stays_N[order]]
    target_N[kept] = np.arange(len(kept))
    if len(kept) < len(area_N):
        points = sampled(triangles.surfaces, atom_F, POINTS_TO_JOIN, each=2)
        for group in np.unique(group_N[~stays_N]):
            mine = group_N[points.atom_P] == group
            here, others = mine & stays_N[points.atom_P], mine & ~stays_N[points.atom_P]
            distance, nearest = cKDTree(points.position_P3[here]).query(points.position_P3[others])
            left = points.atom_P[others]
            closest = np.lexsort((distance, left))
            atoms, first = np.unique(left[closest], return_index=True)
            target_N[atoms] = target_N[points.atom_P[here]][nearest[closest[first]]]
    return np.asarray(target_N[atom_F])
