"""How surfaces look in formats that know less than glTF: one display colour or one picture, or colours at vertices.

Shape suffixes: F triangles, V vertices, H W texels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from pipeline.assets.names import unique_names
from pipeline.assets.srgb import display, linear
from pipeline.assets.surface import Material, Surface
from pipeline.views.looks import base_colour

NamedSurfaces = tuple[str, Sequence[Surface]]
"""A part."""
_NEAR_CORNERS = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]])
"""Where in a triangle its texture is sampled for its corners; beyond its edges a texel may be that of another chart."""


@dataclass(frozen=True)
class Look:
    """What a material shows, without colours at vertices."""

    name: str
    """One word; no two of an object have the same."""
    material: Material
    colour_4: np.ndarray
    """sRGB and opacity in [0, 1], where there is no picture."""
    picture: Image.Image | None
    """The base colour, that of the material multiplied in; without alpha where the material is opaque."""
    colored: bool
    """Whether the surfaces have colours at their vertices, with that of the material multiplied in."""


class Looks:
    """The looks of an object's surfaces, each made once."""

    def __init__(self) -> None:
        self._found: dict[tuple[object, ...], Look] = {}
        self._pictures: dict[tuple[object, ...], Image.Image] = {}

    def __call__(self, surface: Surface) -> Look:
        """The look of a surface."""
        material = surface.material
        picture = material.baseColorTexture if is_textured(surface) else None
        pictures = (picture, material.normalTexture, material.emissiveTexture, material.metallicRoughnessTexture)
        factor, emissive, colored = tuple(_factor(material)), material.emissiveFactor, surface.colors is not None
        shown = (id(picture), factor, material.alphaMode)
        key = (
            *shown, material.name, material.wrap, material.alphaCutoff, material.metallicFactor,
            material.roughnessFactor, None if emissive is None else tuple(emissive), colored, *map(id, pictures),
        )  # fmt: skip
        if key not in self._found:
            word = "-".join((material.name or "").split()) or "material"
            *_, name = unique_names([*(look.name for look in self._found.values()), word])
            if picture is not None and shown not in self._pictures:
                self._pictures[shown] = _multiplied(picture, material)
            self._found[key] = Look(
                name.replace(" ", "-"), material, displayed(np.array(factor)), self._pictures.get(shown), colored
            )
        return self._found[key]

    @property
    def all(self) -> list[Look]:
        """In the order in which they were first met."""
        return list(self._found.values())


def is_textured(surface: Surface) -> bool:
    """Whether a picture says its base colour."""
    return surface.uv is not None and surface.material.baseColorTexture is not None


def vertex_colours(surface: Surface) -> np.ndarray | None:
    """(V, 4) sRGB and opacity in [0, 1], the material's colour multiplied in; None for a surface that has none."""
    if surface.colors is None:
        return None
    return displayed(surface.colors if is_textured(surface) else surface.colors * _factor(surface.material))


def sampled_colours(surface: Surface) -> np.ndarray:
    """(V, 4) sRGB and opacity in [0, 1], its base colour at its vertices; of a texture the mean around each."""
    colours_V4 = np.tile(_factor(surface.material), (len(surface.vertices), 1))
    if surface.colors is not None:
        colours_V4 = colours_V4 * surface.colors
    if is_textured(surface):
        corners, weights = np.repeat(surface.faces, 3, axis=0), np.tile(_NEAR_CORNERS, (len(surface.faces), 1))
        light, corner = base_colour(surface, corners, weights), surface.faces.reshape(-1)
        count_V = np.bincount(corner, minlength=len(surface.vertices)).clip(1)
        for channel in range(3):
            colours_V4[:, channel] = np.bincount(corner, light[:, channel], len(surface.vertices)) / count_V
    return displayed(colours_V4)


def displayed(light: np.ndarray) -> np.ndarray:
    """Linear light with opacity, (..., 4), as sRGB in [0, 1] with the same opacity."""
    kept = light.clip(0, 1)
    return np.concatenate([display(kept[..., :3]), kept[..., 3:]], axis=-1)


def _factor(material: Material) -> np.ndarray:
    """(4,) linear, in [0, 1]."""
    factor = material.baseColorFactor
    return np.ones(4) if factor is None else np.asarray(factor, np.float64) / 255


def _light(texels: np.ndarray) -> np.ndarray:
    """(..., 4) uint8 sRGB with opacity as linear light in [0, 1]."""
    values = texels / 255
    return np.concatenate([linear(values[..., :3]), values[..., 3:]], axis=-1)


def _multiplied(picture: Image.Image, material: Material) -> Image.Image:
    factor = _factor(material)
    if (factor != 1).any():
        light_HW4 = _light(np.asarray(picture.convert("RGBA"))) * factor
        picture = Image.fromarray(np.rint(displayed(light_HW4) * 255).astype(np.uint8))
    return picture.convert("RGB" if material.alphaMode in (None, "OPAQUE") else "RGBA")
