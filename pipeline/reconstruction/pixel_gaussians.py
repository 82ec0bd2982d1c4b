"""A model of our own that gives every pixel of four views a gaussian, in the manner of LGM and GRM, trained here.

A UNet, whose coarse resolutions see all views, says for each pixel of a view where along its ray a gaussian lies, how
opaque it is, and its size, rotation and colour. Pixels outside the silhouettes have none. Untrained, it puts round
gaussians of the pixels' own colours on the front of the silhouettes' visual hull, so training starts there, as that of
the LRM does; without the hull it puts them in the middle of the rays' way through the objects' bounding sphere.

Shape suffixes: B grids, V views, N = B * V, H W pixels, C channels, M gaussians of a view.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from pipeline.errors import UserError
from pipeline.folders import reading
from pipeline.params.gaussians import GaussiansParams
from pipeline.params.render import RenderParams
from pipeline.reconstruction.carving import COLOUR_LOGIT, Carver, silhouettes, spread_values
from pipeline.reconstruction.gaussians import Gaussians, joined
from pipeline.reconstruction.rays import Rays, grid_rays, split_views
from pipeline.reconstruction.views_unet import ViewsUNet
from pipeline.views.cameras import GRID_AZIMUTHS, Camera, camera_to_world

VALUES = {"distance": 1, "offset": 3, "opacity": 1, "scales": 3, "rotation": 4, "colour": 3}
"""Channels of what the network says of a gaussian."""
SHOWN = 6
"""Channels of a pixel beside its ray: colour 3, silhouette, and the least and the largest distance."""
RAY = 6
"""Plücker coordinates of a pixel of the network: direction and moment."""
OPACITY_START = 3.0
"""Logit of an untrained gaussian's opacity, which is 95 %."""
SCALE_START = 0.6
"""Of an untrained gaussian, in pixels: neighbours overlap, and edges stay sharp."""
MOST_OFFSET = 1.0
"""Beside its ray, along each axis of its view, in pixels."""


@dataclass(frozen=True)
class Shown:
    """What is known of grids before any network has seen them."""

    colour_BV3HW: Tensor
    """In [0, 1], without the white that fills the rest of a pixel at the outline."""
    outline_BVHW: Tensor
    """How much of a pixel the object covers, in [0, 1]."""
    ends_B3VHW: Tensor
    """Distances of gaussians from the camera: the least, the largest, and between them that of an untrained one."""


