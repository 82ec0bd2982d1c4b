"""Reading PLY files: text and binary, with polygons, strips and colours."""

import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline.assets.materials import ROUGHNESS, WHITE, display_colours, finished, plain
from pipeline.assets.polygons import Polygons, distinct_corners, strip_triangles, triangulate
from pipeline.assets.reading import Reading
from pipeline.assets.reasons import ObjectDropped, as_text, point_cloud, shortened
from pipeline.assets.references import PLY_HEADER, ply_textures
from pipeline.assets.surface import Material, Piece, Surface

_TYPES = {
    **{"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4"},
    **{"float": "f4", "double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2"},
    **{"int32": "i4", "uint32": "u4", "float32": "f4", "float64": "f8"},
}
_ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
_INDICES = ("vertex_indices", "vertex_index")
_COLOURS = (("red", "green", "blue"), ("diffuse_red", "diffuse_green", "diffuse_blue"), ("r", "g", "b"))
_UV = (("s", "t"), ("u", "v"), ("texture_u", "texture_v"))


@dataclass
class _Element:
    """Rows of one kind, such as vertices."""

    name: str
    count: int
    properties: dict[str, tuple[str, str]] = field(default_factory=dict)
    """By name: the type of its values, and of a list's length, else empty."""


Values = dict[str, Any]
"""Of an element by property: (N,) numbers, or a list's lengths (N,) and its numbers one after the other."""


def load_ply(reading: Reading) -> list[Piece]:
    """A PLY: faces of any number of corners, or triangle strips; colours are sRGB, as those of an OBJ.

    What is no face is left out, and said. ObjectDropped for a point cloud and for a file that is not as it says.
    """
    values = read_elements(reading)
    vertex = values.get("vertex", {})
    try:
        positions = np.stack([vertex[axis] for axis in "xyz"], axis=1).astype(np.float64)
    except (KeyError, ValueError):
        raise ObjectDropped("corrupt PLY: its vertices have no x, y and z; export it again") from None
    face = values.get("face", {})
    triangles, wedges = _triangles(reading, values, positions)
    if len(positions) and not len(_indices(face)[0]) and not len(triangles):
        raise ObjectDropped(point_cloud(len(positions)))
    return [_piece(reading, vertex, face, positions, triangles, wedges)]


def read_elements(reading: Reading) -> dict[str, Values]:
    contents = reading.contents
    end = contents.find(b"end_header", 0, PLY_HEADER)
    if not contents.startswith(b"ply") or end < 0:
        raise ObjectDropped("corrupt PLY: no header; export it again")
    order, elements = _header(as_text(contents[:end]).replace("\r", "\n"))
    rest = contents[end + len(b"end_header") :].removeprefix(b"\r")
    body = _Text(rest) if not order else _Binary(rest.removeprefix(b"\n"), order)
    found = {}
    for element in elements:
        values = body.read(element)
        if element.name in ("vertex", "face", "tristrips"):
            found[element.name] = values
        elif element.count:
            reading.warn(f"element {shortened(element.name)} left out")
    return found


def _header(text: str) -> tuple[str, list[_Element]]:
    order, elements = None, list[_Element]()
    try:
        for words in map(str.split, text.splitlines()[1:]):
            match words[:1]:
                case ["format"]:
                    order = _ORDERS[words[1]]
                case ["element"]:
                    elements.append(_Element(words[1], int(words[2])))
                case ["property"]:
                    kinds = (words[3], words[2]) if words[1] == "list" else (words[1], "")
                    elements[-1].properties[words[-1]] = (_TYPES[kinds[0]], _TYPES[kinds[1]] if kinds[1] else "")
    except (KeyError, IndexError, ValueError):
        order = None
    if order is None or any(element.count < 0 for element in elements):
        raise ObjectDropped("corrupt PLY: a header that cannot be read; export it again")
    return order, elements


