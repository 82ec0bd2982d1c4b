"""Models of others as reconstructors, one grid at a time; their gaussians are kept for those who want them.

Shape suffixes: B grids, C channels, H W pixels of a grid.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from pipeline.params.reconstruct import ReconstructParams
from pipeline.reconstruction.baking import bake_gaussians
from pipeline.reconstruction.carving import hull_decoder
from pipeline.reconstruction.field import Field
from pipeline.reconstruction.gaussians import Gaussians
from pipeline.reconstruction.grids import check_grids, shown_grids
from pipeline.reconstruction.grm import GrmSplats, load_grm
from pipeline.reconstruction.instantmesh import InstantMeshFields, load_instantmesh
from pipeline.reconstruction.lgm import LgmSplats, load_lgm
from pipeline.reconstruction.other_cameras import SMALL_VIEW
from pipeline.views.cameras import Camera


class Splats(Protocol):
    """What makes gaussians of one grid (3 or 4, 2H, 2W), in our frame."""

    def gaussians(self, grid_CHW: Tensor) -> Gaussians: ...


class OneByOne:
    """Fields of grids that a function makes, one after the other."""

    def __init__(self, made: Callable[[Tensor], Field], size: int, resolution: int) -> None:
        self.made, self.size, self.samples = made, size, 3 * resolution // 2

    def fields(self, grids_BCHW: Tensor, whole_CHW: Tensor | None = None) -> list[Field]:
        """As `Reconstructor.fields`."""
        check_grids(grids_BCHW, self.size)
        empty = Field.empty(hull_decoder(1.0, grids_BCHW.device))
        shown = shown_grids(grids_BCHW).tolist()
        return [
            self.made(grid_CHW).checked("A reconstruction") if some else empty
            for grid_CHW, some in zip(grids_BCHW, shown, strict=True)
        ]


class Splatted(OneByOne):
    """Fields of gaussians."""

    def __init__(self, splats: Splats, size: int, resolution: int) -> None:
        self.gaussians = splats.gaussians
        super().__init__(lambda grid: bake_gaussians(splats.gaussians(grid), resolution), size, resolution)


def find_other(params: ReconstructParams, camera: Camera, elevation_deg: float, device: torch.device | str) -> OneByOne:
    """LGM, InstantMesh or GRM with the weights that `params` names; UserError where these are not theirs."""
    name, path, resolution = params.reconstructor, Path(params.weights or ""), params.bake_resolution
    if camera.size < SMALL_VIEW:
        print(
            f"{name}: views of {camera.size} px are enlarged, and the results say little of the model; "
            f"give views of at least 256 px (render.view_size).",
            file=sys.stderr,
        )
    if name == "instantmesh":
        networks = load_instantmesh(path).to(device)
        return OneByOne(InstantMeshFields(networks, camera, elevation_deg, resolution).field, camera.size, resolution)
    splats: Splats
    if name == "lgm":
        splats = LgmSplats(load_lgm(path).to(device), camera, elevation_deg)
    else:
        grm = load_grm(path).to(device)
        splats = GrmSplats(grm, grm.layout, camera, elevation_deg)
    return Splatted(splats, camera.size, resolution)
