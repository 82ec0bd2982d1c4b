"""Held-out objects taken apart on their own surface: the parts that the evaluation has its figures of, drawn.

Shape suffixes: N atoms, F triangles, S true parts, P predicted ones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from pipeline.assets.glb import load_parts, write_glb
from pipeline.assets.names import unique_names
from pipeline.assets.srgb import linear
from pipeline.assets.surface import Material, Surface
from pipeline.evaluation.surface_regimes import in_parts
from pipeline.surface.trimeshes import surfaces_of
from pipeline.views.cameras import Camera, camera_to_world
from pipeline.views.mesh_turntable import mesh_turntable
from pipeline.views.palette import PART_COLOURS

MODELLED, FUSED = "A", "C"
"""The regimes that are shown."""
PICTURE_PX, FINER = 384, 2
AZIMUTH_DEG, ELEVATION_DEG, EXPLODE = 30.0, 20.0, 0.6
TITLES = ("the object", "its parts", "pulled apart")
PARTLY = 0.5
"""A part that has less than this share of a true part's triangles by area is not called after it alone."""
Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class TakenApart:
    """One object's surface in the parts that were found of it without its part names, the largest first."""

    iou: float
    """Mean best IoU, percent."""
    names: Sequence[str]
    """Of the true part that has most of each."""
    parts: Sequence[Sequence[Surface]]

    def glb(self) -> bytes:
        """A named node a part."""
        return write_glb(list(zip(self.names, self.parts, strict=True)), "", {})

    def pictures(self, camera: Camera) -> dict[str, np.ndarray]:
        """By title, (PICTURE_PX, PICTURE_PX, 3) uint8: the object, its parts by colour, and pulled apart."""
        turned = np.eye(4)
        turned[:3, :3] = camera_to_world(-AZIMUTH_DEG, 0.0, 1.0)[:3, :3]
        finer = replace(camera, size=PICTURE_PX * FINER)

        def glbs_of(parts: Sequence[Sequence[Surface]]) -> list[bytes]:
            return [write_glb([("part", surfaces)], "", {}) for surfaces in parts]

        def drawn(glbs: Sequence[bytes], explode: float) -> np.ndarray:
            (picture,) = mesh_turntable(glbs, finer, ELEVATION_DEG, 1, turned, explode)
            return np.asarray(Image.fromarray(picture).resize((PICTURE_PX,) * 2, Image.Resampling.LANCZOS))

        own = glbs_of(self.parts)
        coloured = glbs_of([_painted(surfaces, number) for number, surfaces in enumerate(self.parts, start=1)])
        drawn_ones = (drawn(own, 0.0), drawn(coloured, 0.0), drawn(own, EXPLODE))
        return dict(zip(TITLES, drawn_ones, strict=True))


def taken_apart(surfaces: Rows, divisions: Rows, names: Mapping[int, str]) -> dict[str, TakenApart]:
    """By regime the object's parts, of its rows in `atoms/surfaces` and `evaluation/divisions`; `names` are those of
    the true parts by their ids.
    """
    found = {}
    places = {row["regime"]: row for row in surfaces}
    for row in divisions:
        if (place := places.get(row["regime"])) is None or not place["glb"]:
            continue
        own = surfaces_of(load_parts(place["glb"]))
        atom_F, truth_F = (np.frombuffer(place[column], np.uint8).astype(int) for column in ("atom", "part"))
        part_F = np.array(row["part"])[atom_F] - 1
        shared_PS = np.zeros((int(part_F.max()) + 1, max(names, default=int(truth_F.max())) + 1))
        np.add.at(shared_PS, (part_F, truth_F), np.concatenate([surface.areas() for surface in own]))
        parts = [part.surfaces for part in in_parts(own, part_F)]
        found[row["regime"]] = TakenApart(row["iou"], _names(shared_PS, names), parts)
    return found


def _names(shared_PS: np.ndarray, names: Mapping[int, str]) -> list[str]:
    whole_S = np.maximum(shared_PS.sum(axis=0), 1e-30)
    said = []
    for area_S in shared_PS:
        most = int(area_S.argmax())
        name = names.get(most, f"part {most}")
        said.append(name if area_S[most] / whole_S[most] >= PARTLY else f"{name}, a piece")
    return unique_names(said)


def _painted(surfaces: Sequence[Surface], number: int) -> list[Surface]:
    light = linear(PART_COLOURS[number] / 255)
    material = Material(baseColorFactor=[*np.rint(light * 255).astype(int).tolist(), 255], doubleSided=True)
    return [replace(surface, uv=None, colors=None, material=material) for surface in surfaces]
