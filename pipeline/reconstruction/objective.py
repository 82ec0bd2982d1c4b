"""What the training loop minimises for the reconstruction model: errors of rendered colour and alpha.

Shape suffixes: B samples, R rays, V views, H W pixels of a view.
"""

from typing import Any

import torch
from torch import Tensor, nn

from pipeline.params.reconstruction import ReconstructionParams
from pipeline.reconstruction.drawn_objects import DrawnObjects, PosedViews, over_white
from pipeline.reconstruction.examples import Examples
from pipeline.reconstruction.lrm import LRM
from pipeline.reconstruction.rays import stacked, view_rays
from pipeline.reconstruction.renderer import render
from pipeline.reconstruction.views_objective import ALPHA_WEIGHT, ViewsObjective
from pipeline.views.cameras import Camera

FOREGROUND_WEIGHT = 1.0
"""How much more an error counts where the object is: without it, what is uncertain is drawn half transparent."""


class LRMObjective(ViewsObjective):
    """The loss of the reconstruction model over its training examples."""

    def __init__(
        self, model: LRM, examples: Examples, validation: DrawnObjects | None, params: ReconstructionParams
    ) -> None:
        super().__init__(examples, validation)
        self.module, self._params = model, params

    def loss(self, module: nn.Module, batch: dict[str, Any]) -> Tensor:
        """Squared error of colour over white, and of alpha, each the weighted mean over a sample's rays: (B,)."""
        seen = module(batch["grid"], batch["rays"])
        weight_BR = 1 + FOREGROUND_WEIGHT * batch["alpha"]
        weight_BR = weight_BR / weight_BR.sum(dim=1, keepdim=True)
        colour_BR = (seen.colour - batch["colour"]).square().mean(dim=2)
        alpha_BR = (seen.alpha - batch["alpha"]).square()
        loss_B: Tensor = (weight_BR * (colour_BR + ALPHA_WEIGHT * alpha_BR)).sum(dim=1)
        return loss_B

    @torch.no_grad()
    def draw(self, drawn: PosedViews) -> Tensor:
        """As of all objectives, reconstructed as at inference: what never reaches `support_floor` is empty."""
        config: Any = self.module.config
        device = self.module.device
        camera = Camera(config.fov_deg, config.distance, config.view_size)
        field = self.module.fields(over_white(drawn.grid)[0][None].to(device))[0].supported(self._params.support_floor)
        rays_VHW = stacked([view_rays(camera, *where) for where in zip(drawn.azimuths, drawn.elevations, strict=True)])
        seen = render([field], rays_VHW.flat().to(device), config.samples, chunk_samples=config.chunk_samples)
        return seen.colour.view(*rays_VHW.near.shape, 3).permute(0, 3, 1, 2).cpu()
