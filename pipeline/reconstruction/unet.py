"""A residual UNet over pictures (2D) or volumes (3D): the image encoder and the refinement of the LRM, and more."""

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

CONVOLUTIONS: dict[int, type[nn.Conv2d] | type[nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}

GROUPS = 8
"""Of channels that are normalised together."""


class ResidualBlock(nn.Module):
    """Twice norm, SiLU, convolution; the input is added. Keeps channels and sides."""

    def __init__(self, dimensions: int, width: int) -> None:
        super().__init__()
        layers = []
        for _ in range(2):
            layers += [
                nn.GroupNorm(groups(width), width),
                nn.SiLU(),
                CONVOLUTIONS[dimensions](width, width, 3, padding=1),
            ]
        self.layers = nn.Sequential(*layers)

    def forward(self, values: Tensor) -> Tensor:
        """(B, width, ...) to the same."""
        added: Tensor = self.layers(values)
        return values + added


class ResidualUNet(nn.Module):
    """From (B, `inputs`, ...) to (B, `outputs`, ...) of the same sides, which must halve len(widths) - 1 times."""

    def __init__(self, dimensions: int, inputs: int, widths: Sequence[int], blocks: int, outputs: int) -> None:
        super().__init__()
        convolution = CONVOLUTIONS[dimensions]

        def stage(width: int) -> nn.Sequential:
            return nn.Sequential(*(ResidualBlock(dimensions, width) for _ in range(blocks)))

        self.first = convolution(inputs, widths[0], 3, padding=1)
        self.down = nn.ModuleList(stage(width) for width in widths)
        self.halve = nn.ModuleList(convolution(fine, coarse, 2, stride=2) for fine, coarse in pairwise(widths))
        self.widen = nn.ModuleList(convolution(coarse, fine, 1) for fine, coarse in pairwise(widths))
        self.up = nn.ModuleList(stage(width) for width in widths[:-1])
        self.norm = nn.GroupNorm(groups(widths[0]), widths[0])
        self.last = convolution(widths[0], outputs, 3, padding=1)

    def forward(self, values: Tensor) -> Tensor:
        """Down to the coarsest resolution and back, with what was seen on the way down added."""
        return self.after_first(self.first(values))

    def after_first(self, values: Tensor) -> Tensor:
        """What becomes of the first convolution's result, (B, widths[0], ...)."""
        values = self.down[0](values)
        passed = []
        for halve, down in zip(self.halve, self.down[1:], strict=True):
            passed.append(values)
            values = down(halve(values))
        for widen, up in zip(reversed(self.widen), reversed(self.up), strict=True):
            # Widened before it is enlarged: the same values with an eighth of the work.
            values = up(F.interpolate(widen(values), scale_factor=2.0) + passed.pop())
        result: Tensor = self.last(F.silu(self.norm(values)))
        return result


def groups(width: int) -> int:
    """Into how many a GroupNorm divides so many channels."""
    return GROUPS if width % GROUPS == 0 else 1
