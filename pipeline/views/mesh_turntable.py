"""Pictures of meshes from all around, in their own colours, drawn with pyrender on EGL.

Shape suffixes: F frames, H W pixels.
"""

import io
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import trimesh
from trimesh.visual import TextureVisuals

from pipeline.views.cameras import Camera, camera_to_world

if TYPE_CHECKING:
    import pyrender

AMBIENT, HEAD_LIGHT = 0.45, 2.6
"""Radiance from everywhere, and of a light beside the camera."""
LIGHT_AZIMUTH_DEG, LIGHT_ELEVATION_DEG = -35.0, 30.0
"""Where that light is, from the camera."""


def mesh_turntable(
    glbs: Sequence[bytes],
    camera: Camera,
    elevation_deg: float,
    frames: int,
    frame: np.ndarray,
    explode: float = 0.0,
    advance: Callable[[], object] = lambda: None,
) -> np.ndarray:
    """The parts of some GLBs, one each, on white, (F, H, W, 3) uint8; `advance` is called after each frame.

    `frame`, (4, 4), leads from their frame to the unit frame. With `explode` every part is moved away from the origin
    by that share of the way to its centre. The camera steps back until all are in sight.
    """
    from pipeline.views.surface_renderer import pyrender  # which readies it for this machine

    scene = pyrender.Scene(bg_color=(255, 255, 255, 0), ambient_light=(AMBIENT,) * 3)
    reach = 1.0
    for glb in glbs:
        loaded = trimesh.load_scene(io.BytesIO(glb), file_type="glb", process=False)
        # Meshes are moved in place, for a copy of one loses the colours at its vertices.
        placed = [loaded.graph[node] for node in loaded.graph.nodes_geometry]
        meshes = [loaded.geometry[name].apply_transform(frame @ matrix) for matrix, name in placed]
        corners = np.concatenate([mesh.bounds for mesh in meshes])
        moved = (corners.min(axis=0) + corners.max(axis=0)) / 2 * explode
        pose = np.eye(4)
        pose[:3, 3] = moved
        scene.add(pyrender.Mesh([_primitive(mesh) for mesh in meshes]), pose=pose)
        reach = max(reach, *(float(np.linalg.norm(mesh.vertices + moved, axis=1).max()) for mesh in meshes))
    distance = camera.distance * reach
    eye = scene.add(
        pyrender.PerspectiveCamera(
            np.radians(camera.fov_deg), znear=distance - 1.01 * reach, zfar=distance + 1.01 * reach, aspectRatio=1.0
        )
    )
    light = scene.add(pyrender.DirectionalLight(intensity=HEAD_LIGHT))
    offscreen, pictures = _offscreen(), []
    offscreen.viewport_width = offscreen.viewport_height = camera.size
    for number in range(frames):
        azimuth = 360 * number / frames
        scene.set_pose(eye, camera_to_world(azimuth, elevation_deg, distance))
        above = elevation_deg + LIGHT_ELEVATION_DEG
        scene.set_pose(light, camera_to_world(azimuth + LIGHT_AZIMUTH_DEG, above, distance))
        colour, _ = offscreen.render(scene, pyrender.RenderFlags.RGBA | pyrender.RenderFlags.SKIP_CULL_FACES)
        alpha = colour[..., 3:] / 255
        pictures.append(np.rint(colour[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8))
        advance()
    return np.stack(pictures)


@cache
def _offscreen() -> "pyrender.OffscreenRenderer":
    """This process's own GL context; to end one would end those of label maps, too."""
    from pipeline.views.surface_renderer import pyrender

    return pyrender.OffscreenRenderer(64, 64)


def _primitive(mesh: trimesh.Trimesh) -> "pyrender.Primitive":
    import pyrender

    values: dict[str, Any] = {}
    material = pyrender.MetallicRoughnessMaterial(baseColorFactor=(1.0,) * 4, metallicFactor=0.0, doubleSided=True)
    visual = mesh.visual
    if isinstance(visual, TextureVisuals):
        pbr = visual.material
        if pbr.baseColorFactor is not None:
            material.baseColorFactor = np.array(pbr.baseColorFactor) / 255
        if pbr.baseColorTexture is not None and visual.uv is not None:
            picture = np.asarray(pbr.baseColorTexture.convert("RGBA"))
            material.baseColorTexture = pyrender.Texture(source=picture, source_channels="RGBA")
            values["texcoord_0"] = visual.uv.astype(np.float32)
        colours = visual.vertex_attributes.get("color")
    else:
        colours = None if visual is None else visual.vertex_colors
    if colours is not None:
        colours = np.asarray(colours)
        most = np.iinfo(colours.dtype).max if colours.dtype.kind == "u" else 1
        values["color_0"] = (colours / most).astype(np.float32)
    return pyrender.Primitive(
        positions=np.asarray(mesh.vertices, np.float32),
        normals=np.asarray(mesh.vertex_normals, np.float32),
        indices=np.asarray(mesh.faces, np.uint32),
        material=material,
        **values,
    )
