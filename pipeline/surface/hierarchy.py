"""One nested hierarchy of an object's atoms, and its cuts into any number of parts.

Shape suffixes: N atoms.
"""

import numpy as np
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import squareform


def hierarchy(probability_NN: np.ndarray, group_N: np.ndarray | None = None) -> np.ndarray:
    """Average linkage (N - 1, 4), as scipy has it, of 1 minus the probability that two atoms are of one part.

    Where the group of every atom is given, all atoms of one group are joined before any two groups are: up to the
    distance 1/2, and from there on.
    """
    distance = 1 - (probability_NN + probability_NN.T) / 2
    if group_N is not None:
        distance = (distance + (group_N[:, None] != group_N)) / 2
    np.fill_diagonal(distance, 0)
    return np.asarray(linkage(squareform(distance, checks=False), "average"))


def cut(merges: np.ndarray, parts: int) -> np.ndarray:
    """The part of every atom, from 0 in the order of atoms, when the hierarchy is cut into `parts` parts."""
    count = len(merges) + 1
    label = np.arange(2 * count - 1)
    for number, (one, other) in enumerate(merges[: count - parts, :2].astype(int)):
        label[[one, other]] = count + number
    for node in range(2 * count - 2, -1, -1):
        label[node] = label[label[node]] if label[node] != node else node
    return np.asarray(np.unique(label[:count], return_inverse=True)[1])


def halves(merges: np.ndarray, atoms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two or more atoms in two groups, where the hierarchy divides them first; ascending, with the first atom first."""
    count = len(merges) + 1
    node_N = np.arange(count)
    for number, (one, other) in enumerate(merges[:, :2].astype(int)):
        before = node_N.copy()
        node_N[(node_N == one) | (node_N == other)] = count + number
        if np.all(node_N[atoms] == node_N[atoms[0]]):
            mine = before[atoms] == before[atoms[0]]
            return np.sort(atoms[mine]), np.sort(atoms[~mine])
    raise ValueError("there is one atom only")


def most_itself(merges: np.ndarray, atom: int, within: np.ndarray) -> np.ndarray:
    """Of the groups of atoms around one atom that the hierarchy has within some atoms, all but these themselves, the
    one that stays by itself over the widest range of distances; the smallest of equals. Its atoms, ascending.
    """
    count = len(merges) + 1
    node_N = np.arange(count)
    group, since, best, longest = np.array([atom]), 0.0, np.array([atom]), -1.0
    for number, (one, other, distance) in enumerate(merges[:, :3]):
        node_N[(node_N == one) | (node_N == other)] = count + number
        grown = within[node_N[within] == node_N[atom]]
        if len(grown) == len(group):
            continue
        if distance - since > longest:
            best, longest = group, distance - since
        if len(grown) == len(within):
            break
        group, since = grown, distance
    return np.sort(best)