class PixelGaussians(ModelMixin, ConfigMixin):
    """The network; its camera is part of it, since it reads nothing but grids."""

    @register_to_config
    def __init__(
        self,
        *,
        view_size: int,
        fov_deg: float,
        distance: float,
        elevation_deg: float,
        stride: int,
        widths: list[int],
        blocks: int,
        attention: list[bool],
        head_channels: int,
        hull: int,
        least_scale: float,
        most_scale: float,
    ) -> None:
        super().__init__()
        least = stride * 2 ** (len(widths) - 1)
        if view_size % least:
            raise UserError(
                f"render.view_size is {view_size}; gaussians.stride and gaussians.unet need a multiple of {least}."
            )
        camera = Camera(fov_deg, distance, view_size)
        self.carver = Carver(camera, elevation_deg, hull) if hull else None
        poses = [camera_to_world(azimuth, elevation_deg, distance) for azimuth in GRID_AZIMUTHS]
        self.poses = [(torch.from_numpy(pose[:3, :3]).float(), tuple(pose[:3, 3].tolist())) for pose in poses]
        self.rays = _PixelRays(grid_rays(camera, elevation_deg), self.poses[0][0], stride)
        self.pixel = 2 * math.tan(math.radians(fov_deg) / 2) / view_size
        outputs = sum(VALUES.values()) * stride**2
        self.network = ViewsUNet(SHOWN * stride**2 + RAY, widths, blocks, outputs, attention, head_channels)
        for weight in self.network.last.parameters():  # it starts as what is said above
            nn.init.zeros_(weight)

    @torch.no_grad()
    def shown(self, grids_BCHW: Tensor) -> Shown:
        """Of grids in [0, 1], RGB over white and, where it is known, alpha.

        UserError when the grids are not of the size that the model was made for.
        """
        config: Any = self.config
        side = 2 * config.view_size
        if grids_BCHW.shape[1] not in (3, 4) or grids_BCHW.shape[2:] != (side, side):
            raise UserError(
                f"A grid is {' x '.join(map(str, grids_BCHW.shape[1:]))}; this model reads 3 or 4 x {side} x {side}: "
                f"2x2 views of {config.view_size} px."
            )
        views_BVCHW = split_views(grids_BCHW.float())
        outline_BVHW = torch.stack([silhouettes(views_VCHW) for views_VCHW in views_BVCHW])
        white_BV1HW = (1 - outline_BVHW)[:, :, None]
        colour_BV3HW = (views_BVCHW[:, :, :3] - white_BV1HW) / outline_BVHW[:, :, None].clamp(min=1e-3)
        ends = torch.stack([self._ends(outline_VHW) for outline_VHW in outline_BVHW])
        return Shown(colour_BV3HW.clamp(0, 1), outline_BVHW, ends)

    def _ends(self, outline_VHW: Tensor) -> Tensor:
        near_VHW, far_VHW = self.rays.near, self.rays.far
        whole = torch.stack((near_VHW, far_VHW, (near_VHW + far_VHW) / 2))
        if self.carver is None:
            return whole
        cell, ends = self.carver.cell, []
        for view, (front_HW, back_HW) in enumerate(self.carver.span(outline_VHW).unbind(dim=1)):
            known_HW = ~front_HW.isnan()
            hull_3HW = torch.stack((front_HW - cell, back_HW + cell, front_HW))
            # Rays that just miss it, at the outlines, have the ends of the nearest one that does not.
            ends.append(spread_values(hull_3HW, known_HW) if known_HW.any() else whole[:, view])
        return torch.stack(ends, dim=1)

    def inputs(self, shown: Shown) -> Tensor:
        """What the network reads of them, (B, V, C, H, W), about -1 to 1."""
        near_VHW, length_VHW = self.rays.near, (self.rays.far - self.rays.near).clamp(min=1e-3)
        ends_B2VHW = (2 * (shown.ends_B3VHW[:, :2] - near_VHW) / length_VHW - 1).clamp(-1, 1)
        ends_BV2HW = ends_B2VHW.transpose(1, 2) * (shown.outline_BVHW > 0)[:, :, None]
        white_BV1HW = (1 - shown.outline_BVHW)[:, :, None]
        colour_BV3HW = shown.colour_BV3HW * shown.outline_BVHW[:, :, None] + white_BV1HW
        pixels = torch.cat((2 * colour_BV3HW - 1, 1 - 2 * white_BV1HW, ends_BV2HW), dim=2)
        config: Any = self.config
        coarse = F.pixel_unshuffle(pixels, config.stride)
        return torch.cat((coarse, self.rays.plucker.expand(len(coarse), -1, -1, -1, -1)), dim=2)

    def forward(self, inputs_BVCHW: Tensor) -> Tensor:
        """The values of all pixels, (B, V, C, H, W) with the channels of VALUES."""
        config: Any = self.config
        values_NCHW = F.pixel_shuffle(self.network(inputs_BVCHW.flatten(0, 1)), config.stride)
        return values_NCHW.unflatten(0, inputs_BVCHW.shape[:2])

    def gaussians(self, values_BVCHW: Tensor, shown: Shown) -> list[Gaussians]:
        """What a network's values mean, for each grid, in its scene; differentiable in the values."""
        found = []
        for number, values_VCHW in enumerate(values_BVCHW.float()):
            of_views = []
            for view, (rotation_33, position) in enumerate(self.poses):
                which_HW = shown.outline_BVHW[number, view] > 0
                values_MC = values_VCHW[view][:, which_HW].t()
                colour_M3 = shown.colour_BV3HW[number, view][:, which_HW].t()
                ends_3M = shown.ends_B3VHW[number, :, view][:, which_HW]
                covered_M = shown.outline_BVHW[number, view][which_HW]
                local = self._local(values_MC, self.rays.local[which_HW], ends_3M, covered_M, colour_M3)
                of_views.append(local.turned(rotation_33, 1.0).placed(position, 1.0))
            found.append(joined(of_views))
        return found

    def _local(
        self, values_MC: Tensor, rays_M3: Tensor, ends_3M: Tensor, covered_M: Tensor, colour_M3: Tensor
    ) -> Gaussians:
        """Of one view's pixels, in its camera's frame."""
        config: Any = self.config
        distance, offset, opacity, scales, rotation, colour = values_MC.split(list(VALUES.values()), dim=1)
        least_M, most_M, start_M = ends_3M
        share_M = ((start_M - least_M) / (most_M - least_M).clamp(min=1e-6)).clamp(0.01, 0.99)
        distance_M1 = (least_M + (most_M - least_M) * (distance[:, 0] + share_M.logit()).sigmoid())[:, None]
        pixel_M1 = self.pixel * distance_M1.detach()
        room = math.log(config.most_scale / config.least_scale)
        start = min(max(math.log(SCALE_START / config.least_scale) / room, 0.01), 0.99)
        pixels_M3 = config.least_scale * torch.exp(room * (scales + math.log(start / (1 - start))).sigmoid())
        limit = 1 / (1 + math.exp(COLOUR_LOGIT))
        return Gaussians(
            distance_M1 * rays_M3 + MOST_OFFSET * pixel_M1 * offset.tanh(),
            covered_M * (opacity[:, 0] + OPACITY_START).sigmoid(),
            pixel_M1 * pixels_M3,
            F.normalize(rotation + rotation.new_tensor([1.0, 0.0, 0.0, 0.0]), dim=1),
            (colour_M3.clamp(limit, 1 - limit).logit() + colour).sigmoid(),
        )


