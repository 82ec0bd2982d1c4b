"""Peak signal-to-noise ratio of pictures, (..., H, W, 3) floats in [0, 1] over white."""

import numpy as np


def psnr(pictures: np.ndarray, targets: np.ndarray, foreground: np.ndarray | None = None) -> np.ndarray:
    """Peak signal-to-noise ratio in dB of each picture, (...) float64: -10 log10 of the mean squared error, peak 1.

    The error is the mean over the three channels and over all pixels, or those of `foreground` (..., H, W) bool alone
    (the paper's Tables 2 and 3: the pixels of the target, here those whose alpha exceeds 1/2). Pictures that are equal
    have infinity, and a mean over pictures should say so rather than swallow it; those without foreground have NaN.
    """
    error = np.square(pictures - targets).mean(axis=-1, dtype=np.float64)
    shown = np.ones_like(error, dtype=bool) if foreground is None else foreground
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(shown, error, 0.0).sum(axis=(-2, -1)) / shown.sum(axis=(-2, -1))
        values: np.ndarray = -10 * np.log10(mean)
    return values
