"""Where a division opened the parts of a surface: closed rims, each around one opening.

Shape suffixes: F triangles of all parts together, H their half-edges, B half-edges on rims, L vertices of a loop, P
positions.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pipeline.assets.surface import Surface
from pipeline.surface.atoms import Triangles

MOSTLY = 0.8
"""Share of a hole's vertices that lie inside the loop around it, seen along that loop's normal."""
LEVEL = 1e-3
"""Distance from a plane, in radii of a loop, up to which something lies in it."""


@dataclass(frozen=True)
class Loop:
    """A closed path of a part's boundary without repeated vertices, in the direction in which a patch has it."""

    vertices_L: np.ndarray
    """Numbers of positions, as in `Opened`."""
    edges_L: np.ndarray
    """Rows of `Opened.edges` from each vertex to the next."""
    position_L3: np.ndarray
    facing: float
    """Cosine between the normal and the way from the loop into the part's surface: negative where a patch of this loop
    alone has the part behind it, positive where it has it in front, as at the mouth of a cavity."""

    @cached_property
    def area_vector(self) -> np.ndarray:
        """(3,): the normal times the area that the loop has when it is seen along it."""
        offset = self.position_L3 - self.centre
        return np.asarray(np.cross(offset, np.roll(offset, -1, axis=0)).sum(axis=0) / 2)

    @cached_property
    def centre(self) -> np.ndarray:
        """(3,): the mean of the vertices."""
        return np.asarray(self.position_L3.mean(axis=0))

    @cached_property
    def radius(self) -> float:
        """Of a circle of the loop's area."""
        return float(np.sqrt(np.linalg.norm(self.area_vector) / np.pi))


@dataclass(frozen=True)
class Rim:
    """The border of one opening: an outer loop, and those of the cavities that open into it."""

    outer: Loop
    holes: Sequence[Loop] = ()

    @property
    def loops(self) -> list[Loop]:
        """The outer one first."""
        return [self.outer, *self.holes]


@dataclass(frozen=True)
class RimEdges:
    """Edges on rims of one part."""

    tail_B: np.ndarray
    head_B: np.ndarray
    """Numbers of positions, in the direction of a patch, which is opposite to that of the part's triangle."""
    triangle_B: np.ndarray
    """The part's triangle there, counted through the part's surfaces."""
    corner_B: np.ndarray
    """Which of its edges: from this corner to the next."""
    inward_B3: np.ndarray
    """Unit vectors in the triangle, away from the edge."""


@dataclass(frozen=True)
class Opened:
    """A part and what the division opened of it."""

    surfaces: Sequence[Surface]
    edges: RimEdges
    rims: Sequence[Rim]
    edge_keys: np.ndarray
    """All edges of the part, as `edge_key` says."""
    positions: np.ndarray
    """(V, 3) of all parts together; equal ones have one number."""


def edge_key(one: np.ndarray, other: np.ndarray, count: int) -> np.ndarray:
    """Numbers of undirected edges between numbers below `count`."""
    return np.asarray(np.minimum(one, other) * count + np.maximum(one, other))


