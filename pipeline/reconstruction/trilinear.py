"""Trilinear sampling of a volume and its transpose, outside autograd: what renderer and splatter recompute.

A volume (C, D, H, W) fills the cube [-1, 1]^3 with W along x, H along y and D along z. Its values stand at the cells'
centres and fade to zero beyond the outermost of them, as in torch's `grid_sample` with `align_corners=False` and in
Lightplane.

Shape suffixes: M samples, K cells of a sample (8 corners), C channels, V = D * H * W cells.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Corners:
    """The cells around each sample, and their trilinear weights."""

    cells_MK: Tensor
    """Row of the cell in the volume's table, int32."""
    weights_MK: Tensor
    """In [0, 1]; 0 for a corner outside the volume."""

    def joined(self, samples: int) -> "Corners":
        """Those of every `samples` successive samples as one (a ray's, say): (M / samples, K * samples)."""
        rows = self.cells_MK.shape[0] // samples
        return Corners(self.cells_MK.reshape(rows, -1), self.weights_MK.reshape(rows, -1))


def corners(points_M3: Tensor, shape: torch.Size) -> Corners:
    """The eight corners of points (x, y, z) in a volume of `shape` (D, H, W)."""
    depth, height, width = shape
    extent_3 = torch.tensor((width, height, depth), device=points_M3.device).view(3, 1)
    stride_3 = torch.tensor((1, width, width * height), device=points_M3.device, dtype=torch.int32).view(3, 1)
    # Samples along the last axis: on a CPU broadcasting over axes of two is three times slower the other way round.
    place_3M = (points_M3.t().contiguous() + 1) * (extent_3 / 2).to(points_M3.dtype) - 0.5
    low_3M = place_3M.floor()
    above_3M = place_3M - low_3M
    cell_23M = torch.stack((low_3M, low_3M + 1))
    weight_23M = torch.stack((1 - above_3M, above_3M)) * ((cell_23M >= 0) & (cell_23M < extent_3))
    row_23M = cell_23M.clamp(min=0).minimum(extent_3 - 1).int() * stride_3
    cells = row_23M[:, None, None, 2] + row_23M[None, :, None, 1] + row_23M[None, None, :, 0]
    weights = weight_23M[:, None, None, 2] * weight_23M[None, :, None, 1] * weight_23M[None, None, :, 0]
    return Corners(cells.flatten(0, 2).t().contiguous(), weights.flatten(0, 2).t().contiguous())


def table(volume_CDHW: Tensor) -> Tensor:
    """A volume as one row a cell, (V, C); a copy unless its channels are already innermost."""
    return volume_CDHW.permute(1, 2, 3, 0).reshape(-1, volume_CDHW.shape[0])


def volume(table_VC: Tensor, shape: torch.Size) -> Tensor:
    """A table as a volume (C, D, H, W) over the same memory."""
    return table_VC.view(*shape, -1).permute(3, 0, 1, 2)


def gather(table_VC: Tensor, at: Corners) -> Tensor:
    """The weighted sum of each sample's cells, (M, C): trilinear interpolation."""
    return F.embedding_bag(at.cells_MK, table_VC, mode="sum", per_sample_weights=at.weights_MK)


def scatter(table_VC: Tensor, at: Corners, values_MC: Tensor) -> None:
    """Add each sample's value to its cells by their weights, in place: the transpose of `gather`.

    Cells are sorted, so that one row is written once; the result does not depend on the order of threads.
    """
    if table_VC.is_meta or not at.cells_MK.numel():  # no data, nothing to add
        return
    cells, order = at.cells_MK.view(-1).sort(stable=True)
    touched, counts = cells.unique_consecutive(return_counts=True)
    weights = at.weights_MK.view(-1)[order]
    starts = counts.cumsum(0) - counts
    samples = order // at.cells_MK.shape[1]
    table_VC[touched] += F.embedding_bag(samples, values_MC, starts, mode="sum", per_sample_weights=weights)
