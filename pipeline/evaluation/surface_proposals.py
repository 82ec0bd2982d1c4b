"""Parts of all levels of a hierarchy as ranked proposals (supplement B), where areas of the surface are the pixels.

Shape suffixes: N atoms, S true parts, P proposals.
"""

from collections.abc import Sequence

import numpy as np

from pipeline.evaluation.ranking import THRESHOLDS, average_precision
from pipeline.regions.ranking import SAME_REGION, suppressed


def average_precisions(
    truth_NS: np.ndarray, levels: Sequence[np.ndarray], area_N: np.ndarray | None = None
) -> dict[str, float]:
    """`ap50` and `ap75`, in percent, of the parts (N,) of some divisions as proposals.

    `truth_NS` is the area of each true part on each atom, `area_N` that of the atoms where not all is of a part. As for
    pixels, a proposal's score is how many of all it overlaps by an IoU above 1/2; on a tie the larger one comes first,
    then the earlier division; duplicates are dropped.
    """
    area_N = truth_NS.sum(axis=1) if area_N is None else area_N
    run_P = np.repeat(np.arange(len(levels)), [int(part_N.max()) + 1 for part_N in levels])
    inside_PN = np.concatenate([part_N == np.arange(int(part_N.max()) + 1)[:, None] for part_N in levels]).astype(float)
    area_P = inside_PN @ area_N
    same_PP = _iou((inside_PN * area_N) @ inside_PN.T, area_P, area_P) > SAME_REGION
    order_P = np.lexsort((run_P, -area_P, -same_PP.sum(axis=1)))
    ranked = suppressed(order_P, same_PP, area_P > 0)
    truth_NS = truth_NS[:, truth_NS.sum(axis=0) > 0]
    iou_PS = _iou(inside_PN[ranked] @ truth_NS, area_P[ranked], truth_NS.sum(axis=0))
    return {f"ap{threshold * 100:.0f}": 100 * average_precision(iou_PS, threshold) for threshold in THRESHOLDS}


def _iou(shared: np.ndarray, area: np.ndarray, other_area: np.ndarray) -> np.ndarray:
    return shared / np.maximum(area[:, None] + other_area - shared, 1e-30)
