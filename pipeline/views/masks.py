"""One object's part masks: what the stage `masks` runs in its pool processes."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.assets.glb import load_parts
from pipeline.errors import ObjectFailed
from pipeline.shards.table import decode_png, encode_png, image_cell
from pipeline.views.cameras import Camera, tile, untile
from pipeline.views.labels import LabelViews, draw_labels
from pipeline.views.palette import PART_COLOURS

CONTRACT = "masks/1"
"""Raised when the same inputs give other rows."""

SURFACE_ABSENT, SURFACE_PRESENT = 0.25, 0.75
"""Shares of a pixel under which a render certainly shows no surface there, and over which it certainly shows one."""

DISAGREEMENT = "silhouettes of masks and render agree to"
"""How the reason of an object begins whose masks and render differ."""


@dataclass(frozen=True)
class MaskSettings:
    """What all objects' masks have in common."""

    camera: Camera
    views: tuple[tuple[float, float], ...]
    """Azimuth and elevation of the grid's four views, degrees."""
    min_silhouette_iou: float


@dataclass(frozen=True)
class MaskTask:
    """What one object's masks are made from."""

    object_id: str
    split: str
    glb: bytes
    grid: bytes
    """PNG of the whole object's 2x2 grid, with alpha."""
    settings: MaskSettings


def draw_masks(task: MaskTask) -> dict[str, list[dict[str, Any]]]:
    """The object's rows of `labels` and `visibility`.

    Raises ObjectFailed when no part is in sight, or when the label map and the render agree less than they must.
    """
    settings = task.settings
    parts = load_parts(task.glb)
    views = draw_labels(parts, settings.camera, settings.views)
    if not views.labels.any():
        raise ObjectFailed("no part is in sight")
    agreement = silhouette_iou(views, _alpha(task.grid, settings.camera.size))
    if agreement < settings.min_silhouette_iou:
        raise ObjectFailed(f"{DISAGREEMENT} {agreement:.3f} only")
    png = encode_png(tile(views.labels), palette=PART_COLOURS[: len(parts) + 1])
    identity = {"object_id": task.object_id, "split": task.split}
    return {
        "labels": [{**identity, "labels": image_cell(png, "labels.png"), "silhouette_iou": agreement}],
        "visibility": [
            {**identity, "part_id": part.part_id, "pixels": visible_pixels(views.labels, part.part_id)}
            for part in parts
        ],
    }


def visible_pixels(labels: np.ndarray, part_id: int) -> list[int]:
    """In how many pixels of each view of `labels` (V, H, W) a part is seen."""
    return [int(count) for count in np.count_nonzero(labels == part_id, axis=(1, 2))]


def silhouette_iou(views: LabelViews, alpha: np.ndarray) -> float:
    """How well label maps and a render agree on where the object is: IoU over all views jointly, 0 to 1.

    `alpha`, (V, H, W) in [0, 1], is the render's. Labels are sampled at pixel centres while a render's alpha is the
    covered share of a pixel times the surface's opacity. So that share is compared: a pixel that is covered between
    SURFACE_ABSENT and SURFACE_PRESENT (an edge, a wire, noise in glass) may have a label or not, all others must follow
    the render. Where there is no label a surface counts as opaque.
    """
    drawn = views.labels > 0
    coverage = alpha / np.where(drawn, np.maximum(views.opacity, 1 / 255), 1.0)
    rendered = np.where(drawn, coverage > SURFACE_ABSENT, coverage > SURFACE_PRESENT)
    union = np.count_nonzero(drawn | rendered)
    return np.count_nonzero(drawn & rendered) / union if union else 1.0


def _alpha(png: bytes, size: int) -> np.ndarray:
    grid = decode_png(png)
    if grid.shape != (2 * size, 2 * size, 4):
        raise ObjectFailed(f"the rendered grid is {grid.shape}, expected {(2 * size, 2 * size, 4)}")
    return untile(grid)[..., 3].astype(np.float32) / 255
