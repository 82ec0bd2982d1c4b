"""Average precision and recall at K of ranked region proposals (supplement B), with its errors put right.

    average precision       AP(τ) = 1/S Σ_k y_k/k Σ_{i <= k} y_i
    recall at K             R(K; τ) = 1/S Σ_s [max_{k <= K} m(A_k, M_s) > τ]

A proposal is matched to the true part that it overlaps most among those NOT YET FOUND: over all of them, as printed,
two halves of one part would give an AP of 2. A part is found, and leaves the list, only when m >= τ. S stays the number
of all parts in sight. K is clamped to the number of proposals.

Shape suffixes: N proposals, the best first, S true parts in sight.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy.ndimage import distance_transform_edt

from pipeline.regions.proposals import Proposals, iou
from pipeline.views.cameras import untile

THRESHOLDS = (0.5, 0.75)
RECALL_AT = (1, 3, 5, 10)

CONVENTIONS: Mapping[str, str] = {
    "overlap": "IoU over the four views jointly, smoothed by 1e-4 pixels in float64",
    "reliability of a proposal": "proposals of all runs that it overlaps by IoU > 0.5, itself included",
    "order": "score, then the larger area, then the earlier run, then the smaller label",
    "duplicates": "dropped down the list when IoU > 0.5 with a kept one",
    "match": "the part not yet found with the largest IoU, on a tie the smallest id; found when IoU >= threshold",
    "recall": "a part is recalled when IoU > threshold with one of the first K; K clamped to the number of proposals",
    "true parts": "those with a pixel in some view; predictions without a pixel are dropped",
    "mean": "over objects; seeded: over an object's parts first",
    "seed": "the pixel of the part that is farthest from its edge in any view, on a tie the first",
    "seeded proposals": "those that contain the seed; reliability is counted before, duplicates are dropped after",
}
"""What the figures depend on, as it is printed beside every table; not published: order, mean, seed, seeded."""


def average_precision(iou_NS: np.ndarray, threshold: float) -> float:
    """AP in [0, 1] of ranked proposals by their IoU with all true parts, (N, S)."""
    left, hits, total = iou_NS.copy(), 0, 0.0
    for k in range(1, len(left) + 1):
        best = int(left[k - 1].argmax())
        if left[k - 1, best] >= threshold:
            left[:, best] = -1.0
            hits += 1
            total += hits / k
    return total / iou_NS.shape[1]


def recall(iou_NS: np.ndarray, threshold: float, k: int) -> float:
    """Recall at K in [0, 1] of ranked proposals by their IoU with all true parts, (N, S)."""
    return float((iou_NS[:k].max(axis=0, initial=0.0) > threshold).mean())


def automatic(ranked: Proposals, truth: np.ndarray) -> dict[str, float]:
    """How well ranked proposals find all parts of a label map (H, W): `ap50`, `ap75`, `recall50_at_1`, ... in [0, 1].

    Their means over objects are mAP50, mAP75 and the recall curves. ValueError when no part is in sight.
    """
    parts = Proposals.of_maps(truth[None])
    if not len(parts):
        raise ValueError("no part of the object is in sight, so there is nothing to find")
    return figures(iou(ranked, parts))


def seeded(answer: Callable[[int, int], Proposals], truth: np.ndarray) -> dict[str, float]:
    """The same for one part at a time, S = 1: the mean over the parts of a label map (H, W).

    `answer(y, x)` gives the ranked proposals for the seed in row y and column x, such as `Pool.ranked_at`. The AP of a
    part is 1 / rank of the first proposal that finds it.
    """
    results = []
    for part in np.unique(truth[truth > 0]):
        mask = truth == part
        results.append(automatic(answer(*seed_point(mask)), mask.astype(np.uint8)))
    if not results:
        raise ValueError("no part of the object is in sight, so there is nothing to find")
    return mean_figures(results)


def figures(iou_NS: np.ndarray) -> dict[str, float]:
    """Average precision and recall at all thresholds and K, of IoUs (N, S) in the order of the ranking."""
    values = {f"ap{threshold * 100:.0f}": average_precision(iou_NS, threshold) for threshold in THRESHOLDS}
    for threshold in THRESHOLDS:
        for k in RECALL_AT:
            values[f"recall{threshold * 100:.0f}_at_{k}"] = recall(iou_NS, threshold, k)
    return values


def mean_figures(results: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of every figure."""
    return {name: float(np.mean([result[name] for result in results])) for name in results[0]}


def seed_point(mask: np.ndarray) -> tuple[int, int]:
    """The row and column of a seed inside a grid's mask (H, W), which has a pixel: see "seed" among the CONVENTIONS."""
    best, where = 0.0, (0, 0)
    height, width = mask.shape[0] // 2, mask.shape[1] // 2
    for number, view in enumerate(untile(mask)):
        if not view.any():
            continue
        rows, columns = np.flatnonzero(view.any(axis=1)), np.flatnonzero(view.any(axis=0))
        top, left = rows[0], columns[0]
        depths = distance_transform_edt(np.pad(view[top : rows[-1] + 1, left : columns[-1] + 1], 1))[1:-1, 1:-1]
        y, x = np.unravel_index(int(depths.argmax()), depths.shape)
        if depths[y, x] > best:
            best = depths[y, x]
            where = int(y + top) + number // 2 * height, int(x + left) + number % 2 * width
    return where
