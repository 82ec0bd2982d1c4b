"""Reading OBJ files."""

import io
from array import array
from dataclasses import dataclass, field

import numpy as np

from pipeline.assets.materials import Look, display_colours, mtl_look, plain
from pipeline.assets.mtl import MtlMaterial, read_mtl
from pipeline.assets.polygons import Polygons, distinct_corners, triangulate
from pipeline.assets.reading import Reading
from pipeline.assets.reasons import ObjectDropped, as_text, point_cloud, shortened
from pipeline.assets.references import BYTE_ORDER_MARK, obj_libraries
from pipeline.assets.surface import Piece, Surface

_LONGEST_LINE = 4_000_000
_ABSENT = -1
_LEFT_OUT = {
    b"l": "lines",
    b"p": "points",
    b"curv": "free-form curves",
    b"curv2": "free-form curves",
    b"surf": "free-form surfaces",
}
_COLUMNS = {b"v": 3, b"vt": 2, b"vn": 3}


@dataclass
class _Statements:
    """What an OBJ says, line by line."""

    values: dict[bytes, "array[float]"] = field(default_factory=lambda: {key: array("d") for key in _COLUMNS})
    """Of v, vt and vn, three, two and three numbers each."""
    colors: dict[int, list[float]] = field(default_factory=dict)
    """Of the vertices that have one, red, green, blue and perhaps alpha."""
    corners: "array[int]" = field(default_factory=lambda: array("q"))
    """Three for each corner: numbers from 0 of its v, vt and vn, or _ABSENT."""
    faces: "array[int]" = field(default_factory=lambda: array("q"))
    """Four for each face: its number of corners, object, group and material, the latter as places in `names`."""
    names: dict[str, int] = field(default_factory=lambda: {"": 0})
    broken: int = 0
    """Lines that could not be read."""


def load_obj(reading: Reading) -> list[Piece]:
    """An OBJ by its objects (`o`), or by its groups (`g`) where it has at most one object, and by its materials.

    Polygons are triangulated as they lie, negative indices count from the last vertex so far, colours of vertices are
    sRGB. ObjectDropped for more triangles than allowed, and for a file without faces.
    """
    said = _Statements()
    _read(reading, said)
    positions, uvs, normals = (np.array(said.values[key]).reshape(-1, columns) for key, columns in _COLUMNS.items())
    corners, faces = np.array(said.corners, np.int64).reshape(-1, 3), np.array(said.faces, np.int64).reshape(-1, 4)
    limits = np.array([len(positions), len(uvs), len(normals)])
    bad = ((corners >= limits) | (corners < _ABSENT)) | ((corners == _ABSENT) & (np.arange(3) == 0))
    corners[:, 1:][bad[:, 1:]] = _ABSENT
    owner = np.repeat(np.arange(len(faces)), faces[:, 0])
    whole = np.ones(len(faces), bool)
    whole[owner[bad[:, 0]]] = False
    if said.broken or not whole.all():
        reading.warn(f"{said.broken + int((~whole).sum())} lines that could not be read, left out")
    corners, faces = corners[whole[owner]], faces[whole]
    if len(positions) and not len(faces) and not reading.warnings:
        raise ObjectDropped(point_cloud(len(positions)))
    triangles, owners = triangulate(Polygons(corners[:, 0], faces[:, 0]), positions)
    return _pieces(reading, said, faces[owners], corners[triangles], (positions, uvs, normals))


def _read(reading: Reading, said: _Statements) -> None:
    contents = reading.contents.removeprefix(BYTE_ORDER_MARK).replace(b"\\\r\n", b" ").replace(b"\\\n", b" ")
    if b"\n" not in contents:
        contents = contents.replace(b"\r", b"\n")
    using = {b"o": 0, b"g": 0, b"usemtl": 0}
    for line in io.BytesIO(contents):
        if len(line) > _LONGEST_LINE:
            raise ObjectDropped(f"a line of {len(line)} bytes; export it again")
        words = line.split()
        key = words[0] if words else b""
        try:
            if key in _COLUMNS:
                _numbers(said, key, words)
            elif key == b"f":
                _face(reading, said, words, using)
            elif key in using:
                name = as_text(line.strip()[len(key) :].strip())
                using[key] = said.names.setdefault(name, len(said.names))
            elif key in _LEFT_OUT:
                reading.warn(f"{_LEFT_OUT[key]} left out")
        except (ValueError, IndexError, OverflowError):
            said.broken += 1


