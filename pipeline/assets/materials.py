"""What a renderer needs of a material: physically based values, bounded textures, and glass that stays glass."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from pipeline.assets.mtl import MtlMaterial, MtlTexture
from pipeline.assets.srgb import linear
from pipeline.assets.surface import REPEAT, Material
from pipeline.assets.textures import Textures

WHITE = (1.0, 1.0, 1.0, 1.0)
GREY = (0.6, 0.6, 0.6, 1.0)
"""Base colour, in linear light, where a file gives none."""
ROUGHNESS = 0.8
"""Of materials without a highlight."""
CLAMP = 33071
"""glTF's number for a texture whose edge goes on beyond it."""
_OPAQUE = 0.999
_LEAST_ALPHA = 26
"""A texture that is nowhere less transparent than this, of 255, means something else by its alpha."""

_VALUES = (
    "name", "emissiveFactor", "baseColorFactor", "metallicFactor", "roughnessFactor", "doubleSided", "alphaMode",
    "alphaCutoff",
)  # fmt: skip
_TEXTURES = ("baseColorTexture", "metallicRoughnessTexture", "normalTexture", "emissiveTexture")

Find = Callable[[str], bytes | None]
"""The file that a reference means."""


@dataclass(frozen=True)
class Look:
    """A material, and where its textures lie."""

    material: Material
    uv_set: int = 0
    uv_matrix: np.ndarray | None = None
    """(2, 3): from the file's UV to those of the textures; None where they are the same."""

    def uv(self, uv: np.ndarray) -> np.ndarray:
        """Texture coordinates (V, 2) of the file as those of the textures."""
        return uv if self.uv_matrix is None else uv @ self.uv_matrix[:, :2].T + self.uv_matrix[:, 2]


def plain(min_opacity: float, colored: bool, name: str | None = None) -> Look:
    """The look of a mesh without material, with or without vertex colours."""
    return Look(finished(name, WHITE if colored else GREY, 0.0, ROUGHNESS, None, min_opacity))


def mtl_look(material: MtlMaterial, find: Find, textures: Textures, min_opacity: float) -> Look:
    """Kd as the base colour, unless a texture replaces it; `d` (or 1 - Tr) and map_d as opacity; metal by Pm.

    Kd and Ke are display colours (sRGB), as viewers of OBJ show them, where glTF wants linear light. A texture is not
    multiplied by Kd, which is black or grey in many textured files. What is not used is a warning.
    """
    values, name = material.values, material.name
    opacity = _number(values.get("d"), 1.0 - _number(values.get("tr"), 0.0))
    picture = _picture(material.textures.get("map_kd"), find, textures)
    mask = _mask(_picture(material.textures.get("map_d"), find, textures))
    if picture is not None and picture.mode == "RGBA" and np.asarray(picture)[..., 3].max() < _LEAST_ALPHA:
        textures.warnings.append(f"transparent texture of {name} taken as opaque")
        picture = picture.convert("RGB")
    base = _rgb(values.get("kd", [0.8])) if picture is None else [1.0, 1.0, 1.0]
    if mask is not None:
        picture = Image.new("RGB", mask.size, "white") if picture is None else picture.convert("RGB")
        picture.putalpha(mask.resize(picture.size))
    roughness = float(np.clip((2 / (max(_number(values.get("ns"), 0.0), 0.0) + 2)) ** 0.25, 0.3, ROUGHNESS))
    metal, roughness = _number(values.get("pm"), 0.0), _number(values.get("pr"), roughness)
    options = next((texture.options for texture in material.textures.values()), {})
    wrap = CLAMP if options.get("clamp") == ["on"] else REPEAT
    made = finished(name, (*base, opacity), metal, roughness, picture, min_opacity, (wrap, wrap))
    if any(emitted := _rgb(values.get("ke", [0.0]))):
        made.emissiveFactor = emitted
    for statement in (*material.unused, *(f"-{option}" for option in options if option not in ("s", "o", "clamp"))):
        textures.warnings.append(f"{statement} of {name} not used")
    return Look(made, 0, _placed(options))


