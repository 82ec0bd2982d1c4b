"""What is done to a label map of a grid: connected components cleaned, pixels relabelled by a vote, parts tidied up.

Shape suffixes: H W pixels of the grid, V views, N pixels of a list, K neighbours of each.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import binary_dilation, distance_transform_edt
from scipy.spatial import cKDTree
from skimage import measure

from pipeline.reconstruction.carving import Carver
from pipeline.views.cameras import tile, untile

NEIGHBOURS = 128
"""Pixels that vote on the label of one, itself included. Chosen at 64 pixels a view; in larger views they reach less
far."""


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
