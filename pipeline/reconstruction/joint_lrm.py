"""The joint reconstruction model: parts of one object that know of each other and of the whole (supplement E).

It is the LRM, with one set of weights for every part and for the whole. What the refinement of a part reads besides the
part's own lifted volume comes in through a convolution that starts at zero: the lifted volume of the whole, and how
opaque the lifted volumes of the object's other parts are, their sum and their maximum in each cell. So it starts as the
LRM, with one part and no whole it is the LRM, and the order of the parts does not matter.

Shape suffixes: S parts of an object, H W pixels of a grid, C channels, D H W a volume's sides along z, y and x.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.reconstruction.field import Decoder, Field
from pipeline.reconstruction.lrm import LRM, load_lrm
from pipeline.reconstruction.unet import CONVOLUTIONS, ResidualUNet

OTHERS = 2
"""Channels that say where other parts are: the sum of their opacities, and the largest."""


class JointRefinement(ResidualUNet):
    """The refinement of a part that may also be told of the object that it belongs to."""

    def __init__(self, dimensions: int, inputs: int, widths: Sequence[int], blocks: int, outputs: int) -> None:
        super().__init__(dimensions, inputs, widths, blocks, outputs)
        self.context = CONVOLUTIONS[dimensions](inputs + OTHERS, widths[0], 3, padding=1, bias=False)
        nn.init.zeros_(self.context.weight)

    def forward(self, values: Tensor, context: Tensor | None = None) -> Tensor:
        """As of all such networks; `context` (B, inputs + OTHERS, ...) is of the same sides."""
        first = self.first(values)
        return self.after_first(first if context is None else first + self.context(context))


class JointLRM(LRM):
    """The LRM, for all parts of one object at once."""

    refinement_kind = JointRefinement

    def volumes(self, grids_S3HW: Tensor, whole_3HW: Tensor | None = None) -> Tensor:
        """As of the LRM, (S, C, D, H, W), of the parts of one object; `whole_3HW` is its own grid, where it is known.

        A grid alone, without a whole, is made as by an LRM.
        """
        parts = len(grids_S3HW)
        if whole_3HW is None and parts == 1:
            return super().volumes(grids_S3HW)
        lifted = self.lifted(grids_S3HW if whole_3HW is None else torch.cat((grids_S3HW, whole_3HW[None])))
        coarse = self.coarse(lifted)
        whole = torch.zeros_like(coarse[:1]) if whole_3HW is None else coarse[parts:]
        others = others_opacity(coarse[:parts], self.decoder)
        context = torch.cat((whole.expand(parts, -1, -1, -1, -1), others), dim=1)
        return self.refined(lifted[:parts], coarse[:parts], context)

    def fields(self, grids_S3HW: Tensor, whole_3HW: Tensor | None = None) -> list[Field]:
        """The fields of the parts of one object; see `volumes`."""
        return [Field(volume, self.decoder) for volume in self.volumes(grids_S3HW, whole_3HW)]

    def forward(self, objects: Sequence[Tensor], wholes: Sequence[Tensor | None]) -> list[Tensor]:  # type: ignore[override]
        """The volumes of some objects, one after the other; of each its parts' grids and its own, or None."""
        return [self.volumes(*grids) for grids in zip(objects, wholes, strict=True)]


def others_opacity(volumes_SCDHW: Tensor, decoder: Decoder) -> Tensor:
    """For each part how much the other parts hide in a cell of their volumes, (S, OTHERS, D, H, W), at least 0.

    A part hides 1 - exp(-sigma * cell) of what is behind a cell, in [0, 1].
    """
    parts, channels, *sides = volumes_SCDHW.shape
    sigma = decoder.sigma(volumes_SCDHW.movedim(1, -1).reshape(-1, channels)).view(parts, 1, *sides)
    hidden = -torch.expm1(-sigma * 2 / sides[0])
    if parts == 1:
        return torch.zeros_like(hidden).expand(-1, OTHERS, -1, -1, -1)
    largest, which = hidden.max(dim=0, keepdim=True)
    second = hidden.topk(2, dim=0).values[1:]
    numbers = torch.arange(parts, device=hidden.device).view(-1, 1, 1, 1, 1)
    return torch.cat((hidden.sum(dim=0, keepdim=True) - hidden, torch.where(numbers == which, second, largest)), dim=1)


def joint_of(lrm: LRM) -> JointLRM:
    """The joint model that is still this LRM."""
    config: Any = {name: value for name, value in lrm.config.items() if not name.startswith("_")}
    joint = JointLRM(**config)
    joint.load_state_dict({**joint.state_dict(), **lrm.state_dict()})
    return joint


def load_joint_lrm(folder: Path) -> JointLRM:
    """As `load_lrm`."""
    joint = load_lrm(folder, JointLRM)
    assert isinstance(joint, JointLRM)
    return joint
