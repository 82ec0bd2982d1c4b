"""A user's own 3D object: checked, normalised, and drawn from the four sides by the renderer of the data half."""

import atexit
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pipeline.assets.bundle import FORMATS, Bundle, read_bundle
from pipeline.assets.glb import to_unit, write_glb
from pipeline.assets.load import UPRIGHT, load_pieces
from pipeline.assets.materials import plainer
from pipeline.assets.readers import FolderReader
from pipeline.assets.reasons import ObjectDropped, as_text, shortened
from pipeline.assets.references import gltf_header
from pipeline.assets.surface import Piece, Surface, Up
from pipeline.errors import NotFound, UserError
from pipeline.params.assets import AssetsParams
from pipeline.params.render import RenderParams
from pipeline.views.blender import Blender, BlenderDied, BlenderRefused, Series
from pipeline.views.cameras import GRID_AZIMUTHS, camera_to_world, tile

PICTURES = ("images/", "textures/")
"""Folders beside that of a model in which its textures may lie."""
_blender: Blender | None = None
"""That of this process, which waits for the next object: to start one takes seconds, to draw an object less."""
MOST_NOTICE = 1000
MOST_TRIANGLES = 5_000_000
"""Of a user's own object, whatever the data set allows."""
MOST_TEXTURE_PX = 8192
"""Of the longer side of a texture that a part keeps."""


@dataclass(frozen=True)
class DrawnObject:
    """An object that was read, and its four views."""

    grid: np.ndarray
    """The 2x2 grid, (2 view_size, 2 view_size, 4) uint8 with straight alpha."""
    notice: str
    """The file's own copyright, empty where it has none."""
    warnings: tuple[str, ...]
    """What was missing in the file and could be done without."""
    from_file: np.ndarray
    """(4, 4): from the file's frame to that which was drawn, of +Y up, front +Z, within the unit sphere."""
    pieces: Sequence[Piece]
    """As the file has them, textures in full, in the frame that was drawn."""


def draw_object(
    path: Path, assets: AssetsParams, render: RenderParams, up: Up = "y", turn_44: np.ndarray | None = None
) -> DrawnObject:
    """Draw a GLB, glTF, OBJ, PLY or STL of one mesh or many, whatever its scale; `up` is up, its front +Z or -Y.

    Stood upright, it is turned by the rotation `turn_44`, if there is one.

    UserError when the file is missing, broken, empty or too large, needs something outside its folder, or cannot be
    drawn.
    """
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is no regular file; give a 3D object ({', '.join(FORMATS)}).")
    if not path.is_file():
        raise NotFound(f"There is no file {path}; give a 3D object ({', '.join(FORMATS)}).")
    turn_44 = np.eye(4) if turn_44 is None else turn_44
    try:
        bundle = read_object(path, int(assets.max_file_mb * 2**20))
        read, warnings = load_pieces(bundle, MOST_TEXTURE_PX, 0.0, _most_triangles(assets), matrix=turn_44, up=up)
    except ObjectDropped as error:
        raise UserError(f"{path} cannot be taken apart: {_reason(str(error), assets)}.") from None
    stem = as_text(os.fsencode(path.stem))
    matrix = to_unit([piece.surface for piece in read])
    pieces = [replace(piece, surface=piece.surface.transformed(matrix)) for piece in read]
    glb = write_glb([(stem, _plainer([piece.surface for piece in pieces], assets))], "", {})
    poses = np.stack([camera_to_world(azimuth, render.elevation_deg, render.distance) for azimuth in GRID_AZIMUTHS])
    try:
        (views,) = _draw(glb, [Series(None, poses)], render)
    except (BlenderDied, BlenderRefused) as error:
        raise UserError(f"{path} could not be drawn: {error}.") from None
    warnings = [*bundle.warnings, *warnings]
    return DrawnObject(tile(views), _notice(bundle), tuple(warnings), matrix @ turn_44 @ UPRIGHT[up], pieces)


def _plainer(surfaces: Sequence[Surface], assets: AssetsParams) -> list[Surface]:
    """With textures as small, and glass as dark, as the objects have that the models were trained on."""
    materials = {id(surface.material): surface.material for surface in surfaces}
    made = {key: plainer(one, assets.texture_px, assets.min_opacity) for key, one in materials.items()}
    return [replace(surface, material=made[id(surface.material)]) for surface in surfaces]


def read_object(path: Path, max_bytes: int) -> Bundle:
    """The files of one object that the user named, which may be a link to anywhere; ObjectDropped as `read_bundle`.

    What it refers to lies in its folder or, as ShapeNet and Sketchfab have it, in the folder of pictures beside that.
    """
    if path.is_symlink() and path.resolve().suffix.lower() == path.suffix.lower():
        path = path.resolve()
    folder = path.absolute().parent
    if any((folder.parent / pictures).is_dir() for pictures in PICTURES):
        name = f"{folder.name}/{path.name}"
        return read_bundle(name, FolderReader(folder.parent, name, (f"{folder.name}/", *PICTURES)), max_bytes)
    return read_bundle(path.name, FolderReader(folder, path.name), max_bytes)


def _draw(glb: bytes, series: Sequence[Series], render: RenderParams) -> list[np.ndarray]:
    """As of `Blender.draw`, by this process's own, or a new one where that has died since it was asked last."""
    global _blender
    waiting, _blender = _blender, None
    blender = waiting or Blender(os.cpu_count() or 1)
    try:
        views = blender.draw(glb, series, render.deciding())
    except BlenderDied:
        blender.close()
        if waiting is None:
            raise
        return _draw(glb, series, render)
    except BaseException:  # one that was interrupted would give its answer to the next question
        blender.close()
        raise
    _blender = blender
    return views


@atexit.register
def _close() -> None:
    if _blender is not None:
        _blender.close()


def _reason(dropped: str, assets: AssetsParams) -> str:
    """Why an object is dropped, with the limit and what to do where that is not said."""
    if "max_triangles" in dropped:
        return f"more than {_most_triangles(assets):,} triangles; make it coarser, or divide the file"
    if "max_file_mb" in dropped:
        return f"{dropped}, {assets.max_file_mb:g}; make it smaller, or raise that with --set assets.max_file_mb=1000"
    if "points left out" in dropped:
        return "a point cloud without faces; make a surface of it first, as MeshLab does"
    return dropped


def _most_triangles(assets: AssetsParams) -> int:
    return max(assets.max_triangles, MOST_TRIANGLES)


def _notice(bundle: Bundle) -> str:
    if bundle.kind not in (".glb", ".gltf"):
        return ""
    asset = gltf_header(bundle.files[bundle.main]).get("asset", {})
    return shortened(asset.get("copyright", ""), MOST_NOTICE) if isinstance(asset, dict) else ""
