"""What is drawn of an object: grids, part grids, novel views and conditioning views.

The whole object I and every part J^k alone are drawn by the same cameras, with nothing recentred (main paper, Sec. 3).
"""

import signal
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.errors import ObjectFailed
from pipeline.params.render import RenderParams
from pipeline.shards.table import encode_png, image_cell
from pipeline.views.blender import Blender, BlenderDied, BlenderRefused, Series
from pipeline.views.cameras import GRID_AZIMUTHS, camera_to_world, random_views, tile

CONTRACT = "render/2"
"""Raise it when the same inputs give other pictures."""
NOVEL_VIEWS = 4
"""Random views on which reconstructions are evaluated (main paper, Tab. 3)."""

_blender: Blender | None = None
"""This process's Blender: starting one takes seconds, drawing an object less than one."""


@dataclass(frozen=True)
class RenderJob:
    """One object to draw."""

    object_id: str
    split: str
    glb: bytes
    """Normalised, one node a part."""
    parts: tuple[int, ...]
    """The part ids in it."""
    params: RenderParams
    threads: int
    """CPU threads of Blender; the pictures do not depend on them."""


def render_object(job: RenderJob) -> dict[str, list[dict[str, Any]]]:
    """The rows of an object in the tables `grids`, `novel` and `conditioning`.

    Draws with this process's long-lived Blender. When that dies, the object gets one more chance with a fresh one;
    ObjectFailed when it dies again or cannot draw the object.
    """
    params = job.params
    low, high = params.random_elevation_deg
    azimuths, elevations = random_views(job.object_id, params.seed, "novel", NOVEL_VIEWS, (low, high))
    single_azimuths, single_elevations = random_views(
        job.object_id, params.seed, "conditioning", params.conditioning_views, (low, high)
    )
    grid = _poses(np.array(GRID_AZIMUTHS), np.full(4, params.elevation_deg), params.distance)
    novel = _poses(azimuths, elevations, params.distance)
    single = _poses(single_azimuths, single_elevations, params.distance)
    whole, *parts = _draw(
        job,
        [
            Series(None, np.concatenate([grid, novel, single])),
            *(Series(part, np.concatenate([grid, novel])) for part in job.parts),
        ],
    )
    common = {"object_id": job.object_id, "split": job.split}
    numbered = list(zip((0, *job.parts), (whole, *parts), strict=True))
    return {
        "grids": [{**common, "part_id": part, "image": _cell(tile(views[:4]), "grid")} for part, views in numbered],
        "novel": [
            {
                **common,
                "part_id": part,
                "azimuths": azimuths.tolist(),
                "elevations": elevations.tolist(),
                "image": _cell(tile(views[4:8]), "novel"),
            }
            for part, views in numbered
        ],
        "conditioning": [
            {**common, "view": view, "azimuth": azimuth, "elevation": elevation, "image": _cell(pixels, "view")}
            for view, (azimuth, elevation, pixels) in enumerate(
                zip(single_azimuths.tolist(), single_elevations.tolist(), whole[8:], strict=True)
            )
        ],
    }


def _draw(job: RenderJob, series: list[Series]) -> list[np.ndarray]:
    global _blender
    settings = job.params.deciding()
    for attempt in (1, 2):
        if _blender is not None and _blender.jobs >= job.params.objects_per_worker:
            _blender.close()
            _blender = None
        try:
            if _blender is None:
                _blender = Blender(job.threads)
                print(f"Blender {_blender.version} draws on {_blender.device}", file=sys.stderr, flush=True)
            return _blender.draw(job.glb, series, settings)
        except BlenderRefused as error:
            raise ObjectFailed(str(error)) from None
        except BlenderDied as error:
            _blender = None
            if attempt == 2 and error.status == -signal.SIGKILL:  # so the system ends what takes too much memory
                raise MemoryError(str(error)) from None
            if attempt == 2:
                raise ObjectFailed(str(error)) from None
            print(f"{job.object_id}: {error}; once more in a new process", file=sys.stderr, flush=True)
    raise AssertionError("unreachable")


def _poses(azimuths: np.ndarray, elevations: np.ndarray, distance: float) -> np.ndarray:
    """Camera-to-world matrices (V, 4, 4)."""
    return np.stack([camera_to_world(a, e, distance) for a, e in zip(azimuths, elevations, strict=True)])


def _cell(pixels: np.ndarray, name: str) -> dict[str, bytes | str]:
    return image_cell(encode_png(pixels), f"{name}.png")
