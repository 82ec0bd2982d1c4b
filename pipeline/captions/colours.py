"""Names for the colours of rendered pixels."""

import numpy as np
from skimage.color import rgb2lab

GREYS = {
    "white": (242, 242, 242),
    "light grey": (185, 185, 185),
    "grey": (130, 130, 130),
    "dark grey": (75, 75, 75),
    "black": (25, 25, 25),
}
HUES = {
    "red": (205, 35, 35),
    "dark red": (110, 25, 25),
    "pink": (240, 150, 175),
    "orange": (235, 130, 40),
    "yellow": (235, 210, 50),
    "beige": (220, 200, 165),
    "light brown": (175, 130, 85),
    "brown": (125, 75, 40),
    "dark brown": (65, 40, 25),
    "light green": (150, 210, 130),
    "green": (50, 145, 60),
    "dark green": (25, 70, 35),
    "turquoise": (60, 190, 180),
    "light blue": (150, 190, 230),
    "blue": (45, 90, 190),
    "dark blue": (25, 35, 90),
    "purple": (120, 55, 150),
}
COLOURS = GREYS | HUES
"""sRGB values, 0 to 255, of a colour's typical rendering."""

COLOUR_WORDS = frozenset([*" ".join(COLOURS).split(), "gray"])
"""Words that tell a colour, or its shade."""
SHADES = frozenset(["light", "dark"])
"""Those of them that are no colour by themselves."""
SECOND_SHARE = 0.25
"""A second colour is told when at least this share of the pixels has it."""

_GREY_CHROMA = 8.0  # below it people see grey
_NAMES = tuple(COLOURS)


def colour_phrase(pixels: np.ndarray) -> str:
    """The one or two colours that most of `pixels`, uint8 RGB (N, 3), are nearest to: `brown and white`.

    Shades of one colour count together and are told by the commonest. Empty without pixels.
    """
    if not len(pixels):
        return ""
    counts = dict(zip(_NAMES, np.bincount(_nearest(pixels), minlength=len(_NAMES)).tolist(), strict=True))
    hues: dict[str, int] = {}
    for name, count in counts.items():
        hues[_hue(name)] = hues.get(_hue(name), 0) + count
    ranked = sorted(hues, key=lambda hue: -hues[hue])
    told = [hue for hue in ranked[:2] if hue == ranked[0] or hues[hue] >= SECOND_SHARE * len(pixels)]
    return " and ".join(max((name for name in counts if _hue(name) == hue), key=counts.__getitem__) for hue in told)


def _nearest(pixels: np.ndarray) -> np.ndarray:
    """Indices into the names, (N,)."""
    lab = _lab(pixels)
    grey = np.linalg.norm(lab[:, 1:], axis=1) < _GREY_CHROMA
    nearest_grey = np.argmin(np.abs(lab[:, :1] - _lab(np.array(list(GREYS.values())))[None, :, 0]), axis=1)
    distances = np.linalg.norm(_muted(lab)[:, None] - _muted(_lab(np.array(list(HUES.values()))))[None], axis=2)
    return np.where(grey, nearest_grey, len(GREYS) + np.argmin(distances, axis=1))


def _lab(pixels: np.ndarray) -> np.ndarray:
    return np.asarray(rgb2lab(pixels[None].astype(np.float64) / 255)[0])


def _muted(lab: np.ndarray) -> np.ndarray:
    """CIELAB with less weight on lightness and chroma, which shading changes, than on hue, which it leaves."""
    chroma = np.linalg.norm(lab[:, 1:], axis=1, keepdims=True)
    return np.concatenate([0.6 * lab[:, :1], lab[:, 1:] / np.maximum(chroma, 1e-9) * (30 + 0.5 * chroma)], axis=1)


def _hue(name: str) -> str:
    return name.split()[-1]
