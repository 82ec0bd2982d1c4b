"""Small 3D files for the tests of the stage assets."""

import io
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from PIL import Image

from pipeline.assets.build import PartSettings, Payload, build_object
from pipeline.assets.bundle import Bundle, read_bundle
from pipeline.assets.readers import FolderReader
from pipeline.assets.reasons import ObjectDropped
from pipeline.shards.store import Rows

SETTINGS = PartSettings(
    max_parts=10,
    small_by="surface",
    small_share=0.01,
    small_parts="merge",
    too_many="merge",
    undivided="drop",
    texture_px=64,
    min_opacity=0.25,
    max_triangles=100_000,
)
ROW = {
    "object_id": "folder.thing",
    "split": "train",
    "name": 'A <b>"thing"</b> / 🪑',
    "name_group": "thing",
    "category": "",
    "source": "folder",
    "origin": "folder/thing.glb",
    "licence": "CC0-1.0",
    "author": "A. Uthor",
}


def build(bundle: Bundle, **settings: Any) -> Rows:
    """The rows of an object by its bundle."""
    return build_object(Payload(ROW, bundle, "", np.eye(4), SETTINGS.model_copy(update=settings)))


def built(name: str, data: bytes, **settings: Any) -> Rows:
    """The rows of an object in one file; those of a dropped object when the file cannot even be collected."""
    try:
        bundle = read_bundle(name, lambda wanted, _: data if wanted == name else None, 10_000_000)
    except ObjectDropped as error:
        return build_object(Payload(ROW, None, str(error), np.eye(4), SETTINGS))
    return build(bundle, **settings)


def built_folder(folder: Path, name: str, **settings: Any) -> Rows:
    """The rows of an object in a folder."""
    try:
        bundle = read_bundle(name, FolderReader(folder), 10_000_000)
    except ObjectDropped as error:
        return build_object(Payload(ROW, None, str(error), np.eye(4), SETTINGS))
    return build(bundle, **settings)


def reason(rows: Rows) -> str:
    """Why an object was dropped."""
    (row,) = rows["objects"]
    assert row["status"] == "dropped"
    assert rows["parts"] == []
    assert rows["glbs"] == []
    return row["reason"]


def png(color: tuple[int, ...] = (200, 30, 30), size: tuple[int, int] = (8, 8)) -> bytes:
    """A PNG of one colour."""
    stream = io.BytesIO()
    Image.new("RGBA" if len(color) == 4 else "RGB", size, color).save(stream, "PNG")
    return stream.getvalue()


def boxes(**extents: tuple[float, float]) -> bytes:
    """A GLB of boxes, one node each, by name: (side, x)."""
    scene = trimesh.Scene()
    for name, (side, x) in extents.items():
        box = trimesh.creation.box((side,) * 3)
        box.apply_translation((x, 0, 0))
        scene.add_geometry(box, node_name=name, geom_name=name)
    return scene.export(file_type="glb")


def gltf(tree: dict, vertices: np.ndarray, faces: np.ndarray) -> bytes:
    """A GLB with one mesh, whose accessors are 0 (positions) and 1 (indices), and the rest from `tree`."""
    blob = vertices.astype("<f4").tobytes() + faces.astype("<u4").tobytes()
    header = {
        "asset": {"version": "2.0"},
        "scene": 0,
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1}]}],
        "accessors": [
            {"bufferView": 0, "componentType": 5126, "count": len(vertices), "type": "VEC3"},
            {"bufferView": 1, "componentType": 5125, "count": faces.size, "type": "SCALAR"},
        ],
        "bufferViews": [
            {"buffer": 0, "byteOffset": 0, "byteLength": 12 * len(vertices)},
            {"buffer": 0, "byteOffset": 12 * len(vertices), "byteLength": 4 * faces.size},
        ],
        "buffers": [{"byteLength": len(blob)}],
        **tree,
    }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<II", len(text), 0x4E4F534A) + text + struct.pack("<II", len(blob), 0x004E4942) + blob
    return struct.pack("<III", 0x46546C67, 2, 12 + len(chunks)) + chunks


BOX = """\
v {x0} 0 0\nv {x1} 0 0\nv {x1} 1 0\nv {x0} 1 0\nv {x0} 0 1\nv {x1} 0 1\nv {x1} 1 1\nv {x0} 1 1
"""


def obj_box(x: float, start: int) -> tuple[str, str]:
    """Vertices and faces (quads, outwards) of a unit box at x, the first vertex having number `start` (from 1)."""
    quads = [(1, 4, 3, 2), (5, 6, 7, 8), (1, 2, 6, 5), (4, 8, 7, 3), (1, 5, 8, 4), (2, 3, 7, 6)]
    faces = "".join("f " + " ".join(str(i + start - 1) for i in quad) + "\n" for quad in quads)
    return BOX.format(x0=x, x1=x + 1), faces
