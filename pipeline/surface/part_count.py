"""How many parts an object has: the cut of its hierarchy whose groups look most like whole parts.

A small network says of every node of the hierarchy, a group of atoms, how well it fits the best true part (IoU); the
cut with the largest sum over its groups of that IoU, less COST, is taken.
Shape suffixes: N atoms, M nodes (2 N - 1: the atoms, then the merges), F features of a node, S true parts.
"""

import numpy as np
import torch
from torch import Tensor, nn

FEATURES = 12
"""Of a node, see `node_features`."""
COST = 0.15
"""What a part must be worth, as IoU, to be one of its own; chosen on validation objects."""
MOST_PARTS = 10
"""When no number is asked for; as in the paper."""


class PartQuality(nn.Module):
    """The IoU with the best true part, in [0, 1], of nodes (..., FEATURES) -> (...)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(FEATURES, width), nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, 1)
        )

    def forward(self, nodes: Tensor) -> Tensor:
        """What is expected of nodes whose features are given."""
        return torch.sigmoid(self.layers(nodes)[..., 0])


def members(merges: np.ndarray) -> np.ndarray:
    """(M, N) float64: 1 where an atom is in a node of the hierarchy, else 0."""
    count = len(merges) + 1
    of_MN = np.concatenate([np.eye(count), np.zeros((len(merges), count))])
    for number, (one, other) in enumerate(merges[:, :2].astype(int)):
        of_MN[count + number] = of_MN[one] + of_MN[other]
    return of_MN


def node_features(probability_NN: np.ndarray, merges: np.ndarray, share_N: np.ndarray) -> np.ndarray:
    """(M, F) float32: what is known of the nodes without looking at the atoms again.

    Share of the area (its root and logarithm), logarithms of the number of atoms in it and in all, the distances at
    which it and its parent were joined, the mean probability that two of its atoms are of one part (plain, and weighted
    by area), that one of it and one outside are (plain, and with the outside atom nearest to it), and the logarithm of
    its sibling's share.
    """
    of_MN = members(merges)
    count = len(merges) + 1
    same_NN = (probability_NN + probability_NN.T) / 2
    np.fill_diagonal(same_NN, 1)
    atoms_M, share_M = of_MN.sum(axis=1), of_MN @ share_N
    to_MN = of_MN @ same_NN
    inner_M = (to_MN * of_MN).sum(axis=1)
    within_M = np.where(atoms_M > 1, (inner_M - atoms_M) / np.maximum(atoms_M * (atoms_M - 1), 1), 1)
    heavy_M = ((of_MN * share_N) @ same_NN * of_MN * share_N).sum(axis=1) / np.maximum(share_M, 1e-12) ** 2
    outside_M = (to_MN.sum(axis=1) - inner_M) / np.maximum(atoms_M * (count - atoms_M), 1)
    nearest_M = np.where(of_MN > 0, 0, to_MN).max(axis=1) / atoms_M
    height_M = np.concatenate([np.zeros(count), merges[:, 2]])
    above_M, beside_M = np.ones(2 * count - 1), np.zeros(2 * count - 1)
    for number, (one, other) in enumerate(merges[:, :2].astype(int)):
        above_M[[one, other]] = merges[number, 2]
        beside_M[[one, other]] = share_M[[other, one]]
    features = [
        np.sqrt(share_M),
        np.log(share_M + 1e-4) / 5,
        np.log(atoms_M) / 3,
        np.full(2 * count - 1, np.log(count) / 3),
        height_M,
        above_M,
        above_M - height_M,
        within_M,
        heavy_M,
        outside_M,
        nearest_M,
        np.log(beside_M + 1e-4) / 5,
    ]
    return np.stack(features, axis=1).astype(np.float32)


def best_ious(truth_NS: np.ndarray, merges: np.ndarray) -> np.ndarray:
    """(M,) float32: the IoU of every node with the true part that it fits best; `truth_NS` is the area of each true
    part on each atom.
    """
    of_MN = members(merges)
    shared_MS = of_MN @ truth_NS
    union_MS = shared_MS.sum(axis=1, keepdims=True) + truth_NS.sum(axis=0) - shared_MS
    return np.asarray((shared_MS / np.maximum(union_MS, 1e-30)).max(axis=1), np.float32)


def best_cut(merges: np.ndarray, quality_M: np.ndarray, most: int, cost: float = COST) -> int:
    """Into how many parts, `most` at most, the hierarchy is cut so that the sum of its parts' qualities, less `cost`
    each, is largest; the fewest of equals.
    """
    count = len(merges) + 1
    worth_M = quality_M - cost
    one, other = merges[:, :2].astype(int).T
    steps = worth_M[count:] - worth_M[one] - worth_M[other]
    worth = worth_M[:count].sum() + np.concatenate([[0], np.cumsum(steps)])  # of count, count - 1, ..., 1 parts
    fewest_first = worth[::-1][:most]
    return int(fewest_first.argmax()) + 1
