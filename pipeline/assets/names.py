"""Names: of parts, without the suffixes of modelling tools, and of the groups that a split keeps together."""

import re
from collections.abc import Iterable

MAX_NAME_BYTES = 60
"""Blender cuts an object's name at 63 bytes."""

_IMAGE_SUFFIX = re.compile(r"\.(?:jpe?g|png|tga|bmp|tiff?)$", re.IGNORECASE)
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z][a-z])|(?<=[a-z]{2})(?=[A-Z])")


def _words_of(text: str) -> frozenset[str]:
    return frozenset(text.split())


_PRIMITIVES = _words_of(
    """
    Bezier BezierCircle BezierCurve Circle Cone Cube Curve Cylinder Grid Icosphere Mball Mesh Nurbs NurbsCircle
    NurbsCurve NurbsPath Path Plane Sphere Suzanne Text Torus Untitled
    """
)
"""Blender's names of meshes, with its capitals: `Glass_Plane` is a glass, `air_plane` stays."""
_EMPTY_WORDS = _words_of(
    """
    blinn default empty geometry group initial lambert mat material mesh model node none null obj object
    part phong polygon polysurface root scene shading shape standard sweethome3d unnamed world
    """
)
"""What Maya, SketchUp, 3ds Max and exporters write where the artist wrote nothing."""

_POSES = _words_of("holding lying pose running sit sitting standing walking with")
_VARIANT_WORDS = _POSES | _words_of(
    """
    big closed down flat folded large left little open opened right round rounded small square textured type
    white whites
    """
)
"""Words that tell variants of one object apart."""


def clean_name(raw: str) -> str:
    """A part's name in plain words, or nothing when only a tool's own name was there.

    `left_cushion_Cube.002` -> `left cushion`, `WheelHub_Circle.000` -> `wheel hub`, `Sink_Sink_Top` -> `sink top`,
    `Cube.001` -> ``. Everything that is not a tool's suffix survives, quotes, markup and emoji too.
    """
    # Blender's `OBJECT.001_MESH.002`: what stands before a number is one name; the object's says more than the mesh's.
    for piece in re.split(r"\.\d{3,}(?:_|$)", _IMAGE_SUFFIX.sub("", raw)):
        words = [word.lower() for word in _words(piece) if word.rstrip("0123456789") not in _PRIMITIVES]
        words = _once([word for word in words if word.rstrip("0123456789") not in _EMPTY_WORDS])
        while words and words[-1].isdigit():
            words.pop()
        if words:
            words[-1] = re.sub(r"(?<=[^\W\d]{3})\d+$", "", words[-1])
            return cut_bytes(" ".join(words), MAX_NAME_BYTES)
    return ""


def unique_names(names: Iterable[str]) -> list[str]:
    """The same names, where a repeated one gets a number: `leg`, `leg 2`; empty ones become `part`."""
    seen: set[str] = set()
    result = []
    for name in names:
        base = name or "part"
        candidate, number = base, 1
        while candidate in seen:
            number += 1
            suffix = f" {number}"
            candidate = cut_bytes(base, MAX_NAME_BYTES - len(suffix)) + suffix
        seen.add(candidate)
        result.append(candidate)
    return result


def name_group(stem: str) -> str:
    """What the variants of an object have in common: `speaker2` -> `speaker`, `window_2x3_arched` -> `window`.

    `stem` is the object's file name without folders and suffix. The words from the first number or pose on are left
    out, and what only tells variants apart; without spaces, so that `arm chair` and `armchair` are one.
    """
    kept: list[str] = []
    for word in map(str.lower, _words(stem)):
        letters = word.rstrip("0123456789")
        if any(character.isdigit() for character in letters) or (not letters and kept):
            break
        if kept and letters in _POSES:
            break
        if len(letters) > 1 and letters not in _VARIANT_WORDS:
            kept.append(letters)
        if letters != word and kept:
            break
    return "".join(kept) or "".join(_words(stem)).lower()


def cut_bytes(text: str, limit: int) -> str:
    """The longest beginning of `text` that takes at most `limit` bytes of UTF-8."""
    return text.encode()[:limit].decode(errors="ignore").rstrip()


def _words(text: str) -> list[str]:
    text = "".join(character if character.isprintable() else " " for character in text)
    words = re.split(r"[\s_]+|(?<=\w)[-.](?=\w)|#(?=\d)", _CAMEL.sub(" ", text))
    return [stripped for word in words if (stripped := word.strip(".-"))]


def _once(words: list[str]) -> list[str]:
    """Without the repetitions of exporters that write `OBJECT_MESH_MATERIAL`: `sink sink top` -> `sink top`."""
    start = 0
    while start < len(words):
        for length in range((len(words) - start) // 2, 0, -1):
            if words[start : start + length] == words[start + length : start + 2 * length]:
                del words[start : start + length]
                break
        else:
            start += 1
    return words
