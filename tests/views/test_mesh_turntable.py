"""Animations of meshes: what is seen is the parts' own colours, in place."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from trimesh.creation import box

from pipeline.assets.glb import surface_glb
from pipeline.assets.surface import Material, Surface
from pipeline.views.cameras import Camera
from pipeline.views.mesh_turntable import mesh_turntable

CAMERA = Camera(40.0, 3.1, 32)
RED, GREEN, BLUE = (1.0, 0, 0), (0, 1.0, 0), (0, 0, 1.0)


def cube(x: float, colour: tuple[float, ...], by: str) -> Surface:
    mesh = box(extents=[0.4] * 3)
    uv, colors, material = None, None, Material(baseColorFactor=[255] * 4)
    bytes_ = tuple(round(255 * value) for value in colour)
    if by == "vertices":
        colors = np.tile(np.array([*colour, 1], np.float32), (8, 1))
    elif by == "texture":
        uv = np.full((8, 2), 0.5)
        material = Material(baseColorTexture=Image.new("RGB", (2, 2), bytes_))
    else:
        material = Material(baseColorFactor=[*bytes_, 255])
    return Surface(mesh.vertices + np.array([x, 0, 0]), mesh.faces.astype(np.int64), None, uv, colors, material)


@pytest.mark.parametrize("by", ["vertices", "texture", "factor"])
def test_parts_are_seen_in_their_colours_and_moved_apart(by: str) -> None:
    frame = np.diag([2.0, 2.0, 2.0, 1.0])  # the file's frame is half as large
    glbs = [
        surface_glb("part", number, [cube(x, colour, by)], "", {}, np.linalg.inv(frame))
        for number, (x, colour) in enumerate([(-0.5, RED), (0.0, GREEN), (0.5, BLUE)], 1)
    ]
    gaps = []
    for explode in (0.0, 0.5):
        pictures = mesh_turntable(glbs, CAMERA, 0.0, 4, frame, explode)
        assert pictures.shape == (4, 32, 32, 3)
        front, back = pictures[0].astype(int), pictures[2].astype(int)
        middle = front[16]
        where = [np.flatnonzero(middle[:, channel] - middle.sum(axis=1) / 3 > 40) for channel in range(3)]
        assert all(len(columns) > 2 for columns in where), "all three are seen in their colours"
        assert where[0].max() < where[1].min() <= where[1].max() < where[2].min()
        behind = [np.flatnonzero(back[16, :, channel] - back[16].sum(axis=1) / 3 > 40).mean() for channel in range(3)]
        assert behind[0] > behind[2]
        gaps.append(where[1].min() - where[0].max())
    assert gaps[1] > gaps[0]


def test_what_diffusers_imports_can_be_imported_after_something_was_drawn() -> None:
    pytest.importorskip("triton")
    program = (
        "from pipeline.views.surface_renderer import pyrender\n"
        "pyrender.OffscreenRenderer(8, 8)\n"
        "import triton"
    )  # fmt: skip
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr  # -11 where Mesa's LLVM was loaded before triton's
