"""The curve between what a screen shows (sRGB) and light (IEC 61966-2-1), for the colours of surfaces and pictures."""

import numpy as np


def linear(display: np.ndarray) -> np.ndarray:
    """sRGB in [0, 1] as linear light in [0, 1], of any shape; the inverse of `display`."""
    return np.where(display <= 0.04045, display / 12.92, ((display + 0.055) / 1.055) ** 2.4)


def display(light: np.ndarray) -> np.ndarray:
    """Linear light in [0, 1] as sRGB in [0, 1], of any shape; the inverse of `linear`."""
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light.clip(1e-9) ** (1 / 2.4) - 0.055)
