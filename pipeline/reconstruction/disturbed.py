"""True grids of parts made as wrong as those are that completion draws, at no cost: for training on them.

When an object is taken apart, a part's grid is what the views show of it, by a mask that is not exact, and what a model
thinks that they hide. Here pixels of neighbours leak into the mask or some of its own are missing, and what is hidden
is missing, or stands elsewhere by some pixels.

Shape suffixes: V views, H W pixels of a view.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.reconstruction.drawn_objects import over_white
from pipeline.reconstruction.rays import split_views
from pipeline.reconstruction.views_objective import tiled

MOST_LEAK_PX = 2
"""By so much a mask is wider or narrower than the part, at most."""
MOST_SHIFT_PX = 3
"""By so much what is hidden stands elsewhere, at most; in each view by another shift."""
HIDDEN_LOST = 0.3
"""Of the grids that are disturbed, those which show nothing of what is hidden."""


def disturbed(part: Tensor, whole: Tensor, labels_HW: Tensor, label: int, draws: np.random.Generator) -> Tensor:
    """The grid (3, 2H, 2W) over white, float32 in [0, 1], of a part that the whole's label map calls `label`.

    `part` and `whole` are its true grid and that of its object, (4, 2H, 2W) uint8.
    """
    part_V4HW, whole_V4HW = split_views(part[None])[0], split_views(whole[None])[0]
    mask_VHW = _grown(split_views((labels_HW == label)[None, None])[0, :, 0], int(draws.integers(-1, MOST_LEAK_PX + 1)))
    mask_VHW &= whole_V4HW[:, 3] > 0
    object_V1HW = _grown(whole_V4HW[:, 3] > 0, 1)[:, None]  # beyond its pixels' neighbours completion leaves white
    hidden_V4HW = _shifted(part_V4HW, draws) * (object_V1HW & (draws.random() >= HIDDEN_LOST))
    return tiled(over_white(torch.where(mask_VHW[:, None], whole_V4HW, hidden_V4HW))[0])


def _grown(mask_VHW: Tensor, pixels: int) -> Tensor:
    """A mask that is wider by some pixels all around, or narrower."""
    side, values_VHW = 2 * abs(pixels) + 1, mask_VHW.float()
    grown_VHW = F.max_pool2d(values_VHW if pixels > 0 else 1 - values_VHW, side, stride=1, padding=side // 2) > 0.5
    return grown_VHW if pixels > 0 else ~grown_VHW


def _shifted(views_V4HW: Tensor, draws: np.random.Generator) -> Tensor:
    """Each view moved by some pixels of its own; what comes in is empty."""
    moved = F.pad(views_V4HW, (MOST_SHIFT_PX,) * 4)
    height, width = views_V4HW.shape[-2:]
    places = draws.integers(0, 2 * MOST_SHIFT_PX + 1, (len(views_V4HW), 2)).tolist()
    return torch.stack(
        [view[:, top : top + height, left : left + width] for view, (top, left) in zip(moved, places, strict=True)]
    )
