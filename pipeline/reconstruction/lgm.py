"""LGM (Tang et al. 2024): its network, with the keys of its authors' weights, and our grids as it knows them.

A UNet over the four views, whose deepest blocks attend to all of them together, gives each pixel of its smaller output
a gaussian anywhere in the cube. Written from the paper and from what the published weights hold.

Shape suffixes: B grids, V views, N = B * V, or gaussians, L tokens of all views, C channels, H W pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.errors import UserError
from pipeline.reconstruction.gaussians import Gaussians
from pipeline.reconstruction.other_cameras import World, middles, normalised, plucker, wider_views
from pipeline.reconstruction.other_weights import load_into, read_weights, tensors_of
from pipeline.views.cameras import GRID_AZIMUTHS, Camera, camera_to_world

FOV_DEG, DISTANCE, SIZE = 49.1, 1.5, 256
"""Of the cameras and pictures that it was trained with."""
VIEWS, HEADS, GROUPS = 4, 16, 32
KEEP = 0.5**0.5
"""Factor of every sum of two branches."""
CHANNELS = 14
"""Of a gaussian: centre 3, opacity, scales 3, quaternion 4, colour 3."""
OLD = "model_fp16.safetensors"
"""Was trained with quaternions normalised along another axis, and draws wrong shapes; its keys are the same."""


@dataclass(frozen=True)
class Layout:
    """Sizes of a network, from fine to coarse and back; the last `attending` ways down and first up attend."""

    down: Sequence[int] = (64, 128, 256, 512, 1024, 1024)
    up: Sequence[int] = (1024, 1024, 512, 256, 128)
    attending: int = 3


BIG, SMALL = Layout(), Layout(up=(1024, 1024, 512, 256))
"""The published ones: `big` gives 128 x 128 gaussians a view, `small` 64 x 64."""


class _Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(GROUPS, inputs), nn.GroupNorm(GROUPS, outputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.shortcut = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, values: Tensor) -> Tensor:
        added = self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(values))))))
        result: Tensor = (added + self.shortcut(values)) * KEEP
        return result


class _Heads(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width)

    def forward(self, tokens_BLC: Tensor) -> Tensor:
        query, key, value = self.qkv(tokens_BLC).unflatten(2, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        result: Tensor = self.proj(attended)
        return result


class _Attention(nn.Module):
    """Over the pixels of all views together."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.attn = nn.GroupNorm(GROUPS, width), _Heads(width)

    def forward(self, values_NCHW: Tensor) -> Tensor:
        tokens = self.norm(values_NCHW).unflatten(0, (-1, VIEWS)).movedim(2, -1)
        attended = self.attn(tokens.flatten(1, 3)).view(tokens.shape).movedim(-1, 2).flatten(0, 1)
        result: Tensor = (attended + values_NCHW) * KEEP
        return result


class _Block(nn.Module):
    """Residual layers, each followed by attention where `attends`; `sampled` is the name of the layer at its end."""

    def __init__(self, inputs: Sequence[int], width: int, attends: bool, sampled: str = "") -> None:
        super().__init__()
        self.nets = nn.ModuleList(_Residual(channels, width) for channels in inputs)
        self.attns = nn.ModuleList(_Attention(width) for _ in inputs) if attends else None
        if sampled:
            self.add_module(sampled, nn.Conv2d(width, width, 3, stride=2 if sampled == "downsample" else 1, padding=1))

    def layer(self, number: int, values: Tensor) -> Tensor:
        """One residual layer, and its attention."""
        values = self.nets[number](values)
        return values if self.attns is None else self.attns[number](values)


