"""The large reconstruction model: a 2x2 grid of an object or of a part to its field (supplement A.1).

    views -> image encoder -> splatter -> refinement -> Field -> renderer

Pixels' features are splatted twice: as they are, which gives every cell the mean of what the views see there; then
through an MLP that is told this mean and the place, so that a pixel can differ along its ray and from the others. A
3D network then decides what the views together mean.

With `hull`, which is ours, the first channels of the lifted volume are those of the views' coloured visual hull, and
the untrained decoder hands them on: training starts at `pipeline.reconstruction.carving` instead of at nothing.

Shape suffixes: B objects, V views, N = B * V, H W pixels, R rays, C channels.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from pipeline.errors import UserError
from pipeline.folders import reading
from pipeline.params.reconstruction import ReconstructionParams
from pipeline.params.render import RenderParams
from pipeline.reconstruction.carving import CHANNELS, Carver, pass_on
from pipeline.reconstruction.field import Decoder, Field, mlp
from pipeline.reconstruction.rays import Rays, grid_rays, split_views, stacked, view_rays
from pipeline.reconstruction.renderer import Rendered, render
from pipeline.reconstruction.splatter import splat
from pipeline.reconstruction.unet import ResidualUNet
from pipeline.views.cameras import Camera


class LRM(ModelMixin, ConfigMixin):
    """The network; its camera is part of it, since it reads nothing but grids."""

    refinement_kind: ClassVar[type[ResidualUNet]] = ResidualUNet
    """Of the network on the lifted volume."""

    @register_to_config
    def __init__(
        self,
        *,
        view_size: int,
        fov_deg: float,
        distance: float,
        elevation_deg: float,
        volume: int,
        channels: int,
        mlp_layers: int,
        mlp_width: int,
        ray_harmonics: int,
        gain: float,
        opacity_bias: float,
        stride: int,
        encoder_widths: list[int],
        encoder_blocks: int,
        prior: int,
        refinement_widths: list[int],
        refinement_blocks: int,
        refinement_stride: int,
        hull: bool,
        splat_samples: int,
        samples: int,
        chunk_samples: int,
    ) -> None:
        super().__init__()
        least = stride * 2 ** (len(encoder_widths) - 1)
        if view_size % least:
            raise UserError(
                f"render.view_size is {view_size}; reconstruction.stride and encoder.widths need a multiple of {least}."
            )
        camera = Camera(fov_deg, distance, view_size // stride)
        self.rays = _GridRays(grid_rays(camera, elevation_deg))
        self.encoder = ResidualUNet(2, 3 * stride**2 + 6, encoder_widths, encoder_blocks, channels)
        self.place = nn.Parameter(torch.randn(1, channels, prior, prior, prior) * 0.1)
        self.lift = mlp(channels, mlp_width, channels, mlp_layers)
        self.refinement = self.refinement_kind(3, channels, refinement_widths, refinement_blocks, channels)
        for weight in self.refinement.last.parameters():  # it starts as the lifted volume
            nn.init.zeros_(weight)
        self.decoder = Decoder(channels, mlp_width, mlp_layers, ray_harmonics, gain, opacity_bias)
        self.carver = Carver(Camera(fov_deg, distance, view_size), elevation_deg, volume, gain) if hull else None
        if hull:
            pass_on(self.decoder)

    def volumes(self, grids_B3HW: Tensor) -> Tensor:
        """Feature volumes (B, C, D, H, W), float32, of grids (B, 3, 2H, 2W) in [0, 1] over white.

        UserError when the grids are not of the size that the model was made for.
        """
        lifted = self.lifted(grids_B3HW)
        return self.refined(lifted, self.coarse(lifted))

    def lifted(self, grids_B3HW: Tensor) -> Tensor:
        """The volumes before their refinement; as `volumes`."""
        config: Any = self.config
        side = 2 * config.view_size
        if grids_B3HW.shape[1:] != (3, side, side):
            raise UserError(
                f"A grid is {' x '.join(map(str, grids_B3HW.shape[1:]))}; this model reads 3 x {side} x {side}: "
                f"2x2 views of {config.view_size} px."
            )
        features_BRC = self._features(grids_B3HW * 2 - 1)
        # Sums over many samples, and what is computed again: in float32, whatever surrounds it.
        with _full_precision(grids_B3HW.device):
            rays, features_BRC = self.rays.of_objects(), features_BRC.float()
            options = (rays, config.splat_samples, config.volume)
            mean = splat(features_BRC, *options, chunk_samples=config.chunk_samples)
            place = F.interpolate(self.place, size=mean.shape[2:], mode="trilinear")
            lifted = splat(features_BRC, *options, self.lift, mean + place, config.chunk_samples)
            if self.carver is not None:
                lifted = torch.cat((self.carver.volumes(grids_B3HW.float()), lifted[:, CHANNELS:]), dim=1)
        return lifted

    def coarse(self, lifted: Tensor) -> Tensor:
        """Lifted volumes (B, C, D, H, W) as the refinement reads them, of fewer cells."""
        config: Any = self.config
        return F.avg_pool3d(lifted, config.refinement_stride)

    def refined(self, lifted: Tensor, *inputs: Tensor) -> Tensor:
        """Lifted volumes with what the refinement makes of its inputs added."""
        added = self.refinement(*inputs).float()
        return lifted + F.interpolate(added, size=lifted.shape[2:], mode="trilinear")

    def fields(self, grids_B3HW: Tensor) -> list[Field]:
        """The fields of grids (B, 3, 2H, 2W) in [0, 1]; see `volumes`."""
        return [Field(volume, self.decoder) for volume in self.volumes(grids_B3HW)]

    def forward(self, grids_B3HW: Tensor, rays_BR: Rays) -> Rendered:
        """What rays (B, R) see of each object over white: everything in `Rendered` with a first axis B."""
        config: Any = self.config
        whole = self.fields(grids_B3HW)
        with _full_precision(grids_B3HW.device):
            seen = [
                render([field], rays_BR[number], config.samples, chunk_samples=config.chunk_samples)
                for number, field in enumerate(whole)
            ]
        return Rendered(*(torch.stack([getattr(one, field.name) for one in seen]) for field in fields(Rendered)))

    def _features(self, grids_B3HW: Tensor) -> Tensor:
        """Of the views' pixels whose rays cross the objects' sphere, (B, R, C)."""
        config: Any = self.config
        views_NCHW = F.pixel_unshuffle(split_views(grids_B3HW).flatten(0, 1), config.stride)
        plucker_NCHW = self.rays.plucker_VCHW.to(views_NCHW.dtype).repeat(len(grids_B3HW), 1, 1, 1)
        features_NCHW = self.encoder(torch.cat((views_NCHW, plucker_NCHW), dim=1))
        features_BRC = features_NCHW.unflatten(0, (len(grids_B3HW), -1)).movedim(2, -1).flatten(1, 3)
        return features_BRC[:, self.rays.crossing]


def _full_precision(device: torch.device) -> AbstractContextManager[object]:
    """No autocast; the meta device has none."""
    return nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)


class _GridRays(nn.Module):
    """The rays of a grid's pixels, on the device of the module that holds them."""

    def __init__(self, rays_VHW: Rays) -> None:
        super().__init__()
        device = torch.get_default_device()
        moments = torch.linalg.cross(rays_VHW.origins, rays_VHW.directions)
        plucker_VCHW = torch.cat((rays_VHW.directions, moments), dim=-1).permute(0, 3, 1, 2)
        self.register_buffer("plucker_VCHW", plucker_VCHW.to(device), persistent=False)
        flat = rays_VHW.flat()
        crossing = (flat.far > flat.near).nonzero()[:, 0]
        self.register_buffer("crossing", crossing.to(device), persistent=False)
        for field in fields(Rays):
            self.register_buffer(field.name, getattr(flat, field.name)[crossing].to(device), persistent=False)

    plucker_VCHW: Tensor
    """Direction and moment of every ray."""
    crossing: Tensor
    """Numbers of the rays that cross the objects' sphere."""

    def of_objects(self) -> Rays:
        """Those rays, a list."""
        return Rays(*(getattr(self, field.name) for field in fields(Rays)))


