"""The materials of glTF files."""

import math
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from pipeline.assets.accessors import Accessors
from pipeline.assets.materials import ROUGHNESS, WHITE, Look, finished
from pipeline.assets.reading import Reading
from pipeline.assets.reasons import Broken, Missing
from pipeline.assets.references import entries
from pipeline.assets.surface import REPEAT

_SOURCES = ("EXT_texture_webp", "EXT_texture_avif", "MSFT_texture_dds", "KHR_texture_basisu")
"""Extensions that name a picture of another kind; the last is read by nothing here."""
_SPECULAR = "KHR_materials_pbrSpecularGlossiness"
_TRANSFORM = "KHR_texture_transform"
HANDLED = frozenset({*_SOURCES, _SPECULAR, _TRANSFORM})
"""Extensions of materials that are used, or whose textures are named one by one when they cannot be."""


@dataclass(frozen=True)
class _Placed:
    """A texture as a material refers to it."""

    picture: Image.Image
    uv_set: int
    uv_matrix: tuple[float, ...] | None
    wrap: tuple[int, int]

    @property
    def place(self) -> tuple[object, ...]:
        """Textures of one material are used together where they lie alike."""
        return self.uv_set, self.uv_matrix, self.wrap


class GltfLooks:
    """The looks of a file's materials, each made once."""

    def __init__(self, reading: Reading, header: Mapping[str, Any], accessors: Accessors) -> None:
        self.reading, self.accessors = reading, accessors
        self.materials, self.textures = entries(header, "materials"), entries(header, "textures")
        self.images, self.samplers = entries(header, "images"), entries(header, "samplers")
        self._done: dict[tuple[int, bool], Look] = {}

    def name(self, index: object) -> str:
        """The artist's name of a material, empty where there is none."""
        return str(self._entry(self.materials, index).get("name", ""))

    def __call__(self, index: object, colored: bool) -> Look:
        """The look of a material; of its textures those that lie as its base colour's does, others with a warning."""
        if not isinstance(index, int) or not 0 <= index < len(self.materials):
            return Look(finished(None, WHITE, 0.0, ROUGHNESS, None, self.reading.min_opacity))  # white in glTF
        if (index, colored) not in self._done:
            self._done[index, colored] = self._look(index, colored)
        return self._done[index, colored]

    def _look(self, index: int, colored: bool) -> Look:
        material, name = self.materials[index], self.name(index) or f"material {index}"
        pbr, specular = _dict(material, "pbrMetallicRoughness"), _dict(_dict(material, "extensions"), _SPECULAR)
        factor, colour = pbr.get("baseColorFactor"), pbr.get("baseColorTexture")
        metallic, roughness = _number(pbr.get("metallicFactor"), 1.0), _number(pbr.get("roughnessFactor"), 1.0)
        if specular:  # its diffuse colour is the base colour of what is no metal
            factor, colour = specular.get("diffuseFactor"), specular.get("diffuseTexture")
            metallic, roughness = 0.0, 1.0 - _number(specular.get("glossinessFactor"), 1.0)
        wanted = {
            "baseColorTexture": colour,
            "metallicRoughnessTexture": None if specular else pbr.get("metallicRoughnessTexture"),
            "normalTexture": material.get("normalTexture"),
            "emissiveTexture": material.get("emissiveTexture"),
        }
        placed = {key: found for key, info in wanted.items() if (found := self._placed(info)) is not None}
        first = next(iter(placed.values()), None)
        for key, found in list(placed.items()):
            if first is not None and found.place != first.place:
                self.reading.warn(f"{key} of {name} not used: it lies otherwise than the base colour")
                del placed[key]
        for key in ("occlusionTexture", "specularGlossinessTexture"):
            if isinstance({**material, **specular}.get(key), dict):
                self.reading.warn(f"{key} of {name} not used")
        base = placed.pop("baseColorTexture", None)
        made = finished(
            str(material["name"]) if "name" in material else None,
            _vector(factor, WHITE),
            metallic,
            roughness,
            None if base is None else base.picture,
            self.reading.min_opacity,
            (REPEAT, REPEAT) if first is None else first.wrap,
        )
        if "emissiveFactor" in material:
            made.emissiveFactor = _vector(material["emissiveFactor"], (0.0, 0.0, 0.0))
        for key, found in placed.items():
            setattr(made, key, found.picture)
        if material.get("alphaMode", "OPAQUE") == "OPAQUE":
            made.alphaMode, made.alphaCutoff = None, None
            made.baseColorFactor = (*made.baseColorFactor[:3], 255)
        elif material["alphaMode"] == "MASK":
            made.alphaMode, made.alphaCutoff = "MASK", _number(material.get("alphaCutoff"), 0.5)
        elif colored:
            made.alphaMode = "BLEND"  # by the vertices' alpha
        if first is None:
            return Look(made)
        matrix = None if first.uv_matrix is None else np.reshape(first.uv_matrix, (2, 3))
        return Look(made, first.uv_set, matrix)

    def _placed(self, info: object) -> _Placed | None:
        """A texture by its reference; None where there is none, or none that can be read."""
        if not isinstance(info, dict):
            return None
        texture = self._entry(self.textures, info.get("index"))
        extensions = _dict(texture, "extensions")
        sources = [_dict(extensions, name).get("source") for name in _SOURCES[:-1] if name in extensions]
        sources += [texture.get("source"), _dict(extensions, _SOURCES[-1]).get("source")]
        pictures = (self._picture(source) for source in sources if source is not None)
        picture = next((found for found in pictures if found is not None), None)
        if picture is None:
            return None
        transform = _dict(_dict(info, "extensions"), _TRANSFORM)
        uv_set = transform.get("texCoord", info.get("texCoord", 0))
        sampler = self._entry(self.samplers, texture.get("sampler"))
        wrap = tuple(sampler.get(key, REPEAT) for key in ("wrapS", "wrapT"))
        matrix = _matrix(transform) if transform else None
        return _Placed(picture, uv_set if isinstance(uv_set, int) else 0, matrix, (wrap[0], wrap[1]))

    def _picture(self, source: object) -> Image.Image | None:
        image = self._entry(self.images, source)
        uri = image.get("uri")
        named = image.get("name") or (
            "" if not isinstance(uri, str) or uri.startswith("data:") else posixpath.basename(uri)
        )
        name = f"{source} {named}" if named else f"{source}"
        try:
            data = (
                self.accessors.uri(uri) if isinstance(uri, str) else self.accessors.view_bytes(image.get("bufferView"))
            )
        except Missing:
            return None
        except Broken as error:
            self.reading.warn(f"unreadable texture {name}: {error}")
            return None
        return self.reading.textures(name, data)

    @staticmethod
    def _entry(listed: list[dict[str, Any]], index: object) -> dict[str, Any]:
        return listed[index] if isinstance(index, int) and 0 <= index < len(listed) else {}


def _matrix(transform: Mapping[str, Any]) -> tuple[float, ...]:
    """KHR_texture_transform as rows of a (2, 3) matrix: scaled, turned clockwise as V points down, and moved."""
    (x, y), (u, v) = _vector(transform.get("offset"), (0.0, 0.0)), _vector(transform.get("scale"), (1.0, 1.0))
    cosine, sine = (turn(_number(transform.get("rotation"), 0.0)) for turn in (math.cos, math.sin))
    return cosine * u, sine * v, x, -sine * u, cosine * v, y


def _dict(entry: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = entry.get(key)
    return found if isinstance(found, dict) else {}


def _number(value: object, otherwise: float) -> float:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else otherwise


def _vector(value: object, otherwise: tuple[float, ...]) -> tuple[float, ...]:
    if not isinstance(value, list) or len(value) != len(otherwise):
        return otherwise
    return tuple(_number(one, instead) for one, instead in zip(value, otherwise, strict=True))
