"""One object's segmentations: what the stage `segment` runs in its pool processes.

Shape suffixes: H W pixels of the grid, N proposals, the best first.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.diffusion.pipelines import SegmentationPipeline
from pipeline.heldout.loading import loaded
from pipeline.params.segment import SegmentParams
from pipeline.parts.label_maps import tidy
from pipeline.parts.segmentation import run_scores, segment
from pipeline.reconstruction.carving import HULL_CELLS, Carver
from pipeline.regions.ranking import Pool
from pipeline.shards.table import decode_png, encode_png, image_cell
from pipeline.views.cameras import Camera, over_white, shown
from pipeline.views.palette import PART_COLOURS

CONTRACT = "segment/3"
"""Raised when the same inputs give other rows."""


@dataclass(frozen=True)
class SegmentTask:
    """What one object's segmentations are made from."""

    object_id: str
    split: str
    grid: bytes
    """PNG of the whole object's 2x2 grid, with alpha."""
    model: Path
    params: SegmentParams
    camera: Camera
    elevation_deg: float


def segment_object(task: SegmentTask) -> dict[str, list[dict[str, Any]]]:
    """The object's rows of `runs`, `proposals` and `parts`. Where no run finds a part, maps are empty: that counts."""
    params, rgba = task.params, decode_png(task.grid)
    model, shown_HW = loaded(SegmentationPipeline, task.model), shown(rgba)
    carver = Carver(task.camera, task.elevation_deg, HULL_CELLS)
    maps = segment(model, over_white(rgba), shown_HW, params, params.seed, carver)
    scores, ranked = run_scores(maps), Pool.of_runs(maps).ranked()
    chosen = int(scores.argmax())
    parts = tidy(maps[chosen], shown_HW, params.max_parts, params.min_part_pixels)
    identity = {"object_id": task.object_id, "split": task.split}
    columns = (ranked.run_N, ranked.label_N, ranked.score_N, ranked.area_N)
    return {
        "runs": [
            {**identity, "run": run, "score": float(score), "labels": _cell(labels)}
            for run, (score, labels) in enumerate(zip(scores, maps, strict=True))
        ],
        "proposals": [
            {**identity, "rank": rank, "run": int(run), "label": int(label), "score": float(score), "pixels": int(area)}
            for rank, (run, label, score, area) in enumerate(zip(*columns, strict=True), start=1)
        ],
        "parts": [{**identity, "run": chosen, "merged": len(parts.merged), "labels": _cell(parts.labels)}],
    }


def _cell(labels: np.ndarray) -> dict[str, bytes | str]:
    return image_cell(encode_png(labels, palette=PART_COLOURS[: int(labels.max()) + 1]), "labels.png")
