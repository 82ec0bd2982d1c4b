"""One object's atoms, and which part each is of: what the stage `atoms` runs in its pool processes.

Shape suffixes: F triangles of all surfaces together, N atoms, P predicted parts, S true ones.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.assets.bundle import read_bundle
from pipeline.assets.glb import Part, write_glb
from pipeline.assets.load import load_pieces
from pipeline.assets.surface import Piece
from pipeline.errors import ObjectFailed
from pipeline.surface.atoms import Triangles, connected, joined
from pipeline.surface.classical import clustered, linked_parts
from pipeline.surface.colour_regions import surface_atoms
from pipeline.surface.division import main_materials, material_numbers, points_of
from pipeline.surface.features import atom_features
from pipeline.surface.fuse import fused
from pipeline.surface.object_atoms import ATOMS, REGIMES, SURFACES, ObjectAtoms, Regime
from pipeline.surface.points import colours
from pipeline.surface.superfaces import shared_borders
from pipeline.views.cameras import GRID_AZIMUTHS, Camera, tile
from pipeline.views.labels import draw_labels

CONTRACT = "atoms/4"
"""Raised when the same inputs give other rows."""
TEXTURE_PX = 512
CLUSTERS, LINKED = 3, 10
"""Parts that K-means (of 3 and 5) and the linkage of superfaces (of 3, 6, 8 and 10) divide a skin into best, on
validation objects."""


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
    """The object's rows of `atoms` and `surfaces`, one a regime. ObjectFailed when an atom has no area."""
    bundle = read_bundle("a.glb", lambda name, _: task.glb if name == "a.glb" else None, len(task.glb))
    pieces, _ = load_pieces(bundle, TEXTURE_PX, 0.0, 2**40, np.eye(4))
    nodes = {node: number for number, node in enumerate(dict.fromkeys(piece.node for piece in pieces))}
    part_F = np.repeat([nodes[piece.node] for piece in pieces], [len(piece.surface.faces) for piece in pieces])
    skin, part_of_skin_F = fused([piece.surface for piece in pieces], part_F)
    seen: dict[Regime, tuple[list[Piece], np.ndarray]] = {
        "A": (pieces, part_F),
        "B": (pieces, part_F),
        "C": ([Piece("", "", "", skin)], part_of_skin_F),
    }
    rows: dict[str, list[dict[str, Any]]] = {ATOMS.name: [], SURFACES.name: []}
    for regime in REGIMES:
        found, atom_F = _atoms(*seen[regime], regime, len(nodes), task)
        common = {"object_id": task.object_id, "split": task.split, "regime": regime}
        rows[ATOMS.name].append({**common, "count": len(found.truth_NS), "arrays": found.packed()})
        if task.split != "train":
            shown, part_of_F = seen[regime]
            glb = b"" if regime == "B" else write_glb([(piece.node_name, [piece.surface]) for piece in shown], "", {})
            atom, part = (values.astype(np.uint8).tobytes() for values in (atom_F, part_of_F + 1))
            rows[SURFACES.name].append({**common, "glb": glb, "atom": atom, "part": part})
    return rows


def _atoms(
    pieces: list[Piece], part_F: np.ndarray, regime: Regime, parts: int, task: AtomsTask
) -> tuple[ObjectAtoms, np.ndarray]:
    """The atoms, and that of every triangle."""
    triangles = Triangles([piece.surface for piece in pieces])
    group_F = material_numbers(pieces)[triangles.surface_F] if regime == "A" else np.zeros(len(part_F), int)
    atom_F = surface_atoms(triangles, group_F)
    area_N = np.bincount(atom_F, triangles.area_F)
    if not area_N.all():
        raise ObjectFailed("an atom has no area")
    material_N = main_materials(pieces, triangles, atom_F)
    points = points_of(triangles, atom_F)
    borders_NN = shared_borders(triangles, atom_F)
    features = atom_features(points, area_N, material_N if regime == "A" else None, borders_NN)

    def shared(group_F: np.ndarray) -> np.ndarray:
        areas = np.zeros((int(group_F.max(initial=-1)) + 1, parts), np.float32)
        np.add.at(areas, (group_F, part_F[: len(group_F)]), triangles.area_F[: len(group_F)])
        return areas

    piece_F = clustered_F = linked_F = np.empty(0, int)
    if regime != "C":
        piece_F = joined(triangles, connected(triangles, group_F))
    else:
        colour_F3 = colours(triangles.surfaces)
        clustered_F = clustered(triangles, colour_F3, CLUSTERS)
        linked_F = linked_parts(triangles, colour_F3, LINKED)
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
    found = ObjectAtoms(
        features,
        shared(atom_F),
        material_N.astype(np.int32),
        shared(piece_F),
        shared(clustered_F),
        shared(linked_F),
        tile(seen.labels),
    )
    return found, atom_F
