"""Part label maps by nearest depth: M^k = [k = argmin_l depth^l] (main paper, Sec. 3.5), drawn with pyrender on EGL.

What counts as a surface, for every part alike:

- both sides of a triangle do, so that a box without a back face is never looked into;
- a hole drawn by a texture (round a leaf on a card, in a net) is a hole: there is no depth where the texture's alpha,
  averaged over the pixel by mip-mapping, is under a quarter;
- an evenly see-through material (glass) is a surface and hides what lies behind it.

Pixels are sampled at their centres: edges are hard, and no pixel is a mixture of two parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import trimesh
from trimesh.visual import TextureVisuals

from pipeline.assets.glb import Part
from pipeline.errors import UserError
from pipeline.views.cameras import Camera, camera_to_world

if TYPE_CHECKING:
    import pyrender

TEXTURE_CUTOFF = 0.25
"""The texture alpha under which a see-through material has a hole. Not a half: at 64 px a card of leaves, a third of it
covered, would vanish; a quarter keeps leaves and drops nets, and agrees best with Blender's alpha."""


@dataclass(frozen=True)
class LabelViews:
    """What V cameras of H x W pixels see of an object's parts."""

    labels: np.ndarray
    """uint8 (V, H, W): the id of the nearest part, 0 where there is none."""
    opacity: np.ndarray
    """float32 (V, H, W): how opaque that surface is, 0 to 1; 0 where there is none."""
    depth: np.ndarray
    """float32 (V, H, W): its distance along the viewing axis; infinite where there is none."""


def draw_labels(parts: Sequence[Part], camera: Camera, views: Sequence[tuple[float, float]]) -> LabelViews:
    """What `camera` sees of `parts` from `views`, each (azimuth, elevation) in degrees.

    Of two parts that are equally near, the one with the smaller id is seen, as argmin has it. Raises UserError when
    this machine has no OpenGL.
    """
    offscreen = _offscreen()
    import pyrender

    offscreen.viewport_width = offscreen.viewport_height = camera.size
    scene = pyrender.Scene()
    ids: dict[pyrender.Node, int] = {}
    for part in parts:
        if not 1 <= part.part_id <= 255:
            raise ValueError(f"part id {part.part_id} is not within 1..255; 0 is the background")
        ids[scene.add(pyrender.Mesh([_primitive(mesh) for mesh in part.meshes]))] = part.part_id
    # The object lies in the unit sphere: planes that hug it leave depth the most precision.
    near, far = max(camera.distance - 1.01, 0.01), camera.distance + 1.01
    eye = scene.add(pyrender.PerspectiveCamera(np.radians(camera.fov_deg), znear=near, zfar=far, aspectRatio=1.0))
    scene.main_camera_node = eye
    labels, opacity, depth = [], [], []
    for azimuth, elevation in views:
        scene.set_pose(eye, camera_to_world(azimuth, elevation, camera.distance))
        colour, z = offscreen.render(scene, pyrender.RenderFlags.SEG, seg_node_map=ids)
        labels.append(colour[..., 0])
        opacity.append(colour[..., 1].astype(np.float32) / 255)
        depth.append(np.where(z > 0, z, np.inf).astype(np.float32))
    return LabelViews(np.stack(labels), np.stack(opacity), np.stack(depth))


@cache
def _offscreen() -> pyrender.OffscreenRenderer:
    """This process's GL context: making one takes most of a second, an object some hundredths."""
    try:
        from pipeline.views.surface_renderer import SurfaceRenderer, pyrender

        offscreen = pyrender.OffscreenRenderer(64, 64)
    except Exception as error:  # PyOpenGL fails with errors of unrelated classes, bare AssertionErrors among them
        raise UserError(
            f"The masks are drawn with OpenGL on EGL, which does not start here ({type(error).__name__}: "
            f"{' '.join(str(error).split())}); install libegl1, libgl1 and libgl1-mesa-dri, or name another device "
            "with EGL_DEVICE_ID."
        ) from error
    offscreen._renderer.delete()
    offscreen._renderer = SurfaceRenderer(64, 64)
    return offscreen


def _primitive(mesh: trimesh.Trimesh) -> pyrender.Primitive:
    import pyrender

    opacity, holes = _transparency(mesh)
    material = pyrender.MetallicRoughnessMaterial(baseColorFactor=(1.0, 1.0, 1.0, opacity), alphaCutoff=TEXTURE_CUTOFF)
    if holes:
        material.baseColorTexture = pyrender.Texture(source=holes.texture, source_channels="RGBA")
    return pyrender.Primitive(
        positions=np.asarray(mesh.vertices, np.float32),
        indices=np.asarray(mesh.faces, np.uint32),
        texcoord_0=holes.uv if holes else None,
        material=material,
    )


@dataclass(frozen=True)
class _Holes:
    """A texture that cuts holes into a mesh: uint8 (H, W, 4), and float32 (vertices, 2)."""

    texture: np.ndarray
    uv: np.ndarray


def _transparency(mesh: trimesh.Trimesh) -> tuple[float, _Holes | None]:
    """The opacity of a mesh's material, and the holes in it, if any."""
    if not isinstance(mesh.visual, TextureVisuals):
        return 1.0, None
    material, uv = mesh.visual.material, mesh.visual.uv
    mode = getattr(material, "alphaMode", None)
    if mode not in ("BLEND", "MASK"):
        return 1.0, None
    blended = mode == "BLEND" and material.baseColorFactor is not None
    opacity = float(material.baseColorFactor[3]) / 255 if blended else 1.0
    image = material.baseColorTexture
    if image is None or uv is None or not (image.mode in ("RGBA", "LA") or "transparency" in image.info):
        return opacity, None
    return opacity, _Holes(np.asarray(image.convert("RGBA")), np.asarray(uv, np.float32))
