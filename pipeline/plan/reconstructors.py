"""Reconstruction models of others whose weights are named in the params: their size, and their work for one grid."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from pipeline.params.reconstruct import ReconstructParams
from pipeline.plan.trace import inference_flops
from pipeline.reconstruction.grm import GRM, read_layout
from pipeline.reconstruction.instantmesh import SIZE as INSTANT_SIZE
from pipeline.reconstruction.instantmesh import InstantMesh
from pipeline.reconstruction.instantmesh import Layout as InstantLayout
from pipeline.reconstruction.instantmesh_encoder import CAMERA_NUMBERS
from pipeline.reconstruction.lgm import LGM
from pipeline.reconstruction.lgm import SIZE as LGM_SIZE


@dataclass(frozen=True)
class Inference:
    """What a model needs that is not trained here."""

    name: str
    parameters: int
    flops: int
    """Of one grid, to gaussians or planes."""
    views: int
    """Pixels a side of the views that it reads."""

    @property
    def weights(self) -> int:
        """Bytes in float32, in which it is computed."""
        return 4 * self.parameters


def inferences(params: ReconstructParams) -> Iterator[Inference]:
    """Those of the published models that `params` names files for, at the size of their largest variant.

    GRM's sizes are in its file, which is read; UserError when that is not possible.
    """
    with torch.device("meta"):
        if params.lgm is not None:
            lgm = LGM()
            yield _inference("lgm", lgm, lambda: lgm(torch.empty(1, 4, 9, LGM_SIZE, LGM_SIZE)), LGM_SIZE)
        if params.instantmesh is not None:
            instant, side = InstantMesh(InstantLayout()), INSTANT_SIZE
            arguments = torch.empty(1, 4, 3, side, side), torch.empty(1, 4, CAMERA_NUMBERS)
            yield _inference("instantmesh", instant, lambda: instant.planes(*arguments), side)
    if params.grm is not None:
        layout = read_layout(Path(params.grm))[0]
        with torch.device("meta"):
            grm, side, read = GRM(layout), layout.size, layout.read_size
            views, rays = torch.empty(1, 4, 3, side, side), torch.empty(1, 4, 6, read, read)
            yield _inference("grm", grm, lambda: grm(views, rays), side)


def _inference(name: str, network: nn.Module, forward: Callable[[], object], views: int) -> Inference:
    return Inference(name, sum(weight.numel() for weight in network.parameters()), inference_flops(forward), views)
