"""One object's atoms, and which part each is of: what the stage `atoms` runs in its pool processes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.assets.bundle import read_bundle
from pipeline.assets.glb import Part
from pipeline.assets.load import load_pieces
from pipeline.assets.surface import Piece
from pipeline.errors import ObjectFailed
from pipeline.surface.atoms import Triangles, connected, joined
from pipeline.surface.division import POINTS, POINTS_LEAST, main_materials, material_numbers
from pipeline.surface.features import atom_features
from pipeline.surface.object_atoms import ATOMS, REGIMES, ObjectAtoms, Regime
from pipeline.surface.points import sampled
from pipeline.views.cameras import GRID_AZIMUTHS, Camera, tile
from pipeline.views.labels import draw_labels

CONTRACT = "atoms/1"
"""Raised when the same inputs give other rows."""
TEXTURE_PX = 512


@dataclass(frozen=True)
class AtomsTask:
    """What one object's atoms are made from."""

    object_id: str
    split: str
    glb: bytes
    """Normalised: a node a part."""
    camera: Camera
    elevation_deg: float


def object_atoms(task: AtomsTask) -> dict[str, list[dict[str, Any]]]:
    """The object's rows of `atoms`, one a regime. ObjectFailed when its atoms are more than can be told apart."""
    bundle = read_bundle("a.glb", lambda name, _: task.glb if name == "a.glb" else None, len(task.glb))
    pieces, _ = load_pieces(bundle, TEXTURE_PX, 0.0, 2**40, np.eye(4))
    triangles = Triangles([piece.surface for piece in pieces])
    nodes = {node: number for number, node in enumerate(dict.fromkeys(piece.node for piece in pieces))}
    part_F = np.array([nodes[piece.node] for piece in pieces])[triangles.surface_F]
    rows = []
    for regime in REGIMES:
        group_F = material_numbers(pieces)[triangles.surface_F] if regime == "A" else np.zeros(len(part_F), int)
        atom_F = joined(triangles, connected(triangles, group_F))
        found = _with_truth(pieces, triangles, atom_F, part_F, regime, task)
        rows.append(
            {
                "object_id": task.object_id,
                "split": task.split,
                "regime": regime,
                "count": len(found.truth_NS),
                "arrays": found.packed(),
            }
        )
    return {ATOMS.name: rows}


def _with_truth(
    pieces: Sequence[Piece],
    triangles: Triangles,
    atom_F: np.ndarray,
    part_F: np.ndarray,
    regime: Regime,
    task: AtomsTask,
) -> ObjectAtoms:
    area_N = np.bincount(atom_F, triangles.area_F)
    if not area_N.all():
        raise ObjectFailed("an atom has no area")
    material_N = main_materials(pieces, triangles, atom_F)
    points = sampled(triangles.surfaces, atom_F, POINTS, POINTS_LEAST)
    features = atom_features(points, area_N, material_N if regime == "A" else None)
    truth_NS = np.zeros((len(area_N), int(part_F.max()) + 1), np.float32)
    np.add.at(truth_NS, (atom_F, part_F), triangles.area_F)
    by_piece = triangles.split(atom_F)
    shown = [
        Part(
            atom + 1,
            "",
            [
                surface.take(atoms == atom).to_trimesh()
                for surface, atoms in zip(triangles.surfaces, by_piece, strict=True)
                if (atoms == atom).any()
            ],
        )
        for atom in range(len(area_N))
    ]
    seen = draw_labels(shown, task.camera, [(azimuth, task.elevation_deg) for azimuth in GRID_AZIMUTHS])
    return ObjectAtoms(features, truth_NS, material_N.astype(np.int32), tile(seen.labels))