def build_lrm(params: ReconstructionParams, render: RenderParams) -> LRM:
    """The network with random weights, for grids of `render`'s cameras; on torch's default device."""
    return LRM(
        view_size=render.view_size,
        fov_deg=render.fov_deg,
        distance=render.distance,
        elevation_deg=render.elevation_deg,
        encoder_widths=params.encoder.widths,
        encoder_blocks=params.encoder.blocks,
        refinement_widths=params.refinement.widths,
        refinement_blocks=params.refinement.blocks,
        **params.model_dump(exclude={"encoder", "refinement", "crop", "support_floor"}),
    )


def load_lrm(folder: Path, kind: type[LRM] = LRM) -> LRM:
    """The model of a folder, of this `kind`; UserError where there is none, or where it is damaged."""
    if not (folder / "config.json").is_file():
        raise UserError(
            f"{folder} holds no reconstruction model; run the stage `train_{folder.name}`, which trains it."
        )
    with reading(folder, "reconstruction model"):
        lrm: LRM = kind.from_pretrained(folder).float()
    return lrm


def example_inputs(
    params: ReconstructionParams, render: RenderParams, batch: int, device: torch.device | str, pieces: int = 1
) -> dict[str, Any]:
    """The arguments of a training step's forward pass: white grids, and `pieces` of one view for each object."""
    size, crop = render.view_size, min(params.crop, render.view_size)
    view = view_rays(Camera(render.fov_deg, render.distance, size), 45.0, render.elevation_deg, device)
    start = (size - crop) // 2
    piece = view[start : start + crop, start : start + crop]
    rays_BR = stacked([stacked([piece] * pieces).flat()] * batch)
    return {"grids_B3HW": torch.ones(batch, 3, 2 * size, 2 * size, device=device), "rays_BR": rays_BR}