def _numbers(said: _Statements, key: bytes, words: list[bytes]) -> None:
    columns, values = _COLUMNS[key], said.values[key]
    read = [0.0] * columns
    said_here = [float(word) for word in words[1 : 1 + columns]]
    read[: len(said_here)] = said_here
    values.extend(read)
    if key == b"v" and len(words) > 6:
        said.colors[len(values) // 3 - 1] = [float(word) for word in words[4:8]]


def _face(reading: Reading, said: _Statements, words: list[bytes], using: dict[bytes, int]) -> None:
    corners: list[int] = []
    numbers = [len(said.values[key]) // columns for key, columns in _COLUMNS.items()]
    for word in words[1:]:
        if word.startswith(b"#"):
            break
        parts = [*word.split(b"/"), b"", b""][:3]
        for part, count in zip(parts, numbers, strict=True):
            index = int(part) if part else 0
            corners.append(index - 1 if index > 0 else count + index if index < 0 else _ABSENT)
    count = len(corners) // 3
    if count < 3:
        reading.warn("faces of fewer than three corners left out")
        return
    reading.count(count - 2)
    said.corners.extend(corners)
    said.faces.extend((count, using[b"o"], using[b"g"], using[b"usemtl"]))


def _pieces(
    reading: Reading,
    said: _Statements,
    faces: np.ndarray,
    corners: np.ndarray,
    values: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> list[Piece]:
    """By what triangles belong to, (T, 4) as `_Statements.faces`, and their corners (T, 3, 3)."""
    objects = np.unique(faces[:, 1])
    by_objects = not faces[:, 2].any() or len(objects[objects > 0]) > 1
    node = np.where(faces[:, 1] > 0, faces[:, 1], faces[:, 2]) if by_objects else faces[:, 2]
    names, looks = list(said.names), _Looks(reading)
    keys = np.stack([node, faces[:, 3]], axis=1)
    distinct, first, index = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(index.reshape(-1), kind="stable")
    bounds = np.searchsorted(index.reshape(-1)[order], np.arange(len(distinct) + 1))
    pieces = []
    for place in np.argsort(first):
        name, material = (names[number] for number in distinct[place])
        taken = corners[order[bounds[place] : bounds[place + 1]]]
        colored = bool(said.colors) and any(int(v) in said.colors for v in np.unique(taken[..., 0]))
        look = looks(material, colored)
        surface = _surface(taken, values, said.colors if colored else {}, look)
        pieces.append(Piece(name, name, shortened(material, 200) if material else "", surface))
    return pieces


def _surface(
    corners: np.ndarray, values: tuple[np.ndarray, np.ndarray, np.ndarray], colors: dict[int, list[float]], look: Look
) -> Surface:
    positions, uvs, normals = values
    first, kinds = distinct_corners([corners[..., k].reshape(-1) for k in range(3)])
    v, t, n = corners.reshape(-1, 3)[first].T
    uv = np.where((t >= 0)[:, None], uvs[t], 0.0) if len(uvs) and (t >= 0).any() else None
    return Surface(
        positions[v],
        kinds.reshape(-1, 3),
        normals[n] if len(normals) and (n >= 0).all() else None,
        None if uv is None else look.uv(uv),
        _colours(v, colors) if colors else None,
        look.material,
    )


def _colours(vertices: np.ndarray, colors: dict[int, list[float]]) -> np.ndarray:
    values = np.ones((len(vertices), 4))
    for row, vertex in zip(values, vertices, strict=True):
        if color := colors.get(int(vertex)):
            row[: len(color)] = color
    return display_colours(values)


class _Looks:
    """The materials of an OBJ by name, each made once."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self.known: dict[str, MtlMaterial] = {}
        for _, library in obj_libraries(reading.contents, reading.bundle.find):
            for material in read_mtl(library or b""):
                self.known.setdefault(material.name, material)
        self._done: dict[tuple[str, bool], Look] = {}

    def __call__(self, name: str, colored: bool) -> Look:
        known = next((found for found in (name, name.partition(" #")[0].strip()) if found in self.known), None)
        if known is None and name and self.known:
            self.reading.warn(f"material {shortened(name)} is in no library")
        key = (name if known is None else known, known is None and colored)
        if key not in self._done:
            reading = self.reading
            self._done[key] = (
                plain(reading.min_opacity, colored, name or None)
                if known is None
                else mtl_look(self.known[known], reading.bundle.find, reading.textures, reading.min_opacity)
            )
        return self._done[key]
