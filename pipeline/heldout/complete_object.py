"""One object's completed parts: what the stage `complete` runs in its pool processes (main paper, 3.3)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.diffusion.pipelines import CompletionPipeline
from pipeline.heldout.loading import loaded
from pipeline.params.complete import ALONE, CompleteParams
from pipeline.parts.completion import complete
from pipeline.reconstruction.carving import HULL_CELLS, Carver
from pipeline.shards.table import Table, decode_png, encode_png, image_cell, image_field
from pipeline.views.cameras import Camera, over_white

CONTRACT = "complete/6"
"""Raised when the same inputs give other rows."""
FULL = "complete"

COMPLETIONS = Table(
    "grids",
    2,
    pa.schema(
        [
            ("object_id", pa.string()),
            ("split", pa.string()),
            ("source", pa.string()),  # `truth`, `predicted`, or `imagined`: with an empty mask, out of the object alone
            ("method", pa.string()),  # the network; with ALONE, for true parts, where visible pixels are kept
            ("label", pa.int32()),  # of the map that the source names: a part id for truth; 0 for what is imagined
            ("pixels", pa.int64()),  # of the part in sight, in all four views; 0 for a hidden part
            image_field("image"),  # RGB over white, the 2x2 grid J of the part alone and in place
        ]
    ),
    sort=("source", "method", "label"),
)


@dataclass(frozen=True)
class CompleteTask:
    """What one object's parts are completed from."""

    object_id: str
    split: str
    grid: bytes
    """PNG of the whole object's 2x2 grid, with alpha."""
    labels: Mapping[str, bytes]
    """PNGs of its label maps: `truth` and `predicted`."""
    parts: Sequence[int]
    """The ids of all true parts, those out of sight too."""
    models: Path
    params: CompleteParams
    camera: Camera
    elevation_deg: float


def complete_object(task: CompleteTask) -> dict[str, list[dict[str, Any]]]:
    """The object's rows of `grids`."""
    whole, rows = over_white(decode_png(task.grid)), []
    carver = Carver(task.camera, task.elevation_deg, HULL_CELLS)
    for source, method, masks in _work(task):
        found = complete(loaded(CompletionPipeline, task.models / method), whole, masks, task.params, carver)
        drawn = {method: found.parts}
        if source == "truth" and task.params.keep_visible:
            drawn[method + ALONE] = found.alone
        rows += [
            {
                "object_id": task.object_id,
                "split": task.split,
                "source": source,
                "method": name,
                "label": label,
                "pixels": int(mask.sum()),
                "image": image_cell(encode_png((pictures[label] * 255).round().astype(np.uint8)), "part.png"),
            }
            for name, pictures in drawn.items()
            for label, mask in masks.items()
        ]
    return {COMPLETIONS.name: rows}


def _work(task: CompleteTask) -> Iterator[tuple[str, str, dict[int, np.ndarray]]]:
    """Source, method, and the masks by label."""
    truth = decode_png(task.labels["truth"])
    for method in task.params.methods:
        yield "truth", method, {part_id: truth == part_id for part_id in task.parts}
    predicted = decode_png(task.labels["predicted"])
    if predicted.any():
        yield "predicted", FULL, {int(label): predicted == label for label in np.unique(predicted[predicted > 0])}
    yield "imagined", FULL, {0: np.zeros_like(truth, dtype=bool)}
