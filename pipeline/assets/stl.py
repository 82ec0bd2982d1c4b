"""Reading STL files, binary and text."""

import io
import struct

import numpy as np

from pipeline.assets.materials import plain
from pipeline.assets.reading import Reading
from pipeline.assets.reasons import ObjectDropped, as_text
from pipeline.assets.surface import Piece, Surface

_HEADER = 84
_TRIANGLE = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])


def load_stl(reading: Reading) -> list[Piece]:
    """An STL by its solids, of which a text may have several. Bytes after the last triangle are left out, and said.

    Its normals, one a triangle, follow from the corners. ObjectDropped when it is truncated.
    """
    contents = reading.contents
    count = struct.unpack_from("<I", contents, 80)[0] if len(contents) >= _HEADER else -1
    needed = _HEADER + count * _TRIANGLE.itemsize
    text = contents.lstrip()[:5].lower() == b"solid" and b"facet" in contents[:100_000].lower()
    if text and needed != len(contents):
        return _text(reading)
    if count < 0 or needed > len(contents):
        raise ObjectDropped("truncated STL: it has fewer triangles than it says; export or download it again")
    if needed < len(contents):
        reading.warn(f"{len(contents) - needed} bytes after the last triangle left out")
    reading.count(count)
    triangles = np.frombuffer(contents, _TRIANGLE, count, _HEADER)
    if b"COLOR=" in contents[:80] or (triangles["attribute"] & 0x8000).any():
        reading.warn("colours of the triangles not used; save it as PLY or GLB to keep them")
    return [_piece(reading, "", triangles["corners"].reshape(-1, 3).astype(np.float64))]


def _text(reading: Reading) -> list[Piece]:
    solids: dict[str, list[float]] = {}
    corners: list[float] = []
    for line in io.BytesIO(reading.contents.replace(b"\r", b"\n")):
        words = line[:1000].split()
        key = words[0].lower() if words else b""
        if key == b"solid":
            corners = solids.setdefault(as_text(line.strip()[5:].strip()[:1000]), [])
        elif key == b"vertex":
            corners.extend(map(float, words[1:4]))
        elif key == b"facet":
            reading.count(1)
    return [
        _piece(reading, name if len(solids) > 1 else "", np.array(values[: len(values) // 9 * 9]).reshape(-1, 3))
        for name, values in solids.items()
    ]


def _piece(reading: Reading, name: str, corners: np.ndarray) -> Piece:
    look = plain(reading.min_opacity, colored=False)
    vertices, index = np.unique(corners, axis=0, return_inverse=True)
    return Piece(name, name, "", Surface(vertices, index.reshape(-1, 3), None, None, None, look.material))
