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
    starts = np.concatenate([[0], np.cumsum([len(index) for index in by_atom])[:-1]])
    order = np.concatenate(by_atom)
    for atom, index in enumerate(by_atom):
        distance, nearest = cKDTree(position[index]).query(position[order])
        near = distance < TOUCHING
        least_NN[:, atom] = np.minimum.reduceat(distance, starts)
        number = np.maximum(np.add.reduceat(near.astype(float), starts), 1)
        touch_NN[:, atom] = np.add.reduceat(near.astype(float), starts) / [len(one) for one in by_atom]
        cosine = (normal[order] * normal[index[nearest]]).sum(axis=1)
        facing_NN[:, atom] = np.add.reduceat(cosine * near, starts) / number
        flat_NN[:, atom] = np.add.reduceat(np.abs(cosine) * near, starts) / number
        beside = distance < BESIDE
        step = (position[index[nearest]] - position[order]) / np.maximum(distance, 1e-9)[:, None]
        bend = ((normal[order] - normal[index[nearest]]) * step).sum(axis=1)
        beside_number = np.maximum(np.add.reduceat(beside.astype(float), starts), 1)
        hollow_NN[:, atom] = np.add.reduceat(bend * beside, starts) / beside_number
    centre = np.stack([position[index].mean(axis=0) for index in by_atom])
    low = np.stack([position[index].min(axis=0) for index in by_atom])
    high = np.stack([position[index].max(axis=0) for index in by_atom])
    spread = np.stack([np.sort(np.linalg.eigvalsh(np.cov(position[index].T) + 1e-9 * np.eye(3)))[::-1] ** 0.5
                       for index in by_atom])  # fmt: skip
    lab = np.stack([points.lab_P3[index].mean(axis=0) for index in by_atom]) / 100
    extents = np.abs(np.log(spread[:, None] + 0.01) - np.log(spread[None] + 0.01)).mean(axis=-1)
    areas = np.abs(np.log(area_N[:, None]) - np.log(area_N[None]))
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


def without_colours(features: AtomFeatures) -> AtomFeatures:
    """The same object in one grey, of which no materials are known."""
    points, pairs = features.points_NK9.copy(), features.pairs_NNC.copy()
    points[..., 6], points[..., 7:9] = GREY, 0
    pairs[..., [*COLOURS, MATERIAL]] = 0
    return replace(features, points_NK9=points, pairs_NNC=pairs)
