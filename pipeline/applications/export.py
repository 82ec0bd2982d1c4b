"""Results in other formats than GLB, with the parts, names, materials and colours that each of them can hold."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from trimesh import Trimesh
from trimesh.exchange.stl import export_stl

from pipeline.applications.export_3mf import threemf
from pipeline.applications.export_looks import NamedSurfaces, is_textured, sampled_colours
from pipeline.applications.export_obj import obj_files
from pipeline.assets.bundle import Bundle
from pipeline.assets.load import load_pieces
from pipeline.assets.surface import Surface
from pipeline.errors import Invalid, NoSurface, UserError, nearest
from pipeline.folders import written

if TYPE_CHECKING:
    from pipeline.applications.result import PartObject

FORMATS = ("glb", "obj", "stl", "ply", "3mf")
FILE_NAME = "object"
_MOST_TEXTURE_PX = 1 << 15
_OF_NO_UNIT = (".obj", ".ply", ".stl")
"""Files whose numbers programs take for millimetres; those of glTF are metres."""
_STL = "STL holds geometry alone: in object.stl the parts are one surface, without names, materials and colours."
_PLY = "PLY holds colours at vertices alone: for object.ply the textures were sampled there, without what lies between."


def check_formats(formats: Sequence[str]) -> tuple[str, ...]:
    """Each once, in lower case and without a dot; UserError for one that is not among `FORMATS`."""
    found = dict.fromkeys(one.strip().lower().removeprefix(".") for one in formats)
    for one in found:
        if one not in FORMATS:
            raise Invalid(f"There is no format {one!r}{nearest(one, FORMATS)}; the formats are {', '.join(FORMATS)}.")
    return tuple(found)


def beside(result: "PartObject", formats: Sequence[str], separate: bool) -> Iterator[tuple[str, bytes]]:
    """The files by their names in the result's folder, beside its GLBs; with `separate` those of single parts, too.

    None when no part has a surface.
    """
    if result.glb is None or not set(formats) - {"glb"}:
        return
    parts = _parts(result.glb)
    stems = {part.name: part.stem for part in result.parts}
    for form in formats:
        if form == "glb":  # these are there anyway
            continue
        yield from _files(form, FILE_NAME, parts, result).items()
        for part in parts if separate else ():
            for name, content in _files(form, stems[part[0]], [part], result).items():
                yield f"parts/{name}", content


def export(result: "PartObject", path: Path, form: str | None, separate: bool) -> list[Path]:
    """See `PartObject.export`."""
    (form,) = check_formats([path.suffix if form is None else form])
    if result.glb is None:
        raise NoSurface(f"No part of {result.name} has a surface, so there is nothing to write to {path}.")
    files: dict[str, bytes] = {}
    if separate:
        for part in result.parts:
            if part.glb is not None:
                files |= _files(form, part.stem, _parts(part.glb), result, part.glb)
    else:
        stem = path.stem if path.suffix.lower() == f".{form}" else path.name
        files = _files(form, stem, _parts(result.glb), result, result.glb)
    folder = path if separate else path.parent
    for name in files:
        if (folder / name).exists():
            raise UserError(f"{folder / name} is there already and would be overwritten; give another name.")
    for name, content in files.items():
        with written(folder / name) as partial:
            partial.write_bytes(content)
    return [folder / name for name in files]


def losses(result: "PartObject", formats: Sequence[str]) -> list[str]:
    """What formats that were written cannot hold of a result, a sentence each."""
    if result.glb is None:
        return []
    textured = "ply" in formats and any(is_textured(one) for _, surfaces in _parts(result.glb) for one in surfaces)
    return [*([_STL] if "stl" in formats else []), *([_PLY] if textured else [])]


def _parts(glb: bytes) -> list[NamedSurfaces]:
    """The nodes of a GLB of this program by name, in place."""
    bundle = Bundle("object.glb", {"object.glb": glb})
    pieces, _ = load_pieces(bundle, _MOST_TEXTURE_PX, 0.0, sys.maxsize, np.eye(4))
    parts: dict[str, list[Surface]] = {}
    for piece in pieces:
        parts.setdefault(piece.node_name, []).append(piece.surface)
    return list(parts.items())


def _files(
    form: str, stem: str, parts: Sequence[NamedSurfaces], result: "PartObject", glb: bytes = b""
) -> dict[str, bytes]:
    """Of parts as one object: the file STEM.FORM, and what it refers to."""
    if form == "obj":
        return obj_files(stem, parts, result.notice)
    content = {
        "glb": lambda: glb,
        "stl": lambda: _stl(parts),
        "ply": lambda: _ply(parts, result.notice),
        "3mf": lambda: threemf(parts, result.name, result.notice, _unit(result)),
    }[form]()
    return {f"{stem}.{form}": content}


def _unit(result: "PartObject") -> str:
    in_file = result.settings.get("frame") == "file"
    return "millimeter" if in_file and str(result.origin.get("file", "")).lower().endswith(_OF_NO_UNIT) else "meter"


def _stl(parts: Sequence[NamedSurfaces]) -> bytes:
    surfaces = [surface for _, group in parts for surface in group]
    soup = np.concatenate([surface.vertices[surface.faces] for surface in surfaces])
    mesh = Trimesh(soup.reshape(-1, 3), np.arange(soup.shape[0] * 3).reshape(-1, 3), process=False)
    return bytes(export_stl(mesh))


def _ply(parts: Sequence[NamedSurfaces], notice: str) -> bytes:
    """Binary; every face has the number of its part, whose name a comment says.

    Vertices are in double precision, as an object may lie far from the origin.
    """
    surfaces = [surface for _, group in parts for surface in group]
    starts = np.cumsum([0, *(len(surface.vertices) for surface in surfaces)])
    vertex = [*((axis, "<f8", "double") for axis in "xyz")]
    with_normals = all(surface.normals is not None for surface in surfaces)
    vertex += [(f"n{axis}", "<f4", "float") for axis in "xyz"] if with_normals else []
    vertex += [(channel, "u1", "uchar") for channel in ("red", "green", "blue", "alpha")]
    vertices = np.empty(starts[-1], [(name, kind) for name, kind, _ in vertex])
    columns = [np.concatenate([surface.vertices for surface in surfaces])]
    if with_normals:
        columns.append(np.concatenate([surface.normals for surface in surfaces if surface.normals is not None]))
    columns.append(np.concatenate([np.rint(sampled_colours(surface) * 255) for surface in surfaces]))
    for (name, *_), column in zip(vertex, [values for group in columns for values in group.T], strict=True):
        vertices[name] = column
    indices = np.concatenate([surface.faces + start for surface, start in zip(surfaces, starts, strict=False)])
    faces = np.empty(len(indices), [("count", "u1"), ("indices", "<i4", 3), ("part", "<i4")])
    faces["count"], faces["indices"] = 3, indices
    faces["part"] = np.repeat(
        np.arange(1, len(parts) + 1), [sum(len(surface.faces) for surface in group) for _, group in parts]
    )
    said = [notice, *(f"part {number}: {name}" for number, (name, _) in enumerate(parts, start=1))]
    header = [
        "ply",
        "format binary_little_endian 1.0",
        *(f"comment {' '.join(line.split())}" for line in said if line),
        f"element vertex {len(vertices)}",
        *(f"property {kind} {name}" for name, _, kind in vertex),
        f"element face {len(faces)}",
        "property list uchar int vertex_indices",
        "property int part",
        "end_header\n",
    ]
    return "\n".join(header).encode() + vertices.tobytes() + faces.tobytes()
