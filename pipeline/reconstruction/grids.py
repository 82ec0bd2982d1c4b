"""What every reconstructor asks of the grids that it is given.

Shape suffixes: B grids, C channels, H W pixels.
"""

import torch
from torch import Tensor

from pipeline.errors import UserError
from pipeline.reconstruction.carving import silhouettes
from pipeline.reconstruction.rays import split_views


def check_grids(grids_BCHW: Tensor, size: int) -> None:
    """UserError unless grids hold finite values of 2x2 views of `size` pixels a side, in RGB or RGBA."""
    channels, *sides = grids_BCHW.shape[1:]
    if channels not in (3, 4) or sides != [2 * size, 2 * size]:
        raise UserError(
            f"A grid is {' x '.join(map(str, grids_BCHW.shape[1:]))}; give 3 or 4 x {2 * size} x {2 * size}: "
            f"2x2 views of {size} px, in RGB or RGBA."
        )
    if not torch.isfinite(grids_BCHW).all():
        raise UserError("A grid holds values that are not finite; make it again.")


def shown_grids(grids_BCHW: Tensor) -> Tensor:
    """Which grids show anything, (B,) bool."""
    return silhouettes(split_views(grids_BCHW).flatten(0, 1)).unflatten(0, (-1, 4)).flatten(1).any(dim=1)