def opened(parts: Sequence[Sequence[Surface]]) -> list[Opened]:
    """What the division of an object into these parts, each some surfaces, opened.

    An edge is on a rim when an odd number of the part's triangles have it and an even number of the object's: what was
    open before stays so, as do sheets that end on another part. Of rims that run into such an edge nothing is left, for
    they surround nothing. Rims that meet in a vertex are taken apart there.
    """
    triangles = Triangles([surface for part in parts for surface in part])
    corners_F3 = triangles.corners_F3
    positions = np.zeros((int(corners_F3.max()) + 1, 3))
    positions[corners_F3] = np.concatenate([surface.vertices[surface.faces] for surface in triangles.surfaces])
    sizes = [sum(len(surface.faces) for surface in part) for part in parts]
    part_H = np.repeat(np.arange(len(parts)), sizes).repeat(3)
    tail_H, head_H = corners_F3.ravel(), np.roll(corners_F3, -1, axis=1).ravel()
    key_H = edge_key(tail_H, head_H, len(positions))
    odd_H = _odd(key_H) & (tail_H != head_H)
    result = []
    for part, surfaces in enumerate(parts):
        mine = np.flatnonzero(part_H == part)
        on_rim = mine[_odd(key_H[mine]) & ~odd_H[mine] & (tail_H[mine] != head_H[mine])]
        on_rim = on_rim[np.unique(key_H[on_rim], return_index=True)[1]]
        edges = _edges(on_rim, corners_F3, positions, int(mine[0]) // 3)
        loops = _loops(edges, positions)
        result.append(Opened(surfaces, edges, _rims(loops), np.unique(key_H[mine]), positions))
    return result


def _odd(values: np.ndarray) -> np.ndarray:
    """Whether each value is there an odd number of times."""
    _, which, times = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray(times[which] % 2 == 1)


def _edges(half_B: np.ndarray, corners_F3: np.ndarray, positions: np.ndarray, first: int) -> RimEdges:
    triangle_B, corner_B = half_B // 3, half_B % 3
    head_B, tail_B, tip_B = (corners_F3[triangle_B, (corner_B + step) % 3] for step in range(3))
    along_B3, aside_B3 = positions[head_B] - positions[tail_B], positions[tip_B] - positions[tail_B]
    share_B = (along_B3 * aside_B3).sum(axis=1) / np.maximum((along_B3**2).sum(axis=1), 1e-300)
    inward_B3 = aside_B3 - share_B[:, None] * along_B3
    inward_B3 /= np.maximum(np.linalg.norm(inward_B3, axis=1, keepdims=True), 1e-300)
    return RimEdges(tail_B, head_B, triangle_B - first, corner_B, inward_B3)


def _loops(edges: RimEdges, positions: np.ndarray) -> list[Loop]:
    """Edges walked along, in their direction where that is possible; each time a vertex comes again, a loop is cut."""
    ends: defaultdict[int, list[tuple[int, int, bool]]] = defaultdict(list)
    directed = list(zip(edges.tail_B.tolist(), edges.head_B.tolist(), strict=True))
    for number, (tail, head) in enumerate(directed):
        ends[head].insert(0, (number, tail, False))
        ends[tail].append((number, head, True))
    used = np.zeros(len(directed), bool)
    loops = []
    for start, _ in directed:
        path, steps, place = [start], list[tuple[int, bool]](), {start: 0}
        while path:
            left = ends[path[-1]]
            while left and used[left[-1][0]]:
                left.pop()
            if not left:
                del place[path.pop()], steps[-1:]
                continue
            number, vertex, forward = left.pop()
            used[number] = True
            steps.append((number, forward))
            if vertex not in place:
                place[vertex] = len(path)
                path.append(vertex)
                continue
            since = place[vertex]
            loops.append(_loop(path[since:], steps[since:], edges, positions))
            for passed in path[since + 1 :]:
                del place[passed]
            del path[since + 1 :], steps[since:]
    return loops


def _loop(path: Sequence[int], steps: Sequence[tuple[int, bool]], edges: RimEdges, positions: np.ndarray) -> Loop:
    vertices_L = np.array(path)
    edges_L = np.array([number for number, _ in steps])
    if 2 * sum(forward for _, forward in steps) < len(steps):
        vertices_L, edges_L = vertices_L[::-1], np.roll(edges_L[::-1], -1)
    position_L3 = positions[vertices_L]
    loop = Loop(vertices_L, edges_L, position_L3, 0.0)
    length_L = np.linalg.norm(position_L3 - np.roll(position_L3, -1, axis=0), axis=1)
    inward = length_L @ edges.inward_B3[edges_L]
    normal = loop.area_vector
    scale = np.linalg.norm(normal) * length_L.sum()
    return Loop(vertices_L, edges_L, position_L3, float(inward @ normal / scale) if scale else 0.0)


def _rims(loops: Sequence[Loop]) -> list[Rim]:
    """Loops of cavities joined to those that surround them; the largest first."""
    loops = sorted(loops, key=lambda loop: -loop.radius)
    normals = np.array([loop.area_vector for loop in loops]).reshape(-1, 3)
    centres = np.array([loop.centre for loop in loops]).reshape(-1, 3)
    reaches = np.array([np.linalg.norm(loop.position_L3 - loop.centre, axis=1).max() for loop in loops])
    holes: dict[int, list[Loop]] = {}
    for number, loop in enumerate(loops):
        opposite = normals[:number] @ normals[number] < 0
        near = np.linalg.norm(centres[:number] - centres[number], axis=1) < reaches[:number]
        around = [
            one for one in np.flatnonzero(opposite & near).tolist() if one in holes and _surrounds(loops[one], loop)
        ]
        if around:
            holes[around[-1]].append(loop)
        else:
            holes[number] = []
    return [Rim(loops[number], inner) for number, inner in holes.items()]


def _surrounds(outer: Loop, inner: Loop) -> bool:
    """Whether `inner`, whose normal is opposite, is a hole in the patch of `outer` and not the border of its own."""
    frame = plane(outer.area_vector)
    offset = (inner.position_L3 - outer.centre) @ frame.T
    height = np.abs(offset[:, 2]) / max(outer.radius, 1e-300)
    if height.max() > LEVEL and (inner.facing <= 0 or height.mean() > 1):
        return False
    flat = ((outer.position_L3 - outer.centre) @ frame.T)[:, :2]
    apart = ~np.isin(inner.vertices_L, outer.vertices_L)
    return bool(apart.any() and inside(offset[apart, :2], flat).mean() >= MOSTLY)


def plane(normal: np.ndarray) -> np.ndarray:
    """(3, 3): two axes in the plane, and its unit normal, right-handed; rows."""
    normal = normal / max(float(np.linalg.norm(normal)), 1e-300)
    across = np.cross(np.eye(3)[np.abs(normal).argmin()], normal)
    across /= max(float(np.linalg.norm(across)), 1e-300)
    return np.stack([across, np.cross(normal, across), normal])


def inside(points_P2: np.ndarray, polygon_L2: np.ndarray) -> np.ndarray:
    """Which points are inside a polygon, (P,) bool, by how often a ray from them crosses it."""
    found = np.zeros(len(points_P2), bool)
    x, y = points_P2.T
    for (x0, y0), (x1, y1) in zip(polygon_L2, np.roll(polygon_L2, -1, axis=0), strict=True):
        if y0 != y1:
            found ^= ((y0 > y) != (y1 > y)) & (x < x0 + (y - y0) / (y1 - y0) * (x1 - x0))
    return found
