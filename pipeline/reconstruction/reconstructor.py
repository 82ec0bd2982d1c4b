"""From grids to fields: the reconstructors, all by one small interface.

What follows, from pictures and meshes to edits and evaluation, knows of fields alone.

Shape suffixes: B grids, C channels of a colour, H W pixels of a grid.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from pipeline.errors import UserError
from pipeline.params.reconstruct import ReconstructParams
from pipeline.params.reconstruction import ReconstructionParams
from pipeline.reconstruction.carving import Carver
from pipeline.reconstruction.command import Command
from pipeline.reconstruction.field import Field
from pipeline.reconstruction.grids import check_grids, shown_grids
from pipeline.reconstruction.joint_lrm import JointLRM, load_joint_lrm
from pipeline.reconstruction.lrm import LRM, load_lrm
from pipeline.reconstruction.others import Splatted, find_other
from pipeline.reconstruction.pixel_gaussians import PixelSplats, load_gaussians_model
from pipeline.views.cameras import CAMERA_KEYS, Camera

BATCH = 8
"""Grids that the reconstruction model makes at once; but for rounding the results do not depend on it."""


class Reconstructor(Protocol):
    """What makes fields of grids."""

    samples: int
    """Samples of a ray that render its fields as finely as they are."""

    def fields(self, grids_BCHW: Tensor, whole_CHW: Tensor | None = None) -> list[Field]:
        """The fields of grids (B, 3 or 4, 2H, 2W), float32 in [0, 1]: RGB over white, and alpha where it is known.

        They are of the parts of one object, or of one thing alone. `whole_CHW`, likewise, is the object's own grid
        where it is known; all but `lrm_joint` make each grid by itself and do not look at it.

        A grid that shows nothing gives a field that is empty everywhere. UserError when the grids are of another size
        than the reconstructor was made for, or hold values that are not finite.
        """


def find_reconstructor(
    params: ReconstructParams,
    reconstruction: ReconstructionParams,
    models: Path,
    settings: Mapping[str, Any],
    device: torch.device | str = "cpu",
) -> Reconstructor:
    """The one that `params` names, for grids on `device`.

    `models` is the folder of trained models. `settings` are those of the grids' renders, as in their manifest.
    UserError when the model is not there, is damaged, or was trained for other cameras.
    """
    camera = Camera(settings["fov_deg"], settings["distance"], settings["view_size"])
    elevation_deg, resolution = settings["elevation_deg"], params.bake_resolution
    if params.reconstructor == "carve":
        return Carving(camera, elevation_deg, params.carve_resolution)
    if params.reconstructor == "command":
        return Command(params.command or (), params.command_timeout_s, camera, elevation_deg, resolution)
    if params.weights is not None:
        return find_other(params, camera, elevation_deg, device)
    model = models / params.reconstructor
    if params.reconstructor == "gaussians":
        gaussians = load_gaussians_model(model)
        check_cameras(model, gaussians.config, settings)
        return Splatted(PixelSplats(gaussians.to(device).eval()), camera.size, resolution)
    kind, load = (LearnedTogether, load_joint_lrm) if params.reconstructor == "lrm_joint" else (Learned, load_lrm)
    lrm = load(model)
    check_cameras(model, lrm.config, settings)
    return kind(lrm.to(device), reconstruction.support_floor)


class Carving:
    """The visual hull; see `pipeline.reconstruction.carving`."""

    def __init__(self, camera: Camera, elevation_deg: float, resolution: int) -> None:
        self.carver, self.size = Carver(camera, elevation_deg, resolution), camera.size
        self.samples = 3 * resolution // 2

    def fields(self, grids_BCHW: Tensor, whole_CHW: Tensor | None = None) -> list[Field]:
        """As `Reconstructor.fields`."""
        check_grids(grids_BCHW, self.size)
        return self.carver.fields(grids_BCHW)


class Learned:
    """The reconstruction model, without the haze of its softplus; it does not look at alpha."""

    def __init__(self, lrm: LRM, support_floor: float) -> None:
        config: Any = lrm.config
        self.lrm, self.support_floor = lrm.eval(), support_floor
        self.size, self.samples = config.view_size, config.samples

    @torch.no_grad()
    def fields(self, grids_BCHW: Tensor, whole_CHW: Tensor | None = None) -> list[Field]:
        """As `Reconstructor.fields`; UserError too when the model's own values are not finite."""
        check_grids(grids_BCHW, self.size)
        shown_B = shown_grids(grids_BCHW)
        made = iter(self._made(grids_BCHW[shown_B, :3], whole_CHW) if shown_B.any() else ())
        return [
            next(made).checked("A reconstruction").supported(self.support_floor)
            if shown
            else Field.empty(self.lrm.decoder)
            for shown in shown_B.tolist()
        ]

    def _made(self, grids_B3HW: Tensor, whole_CHW: Tensor | None) -> list[Field]:
        return [field for some in grids_B3HW.split(BATCH) for field in self.lrm.fields(some)]


class LearnedTogether(Learned):
    """The joint reconstruction model: a part's field depends on the grids of the object's other parts and its own."""

    lrm: JointLRM

    def _made(self, grids_B3HW: Tensor, whole_CHW: Tensor | None) -> list[Field]:
        return self.lrm.fields(grids_B3HW, None if whole_CHW is None else whole_CHW[:3])


def check_cameras(model: Path, config: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """UserError when the model in a folder was trained for other cameras than those of the grids."""
    for key in CAMERA_KEYS:
        if config[key] != settings[key]:
            raise UserError(
                f"{model} was trained for {key} {config[key]:g}, but the grids have {settings[key]:g}; "
                f"run the stage `train_{model.name}` again."
            )
