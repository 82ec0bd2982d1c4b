"""What the training loop minimises for the gaussians' model: as for the LRM, errors of drawn colour and alpha.

Shape suffixes: B samples, V views, H W pixels of a view.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.params.gaussians import GaussiansParams
from pipeline.reconstruction.drawn_objects import DrawnObjects, PosedViews, over_white
from pipeline.reconstruction.examples import ViewExamples
from pipeline.reconstruction.gaussians import Gaussians
from pipeline.reconstruction.pixel_gaussians import PixelGaussians, PixelSplats
from pipeline.reconstruction.splats import draw_views
from pipeline.reconstruction.views_objective import ALPHA_WEIGHT, ViewsObjective
from pipeline.views.cameras import camera_to_world

LEAST_SHOWN = 0.1
"""Errors are divided by the share of the pixels that show something, at least this, so that small parts count: as the
pieces of views that the LRM renders, which hold the object, are about a tenth of a view."""


class GaussiansObjective(ViewsObjective):
    """The loss of the gaussians' model over its training examples. Views are drawn as splats, whole."""

    def __init__(
        self, model: PixelGaussians, examples: ViewExamples, validation: DrawnObjects | None, params: GaussiansParams
    ) -> None:
        super().__init__(examples, validation)
        self.module, self._finer = model, params.finer

    def loss(self, module: nn.Module, batch: dict[str, Any]) -> Tensor:
        """Squared error of colour over white, and of alpha, over a sample's views: (B,)."""
        shown = self.module.shown(batch["grid"])
        found = self.module.gaussians(module(self.module.inputs(shown)), shown)
        losses = []
        for number, (gaussians, cameras) in enumerate(zip(found, batch["cameras"].tolist(), strict=True)):
            drawn_V4HW = self._drawn(gaussians, cameras)
            alpha_VHW = batch["alpha"][number]
            colour = (drawn_V4HW[:, :3] - batch["colour"][number]).square().mean()
            alpha = (drawn_V4HW[:, 3] - alpha_VHW).square().mean()
            losses.append((colour + ALPHA_WEIGHT * alpha) / (alpha_VHW > 0).float().mean().clamp(min=LEAST_SHOWN))
        return torch.stack(losses)

    @torch.no_grad()
    def draw(self, drawn: PosedViews) -> Tensor:
        """As of all objectives; of the gaussians themselves, as in training."""
        colour, alpha = over_white(drawn.grid)
        gaussians = PixelSplats(self.module).gaussians(torch.cat((colour, alpha[None])).to(self.module.device))
        return self._drawn(gaussians, list(zip(drawn.azimuths, drawn.elevations, strict=True)))[:, :3].cpu()

    def _drawn(self, gaussians: Gaussians, cameras: Sequence[Sequence[float]]) -> Tensor:
        """Views from these azimuths and elevations, (V, 4, H, W): colour over white, and alpha."""
        config: Any = self.module.config
        poses = [camera_to_world(azimuth, elevation, config.distance) for azimuth, elevation in cameras]
        size = config.view_size
        views = draw_views(gaussians, poses, config.fov_deg, size, self._finer * size)
        return torch.stack([torch.cat((view.colour_HW3.movedim(-1, 0), view.alpha_HW[None])) for view in views])
