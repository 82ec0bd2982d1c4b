"""Part123 as a baseline of Table 1: what its authors' program made of each object, run by the user, in our four views.

The program (github.com/liuar0512/part123) writes `NAME/samauto_vis.ply`, a mesh in a frame of its own whose colours are
parts. How the paper aligned that with its objects is not published: here the mesh gets our centre and size, and is
turned about the up axis, scaled and shifted so that its outlines fit those of the grid best. It has seen one view of
the four. Its parts are one run of a segmentation.

Shape suffixes: N vertices or points, T triangles, V views of H W pixels.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from scipy.ndimage import binary_closing
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from pipeline.assets.glb import Part
from pipeline.errors import UserError
from pipeline.views.cameras import GRID_AZIMUTHS, Camera, camera_to_world, tile, untile
from pipeline.views.labels import draw_labels

MESH = "samauto_vis.ply"
UPRIGHT = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
"""Their +Z is up, and their first view looks from +X: to +Y and +Z."""
POINTS, COMPARED_PX = 16_000, 64
"""Of a surface, by which outlines are found, and the side of the views in which they are compared."""
TURNS_DEG = np.arange(0.0, 360.0, 5.0)
SCALES = np.array([0.7, 0.8, 0.9, 1.0, 1.1])
FINER = (1.0, 0.4)
STEP_DEG, STEP_SCALE, STEP_SHIFT = 2.0, 0.04, 0.06
"""Around the best of these are tried two turns and one scale and shift upwards on either side, in these steps times
each of FINER; 1 is the object's radius."""
MOST_REGIONS = 255
"""Of a label map; the largest are kept."""

CONVENTIONS = {
    "program": "the authors', run by the user from one view; one run",
    "alignment": "about the up axis, in size and in height, by the best IoU of the four outlines",
}


@dataclass(frozen=True)
class Part123Views:
    """What the four views show of an object that Part123 has made."""

    labels: np.ndarray
    """The grid (2H, 2W) uint8 of its parts, 1..255; 0 is the background."""
    iou: float
    """Of its outlines with the object's, over the four views jointly."""


def mesh_file(folder: str | Path, object_id: str) -> Path:
    """Where the program writes when it is called with `-n OBJECT` and its `-l` is the folder."""
    return Path(folder) / object_id / MESH


def made_objects(folder: str | Path, object_ids: Iterable[str]) -> list[str]:
    """The objects that have a mesh; UserError when none has."""
    ids = list(object_ids)
    made = [one for one in ids if mesh_file(folder, one).is_file()]
    if not made:
        raise UserError(
            f"evaluate.part123 is {str(folder)!r}, which has a mesh of no object, such as {mesh_file(folder, ids[0])}; "
            "give the folder that was the -l of Part123's test_part123.py, with an object's id as its -n, or null."
        )
    return made


def part123_views(path: Path, foreground: np.ndarray, camera: Camera, elevation_deg: float) -> Part123Views:
    """The parts of a mesh in the views of a grid, whose object's pixels are `foreground` (2H, 2W) bool.

    UserError when the file cannot be read as Part123's.
    """
    vertices_N3, faces_T3, labels_T = _read(path)
    vertices_N3 = _to_unit(vertices_N3 @ UPRIGHT.T)
    mesh = trimesh.Trimesh(vertices_N3, faces_T3, process=False)
    points_N3 = np.asarray(trimesh.sample.sample_surface(mesh, POINTS, seed=0)[0])
    matrix_33, shift, iou = _aligned(points_N3, untile(foreground), camera, elevation_deg)
    placed_N3 = vertices_N3 @ matrix_33.T + [0.0, shift, 0.0]
    parts = [
        Part(label, "", [trimesh.Trimesh(placed_N3, faces_T3[labels_T == label], process=False)])
        for label in range(1, int(labels_T.max()) + 1)
    ]
    seen = draw_labels(parts, camera, [(azimuth, elevation_deg) for azimuth in GRID_AZIMUTHS])
    return Part123Views(tile(seen.labels), iou)


