"""How far parts claim the same space: each was completed alone, so nothing keeps them apart (supplement E).

A part claims the points where its opacity reaches a level: the inside of its mesh at that level, but for cavities.
They are counted in the centres of a lattice's cells.

Shape suffixes: N parts, M points.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.errors import UserError
from pipeline.reconstruction.field import Field
from pipeline.reconstruction.rays import BOUND

CHUNK = 2**16
"""Points of one part that are evaluated at once."""


@dataclass(frozen=True)
class PartOverlap:
    """Shares in [0, 1] of volumes."""

    iou_NN: Tensor
    """Intersection over union of every pair, float64; 1 on the diagonal, 0 for a part that claims nothing."""
    contested: float
    """Of the union's volume, what two or more parts claim; 0 when the union is empty."""

    def figures(self) -> dict[str, float]:
        """Mean and largest IoU of all pairs of parts that claim some space, 0 without a pair, and `contested`."""
        claims_N = self.iou_NN.diagonal() > 0
        pairs = self.iou_NN[claims_N][:, claims_N]
        above = pairs[torch.triu(torch.ones_like(pairs, dtype=torch.bool), diagonal=1)].tolist()
        return {
            "mean_iou": sum(above) / max(len(above), 1),
            "max_iou": max(above, default=0.0),
            "contested": self.contested,
        }


@torch.no_grad()
def part_overlap(fields: Sequence[Field], resolution: int, level: float) -> PartOverlap:
    """Of N parts, on a lattice of `resolution` cells over the objects' cube [-1, 1]; farther where parts were placed.

    `level` is an opacity, per unit of length of the field's own cube, as of `meshing.mesh_field`. Space that no support
    holds is skipped; memory is that of one layer. UserError without a field, or when values are not finite.
    """
    if not fields:
        raise UserError("There is no field to measure; give at least one part.")
    boxes = [_heights(field.checked(f"Part {number}")) for number, field in enumerate(fields, start=1)]
    shared_NN = torch.zeros(len(fields), len(fields), dtype=torch.float64)
    union = contested = 0
    for z, layer_M3 in _layers(fields, resolution):
        claims_NM = torch.zeros(len(fields), len(layer_M3), dtype=torch.bool, device=layer_M3.device)
        for field, (low, high), claim_M in zip(fields, boxes, claims_NM, strict=True):
            if low <= z <= high:
                sigma_M = torch.cat([field.opacity(some) for some in layer_M3.split(CHUNK)])
                claim_M.copy_(sigma_M * field.scale >= level)
        if claims_NM.any():
            # Counts: exact in float64, where integers have no matrix product on a GPU.
            shared_NN += (claims_NM.double() @ claims_NM.double().t()).cpu()
            claimants_M = claims_NM.sum(dim=0)
            union += int((claimants_M > 0).sum())
            contested += int((claimants_M > 1).sum())
    volume_N = shared_NN.diagonal()
    union_NN = volume_N[:, None] + volume_N - shared_NN
    return PartOverlap(shared_NN / union_NN.clamp(min=1), contested / max(union, 1))


def _layers(fields: Sequence[Field], resolution: int) -> Iterator[tuple[float, Tensor]]:
    """The lattice's points (M, 3) of each height z."""
    like = fields[0].volume_CDHW
    reach = max([BOUND, *(field.reach() for field in fields if field.is_placed)])
    count = resolution + 2 * math.ceil(resolution * (reach - BOUND) / 2)
    axis = ((torch.arange(count, dtype=like.dtype, device=like.device) + 0.5) - count / 2) * 2 / resolution
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    for z in axis.tolist():
        yield z, torch.stack((x, y, torch.full_like(x, z)), dim=-1).view(-1, 3)


def _heights(field: Field) -> tuple[float, float]:
    """Between which z the field may hold something; none when the first is larger."""
    z = field.cells()[:, 2]
    if not len(z):
        return math.inf, -math.inf
    depth = field.volume_CDHW.shape[1] if field.support_DHW is None else field.support_DHW.shape[0]
    return float(z.min()) - field.scale / depth, float(z.max()) + field.scale / depth
