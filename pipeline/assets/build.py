"""One object from its files to its rows: a pure function, so that it can run anywhere."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from pipeline.assets.bundle import Bundle
from pipeline.assets.glb import normalise, read_header, write_glb
from pipeline.assets.load import load_pieces
from pipeline.assets.parts import Division, divide
from pipeline.assets.reasons import ObjectDropped, said_once
from pipeline.assets.surface import Surface, Up
from pipeline.params.base import Group

CONTRACT = "assets/2"
"""Raise it when the results for the same files and settings change."""


class PartSettings(Group):
    """The params that an object's result depends on; see `AssetsParams`."""

    max_parts: int
    small_by: Literal["surface", "volume"]
    small_share: float
    small_parts: Literal["merge", "cull"]
    too_many: Literal["merge", "drop"]
    undivided: Literal["drop", "keep"]
    texture_px: int
    min_opacity: float
    max_triangles: int


@dataclass(frozen=True)
class Payload:
    """What a worker needs of one object."""

    row: Mapping[str, Any]
    """The columns of the table objects that say what the object is: ids, names, attribution, split."""
    bundle: Bundle | None
    reason: str
    """Why there is no bundle."""
    matrix: np.ndarray
    """(4, 4), from the file's frame, once its +Y is up, to the object's."""
    settings: PartSettings
    up: Up = "y"
    """The axis that points up in an OBJ, PLY or STL; glTF says itself that it is +Y."""


def build_object(payload: Payload) -> dict[str, list[dict[str, Any]]]:
    """The rows of one object for the tables objects, parts and glbs; a dropped one has a row with its reason."""
    try:
        if payload.bundle is None:
            raise ObjectDropped(payload.reason)
        return _kept(payload, payload.bundle)
    except ObjectDropped as error:
        return {"objects": [_object_row(payload, "dropped", str(error))], "parts": [], "glbs": []}


def _kept(payload: Payload, bundle: Bundle) -> dict[str, list[dict[str, Any]]]:
    settings = payload.settings
    up: Up = "y" if bundle.kind in (".glb", ".gltf") else payload.up
    pieces, warnings = load_pieces(
        bundle, settings.texture_px, settings.min_opacity, settings.max_triangles, payload.matrix, up
    )
    division = divide(
        pieces,
        max_parts=settings.max_parts,
        small_by=settings.small_by,
        small_share=settings.small_share,
        small_parts=settings.small_parts,
        too_many=settings.too_many,
        undivided=settings.undivided,
    )
    names = [part.name for part in division.parts]
    surfaces = normalise(division.parts)
    row = payload.row
    extras = {key: row[key] for key in ("object_id", "name", "author", "licence", "source", "origin")}
    glb = write_glb(list(zip(names, surfaces, strict=True)), copyright_notice(row), extras)
    identity = {"object_id": row["object_id"], "split": row["split"]}
    found = {
        "part_count": len(division.parts),
        "part_rule": division.rule,
        "pieces_found": division.found,
        "culled_surface": division.culled_surface,
        "triangles": sum(map(_triangles, surfaces)),
        "textures": len(read_header(glb).get("textures", [])),
        "glb_bytes": len(glb),
        "warnings": said_once(sorted({*bundle.warnings, *warnings})),
    }
    return {
        "objects": [_object_row(payload, "ok", "", found)],
        "parts": [identity | part for part in _part_rows(division)] if division.rule != "undivided" else [],
        "glbs": [identity | {"glb": glb}],
    }


def copyright_notice(row: Mapping[str, Any]) -> str:
    """One line for `asset.copyright`: what it is called, whose it is, and under which licence."""
    return f"{row['name']} by {row['author']}, {row['licence']} ({row['origin']})"


def _part_rows(division: Division) -> list[dict[str, Any]]:
    area = sum(part.area for part in division.parts)
    volume = sum(part.solid[0] for part in division.parts)
    return [
        {
            "part_id": part_id,
            "name": part.name,
            "raw_names": part.raw_names,
            "surface": part.area / area,
            "volume": part.solid[0] / volume if volume else 0.0,
            "volume_method": part.solid[1],
            "triangles": _triangles(part.surfaces),
            "materials": len({id(surface.material) for surface in part.surfaces}),
        }
        for part_id, part in enumerate(division.parts, start=1)
    ]


def _object_row(payload: Payload, status: str, reason: str, found: Mapping[str, Any] | None = None) -> dict[str, Any]:
    nothing = {
        "part_count": 0,
        "part_rule": "",
        "pieces_found": 0,
        "culled_surface": 0.0,
        "triangles": 0,
        "textures": 0,
        "glb_bytes": 0,
        "warnings": list(payload.bundle.warnings) if payload.bundle else [],
    }
    return {**payload.row, "status": status, "reason": reason, **nothing, **(found or {})}


def _triangles(surfaces: Sequence[Surface]) -> int:
    return sum(len(surface.faces) for surface in surfaces)
