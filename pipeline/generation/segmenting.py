"""From an object's grid to its parts: several segmentation runs, ranked, and one of them tidied up (3.2, suppl. B).

Shape suffixes: R runs, H W pixels of the grid.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import binary_dilation, distance_transform_edt

from pipeline.diffusion.augment import ColourShift, jitter
from pipeline.diffusion.pipelines import SegmentationPipeline
from pipeline.evaluation.ranking import Pool
from pipeline.views.cameras import tile, untile

BATCH = 8
"""Runs that are denoised together; the results do not depend on it."""
MAX_DEPTH = 0.25
"""By up to this share a recoloured grid is farther from white or nearer to it."""


def segment(
    model: SegmentationPipeline, grid: np.ndarray, runs: int, seed: int, min_pixels: int, recolour: bool
) -> np.ndarray:
    """Label maps (R, H, W) uint8 of a grid (H, W, 3) float32 in [0, 1]; run r depends on `seed` and r alone.

    0 is the background; parts of fewer than `min_pixels` pixels over the four views become background. The runs have
    other noise each, and with `recolour` all but the first are shown the grid in other colours.
    """
    maps = []
    for start in range(0, runs, BATCH):
        seeds = [run_seed(seed, run) for run in range(start, min(start + BATCH, runs))]
        shown = [recoloured(grid, one) if recolour and start + number else grid for number, one in enumerate(seeds)]
        noise = [torch.Generator().manual_seed(one) for one in seeds]
        maps.append(model(shown, min_pixels, generator=noise).labels)
    return np.concatenate(maps)


def recoloured(grid: np.ndarray, seed: int) -> np.ndarray:
    """A grid over white, (H, W, 3) float32 in [0, 1], in other hues and another depth of colour; white stays white."""
    random = np.random.default_rng(seed)
    hue_deg, depth = random.uniform(-180, 180), 1 + random.uniform(-MAX_DEPTH, MAX_DEPTH)
    shift = ColourShift.of(hue_deg, (1 - depth) / 2, depth)
    changed: np.ndarray = jitter(torch.from_numpy(grid).permute(2, 0, 1), shift).permute(1, 2, 0).numpy()
    return changed


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
