"""From an object's grid to its parts: several segmentation runs, ranked, and one of them tidied up (3.2, suppl. B).

Shape suffixes: R runs, H W pixels of the grid, V views, N pixels of a list, K neighbours of each.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import binary_dilation, distance_transform_edt
from scipy.spatial import cKDTree
from skimage import measure
from sklearn.metrics import adjusted_rand_score

from pipeline.diffusion.augment import ColourShift, jitter
from pipeline.diffusion.part_colours import drop_small
from pipeline.diffusion.pipelines import SegmentationPipeline
from pipeline.params.segment import SegmentParams
from pipeline.reconstruction.carving import Carver
from pipeline.views.cameras import tile, untile

BATCH = 8
"""Runs that are denoised together; the results do not depend on it."""
NEIGHBOURS = 128
"""Pixels that vote on the label of one, itself included. Chosen at 64 pixels a view; in larger views they reach less
far."""
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


def cleaned(labels_HW: np.ndarray, shown_HW: np.ndarray, min_patch_pixels: int) -> np.ndarray:
    """A label map of the object's pixels, `shown_HW`, all of them, and without specks; 0 elsewhere.

    A speck has fewer than `min_patch_pixels` pixels of one label that hang together within a view, corners included.
    Specks, and pixels that the map leaves to the background, get the label of their view's nearest pixel that is
    neither. In a view of nothing but specks these count; one without labels stays without.
    """
    views = []
    for labels, shown in zip(untile(labels_HW), untile(shown_HW), strict=True):
        labels = np.where(shown, labels, 0)
        large = (labels > 0) & (_patch_pixels(labels) >= min_patch_pixels)
        known = large if large.any() else labels > 0
        if known.any():
            nearest = distance_transform_edt(~known, return_distances=False, return_indices=True)
            labels = np.where(shown, labels[tuple(nearest)], 0)
        views.append(labels)
    return tile(np.stack(views))


def _patch_pixels(labels_HW: np.ndarray) -> np.ndarray:
    """Of each pixel of a view, how many of its label it hangs together with, corners included."""
    patches_HW = measure.label(labels_HW, connectivity=2, background=-1)
    sizes: np.ndarray = np.bincount(patches_HW.ravel())[patches_HW]
    return sizes


def voted(
    maps: Sequence[np.ndarray], grid: np.ndarray, shown_HW: np.ndarray, carver: Carver, radius: float, colour: float
) -> list[np.ndarray]:
    """Label maps of the object's pixels, `shown_HW`, after a vote among pixels that are alike, of all four views.

    Every pixel stands for the point x at which its ray meets the visual hull of the object's silhouettes, and for its
    colour c in the grid (H, W, 3). It takes the label for which the weights of its NEIGHBOURS sum up to the most; they
    are exp(-d^2 / 2) with d^2 = |x - x'|^2 / radius^2 + |c - c'|^2 / colour^2, the bilateral kernel of a dense CRF, and
    the neighbours those of the least d. Pixels without a label have no vote. Where there is none, and where the ray
    misses the hull, the label stays. Not in the paper: there the views agree as far as the network makes them.
    """
    outlines_VHW = torch.from_numpy(untile(shown_HW)).float()
    points_VHW3 = carver.surface(outlines_VHW).numpy()
    voters_VHW = untile(shown_HW) & np.isfinite(points_VHW3[..., 0])
    if not voters_VHW.any():
        return list(maps)
    features_N6 = np.concatenate((points_VHW3 / radius, untile(grid) / colour), axis=-1)[voters_VHW]
    count = min(NEIGHBOURS, len(features_N6))
    distance_NK, index_NK = cKDTree(features_N6).query(features_N6, k=range(1, count + 1))
    weight_NK = np.exp(-(distance_NK**2) / 2)
    after = []
    for labels_HW in maps:
        views_VHW = untile(labels_HW).copy()
        labels_N = views_VHW[voters_VHW]
        candidates = np.unique(labels_N[labels_N > 0])
        if len(candidates):
            votes = [(weight_NK * (labels_N[index_NK] == label)).sum(axis=1) for label in candidates]
            won_N = candidates[np.argmax(votes, axis=0)]
            views_VHW[voters_VHW] = np.where(np.max(votes, axis=0) > 0, won_N, labels_N)
        after.append(tile(views_VHW))
    return after


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
    filled = cleaned(labels_HW, shown_HW, min_patch_pixels=0)
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
