"""How close four views come to four true ones: the figures of Tables 2 and 3."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

from pipeline.evaluation.image_metrics import StLpips, ssim
from pipeline.views.cameras import over_white, shown
from pipeline.views.psnr import psnr

CONVENTIONS: Mapping[str, str] = {
    "views": "measured one by one, over white; a figure of a part or an object is the mean of its four views",
    "foreground": "pixels of the target whose alpha exceeds 1/2",
    "PSNR": "dB, peak 1, of the foreground or of all pixels; views without foreground do not count for the former",
    "exact": "an infinite PSNR, of a view that equals its target, is left out of the mean; psnr_exact is the share of "
    "views whose foreground does",
    "SSIM": "Gaussian windows of sigma 1.5, mean over channels",
    "ST-LPIPS": "AlexNet of stlpips-pytorch 0.0.2, at the size of the views",
    "LPIPS": "version 0.1 with AlexNet, at the size of the views; null weights: not measured",
    "CLIP": "cosine similarity of the image embeddings; null weights: not measured",
}
"""What the figures depend on, as it is printed beside the tables; the paper publishes none of it."""

Measure = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Of pictures (N, H, W, 3) beside their targets, (N,)."""


class ViewMeasures:
    """All measures of pictures, with their networks."""

    def __init__(self, lpips: str | None, clip: str | None, device: torch.device | str = "cpu") -> None:
        """LPIPS and CLIP where the paths of their weights are given; UserError when these cannot be read."""
        self.measures: dict[str, Measure] = {"ssim": ssim, "st_lpips": StLpips(device)}
        if lpips is not None or clip is not None:
            from pipeline.evaluation.perceptual import ClipScore, Lpips  # transformers take seconds to import

            if lpips is not None:
                self.measures["lpips"] = Lpips(Path(lpips), device)
            if clip is not None:
                self.measures["clip"] = ClipScore(Path(clip), device)

    def __call__(self, views: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        """Figures of views (4, H, W, 3) in [0, 1] beside their targets (4, H, W, 4), uint8 with straight alpha.

        A PSNR that no view has as a finite value is missing, and so is `psnr_exact` when no view has foreground.
        """
        true, foreground = over_white(targets), shown(targets)
        of_foreground = psnr(views, true, foreground)
        figures = {name: float(measure(views, true).mean()) for name, measure in self.measures.items()}
        for name, values in (("psnr", psnr(views, true)), ("psnr_foreground", of_foreground)):
            if np.isfinite(values).any():
                figures[name] = float(values[np.isfinite(values)].mean())
        if foreground.any():
            figures["psnr_exact"] = float(np.isinf(of_foreground[~np.isnan(of_foreground)]).mean())
        return figures
