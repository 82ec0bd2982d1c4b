"""Meshes of parts, and all of them as one GLB: a named node a part, in place, with the attribution of their source.

Shape suffixes: V vertices.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
from trimesh import Trimesh
from trimesh.visual import ColorVisuals, TextureVisuals
from trimesh.visual.material import PBRMaterial

from pipeline.assets.glb import GENERATOR, LINEAR_COLOURS, Node, pack
from pipeline.assets.names import unique_names
from pipeline.assets.srgb import linear
from pipeline.errors import NoSurface, UserError
from pipeline.params.reconstruct import ReconstructParams
from pipeline.reconstruction.field import Field
from pipeline.reconstruction.meshing import mesh_field


@dataclass(frozen=True)
class NamedPart:
    """A part as it goes into a GLB."""

    name: str
    part_id: int
    """1..S as everywhere; parts that are absent leave gaps."""
    mesh: Trimesh
    """In the object's frame, coloured by `pipeline.reconstruction.meshing`: at its vertices or by a texture."""


@dataclass(frozen=True)
class PartMesh:
    """What became of a part's field."""

    glb: bytes | None
    """Of the part alone and in place; None when it has no surface."""
    triangles: int
    absent: NoSurface | None
    """Why it has none."""


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


def mesh_parts(
    fields: Mapping[int, Field],
    names: Mapping[int, str],
    params: ReconstructParams,
    notice: str,
    extras: Mapping[str, Any],
    models: Mapping[int, Mapping[str, str]],
    frame: np.ndarray | None = None,
) -> tuple[dict[int, PartMesh], bytes | None]:
    """The fields' surfaces by label, each as a GLB of its own, and all in one GLB; None when no part has a surface.

    `names` are the parts' by label; `params` say the surface and which part has the space where several are, see
    `mesh_field`; `notice`, `extras` and `frame` are as of `assemble`. `models` are the digests, by name, of those that
    made each part, which its GLB is marked with, and the joint one with all of them.
    """
    meshed, present = {}, []
    for label, field in fields.items():
        others = [other for key, other in fields.items() if key != label] if params.overlap == "densest" else []
        try:
            part = NamedPart(names[label], label, mesh_field(field, params.mesh, others))
        except NoSurface as error:
            meshed[label] = PartMesh(None, 0, error)
        else:
            glb = assemble([part], notice, {**extras, **mark(models[label])}, frame)
            meshed[label] = PartMesh(glb, len(part.mesh.faces), None)
            present.append(part)
    marked = {**extras, **mark({name: one for part in present for name, one in models[part.part_id].items()})}
    return meshed, assemble(present, notice, marked, frame) if present else None


def mark(models: Mapping[str, str]) -> dict[str, Any]:
    """What `asset.extras` say of a GLB whose surfaces this program has made: by which version, and the digests of the
    models that took part by name. No date, so that the same inputs give the same bytes.
    """
    return {"generated_by": f"{GENERATOR} {version('partgen')}", "models": dict(sorted(models.items()))}


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
