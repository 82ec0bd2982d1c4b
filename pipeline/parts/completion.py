"""Parts of a grid drawn whole and alone, each in its place (main paper, 3.3)."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from scipy.ndimage import binary_dilation

from pipeline.diffusion.pipelines import CompletionPipeline
from pipeline.diffusion.tasks import find_task
from pipeline.params.complete import CompleteParams
from pipeline.parts.segmentation import run_seed
from pipeline.reconstruction.carving import Carver
from pipeline.views.cameras import tile, untile

BATCH = 8
"""Parts that are denoised together, but by a network that draws all parts of an object together; the results do not
depend on it."""


@dataclass(frozen=True)
class Completed:
    """The grids J of parts by their labels, (H, W, 3) float32 in [0, 1] over white."""

    parts: dict[int, np.ndarray]
    """As the params say."""
    alone: dict[int, np.ndarray]
    """The network's first draw as it is, with nothing of the whole's grid pasted into it: as in the paper."""


def complete(
    model: CompletionPipeline,
    whole: np.ndarray,
    masks: Mapping[int, np.ndarray],
    params: CompleteParams,
    carver: Carver,
) -> Completed:
    """The grids of parts of a grid (H, W, 3) by their masks, bool (H, W).

    An empty mask is allowed. What is drawn of a part depends on its label, its mask and the params' seed, and with
    `keep_visible` on what all masks together cover, since no part is beyond the object. Of several draws it is the one
    with the largest `Carver.agreement`, the first of equal ones.
    """
    draws = [draw(model, whole, masks, params.seed + number) for number in range(params.draws)]
    whole_seen = "whole" in find_task(model.config.task).stacked
    kept = [_kept(drawn, whole, masks, whole_seen) if params.keep_visible else drawn for drawn in draws]
    if len(kept) == 1:
        return Completed(kept[0], draws[0])
    best = {label: max((one[label] for one in kept), key=partial(_agreement, carver)) for label in masks}
    return Completed(best, draws[0])


def _agreement(carver: Carver, picture: np.ndarray) -> float:
    return carver.agreement(torch.from_numpy(picture).movedim(-1, 0))


def draw(
    model: CompletionPipeline, whole: np.ndarray, masks: Mapping[int, np.ndarray], seed: int
) -> dict[int, np.ndarray]:
    """Each part once."""
    labels, drawn = list(masks), []
    batch = len(labels) if find_task(model.config.task).joint else BATCH
    for start in range(0, len(labels), batch):
        some = labels[start : start + batch]
        noise = [torch.Generator().manual_seed(run_seed(seed, label)) for label in some]
        drawn += list(model(whole, [masks[label] for label in some], generator=noise).images)
    return dict(zip(labels, drawn, strict=True))


def _kept(
    drawn: Mapping[int, np.ndarray], whole: np.ndarray, masks: Mapping[int, np.ndarray], whole_seen: bool
) -> dict[int, np.ndarray]:
    """With the pixels of the masks as the whole has them; a network that sees the whole draws white far from all."""
    found = dict(drawn)
    if whole_seen:
        near = around(masks.values())
        found = {label: np.where(near[..., None], picture, 1.0) for label, picture in found.items()}
    return {label: np.where(masks[label][..., None], whole, picture) for label, picture in found.items()}


def around(masks: Collection[np.ndarray]) -> np.ndarray:
    """The pixels (H, W) of some masks and their neighbours within the views; all when the masks are empty."""
    shown = np.any(list(masks), axis=0)
    return tile(np.stack([binary_dilation(view, np.ones((3, 3))) for view in untile(shown)])) | ~shown.any()
