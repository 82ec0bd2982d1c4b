"""Colours of part ids, as they are stored in label maps and shown on top of renders."""

import numpy as np

BACKGROUND = (0, 0, 0)

PART_COLOURS = np.array(
    [
        BACKGROUND,
        (230, 25, 75), (60, 180, 75), (255, 225, 25), (67, 99, 216), (245, 130, 49),
        (145, 30, 180), (66, 212, 244), (240, 50, 230), (191, 239, 69), (250, 190, 212),
        (70, 153, 144), (220, 190, 255), (154, 99, 36), (255, 250, 200), (128, 0, 0),
        (170, 255, 195), (128, 128, 0), (255, 216, 177), (0, 0, 117), (169, 169, 169),
    ],
    np.uint8,
)  # fmt: skip
"""uint8 (21, 3): the background's colour and those of the parts 1 to 20, easily told apart."""
