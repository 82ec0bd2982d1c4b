"""An object's own triangles divided into parts: atoms, their hierarchy, and the parts that a cut of it gives.

Shape suffixes: F triangles of all surfaces together, N atoms.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from pipeline.assets.names import clean_name
from pipeline.assets.surface import Piece, Surface
from pipeline.errors import Invalid
from pipeline.surface.atoms import MOST_ATOMS, MOST_LABELS, Triangles, connected, joined
from pipeline.surface.colour_regions import surface_atoms
from pipeline.surface.features import AtomFeatures, atom_features
from pipeline.surface.grouping import chosen_number, load_grouping, predicted
from pipeline.surface.hierarchy import cut, hierarchy
from pipeline.surface.part_count import MOST_PARTS
from pipeline.surface.points import Points, sampled
from pipeline.surface.superfaces import shared_borders

PartsFrom = Literal["model", "nodes", "materials", "pieces"]
"""What the parts are: unions of atoms as the grouping model says, the file's nodes (OBJ groups), its materials, or all
connected components."""
POINTS, POINTS_OF_MANY, POINTS_LEAST = 8192, 16_384, 48
"""Spread over an object, over one of more than MOST_ATOMS atoms, and on every atom at least."""


UNDIVIDED = (
    "its surface is one connected piece of one material, with fewer triangles than scans have, which is not cut; try "
    "--surface neural"
)
"""Why an object of one atom has one part."""


@dataclass(frozen=True)
class SurfacePart:
    """One part of the surface."""

    name: str
    """The artist's, in plain words; empty where there is none for the whole part."""
    surfaces: list[Surface]
    """One for each piece of the file that has triangles in it, and what closes it."""
    generated: bool = False
    """Whether models have made some of it."""


@dataclass(frozen=True)
class Division:
    """The surface of an object, and all the ways to divide it that one nested hierarchy has."""

    pieces: Sequence[Piece]
    """In the unit frame."""
    atom_F: np.ndarray
    """The atom of every triangle of the pieces one after another, from 0; at most MOST_LABELS atoms."""
    merges: np.ndarray
    """The hierarchy (N - 1, 4), as of `hierarchy`."""
    chosen: int
    """The number of parts that it has unless another is asked for."""

    @property
    def count(self) -> int:
        """How many parts there can be."""
        return len(self.merges) + 1

    def part_of_atoms(self, number: int | None = None) -> np.ndarray:
        """(N,) The part of every atom when there are `number` parts, from 0, the largest first; Invalid if it cannot be
        divided so.
        """
        number = self.chosen if number is None else number
        if not 1 <= number <= self.count:
            if self.count == 1:
                raise Invalid(f"This object cannot be divided into {number} parts: {UNDIVIDED}.")
            raise Invalid(f"This object can be divided into 1 to {self.count} parts, not {number}.")
        part_N = cut(self.merges, number)
        order = np.argsort(-np.bincount(part_N, self._area_N), kind="stable")
        return np.asarray(np.argsort(order)[part_N])

    def parts(self, part_N: np.ndarray) -> list[SurfacePart]:
        """The parts that some atoms make, as of `part_of_atoms`; every triangle is in exactly one."""
        by_piece = self._triangles.split(part_N[self.atom_F])
        return [_part(self.pieces, by_piece, part) for part in range(int(part_N.max()) + 1)]

    def area(self, atoms: np.ndarray) -> float:
        """Of some atoms together."""
        return float(self._area_N[atoms].sum())

    @cached_property
    def _triangles(self) -> Triangles:
        return Triangles([piece.surface for piece in self.pieces])

    @cached_property
    def _area_N(self) -> np.ndarray:
        return np.bincount(self.atom_F, self._triangles.area_F)