class _Text:
    """The numbers of a PLY in text."""

    def __init__(self, contents: bytes) -> None:
        with warnings.catch_warnings(action="error"):
            try:
                self.numbers, self.place = np.fromstring(contents, np.float64, sep=" "), 0
            except (ValueError, DeprecationWarning):
                raise ObjectDropped("corrupt PLY: a word instead of a number; export it again") from None

    def read(self, element: _Element) -> Values:
        """The next rows."""
        if not element.properties:
            return {}
        if not any(length for _, length in element.properties.values()):
            columns = len(element.properties)
            rows = self._take(element.count * columns).reshape(element.count, columns)
            kinds = [kind for kind, _ in element.properties.values()]
            return {
                name: column.astype(kind) for name, kind, column in zip(element.properties, kinds, rows.T, strict=True)
            }
        lists: dict[str, list[np.ndarray]] = {name: [] for name in element.properties}
        for _ in range(element.count):
            for name, (kind, length) in element.properties.items():
                lists[name].append(self._take(int(self._take(1)[0]) if length else 1).astype(kind))
        return _joined(element, lists)

    def _take(self, count: int) -> np.ndarray:
        if count < 0 or self.place + count > len(self.numbers):
            raise ObjectDropped("truncated PLY; export or download it again")
        self.place += count
        return self.numbers[self.place - count : self.place]


class _Binary:
    """The numbers of a binary PLY."""

    def __init__(self, contents: bytes, order: str) -> None:
        self.contents, self.order, self.place = contents, order, 0

    def read(self, element: _Element) -> Values:
        """The next rows; at once where all lists are as long as those of the first row, else one by one."""
        if not element.properties:
            return {}
        start, first = self.place, self._row(element) if element.count else {}
        row = np.dtype(
            [
                (f"{name}{part}", self.order + kind, shape)
                for name, (kind, length) in element.properties.items()
                for part, kind, shape in (
                    (("#", length, ()), ("", kind, (len(first.get(name, ())),))) if length else (("", kind, ()),)
                )
            ]
        )
        if element.count and len(self.contents) >= start + element.count * row.itemsize:
            rows = np.frombuffer(self.contents, row, element.count, start)
            if all((rows[f"{name}#"] == len(first[name])).all() for name, (_, n) in element.properties.items() if n):
                self.place = start + element.count * row.itemsize
                return {
                    name: (rows[f"{name}#"].astype(np.int64), rows[name].reshape(-1)) if length else rows[name]
                    for name, (_, length) in element.properties.items()
                }
        self.place = start
        lists: dict[str, list[np.ndarray]] = {name: [] for name in element.properties}
        for _ in range(element.count):
            for name, values in self._row(element).items():
                lists[name].append(values)
        return _joined(element, lists)

    def _row(self, element: _Element) -> dict[str, np.ndarray]:
        return {
            name: self._take(kind, int(self._take(length, 1)[0]) if length else 1)
            for name, (kind, length) in element.properties.items()
        }

    def _take(self, kind: str, count: int) -> np.ndarray:
        dtype = np.dtype(self.order + kind)
        if count < 0 or self.place + count * dtype.itemsize > len(self.contents):
            raise ObjectDropped("truncated PLY; export or download it again")
        found = np.frombuffer(self.contents, dtype, count, self.place)
        self.place += found.nbytes
        return found


def _joined(element: _Element, rows: dict[str, list[np.ndarray]]) -> Values:
    values: Values = {}
    for name, (_, length) in element.properties.items():
        flat = np.concatenate(rows[name]) if rows[name] else np.zeros(0)
        values[name] = (np.array([len(row) for row in rows[name]], np.int64), flat) if length else flat
    return values


