"""3MF: an object for each part, coloured by the materials extension, of which trimesh knows nothing."""

import io
import zipfile
from collections.abc import Sequence
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from pipeline.applications.export_looks import Look, Looks, NamedSurfaces, vertex_colours
from pipeline.applications.export_text import digits, distinct, lines, png
from pipeline.assets.materials import CLAMP
from pipeline.assets.surface import REPEAT, Surface

_CORE = "http://schemas.microsoft.com/3dmanufacturing/core/2015/02"
_MATERIALS = "http://schemas.microsoft.com/3dmanufacturing/material/2015/02"
_KINDS = "http://schemas.microsoft.com/3dmanufacturing/2013/01"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'
_TYPES = (
    f'{_HEAD}<Types xmlns="{_PACKAGE}/content-types">'
    '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    '<Default Extension="model" ContentType="application/vnd.ms-package.3dmanufacturing-3dmodel+xml"/>'
    '<Default Extension="png" ContentType="image/png"/></Types>'
)
_MODEL, _TEXTURES = "3D/3dmodel.model", "3D/_rels/3dmodel.model.rels"
_TRIANGLE = '<triangle v1="%d" v2="%d" v3="%d" pid="{}" p1="%d"{}/>'
_COLOUR = "#%02X%02X%02X%02X"
_OTHERS = ' p2="%d" p3="%d"'
_WRAPS = {REPEAT: "wrap", CLAMP: "clamp"}
_UV_DECIMALS = 7
_BASE = 1
"""The number of the group of base materials."""
_FIRST_DAY = (1980, 1, 1, 0, 0, 0)
"""Of ZIP: the same object gives the same bytes."""


def threemf(parts: Sequence[NamedSurfaces], name: str, notice: str, unit: str) -> bytes:
    """The 3MF of parts, in place; `unit` is one of 3MF's, such as `meter`.

    Corners of a part that lie in one place are one vertex, so that what is closed stays closed. Triangles have a base
    material, colours at their corners, or a texture, which is kept alone where both come together.
    """
    model = _Model(digits(parts))
    for part, surfaces in parts:
        model.add(part, surfaces)
    known = (("Title", name), ("Copyright", notice), ("Application", "PartGen"))
    said = "".join(f'<metadata name="{key}">{_text(value)}</metadata>' for key, value in known if value)
    items = "".join(f'<item objectid="{number}"/>' for number in model.objects)
    content = (
        f'{_HEAD}<model unit="{unit}" xml:lang="en-US" xmlns="{_CORE}" xmlns:m="{_MATERIALS}">{said}'
        f"<resources>{model.base_materials()}{''.join(model.resources)}</resources><build>{items}</build></model>"
    )
    files: dict[str, str | bytes] = {
        "[Content_Types].xml": _TYPES,
        "_rels/.rels": _related([f"/{_MODEL}"], "3dmodel"),
        _MODEL: content,
        **({_TEXTURES: _related([f"/{file}" for file in model.textures], "3dtexture")} if model.textures else {}),
        **model.textures,
    }
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for file, data in files.items():
            archive.writestr(zipfile.ZipInfo(file, _FIRST_DAY), data, zipfile.ZIP_DEFLATED)
    return stream.getvalue()


