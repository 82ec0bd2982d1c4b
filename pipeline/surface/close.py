"""Parts of a divided surface closed where the division opened them: by caps, or by what a completed shape has there.

Shape suffixes: B edges on rims, V vertices and T triangles of a cap, N vertices of a
rim, L edges of one of its loops, F triangles and P points of a completed shape.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from scipy.spatial import cKDTree

from pipeline.assets.surface import Material, Surface, total_area
from pipeline.surface.division import SurfacePart
from pipeline.surface.patches import filled, with_points
from pipeline.surface.points import sampled
from pipeline.surface.raise_caps import raised
from pipeline.surface.rims import Opened, Rim, edge_key, inside, opened, plane
from pipeline.views.looks import base_colour

Close = Literal["none", "cap", "complete"]
"""What becomes of openings that a division makes: they stay, or are filled as in `capped` or `completed`."""
Shape = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Vertices (V, 3), triangles (F, 3) and linear RGBA in [0, 1] at the vertices (V, 4), in the frame of the parts."""
OWN_POINTS, OBJECT_POINTS = 20_000, 60_000
"""On a part's own surface, from which distances are measured, and on that of all parts, whose inside is asked for."""
AT_EDGE = (0.45, 0.45, 0.1)
"""Barycentric weights of the point at which a triangle's colour is taken for its edge on a rim: where textures have a
seam there is often another colour on the edge itself."""


def capped(parts: Sequence[SurfacePart], largest: float = math.inf) -> list[SurfacePart]:
    """All parts of an object, each with its openings filled by one more surface, which is the last.

    Filled is what the division opened; what was open in the object stays so. The surfaces that were there are the same
    objects as before. Two parts that a closed surface was divided into have the same triangles between them, each from
    its own side, so both are closed, and their volumes add up to the whole. A rim around a cavity, as a tube has, gets
    one annular cap. The cap has the rim's colours at its vertices, and of the material with most of the rim all else
    but the textures. See `opened` and `filled` for rims that touch, or lie in no plane.

    Rims whose patch has more than `largest` times the part's own area stay open: such a part is a sheet, like a label
    around a bottle, rather than a body.
    """
    result = []
    for part, one in zip(parts, opened([part.surfaces for part in parts]), strict=True):
        caps = _caps(one, one.rims, largest)
        result.append(replace(part, surfaces=[*part.surfaces, *caps]) if caps else part)
    return result


def completed(parts: Sequence[SurfacePart], shapes: Sequence[Shape | None], tolerance: float) -> list[SurfacePart]:
    """All parts of an object, each with its openings filled by caps that bulge to where its completed shape is.

    Of a shape counts what is hidden in the object: what is farther than `tolerance` from the part's own surface, lies
    inside the object, and behind the rim: inside that, seen along its normal, and no farther from its plane than its
    radius. Caps of rims behind which there is nothing, and those of parts without a shape, are as of `capped`. As
    there, the surfaces that were there are the same objects as before, and what was closed is closed again.
    """
    everything = [surface for part in parts for surface in part.surfaces]
    whole = sampled(everything, np.zeros(sum(len(one.faces) for one in everything), int), OBJECT_POINTS, 1)
    tree, result = cKDTree(whole.position_P3), []
    for part, shape, one in zip(parts, shapes, opened([part.surfaces for part in parts]), strict=True):
        points_P3, colours_P4 = np.zeros((0, 3)), np.zeros((0, 4))
        if shape is not None and one.rims:
            vertices, faces, colours = shape
            points_P3 = np.concatenate([vertices, vertices[faces].mean(axis=1)])
            colours_P4 = np.concatenate([colours, colours[faces].mean(axis=1)])
            own = sampled(part.surfaces, np.zeros(sum(len(own.faces) for own in part.surfaces), int), OWN_POINTS, 1)
            nearest_P = tree.query(points_P3)[1]
            offset_P3 = points_P3 - whole.position_P3[nearest_P]
            hidden_P = (offset_P3 * whole.normal_P3[nearest_P]).sum(axis=1) < 0
            hidden_P &= cKDTree(own.position_P3).query(points_P3)[0] > tolerance
            points_P3, colours_P4 = points_P3[hidden_P], colours_P4[hidden_P]
        bulged, bare = list[Surface](), list[Rim]()
        for rim in one.rims:
            behind_P = _behind(rim, points_P3)
            if not behind_P.any():
                bare.append(rim)
                continue
            for cap in _caps(one, [rim], math.inf):
                made = raised(cap, rim, points_P3[behind_P], colours_P4[behind_P], tolerance / 2)
                bulged.append(replace(made, normals=_normals(made.vertices, made.faces)))
        surfaces = [*part.surfaces, *bulged, *_caps(one, bare, math.inf)]
        result.append(replace(part, surfaces=surfaces, generated=bool(bulged)))
    return result


