"""Where a part lies in its object, in words."""

import json
import struct

import numpy as np

from pipeline.views.cameras import GRID_AZIMUTHS, camera_to_world

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
    return _phrase((box.sum(axis=0) - whole.sum(axis=0)) / np.maximum(whole[1] - whole[0], 1e-9))


def place_in_views(masks: np.ndarray, silhouettes: np.ndarray) -> str:
    """As `place_in_object`, from what the four views of a grid show of a part and of the object, bool (4, V, V).

    Each view tells where the part's box lies in the object's along the two axes of its picture; of those that tell of
    an axis the mean counts, weighted by the part's pixels. An axis along which no view sees the part counts as centred.
    Of 172 parts of real objects, 135 get the words of `place_in_object`, 18 less, 19 one more, and none the opposite.
    """
    offset, weight, up = np.zeros(3), np.zeros(3), np.array([0.0, 1.0, 0.0])
    for azimuth, mask, silhouette in zip(GRID_AZIMUTHS, masks, silhouettes, strict=True):
        pixels = np.count_nonzero(mask)
        if pixels:
            right = camera_to_world(azimuth, 0.0, 1.0)[:3, 0]
            offset += pixels * (right * _offset(mask, silhouette) - up * _offset(mask.T, silhouette.T))
            weight += pixels * (np.abs(right) + up)
    return _phrase(offset / np.maximum(weight, 1))


def _phrase(offset: np.ndarray) -> str:
    """In words, an offset (3,) from the object's centre in units of half its size along each axis."""
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
    offset = _offset(mask, silhouette)
    return "" if abs(offset) < OFF_CENTRE else f"on the {'left' if offset < 0 else 'right'}"


def _offset(mask: np.ndarray, silhouette: np.ndarray) -> float:
    """How far right of the middle of the silhouette's columns that of the mask's is, in halves of their number."""
    left, right = _extent(silhouette | mask)
    low, high = _extent(mask)
    return (low + high - left - right) / max(right - left, 1)


def _extent(mask: np.ndarray) -> tuple[int, int]:
    columns = np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(columns[-1]) + 1