class PixelSplats:
    """Grids to gaussians by a network."""

    def __init__(self, model: PixelGaussians) -> None:
        self.model = model

    @torch.no_grad()
    def gaussians(self, grid_CHW: Tensor) -> Gaussians:
        """Of one grid (3 or 4, 2H, 2W) in [0, 1]."""
        shown = self.model.shown(grid_CHW[None])
        return self.model.gaussians(self.model(self.model.inputs(shown)), shown)[0]


class _PixelRays(nn.Module):
    """The rays of a grid's pixels, on the device of the module that holds them."""

    def __init__(self, rays_VHW: Rays, first_33: Tensor, stride: int) -> None:
        """`first_33` is the rotation of the first view's camera."""
        super().__init__()
        moments = torch.linalg.cross(rays_VHW.origins, rays_VHW.directions)
        plucker_V6HW = torch.cat((rays_VHW.directions, moments), dim=-1).permute(0, 3, 1, 2)
        buffers = {
            "plucker": F.avg_pool2d(plucker_V6HW, stride),
            "near": rays_VHW.near,
            "far": rays_VHW.far,
            "local": rays_VHW.directions[0] @ first_33,
        }
        for name, values in buffers.items():
            self.register_buffer(name, values.to(torch.get_default_device()), persistent=False)

    plucker: Tensor
    """Direction and moment of the network's pixels, (V, 6, H, W)."""
    near: Tensor
    far: Tensor
    """Where each crosses the objects' sphere, (V, H, W)."""
    local: Tensor
    """Directions in the frame of their camera, (H, W, 3), the same for all views."""


def build_gaussians(params: GaussiansParams, render: RenderParams) -> PixelGaussians:
    """The network with random weights, for grids of `render`'s cameras; on torch's default device."""
    return PixelGaussians(
        view_size=render.view_size,
        fov_deg=render.fov_deg,
        distance=render.distance,
        elevation_deg=render.elevation_deg,
        widths=params.unet.widths,
        blocks=params.unet.blocks,
        **params.model_dump(exclude={"unet", "finer"}),
    )


def load_gaussians_model(folder: Path) -> PixelGaussians:
    """The model of a folder; UserError where there is none, or where it is damaged."""
    if not (folder / "config.json").is_file():
        raise UserError(
            f"{folder} holds no model of gaussians; take that of weights/nano (--models weights/nano), or train one by "
            "`partgen stage train_gaussians`."
        )
    with reading(folder, "model of gaussians"):
        model: PixelGaussians = PixelGaussians.from_pretrained(folder).float()
    return model
