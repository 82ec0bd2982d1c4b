"""How well a division of atoms agrees with the true parts, by area.

Shape suffixes: N atoms, S true parts, P predicted ones, R runs, H W pixels of the 2x2 grid.
"""

import numpy as np

from pipeline.surface.hierarchy import cut

MOST_LEVELS = 20
"""Cuts that are looked at when any level of the hierarchy may have the part, from one part on."""


def overlaps(truth_NS: np.ndarray, part_N: np.ndarray) -> np.ndarray:
    """IoU (P, S) by area of predicted and true parts; `truth_NS` is the area of each true part on each atom."""
    shared = np.zeros((int(part_N.max()) + 1, truth_NS.shape[1]))
    np.add.at(shared, part_N, truth_NS)
    union = shared.sum(axis=1, keepdims=True) + shared.sum(axis=0, keepdims=True) - shared
    return np.asarray(shared / np.maximum(union, 1e-30))


def mean_best_iou(truth_NS: np.ndarray, part_N: np.ndarray) -> float:
    """For each true part the IoU of the best predicted one, the mean over the true parts, in [0, 1]."""
    return float(overlaps(truth_NS, part_N).max(axis=0)[truth_NS.sum(axis=0) > 0].mean())


def mean_best_iou_of_levels(truth_NS: np.ndarray, merges: np.ndarray) -> float:
    """The same, where the best part may be of any cut of the hierarchy into 1 to MOST_LEVELS parts."""
    count = len(truth_NS)
    levels = [overlaps(truth_NS, cut(merges, parts)).max(axis=0) for parts in range(1, min(count, MOST_LEVELS) + 1)]
    return float(np.max(levels, axis=0)[truth_NS.sum(axis=0) > 0].mean())


def ceiling(truth_NS: np.ndarray) -> float:
    """`mean_best_iou` when every atom is of the true part that has most of it; hardly any grouping exceeds it."""
    return mean_best_iou(truth_NS, np.unique(truth_NS.argmax(axis=1), return_inverse=True)[1])


def co_association(maps_RHW: np.ndarray, seen_HW: np.ndarray, count: int) -> np.ndarray:
    """(N, N) The share of runs of the segmentation that put two atoms into one part, in [0, 1]; NaN where neither run
    nor view tells.

    `maps_RHW` are the label maps of R runs, `seen_HW` which atom, from 1, the same pixels show. An atom is spread over
    the labels of its pixels, so that the share of a run is the chance that a pixel of each have the same.
    """
    together, known = np.zeros((count, count)), np.zeros((count, count))
    for labels_HW in maps_RHW:
        both = (seen_HW > 0) & (labels_HW > 0)
        share = np.zeros((count, int(labels_HW.max()) + 1))
        np.add.at(share, (seen_HW[both].astype(int) - 1, labels_HW[both]), 1.0)
        total = share.sum(axis=1, keepdims=True)
        share /= np.maximum(total, 1)
        together += share @ share.T
        known += (total > 0) & (total > 0).T
    with np.errstate(invalid="ignore"):
        return np.asarray(together / known)
