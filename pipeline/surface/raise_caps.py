"""A cap that bulges to where a completed shape has its hidden side, and stays welded at its rim.

Shape suffixes: V vertices of a cap, T its triangles, E its inner edges, P points of a completed shape, C numbers that a
point has.
"""

from dataclasses import replace

import numpy as np
from scipy.sparse import coo_array
from scipy.spatial import cKDTree

from pipeline.assets.surface import Surface
from pipeline.surface.rims import Rim, plane

SIDES = 48
"""Edges of a cap across its rim, at most."""
ROUNDS = 200
"""In which a cap gives way to what pulls at it; fewer leave wide caps flat."""
PULL = 3.0
"""Of a shape's points, beside that of all neighbours of a vertex together."""
PASSES = 60
"""In which edges are divided, at most; each makes the longest ones half as long."""
GRADING = 0.5
"""By how much, for each unit of distance from the border, edges may be shorter than those of the border."""


def raised(cap: Surface, rim: Rim, points_P3: np.ndarray, colours_P4: np.ndarray, grain: float) -> Surface:
    """The cap of a rim, with colours, divided into triangles of about `grain`, and drawn along the rim's normal to the
    points farthest out.

    Its border stays as it is. Where there are no points it spans what lies around, as a membrane does.
    """
    frame, centre = plane(rim.outer.area_vector), rim.outer.centre
    cap = _refined(cap, max(grain, 2 * rim.outer.radius / SIDES))
    assert cap.colors is not None
    height_P, flat_P2, colours_P4 = _outermost((points_P3 - centre) @ frame.T, colours_P4, grain)
    local_V3 = (cap.vertices - centre) @ frame.T
    distance_VK, nearest_VK = cKDTree(flat_P2).query(local_V3[:, :2], k=4, distance_upper_bound=2 * grain)
    weight_VK = np.where(np.isfinite(distance_VK), 1 / (distance_VK + grain / 4), 0)
    total_V = weight_VK.sum(axis=1)
    share_VK = weight_VK / np.maximum(total_V, 1e-300)[:, None]
    known_P5 = np.concatenate([np.column_stack([height_P, colours_P4]), np.zeros((1, 5))])  # one for no neighbour
    wanted_V5 = (known_P5[nearest_VK] * share_VK[..., None]).sum(axis=1)
    start_V5 = np.column_stack([local_V3[:, 2], cap.colors])
    found_V5 = _settled(cap.faces, start_V5, wanted_V5, np.where(total_V > 0, PULL, 0))
    vertices_V3 = cap.vertices + (found_V5[:, :1] - local_V3[:, 2:]) * frame[2]
    moves_V = np.abs(found_V5[:, 0] - local_V3[:, 2]) > 0
    return replace(
        cap,
        vertices=np.where(moves_V[:, None], vertices_V3, cap.vertices),
        colors=np.clip(found_V5[:, 1:], 0, 1).astype(np.float32),
        normals=None,
    )


def _outermost(local_P3: np.ndarray, colours_P4: np.ndarray, grain: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Heights, places in the plane and colours of points above which there is no other within the grain."""
    cells_P2 = np.floor(local_P3[:, :2] / grain).astype(int)
    _, cell_P = np.unique(cells_P2, axis=0, return_inverse=True)
    cell_P = cell_P.reshape(-1)
    top = np.full(int(cell_P.max()) + 1, -np.inf)
    np.maximum.at(top, cell_P, local_P3[:, 2])
    out_P = local_P3[:, 2] > top[cell_P] - grain
    return local_P3[out_P, 2], local_P3[out_P, :2], colours_P4[out_P]


def _settled(faces_T3: np.ndarray, start_VC: np.ndarray, wanted_VC: np.ndarray, pull_V: np.ndarray) -> np.ndarray:
    """Values between those of the neighbours and what is wanted, by its pull; on the border as they were."""
    halves = np.concatenate([faces_T3[:, [0, 1]], faces_T3[:, [1, 2]], faces_T3[:, [2, 0]]])
    around = coo_array((np.ones(len(halves)), (halves[:, 0], halves[:, 1])), shape=(len(start_VC),) * 2).tocsr()
    around = around + around.T
    around.data[:] = 1
    free_V = np.ones(len(start_VC), bool)
    free_V[_border(faces_T3, start_VC)[0]] = False
    degree_V = np.maximum(around.sum(axis=1), 1)[:, None]
    found_VC, pull_V1 = start_VC.copy(), pull_V[:, None]
    for _ in range(ROUNDS):
        mean_VC = around @ found_VC / degree_V
        found_VC[free_V] = ((mean_VC + pull_V1 * wanted_VC) / (1 + pull_V1))[free_V]
    return found_VC


def _border(faces_T3: np.ndarray, places_VC: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The vertices of the border, and the length of the longer one of the border's edges there."""
    edges = np.sort(faces_T3[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    single, times = np.unique(edges, axis=0, return_counts=True)
    ends = single[times == 1]
    length_V = np.zeros(len(places_VC))
    for side in ends.T:
        np.maximum.at(length_V, side, np.linalg.norm(places_VC[ends[:, 0], :3] - places_VC[ends[:, 1], :3], axis=1))
    border = np.unique(ends)
    return border, length_V[border]


def _refined(cap: Surface, longest: float) -> Surface:
    """A cap whose inner edges are at most so long, or near its border, which stays whole, as long as edges there."""
    values_VC = np.column_stack([cap.vertices, cap.colors])  # type: ignore[list-item]
    faces_T3 = cap.faces
    border, length = _border(faces_T3, cap.vertices)
    tree = cKDTree(cap.vertices[border])
    for _ in range(PASSES):
        halves = faces_T3[:, [[0, 1], [1, 2], [2, 0]]]
        edges, which, times = np.unique(
            np.sort(halves.reshape(-1, 2), axis=1), axis=0, return_inverse=True, return_counts=True
        )
        length_E = np.linalg.norm(values_VC[edges[:, 0], :3] - values_VC[edges[:, 1], :3], axis=1)
        distance_E, nearest_E = tree.query(values_VC[edges, :3].mean(axis=1))
        most_E = np.maximum(longest, length[nearest_E] - GRADING * distance_E)
        length_E = np.where((times == 2) & (length_E > most_E), length_E, 0)
        edge_T3 = which.reshape(-1, 3)
        best_T = length_E[edge_T3].argmax(axis=1)
        chosen_T = edge_T3[np.arange(len(faces_T3)), best_T]
        chosen_T[length_E[chosen_T] == 0] = -1
        votes_E = np.bincount(chosen_T[chosen_T >= 0], minlength=len(edges))
        split_E = (votes_E == 2) & (length_E > 0)
        if not split_E.any():
            break
        middle_E = np.cumsum(split_E) - 1 + len(values_VC)
        values_VC = np.concatenate([values_VC, values_VC[edges[split_E]].mean(axis=1)])
        divided_T = (chosen_T >= 0) & split_E[chosen_T]
        a, b, c = (faces_T3[divided_T, (best_T[divided_T] + step) % 3] for step in range(3))
        middle = middle_E[chosen_T[divided_T]]
        new = [np.stack([a, middle, c], axis=1), np.stack([middle, b, c], axis=1)]
        faces_T3 = np.concatenate([faces_T3[~divided_T], *new])
    return replace(cap, vertices=values_VC[:, :3], faces=faces_T3, colors=values_VC[:, 3:].astype(np.float32))
