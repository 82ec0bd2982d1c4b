"""Ranking, average precision and recall against a plain reference, on the same masks: seconds and their ratio.

    python -m benchmarks.evaluation [--pixels 1024] [--parts 12] [--runs 10 84] [--rounds 3]

Runs of a segmentation are imitated: an object of that many parts, with borders that differ from run to run by some
pixels, and other labels in each. Ten runs of twelve parts are 120 proposals. The reference compares
masks two by two; it is timed on as many pairs as take a few seconds, and the rest is reckoned.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
from scipy.ndimage import gaussian_filter

from pipeline.evaluation.ranking import automatic, seeded
from pipeline.regions.proposals import EPSILON, Proposals, iou
from pipeline.regions.ranking import Pool
from stages.entry import one_sentence_errors

REFERENCE_S = 10.0


def imitated_runs(runs: int, parts: int, pixels: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Label maps of runs (R, H, W) and the true one (H, W), uint8: Voronoi cells inside a disc a view."""
    draws = np.random.default_rng(seed)
    y, x = np.mgrid[:pixels, :pixels].astype(np.float32)
    half = pixels / 2
    inside = np.hypot(y % half - half / 2, x % half - half / 2) < 0.4 * half
    places = np.argwhere(inside[: pixels // 2, : pixels // 2])
    centres = places[draws.choice(len(places), parts, replace=False)]
    cells = np.stack([np.hypot(y % half - cy, x % half - cx) for cy, cx in centres])

    def drawn(roughness: float) -> np.ndarray:
        shifts = [gaussian_filter(draws.standard_normal((pixels, pixels)), 6.0) * roughness for _ in range(2)]
        rows = np.clip(y + shifts[0], 0, pixels - 1).astype(int)
        columns = np.clip(x + shifts[1], 0, pixels - 1).astype(int)
        return ((cells.argmin(axis=0) + 1) * inside)[rows, columns].astype(np.uint8)

    names = np.stack([np.concatenate([[0], 1 + draws.permutation(parts)]) for _ in range(runs)]).astype(np.uint8)
    return np.stack([name[drawn(40.0)] for name in names]), drawn(0.0)


def seconds(action: Callable[[], object], rounds: int) -> float:
    """The median over rounds, after one that is not timed."""
    action()
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        action()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def reference_iou(masks: np.ndarray, others: np.ndarray, budget_s: float) -> tuple[np.ndarray, float]:
    """IoUs of masks (N, H, W) and (M, H, W) two by two, and the seconds that all take.

    Rows beyond the budget stay NaN.
    """
    values = np.full((len(masks), len(others)), np.nan)
    started = time.perf_counter()
    for row, mask in enumerate(masks):
        for column, other in enumerate(others):
            values[row, column] = (np.sum(mask & other) + EPSILON) / (np.sum(mask | other) + EPSILON)
        elapsed = time.perf_counter() - started
        if elapsed > budget_s:
            break
    return values, elapsed * len(masks) / (row + 1)


def check(reference: np.ndarray, fast: np.ndarray) -> None:
    """Refuse to compare the times of what is not the same."""
    known = ~np.isnan(reference)
    if not np.allclose(reference[known], fast[known], rtol=0, atol=1e-12):
        raise AssertionError("the reference gives other IoUs")


def compare(runs: int, parts: int, pixels: int, rounds: int) -> None:
    """One size; what both have computed must agree."""
    maps, truth = imitated_runs(runs, parts, pixels)
    pool = Pool.of_runs(maps)
    ranking_s = seconds(lambda: Pool.of_runs(maps).ranked(), rounds)
    ranked = pool.ranked()
    figures_s = seconds(lambda: automatic(ranked, truth), rounds)
    seeded_s = seconds(lambda: seeded(pool.ranked_at, truth), rounds)

    masks = pool.proposals.masks()
    parts_seen = Proposals.of_maps(truth[None])
    pairs, pairs_s = reference_iou(masks, masks, REFERENCE_S)
    matched, matched_s = reference_iou(ranked.masks(), parts_seen.masks(), REFERENCE_S)
    check(pairs, iou(pool.proposals, pool.proposals))
    check(matched, iou(ranked, parts_seen))

    result = automatic(ranked, truth)
    shown = len(np.unique(truth)) - 1
    print(f"{len(pool.proposals)} proposals of {runs} runs at {pixels} px; {len(ranked)} regions, {shown} parts")
    for name, fast_s, reference_s in (("ranking", ranking_s, pairs_s), ("AP and recall", figures_s, matched_s)):
        print(f"  {name + ', s':20}{fast_s:8.3f}   reference {reference_s:8.1f}", end="")
        print(f"   {reference_s / fast_s:6.0f} times faster")
    print(f"  {'seeded, s':20}{seeded_s:8.3f}   all parts")
    print(f"  AP50 {result['ap50']:.3f}, AP75 {result['ap75']:.3f}", flush=True)


def main() -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pixels", type=int, default=1024, help="side of the grid")
    parser.add_argument("--parts", type=int, default=12)
    parser.add_argument("--runs", type=int, nargs="*", default=[10, 84])
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    for runs in arguments.runs:
        compare(runs, arguments.parts, arguments.pixels, arguments.rounds)


if __name__ == "__main__":
    with one_sentence_errors():
        main()
