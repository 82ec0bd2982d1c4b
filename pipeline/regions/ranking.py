"""Ranking of region proposals by how many of them agree (supplement B).

    overlap of regions        m = (|A ∩ B| + ε) / (|A ∪ B| + ε), ε = 1e-4 pixels, over the four views jointly
    reliability               s(A) = |{B in P : m(A, B) > 1/2}|, of all runs' regions P, A itself among them
    non-maximum suppression   of regions with m > 1/2 the one that is ranked first is kept

The ranking is by score, then by the larger area, the earlier run and the smaller label.

Shape suffixes: N proposals.
"""

from dataclasses import dataclass

import numpy as np

from pipeline.regions.proposals import Proposals, iou

SAME_REGION = 0.5
"""Two proposals that overlap by more than this are one region (supplement B)."""


@dataclass(frozen=True)
class Pool:
    """All proposals for one grid, scored, and which of them are one region; not yet ranked."""

    proposals: Proposals
    same_NN: np.ndarray
    """bool: m > 1/2."""

    @staticmethod
    def of_runs(maps: np.ndarray) -> "Pool":
        """The regions of n segmentation runs, label maps (n, H, W) of unsigned integers, scored by their reliability.

        With one run all scores are 1, and the larger area comes first.
        """
        proposals = Proposals.of_maps(maps)
        same = iou(proposals, proposals) > SAME_REGION
        return Pool(proposals.scored(same.sum(axis=1)), same)

    @staticmethod
    def of_scored(proposals: Proposals) -> "Pool":
        """Proposals that come with scores of their method's own."""
        return Pool(proposals, iou(proposals, proposals) > SAME_REGION)

    def ranked(self) -> Proposals:
        """The best first, without duplicates."""
        return self.proposals.take(self.kept(np.ones(len(self.proposals), dtype=bool))).compact()

    def ranked_at(self, y: int, x: int) -> Proposals:
        """The same of those that contain a seed point, the pixel in row `y` and column `x` of the grid."""
        return self.proposals.take(self.kept(self.proposals.containing(y, x))).compact()

    def kept(self, among_N: np.ndarray) -> np.ndarray:
        """The numbers of the proposals that are left of some (N,) bool, the best first."""
        scored = self.proposals
        return suppressed(
            np.lexsort((scored.label_N, scored.run_N, -scored.area_N, -scored.score_N)), self.same_NN, among_N
        )


def suppressed(order_N: np.ndarray, same_NN: np.ndarray, among_N: np.ndarray) -> np.ndarray:
    """Non-maximum suppression: the numbers that are left of some (N,) bool, in the order that is given."""
    open_N, kept = among_N.copy(), []
    for number in order_N:
        if open_N[number]:
            kept.append(number)
            open_N &= ~same_NN[number]
    return np.array(kept, dtype=np.intp)