def _triangles(reading: Reading, values: dict[str, Values], positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Triangles (T, 3) of vertices, and of their corners' places in the faces' lists; -1 in those of strips."""
    face, strips = values.get("face", {}), values.get("tristrips", {})
    counts, listed = _indices(face)
    reading.count(int(np.maximum(counts - 2, 0).sum()))
    owner, bad = np.repeat(np.arange(len(counts)), counts), (listed < 0) | (listed >= len(positions))
    whole = np.ones(len(counts), bool)
    whole[owner[bad]] = False
    if not whole.all():
        reading.warn(f"{np.sum(~whole)} faces that refer to vertices that do not exist, left out")
    kept = np.flatnonzero(whole[owner])
    places = kept[triangulate(Polygons(listed[kept], counts[whole]), positions)[0]]
    found, wedges = [listed[places]], [places]
    for name in _INDICES:
        for run in _runs(strips[name][1].astype(np.int64)) if name in strips else ():
            made = strip_triangles(run[run < len(positions)])
            reading.count(len(made))
            found.append(made)
            wedges.append(np.full_like(made, -1))
    return np.concatenate(found), np.concatenate(wedges)


def _runs(indices: np.ndarray) -> list[np.ndarray]:
    """A list of strips with a -1 after each."""
    return [run[run >= 0] for run in np.split(indices, np.flatnonzero(indices < 0))]


def _indices(face: Values) -> tuple[np.ndarray, np.ndarray]:
    """Of the faces, their numbers of corners and all corners."""
    counts, listed = next((face[name] for name in _INDICES if name in face), (np.zeros(0), np.zeros(0)))
    return counts.astype(np.int64), listed.astype(np.int64)


def _piece(
    reading: Reading, vertex: Values, face: Values, positions: np.ndarray, triangles: np.ndarray, wedges: np.ndarray
) -> Piece:
    """The whole file; colours of faces and texture coordinates of corners make several vertices of one."""
    corners, places = triangles.reshape(-1), wedges.reshape(-1)
    uv = next((np.stack([vertex[k] for k in pair], axis=1) for pair in _UV if set(pair) <= vertex.keys()), None)
    colors, normals = _colours(vertex), None
    if {"nx", "ny", "nz"} <= vertex.keys():
        normals = np.stack([vertex[axis] for axis in ("nx", "ny", "nz")], axis=1).astype(np.float64)
    counts, _ = _indices(face)
    uv = None if uv is None else uv[corners]
    colors = None if colors is None else colors[corners]
    kinds = [corners]
    if (places >= 0).all():
        wedge_uv, face_colors = face.get("texcoord"), _colours(face)
        if isinstance(wedge_uv, tuple) and (wedge_uv[0] == 2 * counts).all():
            uv = wedge_uv[1].reshape(-1, 2)[places]
            kinds += [uv[:, 0], uv[:, 1]]
        if colors is None and face_colors is not None:
            owner = np.repeat(np.arange(len(counts)), counts)[places]
            colors = face_colors[owner]
            kinds.append(owner)
    first, faces = distinct_corners(kinds)
    vertices = corners[first]
    look = _look(reading, colors is not None, uv is not None)
    surface = Surface(
        positions[vertices],
        faces.reshape(-1, 3),
        None if normals is None else normals[vertices],
        None if uv is None else uv[first].astype(np.float64),
        None if colors is None else colors[first],
        look,
    )
    return Piece("", "", "", surface)


def _look(reading: Reading, colored: bool, has_uv: bool) -> Material:
    """The first texture that the file names and that is there, else none."""
    names = ply_textures(reading.contents)
    for name in names if has_uv else ():
        data = reading.bundle.find(name)
        picture = None if data is None else reading.textures(name, data)
        if len(names) > 1:
            reading.warn(f"of {len(names)} textures, {shortened(name)} is used for all faces")
        if picture is not None:
            return finished(None, WHITE, 0.0, ROUGHNESS, picture, reading.min_opacity)
    for name in names if not has_uv else ():
        reading.warn(f"texture {shortened(name)} not used: the file has no texture coordinates")
    return plain(reading.min_opacity, colored).material


def _colours(rows: Values) -> np.ndarray | None:
    """Colours of vertices or faces, (N, 4) float32, linear; None where they have none."""
    for names in _COLOURS:
        if set(names) <= rows.keys():
            columns = [rows[name] for name in (*names, *(("alpha",) if "alpha" in rows else ()))]
            values = np.stack([_unit(column) for column in columns], axis=1)
            return display_colours(values)
    return None


def _unit(column: np.ndarray) -> np.ndarray:
    """A channel in [0, 1]; whole numbers are a share of their type's largest."""
    kind = column.dtype
    return column / np.iinfo(kind).max if kind.kind in "iu" else column.astype(np.float64)
