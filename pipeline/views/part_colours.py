"""Part labels as colours, so that a diffusion model can draw a segmentation (main paper, 3.2)."""

import torch
from scipy.optimize import linear_sum_assignment
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
    return torch.from_numpy(linear_sum_assignment(apart.numpy())[1] + 1)


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
