"""PartObjaverse-Tiny, where a user has a copy: meshes whose triangles have part labels.

Other methods report on it. The data are 200 objects of Objaverse (SAMPart3D, Yang et al. 2024), and the labels are in
the order of the triangles as trimesh reads them.

Shape suffixes: F triangles, N atoms, S true parts.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from scipy.spatial import cKDTree

from pipeline.assets.glb import to_unit
from pipeline.assets.surface import Piece
from pipeline.errors import ObjectFailed, UserError
from pipeline.evaluation.surface_parts import MODEL_ALONE
from pipeline.evaluation.surface_proposals import average_precisions
from pipeline.surface.division import divide
from pipeline.surface.hierarchy import cut
from pipeline.surface.scores import MOST_LEVELS, overlaps
from pipeline.surface.trimeshes import surface_of

CONTRACT = "part-objaverse/1"
"""Raised when the same inputs give other rows."""
MESHES = "PartObjaverse-Tiny_mesh"
LABELS = {"instances": "PartObjaverse-Tiny_instance_gt", "kinds": "PartObjaverse-Tiny_semantic_gt"}
"""Folders of the data set, by what a true part is: one seat, or all legs together."""
SETTING = "PartObjaverse-Tiny, {}"
CONVENTIONS: Mapping[str, str] = {
    "mesh": "as trimesh reads it, in the unit frame, with materials: regime A",
    "labels": "of triangles; those below 0 are no part and count in no mean",
    "by faces": "IoU of numbers of triangles, as SAMPart3D and PartField have it; else by area",
    "of all levels": f"any cut of the hierarchy into 1 to {MOST_LEVELS} parts; PartField: K-means into 2 to 19",
}


@dataclass(frozen=True)
class LabelledMesh:
    """One object of the data set."""

    object_id: str
    glb: bytes
    labels: Mapping[str, bytes]
    """Contents of npy files by the keys of LABELS; those that are there."""
    grouping: Path
    """The folder of the grouping model."""


def mesh_files(folder: Path) -> list[Path]:
    """The meshes in a copy of the data set; UserError when there is none."""
    found = sorted((folder / MESHES).glob("*.glb"))
    if not found:
        raise UserError(
            f"evaluate.part_objaverse_tiny is {str(folder)!r}, where there is no {MESHES}/*.glb; give the folder in "
            "which the data set was unpacked, or null."
        )
    return found


def labelled_mesh(mesh: Path, grouping: Path) -> LabelledMesh:
    """One of these with its labels; UserError when it has none."""
    files = {name: mesh.parents[1] / place / f"{mesh.stem}.npy" for name, place in LABELS.items()}
    labels = {name: path.read_bytes() for name, path in files.items() if path.is_file()}
    if not labels:
        raise UserError(f"{mesh} has no labels; {' or '.join(LABELS.values())} beside {MESHES} should hold them.")
    return LabelledMesh(mesh.stem, mesh.read_bytes(), labels, grouping)


def labelled_figures(task: LabelledMesh) -> list[dict[str, Any]]:
    """The object's figures, in percent; ObjectFailed when its labels are not those of its triangles."""
    pieces = read_pieces(task.glb)
    area_F = np.concatenate([piece.surface.areas() for piece in pieces])
    flat_F = area_F <= 1e-12 * area_F.sum()
    if flat_F.all():
        raise ObjectFailed("no triangle has an area")
    masks = np.split(~flat_F, np.cumsum([len(piece.surface.faces) for piece in pieces[:-1]]))
    whole = [
        Piece(piece.node, piece.node_name, piece.material_name, piece.surface.take(mask))
        for piece, mask in zip(pieces, masks, strict=True)
        if mask.any()
    ]
    division = divide(whole, "model", None, task.grouping)
    atom_F = np.empty(len(area_F), int)
    atom_F[~flat_F] = division.atom_F
    middle_F3 = np.concatenate([piece.surface.vertices[piece.surface.faces].mean(axis=1) for piece in pieces])
    atom_F[flat_F] = division.atom_F[cKDTree(middle_F3[~flat_F]).query(middle_F3[flat_F])[1]]
    rows = []
    for name, content in task.labels.items():
        label_F = np.load(io.BytesIO(content), allow_pickle=False).reshape(-1)
        if len(label_F) != len(area_F):
            raise ObjectFailed(f"its labels are of {len(label_F)} triangles, and the mesh has {len(area_F)}")
        if not (label_F >= 0).any():
            raise ObjectFailed("none of its triangles has a label")
        by_area, by_faces = (_shares(atom_F, label_F, weight_F) for weight_F in (area_F, np.ones(len(area_F))))
        levels = [cut(division.merges, parts) for parts in range(1, min(division.count, MOST_LEVELS) + 1)]
        chosen = division.part_of_atoms()
        found = {
            "one part": _figures(by_area, by_faces, [levels[0]], levels[0]),
            "atoms": _figures(by_area, by_faces, [np.arange(division.count)], np.arange(division.count)),
            MODEL_ALONE: _figures(by_area, by_faces, levels, chosen),
        }
        rows += [
            {"method": method, "setting": SETTING.format(name), "figure": figure, "value": value}
            for method, figures in found.items()
            for figure, value in figures.items()
        ]
    return rows


def read_pieces(glb: bytes) -> list[Piece]:
    """The meshes of a GLB in the unit frame, their triangles in the order in which trimesh has them as one mesh."""
    scene = trimesh.load_scene(io.BytesIO(glb), file_type="glb", process=False)
    pieces = []
    for node in scene.graph.nodes_geometry:
        matrix, name = scene.graph[node]
        surface = surface_of(scene.geometry[name]).transformed(matrix)
        pieces.append(Piece(str(node), str(node), str(surface.material.name or ""), surface))
    if not pieces:
        raise ObjectFailed("it has no triangles")
    unit = to_unit([piece.surface for piece in pieces])
    return [Piece(one.node, one.node_name, one.material_name, one.surface.transformed(unit)) for one in pieces]


def _shares(atom_F: np.ndarray, label_F: np.ndarray, weight_F: np.ndarray) -> np.ndarray:
    """(N, S + 1) How much of each atom is of each true part, and in the last column of none."""
    labels = np.unique(label_F[label_F >= 0])
    column_F = np.where(label_F >= 0, np.searchsorted(labels, label_F), len(labels))
    shares = np.zeros((int(atom_F.max()) + 1, len(labels) + 1))
    np.add.at(shares, (atom_F, column_F), weight_F)
    return shares


def _figures(
    by_area: np.ndarray, by_faces: np.ndarray, levels: list[np.ndarray], chosen: np.ndarray
) -> dict[str, float]:
    found = {"parts": float(chosen.max() + 1)}
    for suffix, shares in (("", by_area), ("_faces", by_faces)):
        known = shares.sum(axis=0)[:-1] > 0
        of_levels = [overlaps(shares, part_N).max(axis=0)[:-1][known] for part_N in levels]
        found[f"iou{suffix}"] = 100 * float(overlaps(shares, chosen).max(axis=0)[:-1][known].mean())
        found[f"iou_levels{suffix}"] = 100 * float(np.max(of_levels, axis=0).mean())
    return {**found, **average_precisions(by_area[:, :-1], levels, by_area.sum(axis=1))}
