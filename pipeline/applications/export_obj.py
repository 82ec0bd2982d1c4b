"""Wavefront OBJ: an object `o` for each part, and a library of materials with their textures."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from PIL import Image

from pipeline.applications.export_looks import Look, Looks, NamedSurfaces, displayed, vertex_colours
from pipeline.applications.export_text import digits, distinct, lines, png
from pipeline.assets.materials import CLAMP
from pipeline.assets.surface import Surface


def obj_files(stem: str, parts: Sequence[NamedSurfaces], notice: str) -> dict[str, bytes]:
    """STEM.obj, STEM.mtl and its textures STEM-1.png, STEM-2.png and so on, by their names.

    Corners of a surface that lie in one place are one vertex, so that what is closed stays closed. Colours are sRGB.
    """
    looks = Looks()
    decimals = digits(parts)
    text = [*(f"# {line}" for line in notice.splitlines()), f"mtllib {stem}.mtl"]
    counts = np.zeros(3, int)
    for name, surfaces in parts:
        text.append(f"o {' '.join(name.split())}")
        for surface in surfaces:
            text += [f"usemtl {looks(surface).name}", *_statements(surface, decimals, counts)]
    library, textures = _library(stem, looks.all)
    return {f"{stem}.obj": _encoded(text), f"{stem}.mtl": _encoded(library), **textures}


def _statements(surface: Surface, decimals: int, counts: np.ndarray) -> list[str]:
    """The corners and faces of a surface; `counts`, (3,), of the v, vt and vn so far, goes up."""
    colours = vertex_colours(surface)
    place, position = f"%.{decimals}f", surface.vertices.round(decimals)
    position = position if colours is None else np.hstack([position, colours[:, :3]])
    kinds = [
        ("v", f"{place} {place} {place}{'' if colours is None else ' %.5f' * 3}", position),
        ("vt", "%.7g %.7g", surface.uv),
        ("vn", "%.6g %.6g %.6g", surface.normals),
    ]
    text: list[str] = []
    corners: list[np.ndarray | None] = []
    for number, (key, template, values) in enumerate(kinds):
        if values is None:
            corners.append(None)
            continue
        rows, index = distinct(values)
        text.append(lines(f"{key} {template}", rows))
        corners.append(index[surface.faces] + 1 + counts[number])
        counts[number] += len(rows)
    v, vt, vn = corners
    corner = "%d" + ("" if vt is None and vn is None else "/" if vt is None else "/%d") + ("" if vn is None else "/%d")
    present = [one for one in (v, vt, vn) if one is not None]
    return [*text, lines(f"f {corner} {corner} {corner}", np.stack(present, axis=2).reshape(len(surface.faces), -1))]


def _library(stem: str, looks: Sequence[Look]) -> tuple[list[str], dict[str, bytes]]:
    """The statements of a library of materials, and its textures by their files' names."""
    names: dict[int, str] = {}
    shown: list[Image.Image] = []  # kept, as their ids are
    text = []
    for look in looks:
        material = look.material
        text += [
            f"newmtl {look.name}",
            _values("Kd", (1.0, 1.0, 1.0) if look.picture is not None or look.colored else look.colour_4[:3]),
            _values("d", look.colour_4[3:]),
        ]
        if material.emissiveFactor is not None and any(material.emissiveFactor):
            text.append(_values("Ke", displayed(np.append(material.emissiveFactor, 1.0))[:3]))
        if material.metallicFactor is not None:
            text.append(_values("Pm", [material.metallicFactor]))
        if material.roughnessFactor is not None:
            text.append(_values("Pr", [material.roughnessFactor]))
        clamp = "-clamp on " if material.wrap == (CLAMP, CLAMP) else ""
        for statement, picture in _maps(look):
            if id(picture) not in names:
                shown.append(picture)
                names[id(picture)] = f"{stem}-{len(shown)}.png"
            text.append(f"{statement} {clamp}{names[id(picture)]}")
    return text, {names[id(picture)]: png(picture) for picture in shown}


def _maps(look: Look) -> Iterator[tuple[str, Image.Image]]:
    material = look.material
    if look.picture is not None:
        yield "map_Kd", look.picture
        if look.picture.mode == "RGBA":
            yield "map_d", look.picture
    if material.emissiveTexture is not None:
        yield "map_Ke", material.emissiveTexture
    if material.metallicRoughnessTexture is not None:
        _, roughness, metallic, *_ = material.metallicRoughnessTexture.convert("RGB").split()
        yield from (("map_Pr", roughness), ("map_Pm", metallic))
    if material.normalTexture is not None:
        yield "norm", material.normalTexture


def _values(statement: str, values: Iterable[float]) -> str:
    return " ".join([statement, *(f"{value:.5g}" for value in values)])


def _encoded(text: Sequence[str]) -> bytes:
    return "\n".join([*text, ""]).encode()
