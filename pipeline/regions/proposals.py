"""Region proposals for one object's grid, and how much they overlap.

Shape suffixes: R runs, H W pixels of the grid, P = H * W, K groups of pixels that have the same labels in all runs,
N regions, M other regions.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

EPSILON = 1e-4
"""Of the IoU, in pixels (supplement B)."""
GROUPS_AT_ONCE = 1024
"""Columns of a matrix product."""
NOISE = 0.25
"""Above this share of the pixels, columns are hardly ever the same, and looking for the same ones is not worth it."""
EXACT_IN_FLOAT32 = 2**24
"""Sums below this are exact."""


@dataclass(frozen=True)
class Proposals:
    """N regions of a grid, none of them empty, in an order that means nothing unless said otherwise.

    Regions lie in R label maps, one a segmentation run: those of one map are disjoint. Masks that overlap, such as
    SAM2's, have a map each.
    """

    maps_RHW: np.ndarray
    """Unsigned integers; 0 is no region."""
    run_N: np.ndarray
    """In which map a region lies, 0..R-1."""
    label_N: np.ndarray
    """Its value there."""
    score_N: np.ndarray
    """float64, higher is better; what it measures is the method's own."""
    area_N: np.ndarray
    """Pixels, over all views, int64."""

    @staticmethod
    def of_maps(maps: np.ndarray) -> "Proposals":
        """Every region of label maps (R, H, W) with the score 0; in the order of runs, then of labels.

        ValueError when the maps are not unsigned integers.
        """
        if maps.ndim != 3 or maps.dtype.kind != "u":
            raise ValueError(f"label maps are (R, H, W) of unsigned integers, not {maps.shape} of {maps.dtype}")
        labels_RK, counts_K = _groups(_flat(maps))
        areas = [np.bincount(labels, counts_K).astype(np.int64)[1:] for labels in labels_RK]
        present = [np.flatnonzero(area) for area in areas]
        run_N = np.repeat(np.arange(len(maps)), [len(labels) for labels in present])
        label_N = np.concatenate([np.empty(0, np.intp), *present]) + 1
        area_N = np.concatenate(
            [np.empty(0, np.int64), *(area[labels] for area, labels in zip(areas, present, strict=True))]
        )
        return Proposals(maps, run_N, label_N, np.zeros(len(run_N)), area_N)

    @staticmethod
    def of_masks(masks: np.ndarray, scores: Sequence[float] | np.ndarray) -> "Proposals":
        """Masks (N, H, W) that may overlap, with their scores (N,); empty ones are dropped."""
        proposals = Proposals.of_maps(np.ascontiguousarray(masks, dtype=bool).view(np.uint8))
        return proposals.scored(np.asarray(scores, dtype=np.float64)[proposals.run_N])

    def __len__(self) -> int:
        return len(self.run_N)

    def scored(self, scores: np.ndarray) -> "Proposals":
        """The same regions with other scores (N,)."""
        if scores.shape != self.run_N.shape:
            raise ValueError(f"{len(self)} regions have {scores.shape} scores")
        return replace(self, score_N=scores.astype(np.float64))

    def take(self, index: np.ndarray) -> "Proposals":
        """Some of the regions, in the order of `index`; the maps stay as they are."""
        return Proposals(self.maps_RHW, self.run_N[index], self.label_N[index], self.score_N[index], self.area_N[index])

    def masks(self) -> np.ndarray:
        """The regions as masks, (N, H, W) bool."""
        return self.maps_RHW[self.run_N] == self.label_N[:, None, None]

    def containing(self, y: int, x: int) -> np.ndarray:
        """Which regions, (N,) bool, contain the pixel in row `y` and column `x` of the grid."""
        return self.maps_RHW[self.run_N, y, x] == self.label_N

    def compact(self) -> "Proposals":
        """The same regions without the maps in which none of them lies."""
        runs, run_N = np.unique(self.run_N, return_inverse=True)
        return replace(self, maps_RHW=self.maps_RHW[runs], run_N=run_N)


