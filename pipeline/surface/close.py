"""Parts of a divided surface closed: by caps, patches of triangles in the openings that the division made.

Shape suffixes: B edges on rims, V vertices and T triangles of a cap, N vertices of a rim.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipeline.assets.surface import Material, Surface
from pipeline.surface.division import SurfacePart
from pipeline.surface.patches import filled, with_points
from pipeline.surface.points import base_colour
from pipeline.surface.rims import Opened, Rim, edge_key, opened

AT_EDGE = (0.45, 0.45, 0.1)
"""Barycentric weights of the point at which a triangle's colour is taken for its edge on a rim: where textures have a
seam there is often another colour on the edge itself."""


def capped(parts: Sequence[SurfacePart]) -> list[SurfacePart]:
    """All parts of an object, each with its openings filled by one more surface, which is the last.

    Filled is what the division opened; what was open in the object stays so. The surfaces that were there are the same
    objects as before. Two parts that a closed surface was divided into have the same triangles between them, each from
    its own side, so both are closed, and their volumes add up to the whole. A rim around a cavity, as a tube has, gets
    one annular cap. The cap has the rim's colours at its vertices, and of the material with most of the rim all else
    but the textures. See `opened` and `filled` for rims that touch, or lie in no plane.
    """
    result = []
    for part, one in zip(parts, opened([part.surfaces for part in parts]), strict=True):
        result.append(replace(part, surfaces=[*part.surfaces, _cap(one)]) if one.rims else part)
    return result


@dataclass(frozen=True)
class Filling:
    """A patch in one rim."""

    vertices_V3: np.ndarray
    """Those of the rim's loops first, one loop after the other."""
    colours_V4: np.ndarray
    faces_T3: np.ndarray


def _cap(part: Opened) -> Surface:
    """The caps of all rims as one surface."""
    colour_B4, ends_B23, known = _rim_colours(part), _ends(part), part.edge_keys
    fillings = []
    for rim in part.rims:
        filling = _filling(rim, part.edges.head_B, colour_B4, ends_B23)
        filling, known = _apart(filling, rim, known, len(part.positions))
        fillings.append(filling)
    starts = np.cumsum([0, *(len(one.vertices_V3) for one in fillings[:-1])])
    vertices_V3 = np.concatenate([one.vertices_V3 for one in fillings])
    faces_T3 = np.concatenate([one.faces_T3 + start for one, start in zip(fillings, starts, strict=True)])
    colours_V4 = np.concatenate([one.colours_V4 for one in fillings]).astype(np.float32)
    return Surface(vertices_V3, faces_T3, _normals(vertices_V3, faces_T3), None, colours_V4, _material(part))


def _filling(rim: Rim, head_B: np.ndarray, colour_B4: np.ndarray, ends_B23: np.ndarray) -> Filling:
    """The vertices have the colour of the two edges there, further ones that of their loop."""
    positions = [ends_B23[loop.edges_L, (head_B[loop.edges_L] == loop.vertices_L).astype(int)] for loop in rim.loops]
    colours = [(colour_B4[loop.edges_L] + colour_B4[np.roll(loop.edges_L, 1)]) / 2 for loop in rim.loops]
    faces, further = filled(rim)
    middle = np.stack([colour.mean(axis=0) for colour in colours])[: len(further)]
    return Filling(np.concatenate([*positions, further]), np.concatenate([*colours, middle]), faces)


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


def _apart(filling: Filling, rim: Rim, known: np.ndarray, count: int) -> tuple[Filling, np.ndarray]:
    """A patch none of whose inner edges the part has already, lest four triangles meet there; and all edges known."""
    vertices_V3, colours_V4, faces_T3 = filling.vertices_V3, filling.colours_V4, filling.faces_T3
    numbers_N = np.concatenate([loop.vertices_L for loop in rim.loops])
    tail, head = faces_T3.ravel(), np.roll(faces_T3, -1, axis=1).ravel()
    halves = Counter(zip(tail.tolist(), head.tolist(), strict=True))
    inner = (tail < head) & (head < len(numbers_N))
    tail, head = tail[inner], head[inner]
    keys = edge_key(numbers_N[tail], numbers_N[head], count)
    everything = np.concatenate([known, keys])
    _, which, times = np.unique(everything, return_inverse=True, return_counts=True)
    for number in np.flatnonzero(times[which[len(known) :]] > 1):
        one, other = int(tail[number]), int(head[number])
        earlier = int(np.sum(everything[: len(known) + number] == keys[number]))
        if earlier and halves[one, other] and halves[other, one]:
            halves.subtract([(one, other), (other, one)])
            middle = np.array([len(vertices_V3)])
            share = 1 / (1 + earlier)  # another patch may have a vertex in the middle
            weights = np.array([[1 - share], [share]])
            vertices_V3, colours_V4 = (
                np.concatenate([values, (values[[one, other]] * weights).sum(axis=0, keepdims=True)])
                for values in (vertices_V3, colours_V4)
            )
            faces_T3 = with_points(with_points(faces_T3, one, other, middle), other, one, middle)
    return Filling(vertices_V3, colours_V4, faces_T3), everything


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
