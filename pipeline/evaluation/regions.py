"""Two baselines for Table 1 whose weights need not be supplied: HED edges with watershed, and Felzenszwalb's regions.

Both cut single views into small regions and then join regions of all four views that look alike and lie at the same
height, since the views are of one object that stands upright. Joined at several distances, they give several
segmentations, which are ranked as a model's runs are (`Pool.of_runs`). Both are told which pixels are the object's.
They are our own: the paper has neither.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.ndimage import distance_transform_edt
from skimage.color import rgb2lab
from skimage.measure import label
from skimage.morphology import h_minima
from skimage.segmentation import felzenszwalb, watershed

from pipeline.evaluation.edges import Hed
from pipeline.views.cameras import tile, untile

WORKING_PX = 256
"""Side of a view as both methods see it, so that their settings hold at any resolution."""
MOST_REGIONS = 255
"""Of a label map; the largest are kept."""
OUTSIDE = -4.0
"""The background's RGB for Felzenszwalb's regions: far from every colour, so that none reaches into it."""


@dataclass(frozen=True)
class Joining:
    """How regions of the four views become parts; distances are those of average linkage."""

    distances: Sequence[float]
    """One segmentation each: regions nearer than this are one part."""
    height_weight: float
    """The distance of two regions is that of their mean colours in CIELAB, and this times the difference of their mean
    heights, as a share of the view's height, at a right angle to it."""


@dataclass(frozen=True)
class HedWatershed:
    """Watersheds of the edges that HED sees; chosen on the corpus's validation objects."""

    network: Hed
    depth: float = 0.02
    """A basin is deeper than this, of edge probabilities in [0, 1]."""
    joining: Joining = Joining((10.0, 20.0, 40.0), 60.0)

    name = "HED edges + watershed"

    def segment(self, image: np.ndarray, foreground: np.ndarray) -> np.ndarray:
        """Label maps (R, H, W) uint8 of a grid; `image` (H, W, 3) in [0, 1], `foreground` (H, W) bool."""
        return _segment(image, foreground, self._regions, self.joining)

    def conventions(self) -> dict[str, Any]:
        """What the result depends on, as it is printed beside the table."""
        return {"view_px": WORKING_PX, "depth": self.depth, **asdict(self.joining)}

    def _regions(self, views: np.ndarray, inside: np.ndarray) -> list[np.ndarray]:
        pictures = torch.from_numpy(views).movedim(-1, 1).to(next(self.network.parameters()))
        with torch.no_grad():
            edges = self.network(pictures).double().cpu().numpy()
        regions = []
        for edge, mask in zip(edges, inside, strict=True):
            basins = label(h_minima(np.where(mask, edge, 1.0), self.depth) & mask, connectivity=2)
            regions.append(watershed(edge, basins, mask=mask))
        return regions


@dataclass(frozen=True)
class FelzenszwalbRegions:
    """Regions of even colour (Felzenszwalb and Huttenlocher, IJCV 2004); chosen on the corpus's validation objects."""

    scale: float = 30.0
    """Larger ones give larger regions."""
    smoothing: float = 0.8
    """Deviation of the Gaussian, pixels of WORKING_PX."""
    smallest: int = 50
    """Pixels of WORKING_PX; smaller regions join a neighbour."""
    joining: Joining = Joining((10.0, 20.0, 40.0), 60.0)

    name = "Felzenszwalb regions"

    def segment(self, image: np.ndarray, foreground: np.ndarray) -> np.ndarray:
        """Label maps (R, H, W) uint8 of a grid; `image` (H, W, 3) in [0, 1], `foreground` (H, W) bool."""
        return _segment(image, foreground, self._regions, self.joining)

    def conventions(self) -> dict[str, Any]:
        """What the result depends on, as it is printed beside the table."""
        settings = {"scale": self.scale, "smoothing": self.smoothing, "smallest": self.smallest}
        return {"view_px": WORKING_PX, **settings, **asdict(self.joining)}

    def _regions(self, views: np.ndarray, inside: np.ndarray) -> list[np.ndarray]:
        regions = []
        for view, mask in zip(views, inside, strict=True):
            shown = np.where(mask[..., None], view, OUTSIDE)
            found = felzenszwalb(shown, self.scale, self.smoothing, self.smallest, channel_axis=-1)
            regions.append(label(np.where(mask, found + 1, 0), connectivity=2))
        return regions


