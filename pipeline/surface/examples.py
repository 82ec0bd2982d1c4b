"""Training samples of the grouping model, out of the shards: an endless, numbered sequence.

A sample is a function of the seed and its number alone: an object whose part names were taken off, turned, mirrored,
stretched and recoloured, of which the materials or all colours may be hidden.

Shape suffixes: B samples, N atoms, K points an atom, C channels of pairs, S true parts.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from pipeline.surface.features import MATERIAL, AtomFeatures, without_colours
from pipeline.surface.object_atoms import ObjectAtoms
from pipeline.training.order import shuffled

STRETCH = 0.12
"""Standard deviation of the logarithm of the stretch along each axis."""
UNCOLOURED, WITHOUT_MATERIALS, TURNED_AT_WILL, INCOMPLETE = 0.25, 0.3, 0.5, 0.5
"""Shares of the samples."""
MOST_HIDDEN, LEAST_LEFT = 0.4, 3
"""Of an incomplete object the largest share of atoms that is left out, and how many stay."""


class GroupingExamples(Dataset[dict[str, Any]]):
    """Sample n is of epoch n // count; every epoch has an order of its own."""

    def __init__(self, rows: Sequence[tuple[str, ObjectAtoms]], seed: int) -> None:
        """`rows` are objects by their ids, one for each regime; those of a single atom teach nothing."""
        self.rows = [row for row in rows if len(row[1].truth_NS) > 1]
        self.seed = seed

    def __getitem__(self, number: int) -> dict[str, Any]:
        epoch, position = divmod(number, len(self.rows))
        object_id, atoms = self.rows[shuffled(position, len(self.rows), (self.seed, epoch))]
        draws = np.random.default_rng((self.seed, number))
        return {"object_id": object_id, **sample(changed(atoms, draws))}


def changed(atoms: ObjectAtoms, draws: np.random.Generator) -> ObjectAtoms:
    """The same object turned about the vertical axis, mirrored, stretched and recoloured at random, and without some of
    its atoms.
    """
    if draws.random() < INCOMPLETE:
        left = np.flatnonzero(draws.random(len(atoms.truth_NS)) >= draws.uniform(0, MOST_HIDDEN))
        if len(left) >= LEAST_LEFT:
            atoms = _only(atoms, left)
    points, pairs = atoms.features.points_NK9.copy(), atoms.features.pairs_NNC.copy()
    angle = draws.uniform(0, 2 * np.pi) if draws.random() < TURNED_AT_WILL else draws.integers(4) * np.pi / 2
    cosine, sine = np.cos(angle), np.sin(angle)
    matrix = np.diag(np.exp(draws.normal(0, STRETCH, 3))) @ [[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]]
    if draws.random() < 0.5:
        matrix = matrix @ np.diag([-1.0, 1, 1])
    points[..., :3] = points[..., :3] @ matrix.T
    normals = points[..., 3:6] @ np.linalg.inv(matrix)  # normals move by the inverse transpose
    points[..., 3:6] = normals / np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-9)
    hue = draws.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(hue), -np.sin(hue)], [np.sin(hue), np.cos(hue)]])
    points[..., 7:9] = points[..., 7:9] @ turn.T
    points[..., 6] = np.clip(points[..., 6] * draws.uniform(0.7, 1.2) + draws.uniform(-0.1, 0.1), 0, 1)
    kind = draws.random()
    if kind < UNCOLOURED:
        bare = without_colours(replace(atoms.features, points_NK9=points, pairs_NNC=pairs))
        points, pairs = bare.points_NK9, bare.pairs_NNC
    elif kind < UNCOLOURED + WITHOUT_MATERIALS * (1 - UNCOLOURED):
        pairs[..., MATERIAL] = 0
    taken = points[:, draws.integers(points.shape[1], size=points.shape[1])]
    features = replace(atoms.features, points_NK9=taken.astype(np.float32), pairs_NNC=pairs)
    return replace(atoms, features=features)


def _only(atoms: ObjectAtoms, left_N: np.ndarray) -> ObjectAtoms:
    """The object as if it had only some of its atoms."""
    features = atoms.features
    share_N = features.share_N[left_N]
    kept = AtomFeatures(
        features.points_NK9[left_N], share_N / share_N.sum(), features.pairs_NNC[np.ix_(left_N, left_N)]
    )
    return replace(atoms, features=kept, truth_NS=atoms.truth_NS[left_N], material_N=atoms.material_N[left_N])


def sample(atoms: ObjectAtoms) -> dict[str, Any]:
    """The tensors of one object; `same`, (N, N), is the chance that points of two atoms are of one true part, `truth`,
    (N, S), the area of each true part on each atom.
    """
    share_NS = atoms.truth_NS / np.maximum(atoms.truth_NS.sum(axis=1, keepdims=True), 1e-30)
    features = atoms.features
    return {
        "points": torch.from_numpy(features.points_NK9),
        "share": torch.from_numpy(features.share_N),
        "pairs": torch.from_numpy(features.pairs_NNC),
        "same": torch.from_numpy(share_NS @ share_NS.T),
        "truth": torch.from_numpy(atoms.truth_NS),
    }


def collate(items: list[dict[str, Any]]) -> dict[str, Any]:
    """Samples as a batch, filled up to the most atoms and parts; `padding` (B, N) says where there are no atoms."""
    most = max(len(item["share"]) for item in items)
    batch: dict[str, Any] = {"object_id": [item["object_id"] for item in items]}
    for name in ("points", "share", "pairs", "same", "truth"):
        values = [item[name] for item in items]
        batch[name] = torch.zeros(len(items), *np.max([value.shape for value in values], axis=0))
        for place, value in enumerate(values):
            batch[name][(place, *map(slice, value.shape))] = value
    batch["padding"] = torch.arange(most) >= torch.tensor([len(item["share"]) for item in items])[:, None]
    return batch
