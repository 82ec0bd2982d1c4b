"""From an object's grid to label maps of its parts: several segmentation runs, and how much they agree (3.2, suppl. B).

Shape suffixes: R runs, H W pixels of the grid, N pixels of a list.
"""

import numpy as np
import torch
from sklearn.metrics import adjusted_rand_score

from pipeline.diffusion.pipelines import SegmentationPipeline
from pipeline.params.segment import SegmentParams
from pipeline.parts.label_maps import cleaned, voted
from pipeline.reconstruction.carving import Carver
from pipeline.views.augment import ColourShift, jitter
from pipeline.views.part_colours import drop_small

BATCH = 8
"""Runs that are denoised together; the results do not depend on it."""
MAX_DEPTH = 0.25
"""By up to this share a recoloured grid is farther from white or nearer to it."""


def segment(
    model: SegmentationPipeline,
    grid: np.ndarray,
    shown_HW: np.ndarray,
    params: SegmentParams,
    seed: int,
    carver: Carver,
) -> np.ndarray:
    """Label maps (R, H, W) uint8 of a grid (H, W, 3) float32 in [0, 1]; run r depends on `seed` and r alone.

    0 is the background; parts of fewer than `min_pixels` pixels over the four views become background. The runs have
    other noise each, and with `recolour` all but the first are shown the grid in other colours. Unless
    `min_patch_pixels` is 0, maps are `cleaned` first, and then, unless `vote_radius` is 0, `voted` on; `shown_HW` marks
    the object's pixels.
    """
    maps = []
    for start in range(0, params.runs, BATCH):
        seeds = [run_seed(seed, run) for run in range(start, min(start + BATCH, params.runs))]
        grids = [recoloured(grid, one) if params.recolour and start + n else grid for n, one in enumerate(seeds)]
        noise = [torch.Generator().manual_seed(one) for one in seeds]
        maps += list(model(grids, generator=noise).labels)
    if params.min_patch_pixels:
        maps = [cleaned(labels_HW, shown_HW, params.min_patch_pixels) for labels_HW in maps]
    if params.vote_radius:
        maps = voted(maps, grid, shown_HW, carver, params.vote_radius, params.vote_colour)
    return drop_small(torch.from_numpy(np.stack(maps)), params.min_pixels).numpy()


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
    """How much the runs agree with each: its mean adjusted Rand index with all of them, (R,), at most 1.

    Over the pixels to which any run gives a part. The index of one part for all with any other map is 0, so that answer
    wins only where most runs give it. A run without parts has 0, and counts as 0 for the others. Supplement B ranks
    regions; this is how a whole segmentation is chosen among several, which is not published.
    """
    labels_RN = maps_RHW[:, (maps_RHW > 0).any(axis=0)]
    known_R = labels_RN.any(axis=1)
    scores = np.zeros(len(labels_RN))
    for run in np.flatnonzero(known_R):
        agreed = [adjusted_rand_score(labels_RN[run], other_N) for other_N in labels_RN[known_R]]
        scores[run] = sum(agreed) / len(labels_RN)
    return scores
