"""Pictures and models of results that only the page needs: for the gallery, for its slider, of cut-outs.

Shape suffixes: H W pixels.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from pipeline.applications.photo import is_cut_out, read_picture, saliency
from pipeline.applications.result import PartObject
from pipeline.applications.surface import division_of
from pipeline.assets.bundle import Bundle
from pipeline.assets.glb import Node, pack, to_unit, write_glb
from pipeline.assets.load import load_pieces
from pipeline.errors import Invalid, UserError
from pipeline.views.cameras import Camera, over_white
from pipeline.views.mesh_turntable import mesh_turntable

PICTURE_PX = 384
CAMERA = Camera(40.0, 3.1, PICTURE_PX)
ELEVATION_DEG, AZIMUTH_DEG = 20.0, 30.0
"""From where the pictures are taken: from above, a little to the right."""
_MOST_TEXTURE_PX = 1024


def preview(result: PartObject) -> np.ndarray:
    """A result from one side, (H, W, 3) uint8; its four views when no part has a surface."""
    glbs = [part.glb for part in result.parts if part.glb is not None]
    if not glbs:
        return np.rint(over_white(result.grid) * 255).astype(np.uint8)
    in_file = result.settings.get("frame") == "file"
    return _from_the_side(glbs, np.array(result.origin["from_file"]) if in_file else np.eye(4))


def sample_preview(glb: bytes) -> np.ndarray:
    """A 3D object from one side, (H, W, 3) uint8."""
    pieces, _ = load_pieces(Bundle("object.glb", {"object.glb": glb}), _MOST_TEXTURE_PX, 0.0, sys.maxsize, np.eye(4))
    surfaces = [piece.surface for piece in pieces]
    matrix = to_unit(surfaces)
    return _from_the_side([write_glb([("object", [one.transformed(matrix) for one in surfaces])], "", {})], np.eye(4))


def atoms_glb(result: PartObject) -> bytes:
    """The surface of a result with a node `atom-K` for every atom, in the frame of its object.glb."""
    division = division_of(result)
    to_file = np.linalg.inv(result.origin["from_file"]) if result.settings["frame"] == "file" else None
    nodes = [
        Node(f"atom-{number}", {"atom": number}, [surface.to_trimesh() for surface in atom.surfaces])
        for number, atom in enumerate(division.parts(np.arange(division.count)))
    ]
    return pack(nodes, result.notice, {}, to_file)


def cut_out_mask(path: Path) -> tuple[Image.Image, np.ndarray, str]:
    """A picture as it is read, RGB, what of it is its object, (H, W) uint8, and a sentence on that where there is
    one.
    """
    picture = read_picture(path)
    rgba = np.asarray(picture.convert("RGBA"))
    rgb = np.rint(over_white(rgba) * 255).astype(np.uint8)
    shown = Image.fromarray(rgb)
    if is_cut_out(rgba[..., 3]):
        return shown, rgba[..., 3].copy(), ""
    try:
        return shown, np.rint(saliency(rgb) * 255).astype(np.uint8), ""
    except UserError as error:
        return shown, np.full(rgb.shape[:2], 255, np.uint8), str(error)


def with_mask(path: Path, picture: Path) -> np.ndarray:
    """The mask (H, W) uint8 in a file that a user has painted; Invalid when it is none of that picture."""
    try:
        with Image.open(path, formats=("PNG",)) as opened, Image.open(picture) as of:
            if opened.size != of.size:
                raise Invalid(
                    f"The mask is of {opened.width} x {opened.height} pixels, and the picture of "
                    f"{of.width} x {of.height}; paint it at the picture's size."
                )
            return np.asarray(opened.convert("L"))
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError):
        raise Invalid(
            "The mask is no PNG that can be read; save it as a grey one, white where the object is."
        ) from None


def _from_the_side(glbs: list[bytes], to_unit_44: np.ndarray) -> np.ndarray:
    angle = np.radians(-AZIMUTH_DEG)
    turned = np.eye(4)
    turned[[0, 0, 2, 2], [0, 2, 0, 2]] = np.cos(angle), np.sin(angle), -np.sin(angle), np.cos(angle)
    return np.asarray(mesh_turntable(glbs, CAMERA, ELEVATION_DEG, 1, turned @ to_unit_44)[0])
