"""Triangles that fill a rim: ear clipping where it lies in a plane, the triangulation of least area where it does not.

The least area is that of Barequet and Sharir, Filling gaps in the boundary of a polyhedron, 1995.
Shape suffixes: N vertices of a rim's loops one after the other, T triangles, M vertices of one loop.
"""

import math
from collections.abc import Sequence

import numpy as np
from mapbox_earcut import triangulate_float64

from pipeline.surface.rims import LEVEL, Rim, plane

MOST_LEAST_AREA = 320
"""Vertices; the least area takes their number to the third power."""
COMPACT = 0.01
"""What squared lengths of sides count beside areas, so that of almost equal areas those without slivers are taken."""
FLAT = 1e-6
"""Area, in squared lengths of sides, below which a triangle is none; such are taken where nothing else is left."""
FLIPS = 20
"""Flips of edges, for each edge, at most."""


def filled(rim: Rim) -> np.ndarray:
    """Triangles (T, 3) that fill a rim, counted through the vertices of its loops, one loop after the other.

    Both sides of a rim are filled alike, turned over, so that two parts that a closed surface was divided into enclose
    together what it encloses.
    """
    loops, turned = [loop.vertices_L for loop in rim.loops], False
    orders = [np.roll(np.arange(len(loop)), -int(loop.argmin())) for loop in loops]
    if loops[0][orders[0][1]] > loops[0][orders[0][-1]]:
        orders, turned = [np.roll(order[::-1], 1) for order in orders], True
    starts = np.cumsum([0, *(len(loop) for loop in loops[:-1])])
    sequence = [0, *sorted(range(1, len(loops)), key=lambda number: int(loops[number].min()))]
    order_N = np.concatenate([orders[number] + starts[number] for number in sequence])
    positions = np.concatenate([loop.position_L3 for loop in rim.loops])[order_N]
    numbers = order_N[_filled(positions, [len(loops[number]) for number in sequence])]
    same = np.concatenate(loops)[numbers]
    numbers = numbers[(same != np.roll(same, 1, axis=1)).all(axis=1)]  # a loop was entered where it touches another
    return numbers[:, ::-1] if turned else numbers


def _filled(points_N3: np.ndarray, lengths: Sequence[int]) -> np.ndarray:
    outer = points_N3[: lengths[0]]
    offset = outer - outer.mean(axis=0)
    normal = np.cross(offset, np.roll(offset, -1, axis=0)).sum(axis=0)
    local = (points_N3 - outer.mean(axis=0)) @ plane(normal).T
    flat = np.abs(local[:, 2]).max() <= LEVEL * np.abs(local[:, :2]).max()
    ears = _ears(local[:, :2], lengths) if flat else None
    return _least_area(points_N3, _bridged(points_N3, lengths)) if ears is None else ears


def _ears(flat_N2: np.ndarray, lengths: Sequence[int]) -> np.ndarray | None:
    """None where what ear clipping gives does not fill the polygon exactly once: the loops cross in the plane."""
    faces = triangulate_float64(np.ascontiguousarray(flat_N2), np.cumsum(lengths).astype(np.uint32))
    faces = faces.reshape(-1, 3).astype(np.int64)
    if _signed(flat_N2, faces).sum() < 0:
        faces = faces[:, ::-1]
    used = np.zeros(len(flat_N2), bool)
    used[faces] = True
    wanted, start = 0.0, 0
    edges: list[tuple[int, int]] = []
    for length in lengths:  # ear clipping leaves vertices out that lie on a line between others
        loop = np.arange(start, start + length)
        x, y = flat_N2[loop].T
        wanted += float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2
        kept = np.flatnonzero(used[loop])
        if len(kept) < 3:
            return None
        for one, other in zip(kept, np.roll(kept, -1), strict=True):
            between = loop[(np.arange(one + 1, one + 1 + (other - one - 1) % length)) % length]
            if len(between):
                faces = with_points(faces, int(loop[one]), int(loop[other]), between)
        edges += zip(loop.tolist(), np.roll(loop, -1).tolist(), strict=True)
        start += length
    area = _signed(flat_N2, faces)
    if abs(area.sum() - wanted) > 1e-9 * abs(wanted) or np.abs(area).sum() > (1 + 1e-9) * abs(wanted):
        return None
    halves = [(a, b) for face in faces.tolist() for a, b in zip(face, face[1:] + face[:1], strict=True)]
    once = set(halves)
    whole = len(once) == len(halves) and once.issuperset(edges)
    if not whole or not all((b, a) in once for a, b in once.difference(edges)):
        return None
    return _delaunay(flat_N2, faces)


