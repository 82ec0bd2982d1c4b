"""What a renderer needs of a material: physically based values, bounded textures, and glass that stays glass."""

import io

import numpy as np
from PIL import Image
from trimesh.resolvers import Resolver
from trimesh.visual.material import PBRMaterial, SimpleMaterial

from pipeline.assets.bundle import ObjectDropped

WHITE = (1.0, 1.0, 1.0, 1.0)
GREY = (0.6, 0.6, 0.6, 1.0)
"""Base colour, in linear light, where a file gives none."""
ROUGHNESS = 0.8
"""Of materials without a highlight."""
_OPAQUE = 0.999


class MaterialReader:
    """Turns the materials of one file into PBR materials, each once; `warnings` says what could not be read."""

    def __init__(self, resolver: Resolver, texture_px: int, min_opacity: float) -> None:
        self.resolver = resolver
        self.texture_px = texture_px
        self.min_opacity = min_opacity
        self.warnings: list[str] = []
        # With each result the material that it was made of, so that its id stays its own.
        self._done: dict[tuple[int, bool], tuple[object, PBRMaterial]] = {}

    def __call__(self, material: object, colored: bool = False) -> PBRMaterial:
        """The PBR material for one as trimesh loaded it (SimpleMaterial, PBRMaterial or None).

        `colored`: there are vertex colours, with which the base colour is multiplied.
        """
        key = (id(material), colored)
        if key not in self._done:
            if isinstance(material, PBRMaterial):
                made = self._from_gltf(material)
            elif isinstance(material, SimpleMaterial):
                made = self._from_mtl(material)
            else:
                made = self._finish(None, WHITE if colored else GREY, 0.0, ROUGHNESS, None)
            self._done[key] = (material, made)
        return self._done[key][1]

    def _from_mtl(self, material: SimpleMaterial) -> PBRMaterial:
        """Kd as the base colour, unless a texture replaces it; `d` (or 1 - Tr) and map_d as opacity; never metal.

        Kd is a display colour (sRGB), as viewers of OBJ show it, where glTF wants linear light. A texture is not
        multiplied by Kd, which is black or grey in many textured files.
        """
        values = material.kwargs
        # trimesh fills in a grey of .4 where Kd is missing; its own key `kd` says what the file has.
        base = [_linear(float(channel)) for channel in np.ravel(values.get("kd", (0.8, 0.8, 0.8)))]
        base = {1: base * 3, 3: base}.get(len(base), list(GREY[:3]))
        opacity = _number(values.get("d"), 1.0 - _number(values.get("tr"), 0.0))
        image = self._texture(material.image, material.name)
        mask = self._mask(values.get("map_d"))
        if image is not None and mask is not None:
            image = image.convert("RGB")
            image.putalpha(mask.resize(image.size))
        if image is not None:
            base = [1.0, 1.0, 1.0]
        roughness = float(np.clip((2 / (_number(values.get("ns"), 0.0) + 2)) ** 0.25, 0.3, ROUGHNESS))
        return self._finish(material.name, (*base, opacity), 0.0, roughness, image)

    def _from_gltf(self, material: PBRMaterial) -> PBRMaterial:
        factor = WHITE if material.baseColorFactor is None else material.baseColorFactor / 255.0
        # What glTF 2.0 says where a value is not given: metal, and rough.
        metallic = 1.0 if material.metallicFactor is None else float(material.metallicFactor)
        roughness = 1.0 if material.roughnessFactor is None else float(material.roughnessFactor)
        image = self._texture(material.baseColorTexture, material.name)
        made = self._finish(material.name, tuple(factor), metallic, roughness, image)
        made.emissiveFactor = material.emissiveFactor
        made.emissiveTexture = self._texture(material.emissiveTexture, material.name)
        made.normalTexture = self._texture(material.normalTexture, material.name)
        made.metallicRoughnessTexture = self._texture(material.metallicRoughnessTexture, material.name)
        if material.alphaMode in (None, "OPAQUE"):
            made.alphaMode, made.alphaCutoff = None, None
            made.baseColorFactor = (*made.baseColorFactor[:3], 255)
        elif material.alphaMode == "MASK":
            made.alphaMode = "MASK"
            made.alphaCutoff = 0.5 if material.alphaCutoff is None else float(material.alphaCutoff)
        return made

    def _finish(
        self, name: str | None, base: tuple[float, ...], metallic: float, roughness: float, image: Image.Image | None
    ) -> PBRMaterial:
        opacity = float(np.clip(base[3], self.min_opacity, 1.0))
        alpha_mode = "BLEND" if opacity < _OPAQUE else _alpha_mode(image)
        color = np.round(np.clip([*base[:3], opacity], 0, 1) * 255).astype(np.uint8)
        return PBRMaterial(
            name=name,
            baseColorFactor=color,
            baseColorTexture=image,
            metallicFactor=metallic,
            roughnessFactor=roughness,
            alphaMode=alpha_mode,
            alphaCutoff=0.5 if alpha_mode == "MASK" else None,
            doubleSided=True,
        )

    def _texture(self, image: Image.Image | None, where: str | None) -> Image.Image | None:
        """8-bit RGB or RGBA of bounded size, without metadata; None, with a warning, when it cannot be decoded."""
        if image is None:
            return None
        try:
            image.draft("RGB", (2 * self.texture_px, 2 * self.texture_px))  # JPEG decodes at a fraction of its size
            has_alpha = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
            image = image.convert("RGBA" if has_alpha else "RGB")
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            self.warnings.append(f"unreadable texture of {where or 'a material'}")
            return None
        image.thumbnail((self.texture_px, self.texture_px), Image.Resampling.LANCZOS)
        if image.mode == "RGBA" and image.getchannel("A").getextrema()[0] == 255:
            image = image.convert("RGB")
        return Image.fromarray(np.array(image))

    def _mask(self, statement: list[str] | None) -> Image.Image | None:
        """The opacity map of an MTL: the alpha of an image that has one, else its brightness."""
        if not statement:
            return None
        try:
            image = Image.open(io.BytesIO(self.resolver.get(" ".join(statement))))
        except (KeyError, OSError, ObjectDropped, Image.DecompressionBombError):
            return None  # the bundle has warned that it is missing
        texture = self._texture(image, "map_d")
        if texture is None:
            return None
        return texture.getchannel("A") if texture.mode == "RGBA" else texture.convert("L")


def _alpha_mode(image: Image.Image | None) -> str | None:
    """BLEND for textures that are mostly half-transparent where they are not opaque, MASK for cut-outs."""
    if image is None or image.mode != "RGBA":
        return None
    alpha = np.array(image.getchannel("A"))
    partial = alpha[alpha < 255]
    return "BLEND" if partial.size and np.mean((partial > 25) & (partial < 230)) > 0.5 else "MASK"


def _linear(channel: float) -> float:
    """A channel of sRGB in [0, 1] as linear light (IEC 61966-2-1)."""
    channel = min(max(channel, 0.0), 1.0)
    return channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4


def _number(value: object, otherwise: float) -> float:
    """The first number of an MTL statement as trimesh keeps it: a float, or a list of words such as `-halo 0.5`."""
    words = value if isinstance(value, list) else [value]
    for word in reversed(words):
        try:
            return float(word)
        except (TypeError, ValueError):
            continue
    return otherwise
