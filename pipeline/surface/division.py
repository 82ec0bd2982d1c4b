"""An object's own triangles divided into parts: atoms, their hierarchy, and the parts that a cut of it gives.

Shape suffixes: F triangles of all surfaces together, N atoms.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from pipeline.assets.names import clean_name
from pipeline.assets.surface import Piece, Surface
from pipeline.errors import Invalid, NotFound
from pipeline.folders import reading
from pipeline.surface.atoms import Triangles, connected, joined
from pipeline.surface.features import AtomFeatures, atom_features
from pipeline.surface.grouping import GroupingModel, tokens
from pipeline.surface.hierarchy import cut, hierarchy, number_of_parts
from pipeline.surface.points import sampled
from pipeline.surface.superfaces import shared_borders, with_superfaces

PartsFrom = Literal["model", "nodes", "materials", "pieces"]
"""What the parts are: unions of atoms as the grouping model says, the file's nodes (OBJ groups), its materials, or all
connected components."""
LEVEL = 0.3
"""Where the hierarchy is cut when no number of parts is given; chosen on validation objects."""
MOST_PARTS = 10
"""Then; as in the paper."""
POINTS, POINTS_LEAST = 8192, 48
MOST_LABELS = 255


@dataclass(frozen=True)
class SurfacePart:
    """One part of the surface."""

    name: str
    """The artist's, in plain words; empty where there is none for the whole part."""
    surfaces: list[Surface]
    """One for each piece of the file that has triangles in it."""


def divide(
    pieces: Sequence[Piece], by: PartsFrom, parts: int | None, most: int | None, models: Path
) -> list[SurfacePart]:
    """The parts of an object in the unit frame, the largest first; every triangle is in exactly one.

    `parts` is how many there are; None: as many as the file has (nodes, materials, pieces) or as the hierarchy has at
    LEVEL (model), `most` at most. Where more are there than wanted, those that belong together most, as the grouping
    model in `models` says, are joined. Invalid when there cannot be as many.
    """
    triangles = Triangles([piece.surface for piece in pieces])
    atom_F = _atoms(pieces, triangles, by)
    count = int(atom_F.max()) + 1
    wanted = parts
    if wanted is not None and not 1 <= wanted <= min(count, MOST_LABELS):
        raise Invalid(f"This object can be divided into 1 to {min(count, MOST_LABELS)} parts, not {wanted}.")
    limit = min(most or (MOST_PARTS if by == "model" else MOST_LABELS), MOST_LABELS)
    if wanted is None and by != "model":
        wanted = min(count, limit)
    part_N = np.arange(count)
    if count > 1 and wanted != count:
        merges = hierarchy(probabilities(pieces, triangles, atom_F, models))
        part_N = cut(merges, wanted or number_of_parts(merges, LEVEL, limit))
    part_F = part_N[atom_F]
    area = np.bincount(part_F, triangles.area_F)
    order = np.argsort(-area, kind="stable")
    by_piece = triangles.split(part_F)
    return [_part(pieces, by_piece, int(part)) for part in order]


def probabilities(pieces: Sequence[Piece], triangles: Triangles, atom_F: np.ndarray, models: Path) -> np.ndarray:
    """(N, N): how likely the model finds it that two atoms are of one part."""
    area_N = np.bincount(atom_F, triangles.area_F)
    points = sampled(triangles.surfaces, atom_F, POINTS, POINTS_LEAST)
    materials = main_materials(pieces, triangles, atom_F)
    features = atom_features(points, area_N, materials, shared_borders(triangles, atom_F))
    return predicted(_model(models), features)


@torch.no_grad()
def predicted(model: GroupingModel, features: AtomFeatures) -> np.ndarray:
    """(N, N) probabilities of pairs of one object's atoms."""
    points = torch.from_numpy(features.points_NK9)[None]
    share, pairs = torch.from_numpy(features.share_N)[None], torch.from_numpy(features.pairs_NNC)[None]
    logits = model(tokens(points, share), pairs, torch.zeros(share.shape, dtype=torch.bool))
    return np.asarray(torch.sigmoid(logits)[0].numpy(), np.float64)


def main_materials(pieces: Sequence[Piece], triangles: Triangles, atom_F: np.ndarray) -> np.ndarray:
    """Of every atom the material of most of its area, as a number."""
    material_F = _numbers([_material(piece) for piece in pieces])[triangles.surface_F]
    area = np.zeros((int(atom_F.max()) + 1, int(material_F.max()) + 1))
    np.add.at(area, (atom_F, material_F), triangles.area_F)
    return np.asarray(area.argmax(axis=1))


def _atoms(pieces: Sequence[Piece], triangles: Triangles, by: PartsFrom) -> np.ndarray:
    if by == "nodes":
        return _numbers([piece.node for piece in pieces])[triangles.surface_F]
    materials = _numbers([_material(piece) for piece in pieces])[triangles.surface_F]
    if by == "materials":
        return materials
    atom_F = connected(triangles, materials)
    return with_superfaces(triangles, joined(triangles, atom_F)) if by == "model" else atom_F


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


@cache
def _model(folder: Path) -> GroupingModel:
    if not folder.is_dir():
        raise NotFound(f"There is no grouping model {folder}; it comes with weights/nano.")
    with reading(folder, "model"):
        model = GroupingModel.from_pretrained(folder)
    return model.eval()
