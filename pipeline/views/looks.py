"""The colours of a surface at any of its points.

Shape suffixes: P points.
"""

import numpy as np

from pipeline.assets.srgb import linear
from pipeline.assets.surface import Surface

MIRRORED, CLAMPED = 33648, 33071
"""glTF's numbers for textures that are mirrored, and clamped, beyond their edges."""


def base_colour(surface: Surface, corners_P3: np.ndarray, weight_P3: np.ndarray) -> np.ndarray:
    """Linear (P, 3): the material's factor times its texture times the colours at the vertices (glTF 2.0, 3.9.2)."""
    factor = surface.material.baseColorFactor
    light = (
        np.ones((len(corners_P3), 3)) if factor is None else np.tile(np.array(factor[:3]) / 255, (len(corners_P3), 1))
    )
    if surface.colors is not None:
        light = light * (surface.colors[corners_P3, :3] * weight_P3[..., None]).sum(axis=1)
    texture = surface.material.baseColorTexture
    if texture is not None and surface.uv is not None:
        uv = (surface.uv[corners_P3] * weight_P3[..., None]).sum(axis=1)
        picture = np.asarray(texture.convert("RGB"))
        height, width = picture.shape[:2]
        column = _wrapped(uv[:, 0], surface.material.wrap[0], width)
        row = height - 1 - _wrapped(uv[:, 1], surface.material.wrap[1], height)
        light = light * linear(picture[row, column] / 255)
    return light


def _wrapped(coordinate: np.ndarray, wrap: int, size: int) -> np.ndarray:
    """The texel at texture coordinates."""
    if wrap == CLAMPED:
        place = coordinate.clip(0, 1)
    elif wrap == MIRRORED:
        place = 1 - np.abs(coordinate % 2 - 1)
    else:
        place = coordinate % 1
    return np.asarray((place * size).astype(int).clip(0, size - 1))
