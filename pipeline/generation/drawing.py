"""A user's own 3D object: checked, normalised, and drawn from the four sides by the renderer of the data half."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.assets.bundle import FORMATS, FolderReader, ObjectDropped, gltf_header, read_bundle
from pipeline.assets.glb import normalise, write_glb
from pipeline.assets.load import load_pieces
from pipeline.assets.parts import Part
from pipeline.errors import UserError
from pipeline.params.assets import AssetsParams
from pipeline.params.render import RenderParams
from pipeline.views.blender import Blender, BlenderDied, BlenderRefused, Series
from pipeline.views.cameras import GRID_AZIMUTHS, camera_to_world, tile
from pipeline.views.renders import picture_params


@dataclass(frozen=True)
class Drawn:
    """Four views of an object."""

    grid: np.ndarray
    """The 2x2 grid, (2 view_size, 2 view_size, 4) uint8 with straight alpha."""
    notice: str
    """The file's own copyright, empty where it has none."""
    warnings: tuple[str, ...]
    """What was missing in the file and could be done without."""


def draw_object(path: Path, assets: AssetsParams, render: RenderParams) -> Drawn:
    """Draw a GLB, glTF, OBJ, PLY or STL of one mesh or many, whatever its scale; +Y is up, its front +Z.

    UserError when the file is missing, broken, empty or too large, refers to something outside its folder, or cannot
    be drawn.
    """
    if not path.is_file():
        raise UserError(f"There is no file {path}; give a 3D object ({', '.join(FORMATS)}).")
    try:
        bundle = read_bundle(path.name, FolderReader(path.parent), int(assets.max_file_mb * 2**20))
        pieces, warnings = load_pieces(
            bundle, assets.texture_px, assets.min_opacity, assets.max_triangles, matrix=np.eye(4)
        )
    except ObjectDropped as error:
        raise UserError(f"{path} is no 3D object that can be taken apart: {error}.") from None
    whole = Part([piece.surface for piece in pieces], [path.stem], path.stem)
    glb = write_glb([(path.stem, normalise([whole])[0])], "", {})
    poses = np.stack([camera_to_world(azimuth, render.elevation_deg, render.distance) for azimuth in GRID_AZIMUTHS])
    blender = None
    try:
        blender = Blender(os.cpu_count() or 1)
        views = blender.draw(glb, [Series(None, poses)], picture_params(render))[0]
    except (BlenderDied, BlenderRefused) as error:
        raise UserError(f"{path} could not be drawn: {error}.") from None
    finally:
        if blender is not None:
            blender.close()
    return Drawn(tile(views), _notice(bundle.files[bundle.main], path), (*bundle.warnings, *warnings))


def _notice(contents: bytes, path: Path) -> str:
    if path.suffix.lower() not in (".glb", ".gltf"):
        return ""
    asset = gltf_header(contents).get("asset", {})
    return str(asset.get("copyright", "")) if isinstance(asset, dict) else ""
