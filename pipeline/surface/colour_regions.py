"""Pieces of a surface divided where their colour steps: what is left of materials when they are baked into one texture.

Shape suffixes: F triangles of all surfaces together, P pieces, E pairs, R regions, V positions, N triangles or regions.
"""

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from pipeline.surface.atoms import SMALL_SHARE, Triangles, connected, joined
from pipeline.surface.points import sampled
from pipeline.surface.superfaces import borders, fused_atoms, with_superfaces

STEP = 10.0
"""Difference in CIELAB, beyond what their own colours vary, from which on neighbours have colours of their own."""
EVEN_SHARE = 0.97
"""Of a piece's area: so much must be in regions that are no small atoms, or the piece stays whole, as grained wood."""
POINTS = 65_536
"""Spread over the object, and one on every triangle at least: a large one has many colours."""


def surface_atoms(triangles: Triangles, group_F: np.ndarray, kept_F: np.ndarray | None = None) -> np.ndarray:
    """The atoms (F,), from 0: what hangs together within one of the groups (F,), divided where colours step; of skins
    the superfaces.

    Small ones have joined others, those of one group `kept_F` alone where that is given; see `joined`.
    """
    region_F = colour_regions(triangles, connected(triangles, group_F))
    return with_superfaces(triangles, joined(triangles, region_F, kept_F))


def colour_regions(triangles: Triangles, piece_F: np.ndarray) -> np.ndarray:
    """Pieces (F,) from 0, those that consist of areas of even colour divided into these; the others stay.

    All stay where one is a fused skin: its superfaces know of colour.
    """
    colour_F3, spread_F = _mean_colours(triangles)
    if np.linalg.norm(np.ptp(colour_F3, axis=0)) < STEP or fused_atoms(triangles, piece_F, colour_F3).any():
        return piece_F
    region_F = _regions(triangles, piece_F, colour_F3, spread_F)
    large_F = (np.bincount(region_F, triangles.area_F) >= SMALL_SHARE * triangles.area_F.sum())[region_F]
    area_P = np.bincount(piece_F, triangles.area_F)
    even_P = (area_P > 0) & (np.bincount(piece_F, triangles.area_F * large_F) >= EVEN_SHARE * area_P)
    place_F3 = triangles.corners_F33.mean(axis=1)
    for piece in np.unique(piece_F[even_P[piece_F] & ~large_F]):  # what is too small goes with what is beside it
        here, small = (np.flatnonzero((piece_F == piece) & one_F) for one_F in (large_F, ~large_F))
        region_F[small] = region_F[here[cKDTree(place_F3[here]).query(place_F3[small])[1]]]
    return np.asarray(np.unique(np.where(even_P[piece_F], region_F + len(area_P), piece_F), return_inverse=True)[1])


def _mean_colours(triangles: Triangles) -> tuple[np.ndarray, np.ndarray]:
    """CIELAB (F, 3) of every triangle, its mean, and how far its points are from that, (F,), as a root mean square."""
    points = sampled(triangles.surfaces, np.arange(len(triangles.surface_F)), POINTS, each=1)
    number_F = np.bincount(points.atom_P)
    mean_F3 = np.stack([np.bincount(points.atom_P, one) / number_F for one in points.lab_P3.T], axis=1)
    squared = ((points.lab_P3 - mean_F3[points.atom_P]) ** 2).sum(axis=1)
    return mean_F3, np.sqrt(np.bincount(points.atom_P, squared) / number_F)


def _regions(triangles: Triangles, piece_F: np.ndarray, colour_F3: np.ndarray, spread_F: np.ndarray) -> np.ndarray:
    """(F,) Of each piece what hangs together by like colours: over edges, and then, by mean colours, over corners."""
    pair_E2 = borders(triangles)[0]
    region_F = _joined_alike(pair_E2, piece_F, colour_F3, spread_F)
    count, positions = int(region_F.max()) + 1, int(triangles.corners_F3.max()) + 1
    piece_R = np.empty(count, int)
    piece_R[region_F] = piece_F
    weight_F = np.maximum(triangles.area_F, 1e-300)
    total_R = np.bincount(region_F, weight_F)
    mean_R3 = np.stack([np.bincount(region_F, weight_F * one) / total_R for one in colour_F3.T], axis=1)
    corners = np.stack([np.repeat(region_F, 3), triangles.corners_F3.ravel()])
    at_RV = coo_array((np.ones(corners.shape[1]), tuple(corners)), shape=(count, positions)).tocsr()
    touching = np.stack((at_RV @ at_RV.T).nonzero(), axis=1)
    return _joined_alike(touching, piece_R, mean_R3, np.bincount(region_F, weight_F * spread_F) / total_R)[region_F]


def _joined_alike(pair_E2: np.ndarray, piece_N: np.ndarray, colour_N3: np.ndarray, spread_N: np.ndarray) -> np.ndarray:
    """(N,) One number for all that is connected by pairs within one piece whose colours, (N, 3), do not step."""
    one_E, other_E = pair_E2.T
    apart_E = np.linalg.norm(colour_N3[one_E] - colour_N3[other_E], axis=1)
    step_E = STEP + (spread_N[one_E] + spread_N[other_E]) / 2
    alike_E = (piece_N[one_E] == piece_N[other_E]) & (apart_E < step_E)
    graph = coo_array((np.ones(alike_E.sum(), bool), (one_E[alike_E], other_E[alike_E])), shape=(len(piece_N),) * 2)
    return np.asarray(connected_components(graph, directed=False)[1])
