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


class _OwnMaterial(PBRMaterial):
    """One part's; trimesh would write those that look alike once, whatever their names."""

    def __hash__(self) -> int:
        return hash((super().__hash__(), self.name))


def assemble(
    parts: Sequence[NamedPart], notice: str, extras: Mapping[str, Any], frame: np.ndarray | None = None
) -> bytes:
    """The GLB of parts, the same bytes for the same parts; of one part, that part alone and in place.

    A part is a node with its name and `extras: {"part": part_id}`, the key of the normalised GLBs of the stage assets.
    Its vertices count from the centre of its box, where the node stands, so that it turns around itself. A repeated
    name gets a number, an empty one becomes `part`; names are not changed otherwise. `asset` carries `notice` as its
    copyright, and `extras` (licence, author, source). With `frame`, (4, 4), from the object's frame to another, a node
    `object` with that matrix holds all parts. Every part has a material of its name, matt and opaque, that shows its
    front alone. Vertex colours are linear, as glTF wants them; textures are sRGB.

    UserError when there is no part.
    """
    if not parts:
        raise UserError("There is no part to assemble; every part of the object is absent, so leave the object out.")
    names = unique_names(part.name for part in parts)
    nodes = [_node(name, part) for name, part in zip(names, parts, strict=True)]
    return pack(nodes, notice, extras, frame)


def linear(display: np.ndarray) -> np.ndarray:
    """Display values (sRGB) in [0, 1] as linear ones, IEC 61966-2-1."""
    return np.where(display <= 0.04045, display / 12.92, ((display + 0.055) / 1.055) ** 2.4)


def _node(name: str, part: NamedPart) -> Node:
    mesh, pivot = part.mesh, part.mesh.bounds.mean(axis=0)
    material = _OwnMaterial(name=name, metallicFactor=0.0, roughnessFactor=1.0, doubleSided=False)
    attributes: dict[str, Any] = {}
    uv = None
    if isinstance(mesh.visual, TextureVisuals):
        material.baseColorTexture, uv = mesh.visual.material.baseColorTexture, mesh.visual.uv
    else:
        assert isinstance(mesh.visual, ColorVisuals)
        colours_V4 = mesh.visual.vertex_colors / 255.0
        colours_V4[:, :3] = linear(colours_V4[:, :3])
        attributes[LINEAR_COLOURS] = np.rint(colours_V4 * 65535).astype(np.uint16)
    centred = Trimesh(
        mesh.vertices - pivot,
        mesh.faces,
        vertex_normals=mesh.vertex_normals,
        vertex_attributes=attributes,
        visual=TextureVisuals(uv=uv, material=material),
        process=False,
    )
    return Node(name, {"part": part.part_id}, [centred], pivot)