RegionFinder = Callable[[np.ndarray, np.ndarray], list[np.ndarray]]
"""Views (4, h, w, 3) and their foregrounds (4, h, w) to label maps (h, w), 0 outside."""


def _segment(image: np.ndarray, foreground: np.ndarray, find: RegionFinder, joining: Joining) -> np.ndarray:
    views, masks = untile(image.astype(np.float32)), untile(foreground)
    size = views.shape[1:3]
    pictures = _resized(views, WORKING_PX)
    inside = _resized(masks[..., None].astype(np.float32), WORKING_PX)[..., 0] > 0.5
    maps = np.zeros((len(joining.distances), *foreground.shape), dtype=np.uint8)
    if not inside.any():
        return maps
    regions = _numbered(find(pictures, inside), inside)
    for number, joined in enumerate(_joined(regions, pictures, joining)):
        rows, columns = ((np.arange(side) + 0.5) * WORKING_PX / side for side in size)
        labels = _everywhere(joined)[:, rows.astype(int)[:, None], columns.astype(int)]
        maps[number] = np.where(foreground, tile(labels), 0)
    return maps


def _resized(views: np.ndarray, side: int) -> np.ndarray:
    """Pictures (4, H, W, C) as (4, side, side, C)."""
    channels_first = torch.from_numpy(np.ascontiguousarray(views)).movedim(-1, 1)
    resized = F.interpolate(channels_first, (side, side), mode="bilinear", antialias=True, align_corners=False)
    return resized.movedim(1, -1).numpy()


def _numbered(regions: list[np.ndarray], inside: np.ndarray) -> np.ndarray:
    """Label maps of the views as one (4, h, w) int64, in which a region has a number of its own; 0 outside."""
    numbered, used = np.zeros(inside.shape, dtype=np.int64), 0
    for view, labels in enumerate(regions):
        numbered[view] = np.where(labels > 0, labels + used, 0)
        used += int(labels.max())
    present, numbers = np.unique(numbered, return_inverse=True)
    # Without a pixel outside, 0 is not among the numbers.
    return numbers.reshape(inside.shape) + int(present[0] > 0)


def _joined(regions: np.ndarray, pictures: np.ndarray, joining: Joining) -> list[np.ndarray]:
    """Label maps (4, h, w) uint8, one a distance; the parts are numbered by their size, the largest first."""
    flat = regions.reshape(-1)
    counts = np.bincount(flat)[1:]
    colours = rgb2lab(pictures).reshape(-1, 3)
    heights = np.broadcast_to(np.arange(WORKING_PX)[:, None] / WORKING_PX, regions.shape).reshape(-1, 1)
    values = np.concatenate([colours, joining.height_weight * heights], axis=1)
    means = np.stack([np.bincount(flat, column)[1:] for column in values.T], axis=1) / counts[:, None]
    tree = linkage(means, "average") if len(means) > 1 else None
    maps = []
    for distance in joining.distances:
        part = fcluster(tree, distance, "distance") - 1 if tree is not None else np.zeros(1, dtype=int)
        order = np.argsort(-np.bincount(part, counts), kind="stable")
        rank = np.empty(len(order), dtype=np.int64)
        rank[order] = np.arange(1, len(order) + 1)
        number = np.concatenate([[0], np.where(rank[part] <= MOST_REGIONS, rank[part], 0)])
        maps.append(number[regions].astype(np.uint8))
    return maps


def _everywhere(labels: np.ndarray) -> np.ndarray:
    """Label maps (4, h, w) in which 0 is the nearest region's of the view, if it has one."""
    filled = labels.copy()
    for view, one in enumerate(labels):
        if one.any():
            nearest = distance_transform_edt(one == 0, return_distances=False, return_indices=True)
            filled[view] = one[tuple(nearest)]
    return filled
