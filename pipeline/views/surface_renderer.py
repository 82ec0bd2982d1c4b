"""pyrender with the segmentation pass that label maps need; importing it loads EGL and OpenGL."""

import contextlib
import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("PYOPENGL_PLATFORM", "egl")  # read by the first import of OpenGL
if not hasattr(np, "infty"):
    np.infty = np.inf  # type: ignore[attr-defined]  # pyrender 0.1.45 was written for numpy 1

# Mesa draws with LLVM, and so does triton, which torch imports for diffusers. Where Mesa's is loaded first, triton's
# crashes the process.
with contextlib.suppress(ImportError):
    importlib.import_module("triton")

import pyrender
from OpenGL import GL
from pyrender.renderer import Renderer
from pyrender.shader_program import ShaderProgramCache

SHADERS = Path(__file__).parent / "shaders"


class SurfaceRenderer(Renderer):
    """pyrender's own SEG pass culls back faces, knows no holes in textures and draws nodes in the order of a set."""

    def __init__(self, width: int, height: int) -> None:
        super().__init__(width, height)
        self._program_cache = ShaderProgramCache(shader_dir=str(SHADERS))
        self._colours: Mapping[pyrender.Node, int] = {}

    def render(
        self, scene: pyrender.Scene, flags: int, seg_node_map: Mapping[pyrender.Node, int] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Colour (H, W, 3) uint8: red `seg_node_map[node]`, green opacity; depth (H, W) float32, 0 = nothing."""
        self._colours = seg_node_map or {}
        colour, depth = super().render(scene, flags, seg_node_map=self._colours)
        return colour, depth

    def _sorted_mesh_nodes(self, scene: pyrender.Scene) -> list[pyrender.Node]:
        # The depth test is "less", so the first of two equally near surfaces stays: the one with the smaller id.
        return sorted(scene.mesh_nodes, key=lambda node: self._colours[node])

    def _bind_and_draw_primitive(
        self, primitive: pyrender.Primitive, pose: np.ndarray, program: Any, flags: int
    ) -> None:
        material = primitive.material
        program.set_uniform("M", pose)
        program.set_uniform("opacity", float(material.baseColorFactor[3]))
        if material.baseColorTexture is not None:
            program.set_uniform("cutoff", float(material.alphaCutoff))
            self._bind_texture(material.baseColorTexture, "opacity_map", program)
        primitive._bind()
        GL.glDisable(GL.GL_CULL_FACE)
        GL.glDisable(GL.GL_BLEND)
        GL.glDrawElementsInstanced(primitive.mode, primitive.indices.size, GL.GL_UNSIGNED_INT, None, 1)
        primitive._unbind()
