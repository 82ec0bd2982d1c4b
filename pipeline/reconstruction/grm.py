"""GRM (Xu et al. 2024): its network, with the keys of its authors' weights, and our grids as it knows them.

A transformer over all views' patches, enlarged and read by five linear heads, gives each pixel a gaussian at a depth
along its ray. All sizes are in the file of its weights. Written from the paper and from what the published weights
hold; where the published model differs from the paper, it is followed, since the weights were trained so.

Shape suffixes: B grids, V views, N = B * V, L tokens of all views, C channels, H W pixels.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.errors import UserError
from pipeline.reconstruction.gaussians import Gaussians
from pipeline.reconstruction.other_cameras import World, plucker, wider_views
from pipeline.reconstruction.other_weights import load_into, read_weights, tensors_of
from pipeline.views.cameras import Camera

FOV_DEG, DISTANCE = 50.0, 2.7
"""Of the cameras that it was trained with."""
HEAD = 64
"""Width of an attention head."""
LEAST_WIDTH = 64
"""Of the tokens, which are halved with each enlargement."""
BLOCKS_UP = 2
"""After each enlargement."""
SHIFT = 2.0
"""That is taken from the opacity before its sigmoid."""
LEAST_OPACITY = 0.05
"""What is fainter is left out, as by its authors."""
HEADS = {"depth": 1, "feature": 3, "opacity": 1, "scaling": 3, "rotation": 4}
"""Values of a gaussian, by the names in the keys."""
Activation = Literal["exp", "softplus", "sigmoid"]


@dataclass(frozen=True)
class Layout:
    """What the settings in the file say."""

    size: int
    """Pixels a side of the views, and of the gaussians that are made of one."""
    patch: int
    width: int
    layers: int
    window: int | None = None
    """Tokens of a window of attention in the encoder; None for all together."""
    window_up: int | None = None
    """The same after an enlargement."""
    enlargements: int = 0
    halved: bool = False
    """Whether views are read at half their size."""
    activation: Activation = "exp"
    """Of the scales, with what is added to them, and their limit, before it."""
    offset: float = 0.0
    most: float = 0.0
    least_scale: float = 1.0
    """Of `sigmoid`."""
    most_scale: float = 1.0
    factor: float = 0.1
    """Of `softplus`."""

    @property
    def read_size(self) -> int:
        """Pixels a side that the network reads."""
        return self.size // 2 if self.halved else self.size


class _Mlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.c_fc, self.c_proj = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, values: Tensor) -> Tensor:
        inner = self.c_fc(values)
        result: Tensor = self.c_proj(inner * (1.702 * inner).sigmoid())
        return result


class _Block(nn.Module):
    """Attention within windows, which every second block shifts by half of one, and an MLP."""

    def __init__(self, width: int, window: int | None, shifted: bool) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, width // HEAD, batch_first=True)
        self.layernorm1, self.layernorm2, self.mlp = nn.LayerNorm(width), nn.LayerNorm(width), _Mlp(width)
        self.window, self.shift = window, (window or 0) // 2 if shifted else 0

    def forward(self, tokens_BLC: Tensor) -> Tensor:
        normed = self.layernorm1(tokens_BLC).roll(self.shift, dims=1)
        windows = normed.reshape(-1, self.window or normed.shape[1], normed.shape[2])
        attended = self.attn(windows, windows, windows, need_weights=False)[0].reshape(normed.shape)
        tokens_BLC = tokens_BLC + attended.roll(-self.shift, dims=1)
        result: Tensor = tokens_BLC + self.mlp(self.layernorm2(tokens_BLC))
        return result


class _Blocks(nn.Module):
    def __init__(self, width: int, layers: int, window: int | None) -> None:
        super().__init__()
        self.resblocks = nn.Sequential(*(_Block(width, window, number % 2 == 1) for number in range(layers)))

    def forward(self, tokens_BLC: Tensor) -> Tensor:
        result: Tensor = self.resblocks(tokens_BLC)
        return result


class _Encoder(nn.Module):
    def __init__(self, layout: Layout) -> None:
        super().__init__()
        width = layout.width
        self.conv = nn.Conv2d(9, width, layout.patch, stride=layout.patch, bias=False)
        self.positional_embedding = nn.Parameter(torch.zeros(1, (layout.read_size // layout.patch) ** 2, width))
        self.layernorm1, self.layernorm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.transformer = _Blocks(width, layout.layers, layout.window)

    def forward(self, inputs_BV9HW: Tensor) -> Tensor:
        patches_NLC = self.conv(inputs_BV9HW.flatten(0, 1)).flatten(2).mT + self.positional_embedding
        tokens_BLC = self.layernorm1(patches_NLC).unflatten(0, inputs_BV9HW.shape[:2]).flatten(1, 2)
        result: Tensor = self.layernorm2(self.transformer(tokens_BLC))
        return result


class _Enlarged(nn.Module):
    """Four tokens of each, as if all views' tokens together were one square picture, row by row."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.residual_fc = nn.Linear(inputs, 4 * outputs)

    def forward(self, tokens_BLC: Tensor) -> Tensor:
        side = math.isqrt(tokens_BLC.shape[1])
        square = self.residual_fc(tokens_BLC).mT.unflatten(2, (side, side))
        return F.pixel_shuffle(square, 2).flatten(2).mT


