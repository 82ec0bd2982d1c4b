"""Meshes of parts as one GLB: a named node a part, in place, with the attribution of what they were made from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from trimesh import Trimesh
from trimesh.visual import ColorVisuals, TextureVisuals
from trimesh.visual.material import PBRMaterial

from pipeline.assets.glb import LINEAR_COLOURS, Node, pack
from pipeline.assets.names import unique_names
from pipeline.errors import UserError


@dataclass(frozen=True)
class NamedPart:
    """A part as it goes into a GLB."""

    name: str
    part_id: int
    """1..S as everywhere; parts that are absent leave gaps."""
    mesh: Trimesh
    """In the object's frame, coloured by `pipeline.reconstruction.meshing`: at its vertices or by a texture."""


def assemble(parts: Sequence[NamedPart], notice: str, extras: Mapping[str, Any]) -> bytes:
    """The GLB of parts, the same bytes for the same parts; of one part, that part alone and in place.

    A part is a node with its name and `extras: {"part": part_id}`, the key of the normalised GLBs of the stage assets.
    A repeated name gets a number, an empty one becomes `part`; names are not changed otherwise. `asset` carries
    `notice` as its copyright, and `extras` (licence, author, source). Materials are matt and opaque, and show their
    front alone. Vertex colours are linear, as glTF wants them; textures are sRGB.

    UserError when there is no part.
    """
    if not parts:
        raise UserError("There is no part to assemble; every part of the object is absent, so leave the object out.")
    names = unique_names(part.name for part in parts)
    nodes = [Node(name, {"part": part.part_id}, [_written(part.mesh)]) for name, part in zip(names, parts, strict=True)]
    return pack(nodes, notice, extras)


def linear(display: np.ndarray) -> np.ndarray:
    """Display values (sRGB) in [0, 1] as linear ones, IEC 61966-2-1."""
    return np.where(display <= 0.04045, display / 12.92, ((display + 0.055) / 1.055) ** 2.4)


def _written(mesh: Trimesh) -> Trimesh:
    if isinstance(mesh.visual, TextureVisuals):
        return mesh
    assert isinstance(mesh.visual, ColorVisuals)
    colours_V4 = mesh.visual.vertex_colors / 255.0
    colours_V4[:, :3] = linear(colours_V4[:, :3])
    return Trimesh(
        mesh.vertices,
        mesh.faces,
        vertex_normals=mesh.vertex_normals,
        vertex_attributes={LINEAR_COLOURS: np.rint(colours_V4 * 65535).astype(np.uint16)},
        visual=TextureVisuals(material=PBRMaterial(metallicFactor=0.0, roughnessFactor=1.0, doubleSided=False)),
        process=False,
    )
