"""From grids to fields, by one of two ways: the trained reconstruction model, or carving.

Shape suffixes: B grids, C channels of a colour, H W pixels of a grid.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from pipeline.errors import UserError
from pipeline.folders import reading
from pipeline.params.reconstruct import ReconstructParams
from pipeline.params.reconstruction import ReconstructionParams
from pipeline.reconstruction.carving import Carver, silhouettes
from pipeline.reconstruction.field import Field
from pipeline.reconstruction.lrm import LRM
from pipeline.reconstruction.rays import split_views
from pipeline.views.cameras import CAMERA_KEYS, Camera


class Reconstructor(Protocol):
    """What makes fields of grids."""

    samples: int
    """Samples of a ray that render its fields as finely as they are."""

    def fields(self, grids_BCHW: Tensor) -> list[Field]:
        """The fields of grids (B, 3 or 4, 2H, 2W), float32 in [0, 1]: RGB over white, and alpha where it is known.

        A grid that shows nothing gives a field that is empty everywhere. UserError when the grids are of another size
        than the reconstructor was made for, or hold values that are not finite.
        """


def find_reconstructor(
    params: ReconstructParams,
    reconstruction: ReconstructionParams,
    model: Path,
    settings: Mapping[str, Any],
    device: torch.device | str = "cpu",
) -> Reconstructor:
    """The one that `params` names, for grids on `device`.

    `model` is the folder of the trained reconstruction model. `settings` are those of the grids' renders, as in their
    manifest. UserError when the model is not trained, or was trained for other cameras.
    """
    if params.reconstructor == "carve":
        camera = Camera(settings["fov_deg"], settings["distance"], settings["view_size"])
        return Carving(camera, settings["elevation_deg"], params.carve_resolution)
    lrm = load_lrm(model)
    for key in CAMERA_KEYS:
        if lrm.config[key] != settings[key]:
            raise UserError(
                f"{model} was trained for {key} {lrm.config[key]:g}, but the grids have {settings[key]:g}; "
                "run the stage `train_lrm` again."
            )
    return Learned(lrm.to(device), reconstruction.support_floor)


class Carving:
    """The visual hull; see `pipeline.reconstruction.carving`."""

    def __init__(self, camera: Camera, elevation_deg: float, resolution: int) -> None:
        self.carver, self.size = Carver(camera, elevation_deg, resolution), camera.size
        self.samples = 3 * resolution // 2

    def fields(self, grids_BCHW: Tensor) -> list[Field]:
        """As `Reconstructor.fields`."""
        _check(grids_BCHW, self.size)
        return self.carver.fields(grids_BCHW)


class Learned:
    """The reconstruction model, without the haze of its softplus; it does not look at alpha."""

    def __init__(self, lrm: LRM, support_floor: float) -> None:
        config: Any = lrm.config
        self.lrm, self.support_floor = lrm.eval(), support_floor
        self.size, self.samples = config.view_size, config.samples

    @torch.no_grad()
    def fields(self, grids_BCHW: Tensor) -> list[Field]:
        """As `Reconstructor.fields`; UserError too when the model's own values are not finite."""
        _check(grids_BCHW, self.size)
        shown_B = silhouettes(split_views(grids_BCHW).flatten(0, 1)).unflatten(0, (-1, 4)).flatten(1).any(dim=1)
        made = iter(self.lrm.fields(grids_BCHW[shown_B, :3]) if shown_B.any() else ())
        return [
            next(made).checked("A reconstruction").supported(self.support_floor)
            if shown
            else Field.empty(self.lrm.decoder)
            for shown in shown_B.tolist()
        ]


def load_lrm(folder: Path) -> LRM:
    """The model of a folder; UserError where there is none, or where it is damaged."""
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder} holds no reconstruction model; run the stage `train_lrm`, which trains it.")
    with reading(folder, "reconstruction model"):
        lrm: LRM = LRM.from_pretrained(folder).float()
    return lrm


def _check(grids_BCHW: Tensor, size: int) -> None:
    channels, *sides = grids_BCHW.shape[1:]
    if channels not in (3, 4) or sides != [2 * size, 2 * size]:
        raise UserError(
            f"A grid is {' x '.join(map(str, grids_BCHW.shape[1:]))}; give 3 or 4 x {2 * size} x {2 * size}: "
            f"2x2 views of {size} px, in RGB or RGBA."
        )
    if not torch.isfinite(grids_BCHW).all():
        raise UserError("A grid holds values that are not finite; make it again.")
