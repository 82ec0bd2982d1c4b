"""A small object for tests of captions: its grid, label map, normalised GLB and parameters."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.captions.object_captions import CaptionTask, Names
from pipeline.params.captions import CaptionsParams
from pipeline.shards.table import encode_png
from pipeline.views.cameras import tile

SIZE = 64
BROWN, WHITE = (125, 75, 40), (250, 250, 250)
BOXES = {1: ([-0.6, 0.1, -0.1], [0.6, 0.3, 0.1]), 2: ([-0.6, -0.6, -0.1], [-0.4, 0.1, 0.1]), 3: ([0.0, 0.1, 0.0],) * 2}


def captions_params(**changes: Any) -> CaptionsParams:
    """Small and quick parameters; `changes` replace values, also `endpoint={...}` some of its keys."""
    values: dict[str, Any] = {
        "backend": "describe", "max_words": 25, "min_visible": 0.002, "prompt_size": 128, "ring_width": 0.02,
        "ring_margin": 0.02, "dim": 0.5, "max_failed_share": 0.0, "timeout_s": 120.0,
        "endpoint": {
            "base_url": "http://127.0.0.1:9/v1", "model": "llama-vision", "timeout_s": 5.0, "retries": 2,
            "concurrency": 3,
        },
        "mllama": {"path": "nowhere", "dtype": "float32"},
    }  # fmt: skip
    for key, change in changes.items():
        values[key] = values[key] | change if isinstance(change, dict) else change
    return CaptionsParams.model_validate(values)


def table_task(scratch: Path, params: CaptionsParams, names: dict[str, Any] | None = None) -> CaptionTask:
    """A table: a brown top (1), a white leg (2) seen in the front and back views, and a screw (3) that nobody sees."""
    views = np.zeros((4, SIZE, SIZE, 4), np.uint8)
    labels = np.zeros((4, SIZE, SIZE), np.uint8)
    labels[:, 20:28, 10:54] = 1
    labels[0, 28:50, 12:20] = 2
    labels[2, 28:50, 44:52] = 2
    views[labels == 1] = (*BROWN, 255)
    views[labels == 2] = (*WHITE, 255)
    for view in range(4):
        views[view, 22, 30 + view] = (0, 0, 0, 255)  # no two views are the same
    told = {"object_id": "t", "split": "train", "name": "Oak table", "category": "Office"} | (names or {})
    told.setdefault("parts", ((1, "top"), (2, "leg"), (3, "screw")))
    palette = np.eye(4, 3, dtype=np.uint8) * 255
    return CaptionTask(
        Names(**told), glb(), encode_png(tile(views)), encode_png(tile(labels), palette), params, scratch
    )


def glb() -> bytes:
    """The header of a normalised GLB with the boxes of three parts."""
    accessors = [{"min": low, "max": high} for low, high in BOXES.values()]
    meshes = [{"primitives": [{"attributes": {"POSITION": index}}]} for index in range(len(BOXES))]
    nodes = [{"mesh": index, "extras": {"part": part_id}} for index, part_id in enumerate(BOXES)]
    text = json.dumps({"nodes": nodes, "meshes": meshes, "accessors": accessors}).encode()
    return b"glTF" + struct.pack("<III", 2, 20 + len(text), len(text)) + b"JSON" + text
