"""Numbers as text and pictures as files, for formats that are text."""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from pipeline.applications.export_looks import NamedSurfaces

_DIGITS = 9
"""Of the size of an object: one more than float32 has, wherever in space the object lies."""


def digits(parts: Sequence[NamedSurfaces]) -> int:
    """How many decimals the coordinates of an object have."""
    vertices = np.concatenate([surface.vertices for _, surfaces in parts for surface in surfaces])
    size = float(np.ptp(vertices, axis=0).max()) or 1.0
    return max(0, _DIGITS - int(np.ceil(np.log10(size))))


def distinct(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each row (R, C) once, and for each row (R,) which one it is."""
    found, index = np.unique(rows + rows.dtype.type(0), axis=0, return_inverse=True)  # -0 as 0
    return found, index.reshape(-1)


def lines(template: str, rows: np.ndarray) -> str:
    """`template` of each row (R, C), one below the other."""
    return "\n".join([template % row for row in map(tuple, rows.tolist())])


def png(picture: Image.Image) -> bytes:
    """A picture as a file."""
    stream = io.BytesIO()
    picture.save(stream, "png")
    return stream.getvalue()
