"""One object's completed parts: what the stage `complete` runs in its pool processes (main paper, 3.3)."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from scipy.ndimage import binary_dilation

from pipeline.diffusion.pipelines import CompletionPipeline
from pipeline.diffusion.tasks import find_task
from pipeline.generation.models import loaded
from pipeline.generation.segmenting import run_seed
from pipeline.params.complete import CompleteParams
from pipeline.reconstruction.carving import HULL_CELLS, Carver
from pipeline.shards.table import Table, decode_png, encode_png, image_cell, image_field
from pipeline.views.cameras import Camera, over_white, tile, untile

CONTRACT = "complete/5"
"""Raised when the same inputs give other rows."""
BATCH = 8
"""Parts that are denoised together; the results do not depend on it."""
FULL = "complete"

COMPLETIONS = Table(
    "grids",
    2,
    pa.schema(
        [
            ("object_id", pa.string()),
            ("split", pa.string()),
            ("source", pa.string()),  # `truth`, `predicted`, or `imagined`: with an empty mask, out of the object alone
            ("method", pa.string()),  # the network
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
        pictures = complete(loaded(CompletionPipeline, task.models / method), whole, masks, task.params, carver)
        for label, mask in masks.items():
            png = encode_png((pictures[label] * 255).round().astype(np.uint8))
            rows.append(
                {
                    "object_id": task.object_id,
                    "split": task.split,
                    "source": source,
                    "method": method,
                    "label": label,
                    "pixels": int(mask.sum()),
                    "image": image_cell(png, "part.png"),
                }
            )
    return {COMPLETIONS.name: rows}


def complete(
    model: CompletionPipeline,
    whole: np.ndarray,
    masks: Mapping[int, np.ndarray],
    params: CompleteParams,
    carver: Carver,
) -> dict[int, np.ndarray]:
    """The grids J, (H, W, 3) float32 in [0, 1], of parts of a grid (H, W, 3) by their masks, bool (H, W).

    An empty mask is allowed. What is drawn of a part depends on its label, its mask and the params' seed, and with
    `keep_visible` on what all masks together cover, since no part is beyond the object. Of several draws it is the one
    with the largest `Carver.agreement`, the first of equal ones.
    """
    draws = [_draw(model, whole, masks, params, params.seed + number) for number in range(params.draws)]
    if len(draws) == 1:
        return draws[0]
    return {label: max((one[label] for one in draws), key=partial(_agreement, carver)) for label in masks}


def _agreement(carver: Carver, picture: np.ndarray) -> float:
    return carver.agreement(torch.from_numpy(picture).movedim(-1, 0))


def _draw(
    model: CompletionPipeline, whole: np.ndarray, masks: Mapping[int, np.ndarray], params: CompleteParams, seed: int
) -> dict[int, np.ndarray]:
    """Each part once."""
    labels, drawn = list(masks), []
    for start in range(0, len(labels), BATCH):
        some = labels[start : start + BATCH]
        noise = [torch.Generator().manual_seed(run_seed(seed, label)) for label in some]
        drawn += list(model(whole, [masks[label] for label in some], generator=noise).images)
    found = dict(zip(labels, drawn, strict=True))
    if params.keep_visible:
        if "whole" in find_task(model.config.task).stacked:
            around = _around(masks.values())
            found = {label: np.where(around[..., None], picture, 1.0) for label, picture in found.items()}
        found = {label: np.where(masks[label][..., None], whole, picture) for label, picture in found.items()}
    return found


def _around(masks: Collection[np.ndarray]) -> np.ndarray:
    """The pixels (H, W) of some masks and their neighbours within the views; all when the masks are empty."""
    shown = np.any(list(masks), axis=0)
    return tile(np.stack([binary_dilation(view, np.ones((3, 3))) for view in untile(shown)])) | ~shown.any()


def _work(task: CompleteTask) -> Iterator[tuple[str, str, dict[int, np.ndarray]]]:
    """Source, method, and the masks by label."""
    truth = decode_png(task.labels["truth"])
    for method in task.params.methods:
        yield "truth", method, {part_id: truth == part_id for part_id in task.parts}
    predicted = decode_png(task.labels["predicted"])
    if predicted.any():
        yield "predicted", FULL, {int(label): predicted == label for label in np.unique(predicted[predicted > 0])}
    yield "imagined", FULL, {0: np.zeros_like(truth, dtype=bool)}