def divide(pieces: Sequence[Piece], by: PartsFrom, most: int | None, model: Path) -> Division:
    """The division of an object in the unit frame, with as many parts as the file has (nodes, materials, pieces) or as
    the grouping model finds (model), `most` at most.

    The hierarchy is what the grouping model in the folder `model` says; what the file has is joined before it is.
    """
    triangles = Triangles([piece.surface for piece in pieces])
    group_F = _groups(pieces, triangles, by)
    materials_F = material_numbers(pieces)[triangles.surface_F]
    _, inner_F = np.unique(group_F * (materials_F.max() + 1) + materials_F, return_inverse=True)
    atom_F = surface_atoms(triangles, inner_F, None if by == "model" else group_F)
    count, groups = int(atom_F.max()) + 1, int(group_F.max()) + 1
    if count == 1:
        return Division(pieces, atom_F, np.empty((0, 4)), 1)
    group_N = None
    if by != "model":
        group_N = np.empty(count, int)
        group_N[atom_F] = group_F
    grouping, features = load_grouping(model), features_of(pieces, triangles, atom_F)
    probability_NN = predicted(grouping, features)
    merges = hierarchy(probability_NN, group_N)
    if by == "model":
        number = chosen_number(grouping, probability_NN, merges, features.share_N, most or MOST_PARTS)
    else:
        number = min(groups, most or MOST_LABELS, count)
    return Division(pieces, atom_F, merges, number)


def features_of(pieces: Sequence[Piece], triangles: Triangles, atom_F: np.ndarray) -> AtomFeatures:
    """What the grouping model is told of atoms whose materials are known."""
    area_N = np.bincount(atom_F, triangles.area_F)
    materials = main_materials(pieces, triangles, atom_F)
    return atom_features(points_of(triangles, atom_F), area_N, materials, shared_borders(triangles, atom_F))


def points_of(triangles: Triangles, atom_F: np.ndarray) -> Points:
    """The points by which atoms are known."""
    count = POINTS_OF_MANY if atom_F.max() >= MOST_ATOMS else POINTS
    return sampled(triangles.surfaces, atom_F, count, POINTS_LEAST)


def main_materials(pieces: Sequence[Piece], triangles: Triangles, atom_F: np.ndarray) -> np.ndarray:
    """Of every atom the material of most of its area, as a number."""
    material_F = material_numbers(pieces)[triangles.surface_F]
    area = np.zeros((int(atom_F.max()) + 1, int(material_F.max()) + 1))
    np.add.at(area, (atom_F, material_F), triangles.area_F)
    return np.asarray(area.argmax(axis=1))


def material_numbers(pieces: Sequence[Piece]) -> np.ndarray:
    """The material of every piece as a number from 0; the same where name and look are."""
    return _numbers([_material(piece) for piece in pieces])


def _groups(pieces: Sequence[Piece], triangles: Triangles, by: PartsFrom) -> np.ndarray:
    """What is one part at least, unless more are asked for: (F,) from 0, all one for the model.

    The smallest of more than MOST_LABELS have joined others.
    """
    if by == "model":
        return np.zeros(len(triangles.surface_F), int)
    if by == "nodes":
        group_F = _numbers([piece.node for piece in pieces])[triangles.surface_F]
    else:
        group_F = material_numbers(pieces)[triangles.surface_F]
    if by == "pieces":
        group_F = connected(triangles, group_F)
    return group_F if group_F.max() < MOST_LABELS else joined(triangles, group_F)


def _material(piece: Piece) -> tuple[object, ...]:
    """What makes materials the same: their name and how they look."""
    material = piece.surface.material
    factor, texture = material.baseColorFactor, material.baseColorTexture
    return (
        piece.material_name,
        None if factor is None else tuple(np.asarray(factor).tolist()),
        None if texture is None else (texture.size, texture.tobytes()),
    )


def _numbers(keys: Sequence[object]) -> np.ndarray:
    known = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return np.array([known[key] for key in keys])


def _part(pieces: Sequence[Piece], by_piece: Sequence[np.ndarray], part: int) -> SurfacePart:
    surfaces: list[Surface] = []
    names: dict[str, None] = {}
    for piece, part_F in zip(pieces, by_piece, strict=True):
        mine = part_F == part
        if mine.any():
            surfaces.append(piece.surface if mine.all() else piece.surface.take(mine))
            names[clean_name(piece.node_name) or clean_name(piece.material_name)] = None
    return SurfacePart(next(iter(names)) if len(names) == 1 else "", surfaces)
