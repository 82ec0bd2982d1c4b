"""Material libraries of OBJ files, in time linear in their size."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from pipeline.assets.reasons import as_text
from pipeline.assets.references import BYTE_ORDER_MARK

_OPTION = re.compile(
    r"-(?:([ost])((?:[ \t]+[-+]?\.?\d[-+.\deE]*){1,3})|(mm)[ \t]+(\S+[ \t]+\S+)|([a-zA-Z]+)[ \t]+(\S+))[ \t]+"
)
_USED = ("map_kd", "map_d")
_TEXTURES = ("map_", "bump", "disp", "decal", "refl", "norm")
_VALUES = ("kd", "ke", "d", "tr", "ns", "pm", "pr")


@dataclass(frozen=True)
class MtlTexture:
    """A texture statement of a material."""

    file: str
    """As it is written."""
    options: dict[str, list[str]]
    """Words by letter, such as `s` and `o` for scale and offset."""


@dataclass
class MtlMaterial:
    """A material of a library."""

    name: str
    values: dict[str, list[float]] = field(default_factory=dict)
    """Numbers by statement in lower case, of those that are used."""
    textures: dict[str, MtlTexture] = field(default_factory=dict)
    """By statement in lower case, of those that are used: map_kd and map_d."""
    unused: list[str] = field(default_factory=list)
    """Texture statements that are not used."""


def read_mtl(contents: bytes) -> Iterator[MtlMaterial]:
    """The materials of a library."""
    material = None
    for line in contents.removeprefix(BYTE_ORDER_MARK).replace(b"\r", b"\n").split(b"\n"):
        statement, _, rest = as_text(line).replace("\t", " ").strip().partition(" ")
        key, rest = statement.lower(), rest.strip()
        if key == "newmtl":
            if material is not None:
                yield material
            material = MtlMaterial(rest)
        elif material is None or not rest:
            continue
        elif key in _VALUES:
            material.values[key] = _numbers(rest)
        elif key in _USED:
            material.textures[key] = texture_statement(rest)
        elif key.startswith(_TEXTURES):
            material.unused.append(statement)
    if material is not None:
        yield material


def mtl_textures(contents: bytes) -> list[str]:
    """The files of a library's textures that are used, as they are written."""
    return [texture.file for material in read_mtl(contents) for texture in material.textures.values()]


def texture_statement(value: str) -> MtlTexture:
    """The file that a texture statement names, after its options (`-s 1 1 1 wood.png`)."""
    value, start = value.strip(), 0
    options = {}
    while option := _OPTION.match(value, start):
        letter, words = next((option[k], option[k + 1]) for k in (1, 3, 5) if option[k])
        options[letter] = words.split()
        start = option.end()
    return MtlTexture(value[start:].strip().strip('"'), options)


def _numbers(rest: str) -> list[float]:
    """The numbers of a statement; words such as `-halo` and comments are passed over."""
    found = []
    for word in rest.partition("#")[0].split():
        try:
            found.append(float(word))
        except ValueError:
            continue
    return found
