"""Points spread over a surface, with their normals and colours.

Shape suffixes: F triangles of all surfaces together, P points, N atoms.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from skimage.color import rgb2lab

from pipeline.assets.srgb import display
from pipeline.assets.surface import Surface
from pipeline.views.looks import base_colour

NO_AREA = 1e-12
"""Share of the object's area under which a triangle has none."""


@dataclass(frozen=True)
class Points:
    """Points on a surface."""

    position_P3: np.ndarray
    normal_P3: np.ndarray
    """Of the triangle."""
    lab_P3: np.ndarray
    """CIELAB of the base colour."""
    atom_P: np.ndarray


def sampled(surfaces: Sequence[Surface], atom_F: np.ndarray, count: int, each: int) -> Points:
    """About `count` points, as many on each atom as its share of the area says and `each` at least; always the same.

    Triangles of no area have points as well, where an atom has no others.
    """
    rng = np.random.default_rng(0)
    corners = np.concatenate([surface.vertices[surface.faces] for surface in surfaces])
    cross_F3 = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area_F = np.linalg.norm(cross_F3, axis=1) / 2
    area_F = np.maximum(area_F, NO_AREA * area_F.sum())
    area_N = np.bincount(atom_F, area_F)
    number_N = np.maximum(each, np.rint(count * area_N / area_N.sum())).astype(int)
    order_F = np.argsort(atom_F, kind="stable")
    ends_F = np.cumsum(area_F[order_F])
    start_N = np.concatenate([[0.0], np.cumsum(area_N)[:-1]])
    atom_P = np.repeat(np.arange(len(area_N)), number_N)
    rank_P = np.arange(len(atom_P)) - np.repeat(np.cumsum(number_N) - number_N, number_N)
    place_P = start_N[atom_P] + (rank_P + rng.random(len(atom_P))) / number_N[atom_P] * area_N[atom_P]
    face_P = order_F[np.searchsorted(ends_F, place_P).clip(max=len(ends_F) - 1)]
    root_P, v_P = np.sqrt(rng.random(len(atom_P))), rng.random(len(atom_P))
    weight_P3 = np.stack([1 - root_P, root_P * (1 - v_P), root_P * v_P], axis=1)
    position_P3 = (corners[face_P] * weight_P3[..., None]).sum(axis=1)
    normal_P3 = cross_F3[face_P] / np.maximum(2 * area_F[face_P], 1e-30)[:, None]
    return Points(position_P3, normal_P3, _lab(surfaces, face_P, weight_P3), atom_F[face_P])


def colours(surfaces: Sequence[Surface]) -> np.ndarray:
    """CIELAB (F, 3) of the base colour in the middle of every triangle."""
    count = sum(len(surface.faces) for surface in surfaces)
    return _lab(surfaces, np.arange(count), np.full((count, 3), 1 / 3))


def _lab(surfaces: Sequence[Surface], face_P: np.ndarray, weight_P3: np.ndarray) -> np.ndarray:
    """CIELAB (P, 3) at barycentric weights on triangles."""
    ends = np.cumsum([len(surface.faces) for surface in surfaces])
    surface_P = np.searchsorted(ends, face_P, side="right")
    linear_P3 = np.empty((len(face_P), 3))
    for number in np.unique(surface_P):
        mine, surface = surface_P == number, surfaces[number]
        start = ends[number] - len(surface.faces)
        linear_P3[mine] = base_colour(surface, surface.faces[face_P[mine] - start], weight_P3[mine])
    return np.asarray(rgb2lab(display(linear_P3).clip(0, 1)[None])[0])