def _behind(rim: Rim, places_P3: np.ndarray) -> np.ndarray:
    """Which places lie behind a rim, (P,) bool."""
    frame, centre = plane(rim.outer.area_vector), rim.outer.centre
    offset_P3 = (places_P3 - centre) @ frame.T
    flat = [((loop.position_L3 - centre) @ frame.T)[:, :2] for loop in rim.loops]
    found = inside(offset_P3[:, :2], flat[0]) & (np.abs(offset_P3[:, 2]) <= rim.outer.radius)
    for hole in flat[1:]:
        found &= ~inside(offset_P3[:, :2], hole)
    return found


def _caps(part: Opened, rims: Sequence[Rim], largest: float) -> list[Surface]:
    """Patches in rims as one surface, or as none; those of more than `largest` times the part's area are left out."""
    most = largest * total_area(part.surfaces)
    colour_B4, ends_B23 = _rim_colours(part), _ends(part)
    vertices, colours, numbers, faces, start = [], [], [], [], 0
    for rim in rims:
        made = filled(rim)
        a, b, c = (np.concatenate([loop.position_L3 for loop in rim.loops])[made[:, k]] for k in range(3))
        if np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2 > most:
            continue
        for loop in rim.loops:
            edges_L = loop.edges_L
            vertices.append(ends_B23[edges_L, (part.edges.head_B[edges_L] == loop.vertices_L).astype(int)])
            colours.append((colour_B4[edges_L] + colour_B4[np.roll(edges_L, 1)]) / 2)
            numbers.append(loop.vertices_L)
        faces.append(made + start)
        start += sum(len(loop.vertices_L) for loop in rim.loops)
    if not faces:
        return []
    values_V7 = np.concatenate([np.concatenate(vertices), np.concatenate(colours)], axis=1)
    faces_T3, values_V7 = _apart(np.concatenate(faces), values_V7, np.concatenate(numbers), part)
    vertices_V3, colours_V4 = np.split(values_V7, [3], axis=1)
    normals_V3 = _normals(vertices_V3, faces_T3)
    return [Surface(vertices_V3, faces_T3, normals_V3, None, colours_V4.astype(np.float32), _material(part))]


def _ends(part: Opened) -> np.ndarray:
    """Tail and head of each edge, (B, 2, 3), bit for bit as the part's own triangle has them."""
    corners = np.concatenate([surface.vertices[surface.faces] for surface in part.surfaces])
    triangle_B, corner_B = part.edges.triangle_B, part.edges.corner_B
    return np.stack([corners[triangle_B, (corner_B + 1) % 3], corners[triangle_B, corner_B]], axis=1)


