"""Surfaces out of trimesh's meshes, as it reads them from a GLB.

Shape suffixes: V vertices.
"""

from collections.abc import Sequence

import numpy as np
from trimesh import Trimesh
from trimesh.visual import TextureVisuals
from trimesh.visual.material import PBRMaterial, SimpleMaterial

from pipeline.assets.glb import Part
from pipeline.assets.surface import Material, Surface


def surface_of(mesh: Trimesh) -> Surface:
    """The mesh with its look: every triangle, in its order; normals are reckoned where there are none."""
    visual = mesh.visual
    uv, material, colours = None, Material(), None
    if isinstance(visual, TextureVisuals):
        uv, material = visual.uv, _material(visual.material)
        colours = visual.vertex_attributes.get("color")
    elif visual is not None and visual.kind == "vertex":
        colours = visual.vertex_colors
    return Surface(
        np.asarray(mesh.vertices, np.float64),
        np.asarray(mesh.faces, np.int64),
        np.asarray(mesh.vertex_normals, np.float64),
        None if uv is None else np.asarray(uv, np.float64),
        None if colours is None else _linear(np.asarray(colours)),
        material,
    )


def surfaces_of(parts: Sequence[Part]) -> list[Surface]:
    """All that a GLB of parts holds, node by node."""
    return [surface_of(mesh) for part in parts for mesh in part.meshes]


def _material(found: PBRMaterial | SimpleMaterial) -> Material:
    pbr = found if isinstance(found, PBRMaterial) else found.to_pbr()
    kept = (
        "name", "baseColorFactor", "baseColorTexture", "metallicFactor", "roughnessFactor", "emissiveFactor",
        "alphaMode", "alphaCutoff", "doubleSided",
    )  # fmt: skip
    return Material(**{name: getattr(pbr, name) for name in kept})


def _linear(colours_V: np.ndarray) -> np.ndarray:
    """Colours (V, 3 or 4) as glTF has them, as RGBA in [0, 1]."""
    values = colours_V / (np.iinfo(colours_V.dtype).max if colours_V.dtype.kind == "u" else 1)
    alpha = np.ones((len(values), 4 - values.shape[1]))
    return np.concatenate([values, alpha], axis=1).astype(np.float32)
