"""What of a grid that a network drew is its object, and what the background, which is not as white as it should be.

A network may leave a faint lattice of coloured dots on the white, and specks beside the object; taken for the object,
they become parts. The constants were chosen on twelve drawings by `text_to_mv`, three of them with a lattice; of the
renders of the ten sample objects nothing is taken away.

Shape suffixes: H W pixels of the grid or of a view, V its four views.
"""

import numpy as np
from scipy.ndimage import label

from pipeline.reconstruction.carving import BACKGROUND_GREY
from pipeline.views.cameras import tile, untile

RIM = 2
"""Pixels at a view's edges, of which most show the background."""
DOTS = 5.0
"""Times the rim's median, that the background's dots are dark; what of them is darker, 1 to 3 %, is left as specks."""
DARKEST_DOTS = 0.25
"""What is darker is no dot, so that an object that fills its views is not taken for background."""
SPECK_SHARE = 0.03
"""Of the pixels of a view's largest piece, below which another one is a speck if it is pale too."""
SPECK_GREY = 3.0
"""Times the grey of the background: a piece with a pixel darker than this is no speck, however small."""


def find_object(grid_HW3: np.ndarray) -> tuple[np.ndarray, float]:
    """The object's pixels in a drawn 2x2 grid, (H, W, 3) float32 in [0, 1], and how much else is there.

    (H, W) bool, and of the pixels that are not white the share in [0, 1] that is taken for background.
    """
    grey_VHW = untile(1 - grid_HW3.min(axis=-1))
    rim_HW = np.ones(grey_VHW.shape[1:], bool)
    rim_HW[RIM:-RIM, RIM:-RIM] = False
    ground = max(BACKGROUND_GREY, min(DOTS * float(np.median(grey_VHW[:, rim_HW])), DARKEST_DOTS))
    shown_HW = tile(np.stack([_without_specks(view_HW, ground) for view_HW in grey_VHW]))
    drawn = float((grey_VHW > BACKGROUND_GREY).sum())
    return shown_HW, 1 - float(shown_HW.sum()) / drawn if drawn else 0.0


def _without_specks(grey_HW: np.ndarray, ground: float) -> np.ndarray:
    """What is darker than the background, but for small pale pieces."""
    pieces_HW, count = label(grey_HW > ground, np.ones((3, 3)))
    pixels = np.bincount(pieces_HW.ravel(), minlength=count + 1)
    darkest = np.zeros(count + 1, grey_HW.dtype)
    np.maximum.at(darkest, pieces_HW, grey_HW)
    kept = (pixels >= SPECK_SHARE * pixels[1:].max(initial=0)) | (darkest > SPECK_GREY * ground)
    kept[0] = False
    return np.asarray(kept[pieces_HW])
