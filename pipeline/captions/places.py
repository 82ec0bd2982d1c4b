"""Where a part lies in its object, in words."""

import json
import struct

import numpy as np

OFF_CENTRE = 1 / 3
"""From this share of the object's half size on, a part's centre is told to be off the object's."""
PLACE_WORDS = frozenset(
    ["top", "bottom", "left", "right", "front", "back", "middle", "centre", "center", "upper", "lower", "side"]
)
"""Words that tell a place."""


def part_boxes(glb: bytes) -> dict[int, np.ndarray]:
    """The box of each part of a normalised GLB, float64 (2, 3) of lower and upper corner, by part id.

    Read off the header: vertices have their transforms baked in, and glTF demands bounds of every position
    accessor.
    """
    tree = json.loads(glb[20 : 20 + struct.unpack_from("<I", glb, 12)[0]])
    boxes = {}
    for node in tree["nodes"]:
        primitives = tree["meshes"][node["mesh"]]["primitives"]
        bounds = [tree["accessors"][primitive["attributes"]["POSITION"]] for primitive in primitives]
        low = np.min([bound["min"] for bound in bounds], axis=0)
        high = np.max([bound["max"] for bound in bounds], axis=0)
        boxes[node["extras"]["part"]] = np.stack([low, high]).astype(np.float64)
    return boxes


def place_in_object(box: np.ndarray, whole: np.ndarray) -> str:
    """`at the bottom left`: where the centre of `box` lies in the box `whole`, both (2, 3) in the glTF frame.

    Left and right are those of one who looks at the object's front. The two axes on which the part is farthest from the
    centre are told, and none on which it is less than OFF_CENTRE away.
    """
    offset = (box.sum(axis=0) - whole.sum(axis=0)) / np.maximum(whole[1] - whole[0], 1e-9)
    words = {}
    for axis, (low, high) in enumerate((("left", "right"), ("bottom", "top"), ("back", "front"))):
        if abs(offset[axis]) >= OFF_CENTRE:
            words[axis] = high if offset[axis] > 0 else low
    told = sorted(words, key=lambda axis: -abs(offset[axis]))[:2]
    phrase = " ".join(words[axis] for axis in (1, 2, 0) if axis in told)
    return f"{'on' if phrase in ('left', 'right') else 'at'} the {phrase}" if phrase else ""


def side_in_view(mask: np.ndarray, silhouette: np.ndarray) -> str:
    """`on the left`, `on the right` or nothing: the side of the object's silhouette on which a part's mask lies.

    Both bool (V, V), the mask not empty.
    """
    left, right = _extent(silhouette | mask)
    low, high = _extent(mask)
    offset = (low + high - left - right) / max(right - left, 1)
    return "" if abs(offset) < OFF_CENTRE else f"on the {'left' if offset < 0 else 'right'}"


def _extent(mask: np.ndarray) -> tuple[int, int]:
    columns = np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(columns[-1]) + 1