class _Middle(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.nets = nn.ModuleList(_Residual(width, width) for _ in range(2))
        self.attns = nn.ModuleList([_Attention(width)])

    def forward(self, values: Tensor) -> Tensor:
        result: Tensor = self.nets[1](self.attns[0](self.nets[0](values)))
        return result


class _UNet(nn.Module):
    def __init__(self, layout: Layout) -> None:
        super().__init__()
        down, up = layout.down, layout.up
        self.conv_in = nn.Conv2d(9, down[0], 3, padding=1)
        self.down_blocks, self.up_blocks = nn.ModuleList(), nn.ModuleList()
        width = down[0]
        for number, wanted in enumerate(down):
            last, attends = number == len(down) - 1, number >= len(down) - layout.attending
            self.down_blocks.append(_Block((width, wanted), wanted, attends, "" if last else "downsample"))
            width = wanted
        self.mid_block = _Middle(width)
        width = up[0]
        for number, wanted in enumerate(up):
            # Of the layers that come in from the way down, the last one is a resolution finer, if there is one.
            finer = down[max(len(down) - 2 - number, 0)]
            inputs = (width + wanted, wanted + wanted, wanted + finer)
            last = number == len(up) - 1
            self.up_blocks.append(_Block(inputs, wanted, number < layout.attending, "" if last else "upsample"))
            width = wanted
        self.norm_out, self.conv_out = nn.GroupNorm(GROUPS, width), nn.Conv2d(width, CHANNELS, 3, padding=1)

    def forward(self, values: Tensor) -> Tensor:
        values = self.conv_in(values)
        passed = [values]
        for block in self.down_blocks:
            for number in range(len(block.nets)):
                values = block.layer(number, values)
                passed.append(values)
            if hasattr(block, "downsample"):
                values = block.downsample(values)
                passed.append(values)
        values = self.mid_block(values)
        for block in self.up_blocks:
            for number in range(len(block.nets)):
                values = block.layer(number, torch.cat((values, passed.pop()), dim=1))
            if hasattr(block, "upsample"):
                values = block.upsample(F.interpolate(values, scale_factor=2.0, mode="nearest"))
        result: Tensor = self.conv_out(F.silu(self.norm_out(values)))
        return result


class LGM(nn.Module):
    """From pictures and rays (B, 4, 9, H, W) to the values of gaussians (B, N, CHANNELS), view by view, row by row."""

    def __init__(self, layout: Layout = BIG) -> None:
        super().__init__()
        self.unet, self.conv = _UNet(layout), nn.Conv2d(CHANNELS, CHANNELS, 1)

    def forward(self, inputs_BV9HW: Tensor) -> Tensor:
        values_NCHW = self.conv(self.unet(inputs_BV9HW.flatten(0, 1)))
        result: Tensor = values_NCHW.unflatten(0, (-1, VIEWS)).movedim(2, -1).flatten(1, 3)
        return result


def gaussians_of(values_NC: Tensor) -> Gaussians:
    """What a network's values (N, CHANNELS) mean, in its own frame."""
    centres, opacity, scales, rotations, colours = values_NC.split((3, 1, 3, 4, 3), dim=1)
    return Gaussians(
        centres.clamp(-1, 1),
        opacity[:, 0].sigmoid(),
        0.1 * F.softplus(scales),
        F.normalize(rotations, dim=1),
        0.5 * colours.tanh() + 0.5,
    )


class LgmSplats:
    """Grids to gaussians in our frame.

    LGM knows views relative to the first one, which stands at (0, 0, DISTANCE) and looks along -z: with four views from
    20 degrees above, the object lies tilted in its frame, and is turned back.
    """

    def __init__(self, network: nn.Module, camera: Camera, elevation_deg: float) -> None:
        first = camera_to_world(GRID_AZIMUTHS[0], elevation_deg, camera.distance)
        self.network, self.camera = network, camera
        self.world = World(first[:3, :3].T, DISTANCE / camera.distance)
        self.rays_V6HW = plucker(self.world.poses(camera, elevation_deg), FOV_DEG, middles(SIZE))

    @torch.no_grad()
    def gaussians(self, grid_CHW: Tensor) -> Gaussians:
        """Of one grid (3 or 4, 2H, 2W) in [0, 1]."""
        views = normalised(wider_views(grid_CHW[None], self.camera, FOV_DEG, SIZE))
        values = self.network(torch.cat((views, self.rays_V6HW[None].to(views)), dim=2))[0]
        back = torch.from_numpy(self.world.rotation_33.T)
        return gaussians_of(values).turned(back, 1 / self.world.scale)


def load_lgm(path: Path) -> LGM:
    """The network with its authors' weights; UserError for any other file, and for the one that must not be used."""
    if path.name == OLD:
        raise UserError(
            f"{path} are the weights of LGM from before its quaternions were corrected, which draw wrong shapes; "
            "take model_fp16_fixrot.safetensors."
        )
    weights = tensors_of(read_weights(path, "lgm"), dropped=("lpips_loss.",))
    layout = BIG if any(key.startswith("unet.up_blocks.4.") for key in weights) else SMALL
    with torch.device("meta"):
        network = LGM(layout)
    load_into(network, weights, path, "LGM")
    return network
