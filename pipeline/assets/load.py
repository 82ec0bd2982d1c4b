"""From the files of an object to pieces: the smallest units of geometry with a node (or group) and a material."""

from dataclasses import replace

import numpy as np

from pipeline.assets.bundle import Bundle
from pipeline.assets.gltf import load_gltf
from pipeline.assets.obj import load_obj
from pipeline.assets.ply import load_ply
from pipeline.assets.reading import Reading
from pipeline.assets.reasons import ObjectDropped, said_once, shortened
from pipeline.assets.stl import load_stl
from pipeline.assets.surface import Piece, Up

UPRIGHT = {"y": np.eye(4), "z": np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])}
"""From a file's frame to that of glTF: +Y up, +Z to the front."""
_READERS = {".glb": load_gltf, ".gltf": load_gltf, ".obj": load_obj, ".ply": load_ply, ".stl": load_stl}
_SILENT = (".ply", ".stl")
"""Formats that say nothing of which way is up, and whose files are Z up as often as not."""
MOST_NAME = 1000
"""Characters that are kept of a node's name."""


def load_pieces(
    bundle: Bundle, texture_px: int, min_opacity: float, max_triangles: int, matrix: np.ndarray, up: Up = "y"
) -> tuple[list[Piece], list[str]]:
    """The pieces of an object with an area above zero, stood upright, moved by `matrix` (4, 4), and warnings.

    A mesh that cannot be read is left out, with a warning. ObjectDropped for corrupt files, and for objects without
    area or with too many triangles.
    """
    reading = Reading(bundle, texture_px, min_opacity, max_triangles)
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            loaded = _READERS[bundle.kind](reading)
    except (ObjectDropped, MemoryError):
        raise
    except Exception as error:  # what a broken file leads to cannot all be foreseen
        raise ObjectDropped(f"corrupt {bundle.kind[1:].upper()}: {shortened(error)}; export it again") from None
    if bundle.kind in _SILENT:
        reading.warn(f"{bundle.kind[1:].upper()} does not say which way is up; +{up.upper()} was taken")
    pieces, lost = [], ""
    for piece in loaded:
        kept = _upright(reading, piece, matrix @ UPRIGHT[up])
        if isinstance(kept, Piece):
            pieces.append(kept)
        elif kept and kept != lost:
            lost = kept
            reading.warn(f"mesh {shortened(piece.node_name or piece.material_name)!r} left out: {kept}")
    if not pieces:
        raise ObjectDropped(_why_nothing(reading, loaded, lost))
    return pieces, said_once(reading.warnings)


def _upright(reading: Reading, piece: Piece, matrix: np.ndarray) -> Piece | str:
    """A piece moved by a matrix, with its triangles of an area above zero; why it is left out when none is."""
    surface = piece.surface
    if not len(surface.faces):
        return ""
    if not np.isfinite(surface.vertices[surface.faces]).all():
        return "vertices are not finite"
    if surface.uv is not None and not np.isfinite(surface.uv).all():
        reading.warn("texture coordinates that are not finite, left out")
        surface = replace(surface, uv=None)
    if surface.normals is not None and not np.isfinite(surface.normals).all():
        surface = replace(surface, normals=None)
    with np.errstate(over="ignore", invalid="ignore"):
        surface = surface.transformed(matrix)
        areas = surface.areas()
    if not np.isfinite(areas).all():
        return "vertices are too far apart"
    if not areas.any():
        return "zero area"
    return Piece(piece.node, piece.node_name[:MOST_NAME], piece.material_name[:MOST_NAME], surface.take(areas > 0))


def _why_nothing(reading: Reading, loaded: list[Piece], lost: str) -> str:
    """The reason of an object without a piece: what was left out of it, if anything was."""
    left_out = [warning for warning in said_once(reading.warnings) if "left out" in warning]
    if lost == "zero area":
        return "zero area: the corners of each triangle lie on one line; look whether it was scaled to nothing"
    if lost:
        return lost
    if left_out:
        return f"no triangles: {left_out[0]}"
    return "no triangles: nothing in it has a surface"
