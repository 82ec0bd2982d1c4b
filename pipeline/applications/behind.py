"""What the networks make of the parts of an object's own surface: their hidden sides, and the same parts of fields.

Shape suffixes: H W pixels of the 2x2 grid, V vertices.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from trimesh.visual import ColorVisuals

from pipeline.applications.assemble import Scene
from pipeline.applications.diagnostics import Diagnostic
from pipeline.applications.models import Models
from pipeline.applications.result import PartObject
from pipeline.applications.result_folder import NEURAL
from pipeline.applications.settings import Settings
from pipeline.assets.srgb import linear
from pipeline.errors import NoSurface
from pipeline.params.reconstruct import ReconstructParams
from pipeline.reconstruction.assembly import mesh_parts
from pipeline.reconstruction.field import Field
from pipeline.reconstruction.meshing import mesh_field
from pipeline.shards.progress import step
from pipeline.surface.close import Shape, capped, completed
from pipeline.surface.division import SurfacePart
from pipeline.surface.rims import opened

TOLERANCE_PX = 1.5
"""Pixels of a view, where the object's centre is, within which a reconstructed shape shows what the surface has."""


def needs_networks(close: str, surface: str) -> bool:
    """Whether an object in parts of its own surface, so closed, has fields of parts."""
    return close == "complete" or surface == "both"


def closing(result: PartObject) -> tuple[str, str]:
    """How an object in parts of its own surface is closed, and which surfaces it has; as for `needs_networks`."""
    return result.settings["close"], result.settings.get("surface", "original")


def with_hidden_sides(
    result: PartObject, divided: Sequence[SurfacePart], models: Models, settings: Settings, scene: Scene
) -> tuple[PartObject, Sequence[SurfacePart]]:
    """An object of whose parts those have fields that its settings need them of, and its parts' surfaces closed as the
    settings say.

    Fields have the parts that a view shows: all, with the surface `both`; else, where openings are completed, those
    that the division opened.
    """
    close, surface = closing(result)
    if needs_networks(close, surface):
        from pipeline.applications.decompose import with_fields  # diffusers takes longer to import than all else

        wanted = set(np.unique(result.labels).tolist()) - {0}
        if surface != "both":
            rims = opened([part.surfaces for part in divided])
            wanted &= {part.label for part, one in zip(result.parts, rims, strict=True) if one.rims}
        result = with_fields(result, sorted(wanted), models, settings, scene)
    if close == "cap":
        return result, capped(divided)
    if close == "complete":
        camera, fields = scene.camera, scene.fields(result.parts)
        pixel = 2 * camera.distance * np.tan(np.radians(camera.fov_deg) / 2) / camera.size
        with step("Hidden sides"):
            shapes = [_shape(fields, part.label, scene.params) for part in result.parts]
            return result, completed(divided, shapes, TOLERANCE_PX * pixel)
    return result, divided


def neural_glb(
    result: PartObject, digests: Mapping[str, str], scene: Scene, frame: np.ndarray | None
) -> tuple[bytes | None, list[Diagnostic]]:
    """The GLB of an object's parts made of their fields, and which parts are not in it."""
    fields = scene.fields(result.parts)
    names = {part.label: part.name for part in result.parts if part.label in fields}
    with step("Meshes"):
        meshes, glb = mesh_parts(fields, names, scene.params, result.notice, {}, dict.fromkeys(names, digests), frame)
    reasons = {label: str(mesh.absent) for label, mesh in meshes.items() if mesh.absent is not None}
    reasons |= {part.label: "No view shows it." for part in result.parts if part.label not in fields}
    return glb, [
        Diagnostic("absent", label, 0.0, f"Part {label} is not in {NEURAL}: {reason}")
        for label, reason in sorted(reasons.items())
    ]


def _shape(fields: Mapping[int, Field], label: int, params: ReconstructParams) -> Shape | None:
    """A part's field as a shape with linear colours, whatever textures are wanted; None where there is none."""
    if label not in fields:
        return None
    others = [field for other, field in fields.items() if other != label] if params.overlap == "densest" else []
    try:
        mesh = mesh_field(fields[label], params.mesh.model_copy(update={"texture_px": 0}), others)
    except NoSurface:
        return None
    assert isinstance(mesh.visual, ColorVisuals)
    colours_V4 = mesh.visual.vertex_colors / 255.0
    colours_V4[:, :3] = linear(colours_V4[:, :3])
    return np.asarray(mesh.vertices), np.asarray(mesh.faces), colours_V4
