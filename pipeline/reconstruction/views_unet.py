"""A residual UNet over four views at once, whose coarse resolutions see all of them.

Shape suffixes: B grids, V views, N = B * V, L tokens of all views, C channels, H W pixels.
"""

from collections.abc import Sequence
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.reconstruction.unet import ResidualUNet, groups
from pipeline.views.cameras import GRID_AZIMUTHS

VIEWS = len(GRID_AZIMUTHS)


class ViewsAttention(nn.Module):
    """The pixels of an object's views attend to each other; it starts as the identity."""

    def __init__(self, width: int, head_channels: int) -> None:
        super().__init__()
        self.heads = width // head_channels
        self.norm = nn.GroupNorm(groups(width), width)
        self.qkv, self.last = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width)
        for weight in self.last.parameters():
            nn.init.zeros_(weight)

    def forward(self, values_NCHW: Tensor) -> Tensor:
        """(N, width, H, W) to the same; the views of an object follow one another."""
        tokens_BVHWC = self.norm(values_NCHW).unflatten(0, (-1, VIEWS)).movedim(2, -1)
        query, key, value = (
            self.qkv(tokens_BVHWC.flatten(1, 3)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        )
        attended_BLC = self.last(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))
        added: Tensor = attended_BLC.view(tokens_BVHWC.shape).movedim(-1, 2).flatten(0, 1)
        return values_NCHW + added


class ViewsUNet(ResidualUNet):
    """A ResidualUNet over pictures; the resolutions of which `attention` says so end with attention, on both ways."""

    def __init__(
        self,
        inputs: int,
        widths: Sequence[int],
        blocks: int,
        outputs: int,
        attention: Sequence[bool],
        head_channels: int,
    ) -> None:
        super().__init__(2, inputs, widths, blocks, outputs)
        for stages in (self.down, self.up):
            for stage, width, attends in zip(stages, widths, attention, strict=False):  # there is no way up to the last
                if attends:
                    cast(nn.Sequential, stage).append(ViewsAttention(width, head_channels))