class _Upsampler(nn.Module):
    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.stages, width = layout.enlargements, layout.width
        for number in range(self.stages):
            narrower = max(width // 2, LEAST_WIDTH) // HEAD * HEAD
            self.add_module(f"upsampler_{number}", _Enlarged(width, narrower))
            self.add_module(f"attention_{number}", _Blocks(narrower, BLOCKS_UP, layout.window_up))
            width = narrower
        self.width, self.layernorm2 = width, nn.LayerNorm(width)

    def forward(self, tokens_BLC: Tensor) -> Tensor:
        for number in range(self.stages):
            enlarged = getattr(self, f"upsampler_{number}")(tokens_BLC)
            tokens_BLC = getattr(self, f"attention_{number}")(enlarged)
        result: Tensor = self.layernorm2(tokens_BLC)
        return result


class _Visual(nn.Module):
    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.layout, width = layout, layout.width
        self.transformer_encoder = _Encoder(layout)
        if layout.enlargements:
            self.gaussian_upsampler = _Upsampler(layout)
            width = self.gaussian_upsampler.width
        self.side = layout.read_size // (layout.patch >> layout.enlargements)
        self.ratio = layout.size // self.side
        for name, count in HEADS.items():
            self.add_module(f"out_layer_{name}", nn.Conv2d(width, count * self.ratio**2, 1, bias=False))

    def forward(self, views_BV3HW: Tensor, rays_BV6HW: Tensor) -> dict[str, Tensor]:
        shape = views_BV3HW.shape[:2]
        if self.layout.halved:
            small = F.interpolate(views_BV3HW.flatten(0, 1), scale_factor=0.5, mode="bilinear")
            views_BV3HW = small.unflatten(0, shape)
        tokens_BLC = self.transformer_encoder(torch.cat((views_BV3HW, rays_BV6HW), dim=2))
        if self.layout.enlargements:
            tokens_BLC = self.gaussian_upsampler(tokens_BLC)
        features_NCHW = tokens_BLC.reshape(shape.numel(), self.side, self.side, -1).movedim(-1, 1)
        found = {}
        for name in HEADS:
            values_NCHW = F.pixel_shuffle(getattr(self, f"out_layer_{name}")(features_NCHW), self.ratio)
            found[name] = values_NCHW.unflatten(0, shape).movedim(2, -1)
        return found


class GRM(nn.Module):
    """From views (B, V, 3, H, W) in [-1, 1] and rays of the size that is read to maps (B, V, H, W, values)."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.layout, self.visual_encoder = layout, _Visual(layout)

    def forward(self, views_BV3HW: Tensor, rays_BV6HW: Tensor) -> dict[str, Tensor]:
        result: dict[str, Tensor] = self.visual_encoder(views_BV3HW, rays_BV6HW)
        return result


def gaussians_of(maps: Mapping[str, Tensor], poses_V44: np.ndarray, layout: Layout) -> Gaussians:
    """What maps (V, H, W, values) mean, in the network's world, seen from poses of our convention.

    A pixel j of W looks through j / (W - 1) of the picture's side, from border to border.
    """
    like = maps["depth"]
    pose_V44 = torch.from_numpy(poses_V44).to(like)
    depth_VHW1 = maps["depth"] + pose_V44[:, :3, 3].norm(dim=1)[:, None, None, None]
    slope = torch.linspace(-1, 1, layout.size).to(like) * math.tan(math.radians(FOV_DEG) / 2)
    down, right = torch.meshgrid(slope, slope, indexing="ij")
    local_VHW3 = torch.stack((right, -down, -torch.ones_like(down)), dim=-1) * depth_VHW1
    centres = torch.einsum("vij,vhwj->vhwi", pose_V44[:, :3, :3], local_VHW3) + pose_V44[:, None, None, :3, 3]
    raw = maps["scaling"]
    if layout.activation == "exp":
        scales = (raw + layout.offset).clamp(max=layout.most).exp()
    elif layout.activation == "softplus":
        scales = F.softplus(raw.clamp(max=layout.most)) * layout.factor
    else:
        scales = layout.least_scale + (layout.most_scale - layout.least_scale) * raw.sigmoid()
    return Gaussians(
        centres.flatten(0, 2),
        (maps["opacity"] - SHIFT).sigmoid().flatten(),
        scales.flatten(0, 2),
        F.normalize(maps["rotation"], dim=-1).flatten(0, 2),
        maps["feature"].sigmoid().flatten(0, 2),
    )


class GrmSplats:
    """Grids to gaussians in our frame. Its views stand at azimuths 225, 315, 45 and 135 degrees, +Z up."""

    def __init__(self, network: nn.Module, layout: Layout, camera: Camera, elevation_deg: float) -> None:
        self.network, self.layout, self.camera = network, layout, camera
        half = 0.5**0.5
        turn = np.array([[half, 0.0, -half], [-half, 0, -half], [0, 1, 0]])
        self.world = World(turn, DISTANCE / camera.distance)
        self.poses_V44 = self.world.poses(camera, elevation_deg)
        # The rays that it was trained with begin at the picture's middle and end at twice its half: kept as they are.
        share = np.linspace(0.0, 1.0, layout.read_size)
        self.rays_V6HW = plucker(self.poses_V44, FOV_DEG, share)

    @torch.no_grad()
    def gaussians(self, grid_CHW: Tensor) -> Gaussians:
        """Of one grid (3 or 4, 2H, 2W) in [0, 1]."""
        views = wider_views(grid_CHW[None], self.camera, FOV_DEG, self.layout.size) * 2 - 1
        maps = self.network(views, self.rays_V6HW[None].to(views))
        found = gaussians_of({name: values[0] for name, values in maps.items()}, self.poses_V44, self.layout)
        found = found[(found.centres_N3.abs().amax(dim=1) < 1) & (found.opacities_N > LEAST_OPACITY)]
        return found.turned(torch.from_numpy(self.world.rotation_33.T), 1 / self.world.scale)


def layout_of(settings: Mapping[str, Any]) -> Layout:
    """Of the settings in the file; KeyError, TypeError or ValueError where they say too little."""
    visual, drawn = settings["visual"]["params"], settings["render"]["params"]
    activation = visual.get("scaling_activation_type", "sigmoid")
    if activation not in get_args(Activation) or drawn.get("scaling_activation_type", "exp") != activation:
        raise ValueError(f"scaling_activation_type {activation!r}")
    return Layout(
        size=int(visual["input_res"]),
        patch=int(visual["patch_size"]),
        width=int(visual["width"]),
        layers=int(visual["layers"]),
        window=visual.get("bwindow_size"),
        window_up=visual.get("window_size"),
        enlargements=int(visual.get("decoder_ratio", 0)),
        halved=bool(visual.get("half_res_input", False)),
        activation=activation,
        offset=float(visual.get("scale_offset", 0)),
        most=float(visual.get("scale_max", 0)),
        least_scale=float(drawn.get("scale_min_act", 1)),
        most_scale=float(drawn.get("scale_max_act", 1)),
        factor=float(drawn.get("scale_multi_act", 0.1)),
    )


def read_layout(path: Path) -> tuple[Layout, dict[str, Any]]:
    """What a file's settings say, and all that is in it; UserError for any other file."""
    found = read_weights(path, "grm")
    try:
        return layout_of(found["config"]["model_config"]), found
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{path} is no GRM: its settings cannot be read ({type(error).__name__}: {error}); name another file."
        ) from None


def load_grm(path: Path) -> GRM:
    """The network with its authors' weights; UserError for any other file."""
    layout, found = read_layout(path)
    held = {key.removeprefix("module."): value for key, value in found.get("model", {}).items()}
    with torch.device("meta"):
        network = GRM(layout)
    load_into(network, tensors_of(held, dropped=("gs_renderer.",)), path, "GRM")
    return network
