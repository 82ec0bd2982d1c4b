"""Part123's meshes, made here of known objects: aligned, seen by the grid's cameras, and read as one segmentation."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh

from pipeline.errors import UserError
from pipeline.evaluation.part123 import MESH, UPRIGHT, made_objects, mesh_file, part123_views
from pipeline.views.cameras import GRID_AZIMUTHS, Camera, tile
from tests.toy_corpus import DISTANCE, ELEVATION_DEG, FOV_DEG, hits

CAMERA = Camera(FOV_DEG, DISTANCE, 64)
BOXES = np.array(
    [
        [[-0.6, -0.5, -0.4], [0.6, -0.1, 0.4]],
        [[-0.6, -0.1, -0.4], [-0.2, 0.6, 0.0]],
        [[0.3, -0.1, 0.1], [0.5, 0.2, 0.3]],
    ]
)
COLOURS = np.array([[174, 199, 232], [152, 223, 138], [174, 199, 232]], np.uint8)
"""The third part has the first one's colour, as the forty-first of Part123 has."""


def as_part123(folder: Path, turn_deg: float, scale: float) -> Path:
    """The boxes as the program writes them: one mesh, +Z up, turned, small, a colour a part."""
    meshes = []
    for (low, high), colour in zip(BOXES, COLOURS, strict=True):
        box = trimesh.creation.box(bounds=(low, high)).subdivide().subdivide().subdivide()
        box.visual = trimesh.visual.ColorVisuals(box, vertex_colors=np.tile(colour, (len(box.vertices), 1)))
        meshes.append(box)
    whole: Any = trimesh.util.concatenate(meshes)
    whole.apply_transform(trimesh.transformations.rotation_matrix(np.radians(turn_deg), (0, 1, 0)))
    whole.vertices = scale * whole.vertices @ UPRIGHT + [0.03, -0.02, 0.05]
    folder.mkdir(parents=True)
    whole.export(folder / MESH)
    return folder / MESH


@pytest.mark.parametrize("turn_deg", [0.0, 137.0])
def test_parts_come_back_where_the_cameras_see_them(tmp_path: Path, turn_deg: float) -> None:
    truth = tile(np.stack([hits(BOXES, (azimuth, ELEVATION_DEG), CAMERA.size)[0] for azimuth in GRID_AZIMUTHS]))
    path = as_part123(tmp_path / "chair", turn_deg, 0.45)
    found = part123_views(path, truth > 0, CAMERA, ELEVATION_DEG)
    assert found.iou > 0.9
    assert sorted(np.unique(found.labels)) == [0, 1, 2, 3]
    for part in (1, 2, 3):
        mine = truth == part
        labels, counts = np.unique(found.labels[mine], return_counts=True)
        theirs = found.labels == labels[counts.argmax()]
        assert (mine & theirs).sum() / (mine | theirs).sum() > (0.8 if part < 3 else 0.5)


def test_a_folder_of_other_things_and_a_broken_mesh_are_named(tmp_path: Path) -> None:
    as_part123(tmp_path / "chair", 0.0, 1.0)
    assert made_objects(tmp_path, ["chair", "table"]) == ["chair"]
    with pytest.raises(UserError, match=r"has a mesh of no object, such as .*table/samauto_vis\.ply; give the folder"):
        made_objects(tmp_path, ["table"])
    for content in (b"", b"ply\nformat ascii 1.0\nelement vertex 0\nend_header\n", b"rubbish"):
        mesh_file(tmp_path, "chair").write_bytes(content)
        with pytest.raises(UserError, match="is no mesh of Part123"):
            part123_views(mesh_file(tmp_path, "chair"), np.ones((128, 128), bool), CAMERA, ELEVATION_DEG)
