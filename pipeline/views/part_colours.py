"""Part labels as colours, so that a diffusion model can draw a segmentation (main paper, 3.2)."""

import numpy as np
import torch
from torch import Tensor

from pipeline.errors import UserError

COLOURS = (
    (255, 255, 255),  # the background, as in the renders
    (96, 0, 112), (48, 255, 48), (255, 104, 0), (255, 0, 255), (0, 255, 255),
    (48, 48, 255), (96, 112, 0), (0, 120, 120), (255, 255, 0), (255, 0, 104),
    (170, 153, 153), (0, 0, 0), (170, 0, 0), (119, 204, 255), (170, 85, 255),
    (255, 238, 119), (153, 204, 51), (102, 255, 153), (255, 85, 187), (0, 0, 170),
)  # fmt: skip
"""Far from one another: the first ten by .57 of the RGB cube's side or more, all twenty by .42.

The first ten are also far from what lies between two others, above all between white and another: where an edge is
drawn softly, it should not take a third part's colour. Not published.
"""


def reference_colours(count: int) -> Tensor:
    """The reference colours, float32 (count + 1, 3) in [0, 1]: the background's own, then those of Q = count parts.

    UserError when there are not as many.
    """
    if not 1 <= count < len(COLOURS):
        raise UserError(f"There are no {count} part colours; set diffusion.colours to 1 to {len(COLOURS) - 1}.")
    return torch.tensor(COLOURS[: count + 1], dtype=torch.float32) / 255


def colour_code(labels: Tensor, permutation: Tensor) -> Tensor:
    """Label maps (..., H, W) of 0 (background) and 1..S as colours (..., 3, H, W) in [0, 1].

    Part k gets the reference colour permutation[k - 1]; `permutation` (Q,) holds 1..Q in any order, and is shared by
    all maps. UserError when there are more parts than colours.
    """
    parts = int(labels.max()) if labels.numel() else 0
    if parts > len(permutation):
        raise UserError(
            f"An object has {parts} parts, more parts than colours ({len(permutation)}); raise diffusion.colours."
        )
    colours = reference_colours(len(permutation))
    of_labels = torch.cat((colours[:1], colours[permutation.cpu().long()])).to(labels.device)
    return of_labels[labels.long()].movedim(-1, -3)


def by_appearance(labels: Tensor, image: Tensor, count: int) -> Tensor:
    """The permutation (Q,) for `colour_code` that gives each part a colour like its own: Q = count.

    `labels` (H, W) of 0 (background) and 1..S, `image` (3, H, W) in [0, 1] of the same pixels. No two parts share a
    colour: the sum over the parts of the squared distance in YCbCr from their mean colour, times the root of their
    pixels, is the least possible. So the largest part's wish counts most. Not published.
    """
    flat = labels.flatten().long()
    pixels = torch.bincount(flat, minlength=count + 1)[1:].float()
    sums = torch.zeros(count + 1, 3).index_add_(0, flat, image.flatten(1).T)[1:]
    means = sums / pixels.clamp(min=1)[:, None]
    apart = torch.cdist(_ycbcr(means), _ycbcr(reference_colours(count)[1:])).square() * pixels.sqrt()[:, None]
    shown = pixels.numpy() > 0
    permutation = np.zeros(count, np.int64)
    permutation[shown] = assignment(apart.numpy()[shown]) + 1
    permutation[~shown] = np.setdiff1d(np.arange(1, count + 1), permutation)
    return torch.from_numpy(permutation)


def assignment(costs: np.ndarray) -> np.ndarray:
    """The column of each row, no column twice, with the least sum of `costs` (N, M), finite, N <= M: int64 (N,).

    Shortest augmenting paths with potentials, as SciPy's `linear_sum_assignment`, which a machine that only trains
    would need for this alone.
    """
    costs = costs.astype(np.float64)
    count, width = costs.shape
    row_price, column_price = np.zeros(count), np.zeros(width)
    column_of, row_of = np.full(count, -1), np.full(width, -1)
    for first in range(count):
        reach, before, seen = np.full(width, np.inf), np.full(width, -1), np.zeros(width, bool)
        row, length = first, 0.0
        while True:  # to the nearest free column, through columns that are taken
            through = length + costs[row] - row_price[row] - column_price
            nearer = ~seen & (through < reach)
            reach[nearer], before[nearer] = through[nearer], row
            column = int(np.where(seen, np.inf, reach).argmin())
            length = reach[column]
            if row_of[column] < 0:
                break
            seen[column] = True
            row = int(row_of[column])
        row_price[first] += length
        row_price[row_of[seen]] += length - reach[seen]
        column_price[seen] -= length - reach[seen]
        while column >= 0:  # each row of the path takes the column that it reached, and gives its own on
            row = int(before[column])
            row_of[column], column_of[row], column = row, column, int(column_of[row])
    return column_of


def _ycbcr(colours: Tensor) -> Tensor:
    """RGB (N, 3) as luma and two differences from it (BT.601)."""
    luma = colours @ colours.new_tensor([0.299, 0.587, 0.114])
    return torch.stack((luma, 0.564 * (colours[:, 2] - luma), 0.713 * (colours[:, 0] - luma)), dim=1)


def decode_colours(images: Tensor, count: int) -> Tensor:
    """The nearest reference colour of every pixel: images (..., 3, H, W) in [0, 1] to int64 (..., H, W), 0 background.

    Distances are Euclidean in RGB. `count` is the Q with which the colours were coded.
    """
    colours = reference_colours(count).to(images)
    # |pixel - colour|^2 without |pixel|^2, which is the same for all colours
    scores = torch.einsum("...chw,qc->...qhw", images, -2 * colours) + colours.square().sum(dim=1)[:, None, None]
    return scores.argmin(dim=-3)


def drop_small(labels: Tensor, min_pixels: int) -> Tensor:
    """Label maps (..., H, W) in which parts of fewer than `min_pixels` pixels of a map are background.

    A map is a whole grid: it is the pixels of all views together that count.
    """
    maps = labels.long().flatten(0, -3) if labels.ndim > 2 else labels.long()[None]
    flat = maps.flatten(1)
    counts = torch.zeros(len(flat), int(flat.max()) + 1, dtype=torch.long, device=flat.device)
    counts.scatter_add_(1, flat, torch.ones_like(flat))
    kept = counts.gather(1, flat) >= min_pixels
    return torch.where(kept.view(labels.shape), labels, torch.zeros_like(labels))
