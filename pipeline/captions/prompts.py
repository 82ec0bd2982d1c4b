"""Prompt pictures: a view with a red annulus round the part, the rest dimmed (supplement A.8 and Fig. A1)."""

import numpy as np
from PIL import Image, ImageDraw

from pipeline.views.cameras import over_white

RED = (255, 0, 0)
SUPERSAMPLING = 4


def prompt_picture(
    view: np.ndarray, mask: np.ndarray | None, size: int, ring_width: float, ring_margin: float, dim: float
) -> np.ndarray:
    """The picture that a vision-language model is shown, uint8 RGB (size, size, 3).

    `view`: uint8 RGBA (V, V, 4), straight alpha. `mask`: bool (V, V), the part's visible pixels; None for a whole
    object, whose picture is the plain view over white. `ring_width` and `ring_margin` (between part and ring) are
    shares of the picture's side; `dim` in [0, 1] is how much white is blended over all but the part. ValueError for an
    empty mask.
    """
    picture = _resized(np.round(over_white(view) * 255).astype(np.uint8), size)
    if mask is None:
        return picture
    inside = _resized(mask.astype(np.uint8) * 255, size).astype(np.float32)[..., None] / 255
    colours = picture + (255.0 - picture) * dim * (1 - inside)
    ring = ring_coverage(mask, size, ring_width, ring_margin)[..., None]
    return np.round(colours + (np.array(RED, np.float32) - colours) * ring).astype(np.uint8)


def ring_coverage(mask: np.ndarray, size: int, width: float, margin: float) -> np.ndarray:
    """How much of each pixel the annulus covers, float32 (size, size) in [0, 1].

    The annulus is the ellipse with the proportions of the mask's box that encloses the mask with `margin` to spare,
    drawn `width` thick outwards; both are shares of the side. Where the picture ends, it is squeezed to stay inside.
    """
    left, top, right, bottom = _ring_box(mask, size, width + margin)
    scale = SUPERSAMPLING
    canvas = Image.new("L", (size * scale, size * scale))
    box = (left * scale, top * scale, right * scale - 1, bottom * scale - 1)
    ImageDraw.Draw(canvas).ellipse(box, outline=255, width=max(scale, round(width * size * scale)))
    return np.asarray(canvas.reduce(scale), np.float32) / 255


def _ring_box(mask: np.ndarray, size: int, room: float) -> tuple[float, float, float, float]:
    """The box (left, top, right, bottom) of the annulus' outer edge, in pixels of the picture."""
    rows, columns = np.nonzero(mask)
    if not rows.size:
        raise ValueError("the mask of a prompt picture has no pixels")
    cell = size / mask.shape[0]
    half = np.array([np.ptp(columns) + 1, np.ptp(rows) + 1]) / 2
    centre = np.array([columns.min(), rows.min()]) + half
    half = np.maximum(half, half.max() / 2)  # no needle round a thin part
    # The farthest corner of a mask pixel, in units of the box: 1 for an ellipse, sqrt(2) for a full rectangle.
    offsets = np.abs(np.stack([columns + 0.5, rows + 0.5], axis=1) - centre) + 0.5
    reach = np.sqrt(((offsets / half) ** 2).sum(axis=1).max())
    outer = half * reach * cell + room * size
    low, high = np.clip([centre * cell - outer, centre * cell + outer], 0, size)
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def _resized(pixels: np.ndarray, size: int) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC))
