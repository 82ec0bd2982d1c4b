"""What the grouping model sees of atoms: points on each, and what can be said of every pair.

Shape suffixes: N atoms, P points of all atoms, K points an atom, C channels.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial import cKDTree

from pipeline.surface.points import Points

POINTS_EACH = 32
"""Points of an atom that the model is given."""
TOUCHING = 0.02
"""Distance, in radii of the object, under which points of two atoms touch."""
BESIDE = 0.05
"""Distance under which points of two atoms tell whether the surface bends inwards between them."""
PAIRS = (
    "distance", "contact", "least contact", "facing", "flat contact", "centres", "heights", "gap", "extents", "areas",
    "mirrored in x", "mirrored in z", "copies", "colour", "lightness", "same material", "border", "concavity",
)  # fmt: skip
"""The channels of pair features."""
COLOURS = (PAIRS.index("colour"), PAIRS.index("lightness"))
MATERIAL = PAIRS.index("same material")
LEAST_AREA = 1e-9
"""Share of the object's area as which a smaller atom's counts: a node may consist of triangles of no area."""
GREY = 0.6
"""Lightness / 100 of what has no colours."""


@dataclass(frozen=True)
class AtomFeatures:
    """The input of the grouping model for one object in the unit frame."""

    points_NK9: np.ndarray
    """float32: position, unit normal, CIELAB divided by 100."""
    share_N: np.ndarray
    """float32: of the object's area."""
    pairs_NNC: np.ndarray
    """float32, symmetric: PAIRS."""


def atom_features(
    points: Points, area_N: np.ndarray, material_N: np.ndarray | None, border_NN: np.ndarray
) -> AtomFeatures:
    """What the grouping model is told of atoms.

    `material_N` numbers the material of each atom; None where nothing is known of it. `border_NN` is what
    `pipeline.surface.superfaces:shared_borders` says.
    """
    count = len(area_N)
    by_atom = [np.flatnonzero(points.atom_P == atom) for atom in range(count)]
    rng = np.random.default_rng(0)
    taken = [index[rng.integers(len(index), size=POINTS_EACH)] if len(index) < POINTS_EACH
             else rng.permutation(index)[:POINTS_EACH] for index in by_atom]  # fmt: skip
    all_P9 = np.concatenate([points.position_P3, points.normal_P3, points.lab_P3 / 100], axis=1)
    points_NK9 = np.stack([all_P9[index] for index in taken])
    return AtomFeatures(
        points_NK9.astype(np.float32),
        (area_N / area_N.sum()).astype(np.float32),
        _pairs(points, by_atom, area_N, material_N, border_NN).astype(np.float32),
    )


def _pairs(
    points: Points, by_atom: list[np.ndarray], area_N: np.ndarray, material_N: np.ndarray | None, border_NN: np.ndarray
) -> np.ndarray:
    count = len(by_atom)
    position, normal = points.position_P3, points.normal_P3
    least_NN, touch_NN, facing_NN, flat_NN, hollow_NN = (np.zeros((count, count)) for _ in range(5))
    number_N = np.array([len(index) for index in by_atom])
    starts = np.concatenate([[0], np.cumsum(number_N)[:-1]])
    order = np.concatenate(by_atom)
    for atom, index in enumerate(by_atom):
        tree, before = cKDTree(position[index]), order[: starts[atom]]
        # How far those before this one are was asked the other way round; of them only what is close counts.
        close = tree.query(position[before], distance_upper_bound=BESIDE)
        every = tree.query(position[order[starts[atom] :]])
        least_NN[atom, atom:] = least_NN[atom:, atom] = np.minimum.reduceat(every[0], starts[atom:] - starts[atom])
        distance, nearest = (np.concatenate(each) for each in zip(close, every, strict=True))
        beside = np.flatnonzero(distance < BESIDE)
        one, other, apart = order[beside], index[nearest[beside]], distance[beside]
        bend = ((normal[one] - normal[other]) * (position[other] - position[one])).sum(axis=1) / np.maximum(apart, 1e-9)
        hollow_NN[:, atom] = _means(bend, points.atom_P[one], count)
        near = apart < TOUCHING
        cosine, touching_P = (normal[one[near]] * normal[other[near]]).sum(axis=1), points.atom_P[one[near]]
        touch_NN[:, atom] = np.bincount(touching_P, minlength=count) / number_N
        facing_NN[:, atom] = _means(cosine, touching_P, count)
        flat_NN[:, atom] = _means(np.abs(cosine), touching_P, count)
    centre = np.stack([position[index].mean(axis=0) for index in by_atom])
    low = np.stack([position[index].min(axis=0) for index in by_atom])
    high = np.stack([position[index].max(axis=0) for index in by_atom])
    spread = np.stack([np.sort(np.linalg.eigvalsh(np.cov(position[index].T) + 1e-9 * np.eye(3)))[::-1] ** 0.5
                       for index in by_atom])  # fmt: skip
    lab = np.stack([points.lab_P3[index].mean(axis=0) for index in by_atom]) / 100
    extents = np.abs(np.log(spread[:, None] + 0.01) - np.log(spread[None] + 0.01)).mean(axis=-1)
    size_N = np.log(np.maximum(area_N, LEAST_AREA * area_N.sum()))
    areas = np.abs(size_N[:, None] - size_N[None])
    colour = np.linalg.norm(lab[:, None] - lab[None], axis=-1)
    mirrored = [np.linalg.norm(centre[:, None] * np.where(np.arange(3) == axis, -1, 1) - centre[None], axis=-1)
                for axis in (0, 2)]  # fmt: skip
    same = np.zeros((count, count)) if material_N is None else (material_N[:, None] == material_N[None]) * 2.0 - 1
    channels = [
        np.log(np.minimum(least_NN, least_NN.T) + 0.005) + 5,
        np.sqrt(np.maximum(touch_NN, touch_NN.T)),
        np.sqrt(np.minimum(touch_NN, touch_NN.T)),
        (facing_NN + facing_NN.T) / 2,
        (flat_NN + flat_NN.T) / 2,
        np.linalg.norm(centre[:, None] - centre[None], axis=-1),
        np.abs(centre[:, None, 1] - centre[None, :, 1]),
        np.maximum(np.maximum(low[:, None] - high[None], low[None] - high[:, None]), 0).max(axis=-1),
        extents,
        areas / 3,
        *(np.exp(-8 * one - 2 * extents) for one in mirrored),
        np.exp(-3 * extents - areas - 5 * colour),
        colour,
        np.abs(lab[:, None, 0] - lab[None, :, 0]),
        same,
        border_NN / 2,
        (hollow_NN + hollow_NN.T) / 2,
    ]
    return np.stack(channels, axis=-1)


def _means(value_P: np.ndarray, atom_P: np.ndarray, count: int) -> np.ndarray:
    """(N,) The mean over the points of each atom, 0 where it has none."""
    return np.asarray(np.bincount(atom_P, value_P, count) / np.maximum(np.bincount(atom_P, minlength=count), 1))


def without_colours(features: AtomFeatures) -> AtomFeatures:
    """The same object in one grey, of which no materials are known."""
    points, pairs = features.points_NK9.copy(), features.pairs_NNC.copy()
    points[..., 6], points[..., 7:9] = GREY, 0
    pairs[..., [*COLOURS, MATERIAL]] = 0
    return replace(features, points_NK9=points, pairs_NNC=pairs)