def finished(
    name: str | None,
    base: tuple[float, ...],
    metallic: float,
    roughness: float,
    picture: Image.Image | None,
    min_opacity: float,
    wrap: tuple[int, int] = (REPEAT, REPEAT),
) -> Material:
    """A material by its values; `base` is linear light and opacity, which is raised to `min_opacity`."""
    opacity = float(np.clip(np.nan_to_num(base[3]), min_opacity, 1.0))
    alpha_mode = "BLEND" if opacity < _OPAQUE else _alpha_mode(picture)
    color = np.round(np.clip(np.nan_to_num([*base[:3], opacity]), 0, 1) * 255).astype(np.uint8)
    return Material(
        wrap,
        name=name,
        baseColorFactor=color,
        baseColorTexture=picture,
        metallicFactor=float(np.clip(np.nan_to_num(metallic), 0, 1)),
        roughnessFactor=float(np.clip(np.nan_to_num(roughness), 0, 1)),
        alphaMode=alpha_mode,
        alphaCutoff=0.5 if alpha_mode == "MASK" else None,
        doubleSided=True,
    )


def plainer(material: Material, texture_px: int, min_opacity: float) -> Material:
    """A material that was read in full as `finished` would have made it: textures of at most so many pixels a side, and
    its opacity raised.
    """
    values = {name: getattr(material, name) for name in _VALUES}
    if material.alphaMode is not None and values["baseColorFactor"] is not None:
        *color, opacity = values["baseColorFactor"]
        values["baseColorFactor"] = np.array([*color, max(opacity, round(min_opacity * 255))], np.uint8)
    for name in _TEXTURES:
        if (picture := getattr(material, name)) is not None:
            small = picture.copy()
            small.thumbnail((texture_px, texture_px), Image.Resampling.LANCZOS)
            values[name] = small
    return Material(material.wrap, **values)


def _light_of(values: np.ndarray) -> np.ndarray:
    """Linear light of the sRGB that a file has, which may be beyond [0, 1] or no numbers."""
    return linear(np.clip(np.nan_to_num(values), 0, 1))


def display_colours(values: np.ndarray) -> np.ndarray:
    """Vertex colours of OBJ and PLY, sRGB (V, 3 or 4) in [0, 1], as those of a surface, linear (V, 4) float32."""
    colours = np.ones((len(values), 4), np.float32)
    colours[:, :3] = _light_of(values[:, :3])
    colours[:, 3:] = np.clip(np.nan_to_num(values[:, 3:4], nan=1.0), 0, 1) if values.shape[1] > 3 else 1
    return colours


def _picture(texture: MtlTexture | None, find: Find, textures: Textures) -> Image.Image | None:
    data = None if texture is None else find(texture.file)
    return None if texture is None or data is None else textures(texture.file, data)


def _mask(picture: Image.Image | None) -> Image.Image | None:
    """The opacity map of an MTL: the alpha of a picture that has one, else its brightness."""
    if picture is None:
        return None
    return picture.getchannel("A") if picture.mode == "RGBA" else picture.convert("L")


def _placed(options: dict[str, list[str]]) -> np.ndarray | None:
    """The options -s (scale) and -o (offset) of a texture as a matrix of its UV."""
    try:
        scale = [float(word) for word in options.get("s", [])[:2]]
        offset = [float(word) for word in options.get("o", [])[:2]]
    except ValueError:
        return None
    if not scale and not offset:
        return None
    u, v = (*scale, 1.0, 1.0)[:2] if len(scale) != 1 else (scale[0], 1.0)
    du, dv = (*offset, 0.0, 0.0)[:2]
    return np.array([[u, 0, du], [0, v, dv]])


def _alpha_mode(picture: Image.Image | None) -> str | None:
    """BLEND for textures that are mostly half-transparent where they are not opaque, MASK for cut-outs."""
    if picture is None or picture.mode != "RGBA":
        return None
    alpha = np.array(picture.getchannel("A"))
    partial = alpha[alpha < 255]
    return "BLEND" if partial.size and np.mean((partial > 25) & (partial < 230)) > 0.5 else "MASK"


def _rgb(values: Sequence[float]) -> list[float]:
    """A display colour of an MTL, of one or three numbers, in linear light."""
    channels = list(values[:3]) if len(values) >= 3 else list(values[:1]) * 3
    return [float(channel) for channel in _light_of(np.array(channels))] or list(GREY[:3])


def _number(values: Sequence[float] | None, otherwise: float) -> float:
    """The number of a statement, after its options (`d -halo 0.5`)."""
    return values[-1] if values else otherwise
