"""From an object's grid to its parts: several segmentation runs, ranked, and one of them tidied up (3.2, suppl. B).

Shape suffixes: R runs, H W pixels of the grid.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import binary_dilation, distance_transform_edt

from pipeline.diffusion.pipelines import SegmentationPipeline
from pipeline.evaluation.ranking import Pool
from pipeline.views.cameras import tile, untile

BATCH = 8
"""Runs that are denoised together; the results do not depend on it."""


def segment(model: SegmentationPipeline, grid: np.ndarray, runs: int, seed: int, min_pixels: int) -> np.ndarray:
    """Label maps (R, H, W) uint8 of a grid (H, W, 3) float32 in [0, 1]; run r depends on `seed` and r alone.

    0 is the background; parts of fewer than `min_pixels` pixels over the four views become background.
    """
    maps = []
    for start in range(0, runs, BATCH):
        count = min(BATCH, runs - start)
        noise = [torch.Generator().manual_seed(run_seed(seed, start + number)) for number in range(count)]
        maps.append(model(grid, min_pixels, num_samples=count, generator=noise).labels)
    return np.concatenate(maps)


def run_seed(seed: int, run: int) -> int:
    """The seed of one of several runs."""
    return int(np.random.SeedSequence((seed, run)).generate_state(1, np.uint64)[0] >> np.uint64(1))


def run_scores(maps_RHW: np.ndarray) -> np.ndarray:
    """How much the other runs agree with each: the mean reliability of its pixels' regions over R, (R,) in [0, 1].

    Supplement B ranks regions; this is how a whole segmentation is chosen among several, which is not published.
    """
    proposals = Pool.of_runs(maps_RHW).proposals
    scores = np.zeros(len(maps_RHW))
    for run in range(len(maps_RHW)):
        of_run = proposals.run_N == run
        if of_run.any():
            scores[run] = np.average(proposals.score_N[of_run], weights=proposals.area_N[of_run]) / len(maps_RHW)
    return scores


@dataclass(frozen=True)
class Parts:
    """One segmentation, ready for completion."""

    labels: np.ndarray
    """(H, W) uint8: 1..S, the largest first; 0 the background."""
    merged: Sequence[tuple[int, int]]
    """Pixels of each region that was merged away for its size or for there being too many, and the part it joined."""


def tidy(labels_HW: np.ndarray, shown_HW: np.ndarray, max_parts: int, min_part_pixels: int) -> Parts:
    """A decoded label map as parts that cover the object, and nothing else.

    `shown_HW` marks the object's pixels. Those that the map leaves to the background get the label of the nearest
    labelled pixel of their view. Then, the smallest first, regions of fewer than `min_part_pixels` pixels, and those
    beyond `max_parts`, join the region that they touch most, or the largest where they touch none.
    """
    views = []
    for labels, shown in zip(untile(labels_HW), untile(shown_HW), strict=True):
        known = (labels > 0) & shown
        if known.any():
            nearest = distance_transform_edt(~known, return_distances=False, return_indices=True)
            labels = labels[tuple(nearest)]
        views.append(np.where(shown, labels, 0))
    filled = tile(np.stack(views))
    pixels_merged: dict[int, int] = {}
    joined = np.arange(256, dtype=np.uint8)  # of each label, the one that it is part of by now
    while True:
        ids, pixels = np.unique(filled[filled > 0], return_counts=True)
        if len(ids) < 2 or (len(ids) <= max_parts and pixels.min() >= min_part_pixels):
            break
        smallest, *_, largest = ids[np.lexsort((ids, pixels))]
        pixels_merged[int(smallest)] = int(pixels.min())
        joined[joined == smallest] = _touched_most(filled, smallest, largest)
        filled = joined[filled]
    renumbered = np.zeros(256, dtype=np.uint8)
    renumbered[ids[np.lexsort((ids, -pixels))]] = np.arange(1, len(ids) + 1)
    return Parts(
        renumbered[filled], [(count, int(renumbered[joined[label]])) for label, count in pixels_merged.items()]
    )


def _touched_most(labels_HW: np.ndarray, region: int, otherwise: int) -> int:
    """The label with the most pixels beside a region, within the views."""
    beside = np.concatenate(
        [view[binary_dilation(view == region) & (view != region) & (view > 0)] for view in untile(labels_HW)]
    )
    if not len(beside):
        return otherwise
    ids, counts = np.unique(beside, return_counts=True)
    return int(ids[counts.argmax()])
