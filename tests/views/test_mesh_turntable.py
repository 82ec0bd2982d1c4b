"""Pictures of meshes from all around."""

import numpy as np
from PIL import Image
from trimesh.creation import box

from pipeline.assets.glb import surface_glb
from pipeline.assets.surface import Material, Surface
from pipeline.views.cameras import Camera
from pipeline.views.mesh_turntable import mesh_turntable


def test_meshes_are_in_place_and_in_their_colours() -> None:
    """A cube on the right that is red at its vertices, one on the left whose texture is blue."""
    cube, aside = box(extents=[0.5] * 3), np.array([0.5, 0, 0])
    red = np.tile(np.array([1, 0, 0, 1], np.float32), (8, 1))
    blue = Material(baseColorTexture=Image.new("RGB", (2, 2), (0, 0, 255)))
    right = Surface(cube.vertices + aside, cube.faces.astype(np.int64), None, None, red, Material())
    left = Surface(cube.vertices - aside, cube.faces.astype(np.int64), None, np.full((8, 2), 0.5), None, blue)
    glbs = [surface_glb(name, 1, [one], "") for name, one in (("right", right), ("left", left))]
    front, back = mesh_turntable(glbs, Camera(40, 3.2, 64), 0, 2, np.eye(4)).astype(int)
    for picture, columns in ((front, (20, 44)), (back, (44, 20))):
        of_blue, of_red = (picture[32, column] for column in columns)
        assert of_red[0] > of_red[1] + 100
        assert of_blue[2] > of_blue[1] + 100
        assert (picture[2, 2] == 255).all()