def _rim_colours(part: Opened) -> np.ndarray:
    """Linear RGBA (B, 4) at the edges on a part's rims."""
    edges = part.edges
    sizes = [len(surface.faces) for surface in part.surfaces]
    starts = np.cumsum([0, *sizes[:-1]])
    surface_B = np.searchsorted(np.cumsum(sizes), edges.triangle_B, side="right")
    weight_B3 = np.empty((len(edges.triangle_B), 3))
    for step, weight in enumerate(AT_EDGE):
        weight_B3[np.arange(len(weight_B3)), (edges.corner_B + step) % 3] = weight
    colour_B4 = np.ones((len(weight_B3), 4))
    for number in np.unique(surface_B):
        mine, surface = surface_B == number, part.surfaces[number]
        corners = surface.faces[edges.triangle_B[mine] - starts[number]]
        colour_B4[mine, :3] = base_colour(surface, corners, weight_B3[mine])
        if surface.colors is not None:
            colour_B4[mine, 3] = (surface.colors[corners, 3] * weight_B3[mine]).sum(axis=1)
    return colour_B4


def _apart(
    faces_T3: np.ndarray, values_V7: np.ndarray, numbers_V: np.ndarray, part: Opened
) -> tuple[np.ndarray, np.ndarray]:
    """Patches none of whose inner edges the part has already, lest four triangles meet there.

    Such edges get a vertex of their own, with positions and colours between those of its ends.
    """
    tail, head = faces_T3.ravel(), np.roll(faces_T3, -1, axis=1).ravel()
    halves = Counter(zip(tail.tolist(), head.tolist(), strict=True))
    once = tail < head
    tail, head = tail[once], head[once]
    keys = edge_key(numbers_V[tail], numbers_V[head], len(part.positions))
    known = np.concatenate([part.edge_keys, keys])
    _, which, times = np.unique(known, return_inverse=True, return_counts=True)
    before = Counter(known[: len(part.edge_keys)].tolist())
    for number in np.flatnonzero(times[which[len(part.edge_keys) :]] > 1):
        one, other, key = int(tail[number]), int(head[number]), int(keys[number])
        earlier = before[key]
        before[key] += 1
        if earlier and halves[one, other] and halves[other, one]:
            halves.subtract([(one, other), (other, one)])
            share = 1 / (1 + earlier)  # another patch may have a vertex in the middle
            between = values_V7[one] * (1 - share) + values_V7[other] * share
            middle = np.array([len(values_V7)])
            values_V7 = np.concatenate([values_V7, between[None]])
            faces_T3 = with_points(with_points(faces_T3, one, other, middle), other, one, middle)
    return faces_T3, values_V7


def _normals(vertices_V3: np.ndarray, faces_T3: np.ndarray) -> np.ndarray:
    """(V, 3): means of the triangles' at each vertex, by area."""
    a, b, c = (vertices_V3[faces_T3[:, k]] for k in range(3))
    normals = np.zeros_like(vertices_V3)
    for corner in range(3):
        np.add.at(normals, faces_T3[:, corner], np.cross(b - a, c - a))
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    return np.where(length > 0, normals / np.maximum(length, 1e-300), [0.0, 0.0, 1.0])


def _material(part: Opened) -> Material:
    """Without textures, of the surface that has most of the rims; its colour is at the vertices, save for its alpha."""
    sizes = np.cumsum([len(surface.faces) for surface in part.surfaces])
    on_rims = np.concatenate([loop.edges_L for rim in part.rims for loop in rim.loops])
    surface_B = np.searchsorted(sizes, part.edges.triangle_B[on_rims], side="right")
    length_B = np.linalg.norm(
        part.positions[part.edges.head_B[on_rims]] - part.positions[part.edges.tail_B[on_rims]], axis=1
    )
    most = part.surfaces[int(np.bincount(surface_B, length_B).argmax())].material
    alpha = 255 if most.baseColorFactor is None else int(most.baseColorFactor[3])
    return Material(
        name=most.name,
        baseColorFactor=[255, 255, 255, alpha],
        metallicFactor=most.metallicFactor,
        roughnessFactor=most.roughnessFactor,
        emissiveFactor=most.emissiveFactor,
        alphaMode=most.alphaMode,
        alphaCutoff=most.alphaCutoff,
        doubleSided=most.doubleSided,
    )
