"""Measures of pictures against their targets.

Pictures are (..., H, W, 3) floats in [0, 1], over white as everywhere; views are measured one by one, and never a grid
as one picture, unless the caller hands it over as one.
"""

from pathlib import Path

import numpy as np
import torch
from skimage.metrics import structural_similarity
from torch import nn

from pipeline.errors import UserError

SMALLEST_PX = 22
"""Pictures below this have no pixels left in ST-LPIPS' deepest layers."""


def ssim(pictures: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Structural similarity of each of N pictures, (N,), 1 for equal ones; they have at least 11 pixels a side.

    As Wang et al. 2004: windows weighted by a Gaussian of sigma 1.5; the mean over channels.
    """
    options = dict(channel_axis=-1, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
    pairs = zip(pictures, targets, strict=True)
    return np.array([structural_similarity(picture, target, **options) for picture, target in pairs])


class StLpips:
    """ST-LPIPS (Ghildyal and Liu, ECCV 2022): a perceptual distance that small shifts hardly move; 0 for equal ones.

    Its AlexNet comes with the package `stlpips-pytorch`. It was made with pictures of 64 pixels a side, so views of
    that size are measured as they are; values of pictures of different sizes do not compare.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        from stlpips_pytorch import stlpips  # it loads torchvision and IPython, which take seconds

        self.device = torch.device(device)
        self.network = stlpips.LPIPS(net="alex", variant="shift_tolerant", pretrained=False, verbose=False)
        weights = Path(stlpips.__file__).parent / "weights/vST0.0/alex_shift_tolerant.pth"
        loaded = self.network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True), strict=False)
        # `lins` holds the modules lin0 to lin4 once more, which the file names once.
        assert not loaded.unexpected_keys, loaded
        assert all(name.startswith("lins.") for name in loaded.missing_keys), loaded
        self.network.requires_grad_(False).to(self.device)

    def __call__(self, pictures: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """The distance of each of N pictures (N, H, W, 3) to its target, (N,); UserError where they are too small."""
        check_size(pictures, "ST-LPIPS", SMALLEST_PX)
        return perceptual_distances(self.network, pictures, targets, self.device)


def check_size(pictures: np.ndarray, network: str, smallest_px: int, advice: str = "") -> None:
    """UserError where pictures (N, H, W, 3) are too small for a network; it ends with the `advice`."""
    if min(pictures.shape[1:3]) < smallest_px:
        raise UserError(
            f"{network} cannot see pictures of {pictures.shape[2]} x {pictures.shape[1]} px; "
            f"give it at least {smallest_px} px a side{advice}."
        )


@torch.no_grad()
def perceptual_distances(
    network: nn.Module, pictures: np.ndarray, targets: np.ndarray, device: torch.device
) -> np.ndarray:
    """What a network of the LPIPS family says of N pictures (N, H, W, 3) in [0, 1] beside their targets, (N,)."""
    ours, theirs = (
        torch.from_numpy(np.ascontiguousarray(values)).float().movedim(-1, 1).to(device)
        for values in (pictures, targets)
    )
    distances: np.ndarray = network(ours, theirs, normalize=True).flatten().cpu().numpy()
    return distances