def iou(proposals: Proposals, others: Proposals) -> np.ndarray:
    """The IoU m of supplement B, (N, M) float64, over all four views together.

    m = (|A ∩ B| + ε) / (|A ∪ B| + ε) with ε = 1e-4 PIXELS. ε raises every other value below 1 a little, so an IoU of
    exactly 1/2 counts as more than 1/2.
    """
    shared = intersections(proposals, others)
    union = proposals.area_N[:, None] + others.area_N[None, :] - shared
    values: np.ndarray = (shared + EPSILON) / (union + EPSILON)
    return values


def intersections(proposals: Proposals, others: Proposals) -> np.ndarray:
    """Pixels that regions share, (N, M) int64, exactly.

    Pixels with the same labels in all maps are counted once, with their number; what is left is a product of matrices.
    Time grows with the number of such groups: it is short for regions, not for noise.
    """
    if proposals is others:
        labels_RK, counts_K = _groups(_flat(proposals.maps_RHW))
        other_runs = others.run_N
    else:
        labels_RK, counts_K = _groups(np.concatenate([_flat(proposals.maps_RHW), _flat(others.maps_RHW)]))
        other_runs = others.run_N + len(proposals.maps_RHW)
    kind = np.float32 if counts_K.sum() < EXACT_IN_FLOAT32 else np.float64
    shared_NM = np.zeros((len(proposals), len(others)), dtype=kind)
    for start in range(0, len(counts_K), GROUPS_AT_ONCE):
        # Neighbouring groups lie near one another, in few of the regions.
        labels, counts = (values[..., start : start + GROUPS_AT_ONCE] for values in (labels_RK, counts_K))
        right = labels[other_runs] == others.label_N[:, None]
        left = right if proposals is others else labels[proposals.run_N] == proposals.label_N[:, None]
        rows, columns = np.flatnonzero(left.any(axis=1)), np.flatnonzero(right.any(axis=1))
        weighted = left[rows] * counts.astype(kind)
        shared_NM[rows[:, None], columns] += weighted @ right[columns].T.astype(kind)
    return shared_NM.astype(np.int64)


def _flat(maps_RHW: np.ndarray) -> np.ndarray:
    runs, height, width = maps_RHW.shape
    return maps_RHW.reshape(runs, height * width)


def _groups(labels_RP: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct columns (R, K) of label maps and how many pixels have each, without those that are 0 everywhere."""
    pixels = labels_RP.shape[1]
    changed = np.zeros(pixels, dtype=bool)
    changed[:1] = True
    for flat in labels_RP:
        changed[1:] |= flat[1:] != flat[:-1]
    starts = np.flatnonzero(changed)
    lengths = np.diff(starts, append=pixels)
    labels_RK = labels_RP[:, starts]
    shown = labels_RK.any(axis=0)
    labels_RK, lengths = labels_RK[:, shown], lengths[shown]
    if len(lengths) > pixels * NOISE:
        return labels_RK, lengths
    first, group = _distinct(labels_RK)
    return labels_RK[:, first], np.bincount(group, lengths, minlength=len(first)).astype(np.int64)


def _distinct(labels_RK: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each distinct column is seen first, and which of them every column is."""
    bits = np.uint64(int(labels_RK.max(initial=1)).bit_length())
    code_K = np.zeros(labels_RK.shape[1], dtype=np.uint64)
    first, used = np.zeros(0, dtype=np.intp), 0
    for number, labels in enumerate(labels_RK):
        code_K = (code_K << bits) | labels
        used += int(bits)
        if used + int(bits) > 64 or number == len(labels_RK) - 1:
            _, first, group = np.unique(code_K, return_index=True, return_inverse=True)
            code_K, used = group.astype(np.uint64), len(first).bit_length()
    return first, code_K.astype(np.intp)
