"""An object's surface without its part names, in one of the three regimes, and the parts that are found of it.

Shape suffixes: N atoms, F triangles of all surfaces together, S true parts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import trimesh

from pipeline.assets.glb import load_parts
from pipeline.assets.surface import Surface
from pipeline.evaluation.part_shapes import triangles
from pipeline.shards.table import Table
from pipeline.surface.division import SurfacePart
from pipeline.surface.grouping import grouped, load_grouping
from pipeline.surface.object_atoms import ObjectAtoms
from pipeline.surface.scores import mean_best_iou
from pipeline.surface.trimeshes import surfaces_of

Rows = Sequence[Mapping[str, Any]]

DIVISIONS = Table(
    "divisions",
    1,
    pa.schema(
        [
            ("object_id", pa.string()),
            ("split", pa.string()),
            ("regime", pa.string()),
            ("part", pa.list_(pa.int32())),  # of every atom the part, from 1, the largest first
            ("iou", pa.float64()),  # mean best IoU, percent
        ]
    ),
    sort=("regime",),
)
"""The parts that `decompose` finds, where the table has its figures of them."""


@dataclass(frozen=True)
class SurfaceRegime:
    """An object in one regime, as the stage `atoms` keeps it."""

    name: str
    atoms: ObjectAtoms
    surfaces: Sequence[Surface]
    """Whose triangles have atoms; those of the object as it was modelled in regimes A and B. None where the stage
    `atoms` did not keep them."""
    atom_F: np.ndarray
    part_F: np.ndarray
    """The true part, from 1."""

    @classmethod
    def all_of(cls, atoms: Rows, surfaces: Rows) -> list[Self]:
        """Of the object's rows in these tables."""
        kept: dict[str, list[Surface]] = {}
        found = []
        by_regime = {row["regime"]: row for row in surfaces}
        for row in atoms:
            name = row["regime"]
            place = by_regime.get(name, {"glb": b"", "atom": b"", "part": b""})
            kept[name] = surfaces_of(load_parts(place["glb"])) if place["glb"] else kept.get("A", [])
            atom_F, part_F = (np.frombuffer(place[column], np.uint8).astype(int) for column in ("atom", "part"))
            found.append(cls(name, ObjectAtoms.unpacked(row["arrays"]), kept[name], atom_F, part_F))
        return found

    @property
    def corners_F33(self) -> np.ndarray:
        """The triangles."""
        return np.concatenate([surface.vertices[surface.faces] for surface in self.surfaces])


def in_parts(surfaces: Sequence[Surface], part_F: np.ndarray) -> list[SurfacePart]:
    """Surfaces in parts, by the part of every triangle, from 0."""
    by_surface = np.split(part_F, np.cumsum([len(surface.faces) for surface in surfaces[:-1]]))
    found: list[list[Surface]] = [[] for _ in range(int(part_F.max()) + 1)]
    for surface, mine_F in zip(surfaces, by_surface, strict=True):
        for part in np.unique(mine_F):
            found[part].append(surface.take(mine_F == part))
    return [SurfacePart("", some) for some in found]


def true_parts(regimes: Sequence[SurfaceRegime]) -> list[trimesh.Trimesh]:
    """The parts as they were modelled, with what they hide of one another."""
    modelled = next((one for one in regimes if one.name == "A" and one.surfaces), None)
    if modelled is None:
        return []
    corners_F33, part_F = modelled.corners_F33, modelled.part_F
    return [triangles(corners_F33[part_F == part]) for part in range(1, int(part_F.max()) + 1)]


def divisions(regimes: Sequence[SurfaceRegime], model: Path) -> list[dict[str, Any]]:
    """The object's rows of `divisions`, without its identity."""
    rows = []
    for one in regimes:
        part_N = grouped(load_grouping(model), one.atoms.features)
        order = np.argsort(-np.bincount(part_N, one.atoms.truth_NS.sum(axis=1)), kind="stable")
        iou = 100 * mean_best_iou(one.atoms.truth_NS, part_N)
        rows.append({"regime": one.name, "part": (np.argsort(order)[part_N] + 1).tolist(), "iou": iou})
    return rows