def _read(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices (N, 3), triangles (T, 3) and, from 1, the triangles' parts (T,), the one of most triangles first."""
    try:
        mesh: Any = trimesh.load(path, file_type="ply", process=False)
        vertices_N3, faces_T3 = np.asarray(mesh.vertices, np.float64), np.asarray(mesh.faces)
        colours_N = np.ascontiguousarray(mesh.visual.vertex_colors[:, :3]).astype(np.int64) @ (1, 256, 256**2)
        if not len(faces_T3) or not np.isfinite(vertices_N3).all():
            raise ValueError("it has no triangles, or places that are no numbers")
    except (OSError, ValueError, AttributeError, IndexError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(f"{path} is no mesh of Part123 ({type(error).__name__}: {reason}); make it again.") from None
    # Forty colours stand for any number of parts, of which each is connected.
    edges = np.concatenate([faces_T3[:, [0, 1]], faces_T3[:, [1, 2]], faces_T3[:, [2, 0]]])
    edges = edges[colours_N[edges[:, 0]] == colours_N[edges[:, 1]]]
    graph = coo_array((np.ones(len(edges), bool), edges.T), shape=2 * (len(vertices_N3),))
    region_N = connected_components(graph, directed=False)[1]
    first, second, third = region_N[faces_T3].T
    region_T = np.where(second == third, second, first)
    order = np.argsort(-np.bincount(region_T), kind="stable")
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(1, len(order) + 1)
    label_T = rank[region_T]
    return vertices_N3, faces_T3, np.where(label_T <= MOST_REGIONS, label_T, 0)


def _to_unit(vertices_N3: np.ndarray) -> np.ndarray:
    """Its bounding box's middle at the origin, its farthest point at 1."""
    centred_N3 = vertices_N3 - (vertices_N3.min(axis=0) + vertices_N3.max(axis=0)) / 2
    radius = np.linalg.norm(centred_N3, axis=1).max()
    unit_N3: np.ndarray = centred_N3 / max(radius, 1e-9)
    return unit_N3


def _aligned(
    points_N3: np.ndarray, outlines_VHW: np.ndarray, camera: Camera, elevation_deg: float
) -> tuple[np.ndarray, float, float]:
    """The turn and scale (3, 3) and the shift up that let points fit outlines (V, H, W) bool best, and their IoU."""
    step = max(1, camera.size // COMPARED_PX)
    side = camera.size // step
    blocks = outlines_VHW[:, : side * step, : side * step].reshape(len(outlines_VHW), side, step, side, step)
    target_VHW = blocks.mean(axis=(2, 4)) >= 0.5

    def tried(turn_deg: float, scale: float, shift: float) -> tuple[float, float, float, float]:
        placed_N3 = points_N3 @ _turned(turn_deg, scale).T + [0.0, shift, 0.0]
        seen_VHW = _outlines(placed_N3, side, camera, elevation_deg)
        both, any_ = (seen_VHW & target_VHW).sum(), (seen_VHW | target_VHW).sum()
        return float(both / max(any_, 1)), turn_deg, scale, shift

    iou, turn_deg, scale, shift = max(tried(turn, scale, 0.0) for turn, scale in product(TURNS_DEG, SCALES))
    for finer in FINER:
        turns = turn_deg + finer * STEP_DEG * np.arange(-2, 3)
        scales, shifts = (
            middle + finer * step * np.arange(-1, 2) for middle, step in ((scale, STEP_SCALE), (shift, STEP_SHIFT))
        )
        iou, turn_deg, scale, shift = max(tried(*one) for one in product(turns, scales, shifts))
    return _turned(turn_deg, scale), shift, iou


def _turned(turn_deg: float, scale: float) -> np.ndarray:
    """Turned about +Y, by (3, 3)."""
    cosine, sine = np.cos(np.radians(turn_deg)), np.sin(np.radians(turn_deg))
    return scale * np.array([[cosine, 0.0, sine], [0.0, 1.0, 0.0], [-sine, 0.0, cosine]])


def _outlines(points_N3: np.ndarray, side: int, camera: Camera, elevation_deg: float) -> np.ndarray:
    """Which pixels of the grid's views, `side` a side, show a point; gaps of a pixel are closed. (V, H, W) bool."""
    seen_VHW = np.zeros((len(GRID_AZIMUTHS), side, side), bool)
    for view_HW, azimuth in zip(seen_VHW, GRID_AZIMUTHS, strict=True):
        pose = camera_to_world(azimuth, elevation_deg, camera.distance)
        local_N3 = (points_N3 - pose[:3, 3]) @ pose[:3, :3]
        scale_N = side / 2 / np.tan(np.radians(camera.fov_deg) / 2) / -local_N3[:, 2]
        columns, rows = side / 2 + local_N3[:, 0] * scale_N, side / 2 - local_N3[:, 1] * scale_N
        inside = (columns >= 0) & (columns < side) & (rows >= 0) & (rows < side) & (local_N3[:, 2] < 0)
        view_HW[rows[inside].astype(int), columns[inside].astype(int)] = True
        view_HW |= binary_closing(view_HW)
    return seen_VHW