class _Model:
    """What a model has, in the order in which it must be said."""

    def __init__(self, decimals: int) -> None:
        self.decimals = decimals
        self.objects: list[int] = []
        self.resources: list[str] = []
        self.textures: dict[str, bytes] = {}
        """Of the archive, by their files' names."""
        self._looks = Looks()
        self._plain: dict[str, int] = {}
        """Elements `base`, and their places in the group."""
        self._textures: dict[tuple[int, tuple[int, int]], int] = {}
        """Their numbers by the picture and how it is repeated."""
        self._last = _BASE

    def add(self, name: str, surfaces: Sequence[Surface]) -> None:
        """A part as an object."""
        points = np.concatenate([surface.vertices for surface in surfaces]).round(self.decimals)
        vertices, index = distinct(points)
        triangles: list[str] = []
        first, start = (0, 0), 0
        for surface in surfaces:
            group, corners = self._property(surface)
            faces = index[surface.faces + start]
            start += len(surface.vertices)
            whole = (faces != np.roll(faces, 1, axis=1)).all(axis=1)  # 3MF has no triangle with a corner twice
            first = first if triangles else (group, int(corners[0, 0]))
            rows = np.hstack([faces, corners])[whole]
            one = (corners == corners[:, :1]).all()
            triangles.append(lines(_TRIANGLE.format(group, "" if one else _OTHERS), rows[:, : 4 if one else 6]))
        place = f"%.{self.decimals}f"
        self.objects.append(self._next())
        self.resources.append(
            f'<object id="{self._last}" type="model" name={quoteattr(_plain(name))} pid="{first[0]}" '
            f'pindex="{first[1]}"><mesh><vertices>'
            + lines(f'<vertex x="{place}" y="{place}" z="{place}"/>', vertices)
            + f"</vertices><triangles>{''.join(triangles)}</triangles></mesh></object>"
        )

    def base_materials(self) -> str:
        """The group of all materials that are one colour."""
        return f'<basematerials id="{_BASE}">{"".join(self._plain)}</basematerials>' if self._plain else ""

    def _property(self, surface: Surface) -> tuple[int, np.ndarray]:
        """A property group, and the corners' places in it, (F, 3)."""
        look, colours = self._looks(surface), vertex_colours(surface)
        if look.picture is not None and surface.uv is not None:
            texture = self._texture(look)
            rows, index = distinct(surface.uv.round(_UV_DECIMALS))
            coordinates = lines(f'<m:tex2coord u="%.{_UV_DECIMALS}f" v="%.{_UV_DECIMALS}f"/>', rows)
            number = self._next()
            self.resources.append(f'<m:texture2dgroup id="{number}" texid="{texture}">{coordinates}</m:texture2dgroup>')
            return number, index[surface.faces]
        if colours is not None:
            rows, index = distinct(_bytes(colours))
            number = self._next()
            entries = lines(f'<m:color color="{_COLOUR}"/>', rows)
            self.resources.append(f'<m:colorgroup id="{number}">{entries}</m:colorgroup>')
            return number, index[surface.faces]
        shade = lines(_COLOUR, _bytes(look.colour_4[None]))
        entry = f'<base name={quoteattr(_plain(look.material.name or look.name))} displaycolor="{shade}"/>'
        return _BASE, np.full(surface.faces.shape, self._plain.setdefault(entry, len(self._plain)))

    def _texture(self, look: Look) -> int:
        picture, wrap = look.picture, look.material.wrap
        assert picture is not None
        key = (id(picture), wrap)
        if key not in self._textures:
            file = f"3D/Textures/{len(self.textures) + 1}.png"
            self.textures[file] = png(picture)
            self._textures[key] = self._next()
            u, v = (_WRAPS.get(one, "mirror") for one in wrap)
            self.resources.append(
                f'<m:texture2d id="{self._last}" path="/{file}" contenttype="image/png" '
                f'tilestyleu="{u}" tilestylev="{v}"/>'
            )
        return self._textures[key]

    def _next(self) -> int:
        self._last += 1
        return self._last


def _related(targets: Sequence[str], kind: str) -> str:
    entries = "".join(
        f'<Relationship Target="{target}" Id="rel{number}" Type="{_KINDS}/{kind}"/>'
        for number, target in enumerate(targets)
    )
    return f'{_HEAD}<Relationships xmlns="{_PACKAGE}/relationships">{entries}</Relationships>'


def _bytes(colours: np.ndarray) -> np.ndarray:
    return np.rint(colours * 255).astype(int)


def _plain(text: str) -> str:
    """Without what XML cannot hold."""
    return "".join(one if one.isprintable() else " " for one in text)


def _text(text: str) -> str:
    return escape(_plain(text))