def _delaunay(flat_N2: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Triangles in the plane whose inner edges are flipped until each pair is Delaunay, so that slivers go.

    Lawson, Software for C1 surface interpolation, 1977.
    """
    points = flat_N2.tolist()
    tips = {half: tip for a, b, c in faces.tolist() for half, tip in (((a, b), c), ((b, c), a), ((c, a), b))}
    todo = [half for half in tips if half[0] < half[1]]
    flips = FLIPS * len(tips)  # rounding could make it go in circles
    while todo and flips:
        a, b = todo.pop()
        if (a, b) not in tips or (b, a) not in tips:
            continue
        c, d = tips[a, b], tips[b, a]
        if _angle(points[a], points[b], points[c]) + _angle(points[a], points[b], points[d]) <= np.pi + 1e-9:
            continue
        if min(_turn(points[d], points[c], points[a]), _turn(points[c], points[d], points[b])) <= 0:
            continue
        del tips[a, b], tips[b, a]
        tips |= {(d, c): a, (c, a): d, (a, d): c, (c, d): b, (d, b): c, (b, c): d}
        todo += [(c, a), (a, d), (d, b), (b, c)]
        flips -= 1
    return np.array([(a, b, c) for (a, b), c in tips.items() if a < b and a < c])


def _turn(a: list[float], b: list[float], c: list[float]) -> float:
    """Twice the area of a triangle in the plane, positive when counter-clockwise."""
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def _angle(a: list[float], b: list[float], tip: list[float]) -> float:
    """In which the edge from a to b is seen from the tip."""
    dot = (a[0] - tip[0]) * (b[0] - tip[0]) + (a[1] - tip[1]) * (b[1] - tip[1])
    return math.atan2(abs(_turn(tip, a, b)), dot)


def _signed(flat_N2: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Areas (T,), positive when counter-clockwise."""
    a, b, c = (flat_N2[faces[:, k]] for k in range(3))
    one, other = b - a, c - a
    return np.asarray(one[:, 0] * other[:, 1] - one[:, 1] * other[:, 0]) / 2


def with_points(faces: np.ndarray, tail: int, head: int, between: np.ndarray) -> np.ndarray:
    """Triangles of which the one with an edge from `tail` to `head` is divided at vertices on that edge, if any is."""
    for turn in range(3):
        a, b, c = (faces[:, (turn + step) % 3] for step in range(3))
        for found in np.flatnonzero((a == tail) & (b == head)):
            row = np.concatenate([[tail], between, [head]])
            made = np.stack([row[:-1], row[1:], np.full(len(row) - 1, c[found])], axis=1)
            return np.concatenate([np.delete(faces, found, axis=0), made])
    return faces


def _bridged(points_N3: np.ndarray, lengths: Sequence[int]) -> np.ndarray:
    """All loops as one, (M,): every hole is entered and left where it is closest to what there is."""
    ends = np.cumsum(lengths)
    loops = [np.arange(end - length, end) for end, length in zip(ends, lengths, strict=True)]
    joined, left = loops[0], loops[1:]
    while left:
        gaps = [np.linalg.norm(points_N3[joined][:, None] - points_N3[hole][None], axis=2) for hole in left]
        number = int(np.argmin([gap.min() for gap in gaps]))
        here, there = np.unravel_index(gaps[number].argmin(), gaps[number].shape)
        hole = np.roll(left.pop(number), -int(there))
        joined = np.concatenate([joined[: here + 1], hole, hole[:1], joined[here:]])
    return joined


def _least_area(points_N3: np.ndarray, loop_M: np.ndarray) -> np.ndarray:
    """The triangles of a closed path, (M - 2, 3), that have the least area in sum.

    Of long paths, those between every few of its vertices, and those between these and the path.
    """
    count = len(loop_M)
    if count > MOST_LEAST_AREA:
        step = -(-count // MOST_LEAST_AREA)
        closed = np.append(loop_M, loop_M[0])
        chains = [closed[start : start + step + 1] for start in range(0, count, step)]
        coarse = [loop_M[::step], *(chain for chain in chains if len(chain) > 2)]
        return np.concatenate([_least_area(points_N3, one) for one in coarse])
    square = ((points_N3[loop_M][:, None] - points_N3[loop_M][None]) ** 2).sum(axis=2)
    cost, middle = np.zeros((count, count)), np.zeros((count, count), int)
    for gap in range(2, count):
        low = np.arange(count - gap)[:, None]
        high, between = low + gap, low + np.arange(1, gap)
        a, b, c = square[low, between], square[between, high], square[low, high]
        area = np.sqrt(np.maximum(4 * a * b - (a + b - c) ** 2, 0)) / 4
        weight = np.where(area < FLAT * (a + b + c), 1, COMPACT)
        total = cost[low, between] + cost[between, high] + area + weight * (a + b + c)
        best = total.argmin(axis=1)
        cost[low[:, 0], high[:, 0]] = total[np.arange(len(best)), best]
        middle[low[:, 0], high[:, 0]] = best + low[:, 0] + 1
    faces, todo = [], [(0, count - 1)]
    while todo:
        first, last = todo.pop()
        if last - first > 1:
            between_them = int(middle[first, last])
            faces.append((first, between_them, last))
            todo += [(first, between_them), (between_them, last)]
    return np.asarray(loop_M[np.array(faces)])
