"""A division as files: the surface as a GLB of its pieces, and the hierarchy of its atoms.

Shape suffixes: F triangles of all pieces together.
"""

import json
from collections.abc import Mapping

import numpy as np
from safetensors.numpy import load, save

from pipeline.assets.bundle import read_bundle
from pipeline.assets.glb import write_glb
from pipeline.assets.gltf import load_gltf
from pipeline.assets.reading import Reading
from pipeline.assets.surface import Piece
from pipeline.surface.division import Division

SURFACE, HIERARCHY = "surface.glb", "hierarchy.safetensors"
MOST_TEXTURE_PX = 8192
"""Of the longer side of a texture that a part keeps."""
_SAID, _MOST = "division", 2**40


def stored(division: Division) -> dict[str, bytes]:
    """The files of a division by their names; SURFACE has a node for every piece."""
    pieces = division.pieces
    glb = write_glb([(piece.node_name, [piece.surface]) for piece in pieces], "", {})
    said = {
        "chosen": division.chosen,
        "pieces": [[piece.node, piece.node_name, piece.material_name] for piece in pieces],
    }
    arrays: dict[str, np.ndarray] = {
        "atoms": division.atom_F.astype(np.uint8),
        "merges": division.merges.astype(np.float64),
    }
    return {SURFACE: glb, HIERARCHY: save(arrays, {_SAID: json.dumps(said, ensure_ascii=False)})}


def restored(files: Mapping[str, bytes]) -> Division:
    """The division of which these are the files, with the precision of a GLB; ValueError when they are not of one."""
    content = files[HIERARCHY]
    arrays = load(content)
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    said = json.loads(header["__metadata__"][_SAID])
    bundle = read_bundle("surface.glb", lambda name, _: files[SURFACE] if name == "surface.glb" else None, _MOST)
    # Not by way of what checks a user's file, which leaves triangles out that the precision has made flat.
    loaded = load_gltf(Reading(bundle, MOST_TEXTURE_PX, 0.0, _MOST))
    pieces = [
        Piece(node, name, material, piece.surface)
        for (node, name, material), piece in zip(said["pieces"], loaded, strict=True)
    ]
    atom_F = arrays["atoms"].astype(int)
    if len(atom_F) != sum(len(piece.surface.faces) for piece in pieces) or atom_F.max() > len(arrays["merges"]):
        raise ValueError("its hierarchy is that of another surface")
    return Division(pieces, atom_F, arrays["merges"], int(said["chosen"]))
