"""Colours of part ids, as they are stored in label maps and shown on top of renders."""

import colorsys

import numpy as np

EASILY_TOLD_APART = (
    (230, 25, 75), (60, 180, 75), (255, 225, 25), (67, 99, 216), (245, 130, 49),
    (145, 30, 180), (66, 212, 244), (240, 50, 230), (191, 239, 69), (250, 190, 212),
    (70, 153, 144), (220, 190, 255), (154, 99, 36), (255, 250, 200), (128, 0, 0),
    (170, 255, 195), (128, 128, 0), (255, 216, 177), (0, 0, 117), (169, 169, 169),
)  # fmt: skip
GOLDEN_ANGLE = 0.38196601125


def _palette() -> np.ndarray:
    more = range(len(EASILY_TOLD_APART) + 1, 256)
    hues = [colorsys.hsv_to_rgb(k * GOLDEN_ANGLE % 1, 0.5 + k % 3 * 0.2, 0.95 - k % 4 * 0.15) for k in more]
    return np.array([(0, 0, 0), *EASILY_TOLD_APART, *(np.array(hues) * 255).round()], np.uint8)


PART_COLOURS = _palette()
"""uint8 (256, 3): black for the background, then a colour for each part id; the first twenty are easily told apart."""
