"""What one object's figures are made from: rows of the tables of the stages, and how they are read.

Shape suffixes: H W pixels of the grid.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.params.evaluate import EvaluateParams
from pipeline.shards.table import decode_png
from pipeline.views.cameras import Camera

Rows = Sequence[Mapping[str, Any]]

Found = Iterator[tuple[str, str, dict[str, float]]]
"""Method, setting and figures."""


@dataclass(frozen=True)
class EvaluateTask:
    """What one object's figures are made from: its rows in the tables of the stages."""

    object_id: str
    split: str
    grids: Rows
    """renders/grids: the whole and all parts."""
    novel: Rows
    """renders/novel, the same."""
    given: Rows
    """renders/conditioning."""
    labels: Rows
    """masks/labels."""
    generations: Rows
    """generations/grids."""
    runs: Rows
    """segmentations/runs."""
    completions: Rows
    """completions/grids."""
    views: Rows
    """reconstructions/views."""
    parts: Rows
    """reconstructions/parts."""
    objects: Rows
    """reconstructions/objects."""
    glbs: Rows
    """assets/glbs."""
    assembled: Rows
    """segmentations/parts."""
    atoms: Rows
    """atoms/atoms."""
    surfaces: Rows
    """atoms/surfaces."""
    grouping: Path
    """The folder of the grouping model."""
    wholes: Mapping[str, bytes]
    """PNGs of the grids of all objects that are evaluated, by object."""
    camera: Camera
    """Of a view of the grids."""
    elevation_deg: float
    part123: Path | None
    """The object's mesh by Part123, if there is one."""
    params: EvaluateParams


def read_labels(task: EvaluateTask) -> np.ndarray:
    """The true label map (H, W) uint8; 0 is the background."""
    labels: np.ndarray = decode_png(task.labels[0]["labels"]["bytes"])
    return labels


def read_renders(rows: Rows) -> dict[int, np.ndarray]:
    """RGBA pictures (H, W, 4) uint8 by part id."""
    return {row["part_id"]: decode_png(row["image"]["bytes"]) for row in rows}


def read_picture(row: Mapping[str, Any]) -> np.ndarray:
    """RGB (H, W, 3) float32 in [0, 1]."""
    return decode_png(row["image"]["bytes"]).astype(np.float32) / 255


def device() -> str:
    """Where networks measure."""
    return "cuda" if torch.cuda.is_available() else "cpu"
