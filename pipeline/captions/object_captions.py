"""One object's captions: what the stage `captions` runs in its pool processes."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.captions.backend import CaptionBackend, Subject
from pipeline.captions.places import part_boxes, place_in_object
from pipeline.captions.subjects import caption_subjects, see
from pipeline.errors import ObjectFailed
from pipeline.params.captions import CaptionsParams
from pipeline.shards.table import WHOLE, decode_png, image_cell
from pipeline.views.cameras import untile

CONTRACT = "captions/1"
"""Raised when the same inputs give other rows."""


@dataclass(frozen=True)
class Names:
    """What an object and its parts are called by those who made them."""

    object_id: str
    split: str
    name: str
    category: str
    parts: tuple[tuple[int, str], ...]
    """Id and name of each part, largest first."""


@dataclass(frozen=True)
class CaptionTask:
    """What one object's captions are made from."""

    names: Names
    glb: bytes
    """The normalised object, for its parts' boxes."""
    grid: bytes
    """PNG of the whole object's 2x2 grid, with alpha."""
    labels: bytes
    """Palette PNG of its part ids, of the same size."""
    params: CaptionsParams
    scratch: Path
    """Where a backend keeps models and answers, so that it need not make or ask them again."""


def caption_object(task: CaptionTask) -> dict[str, list[dict[str, Any]]]:
    """The object's rows of `views` and `captions`.

    A subject that is in sight in no view has no rows in `views`. Raises ObjectFailed when pictures do not fit together
    or an answer is of no use, UserError when the backend can give no answer at all.
    """
    views, labels = untile(decode_png(task.grid)), untile(decode_png(task.labels))
    if views.shape != (*labels.shape, 4):
        raise ObjectFailed(f"the grid's views are {views.shape}, its label map's {labels.shape}")
    subjects = _subjects(task)
    seen = see(subjects, views, labels, task.params)
    captioned = caption_subjects(subjects, seen, load_backend(task.params, task.scratch))
    identity = {"object_id": task.names.object_id, "split": task.names.split}
    names = {WHOLE: task.names.name, **dict(task.names.parts)}
    return {
        "views": [
            {
                **identity,
                "part_id": part_id,
                "view": view,
                "prompt": image_cell(request.prompt, "prompt.png"),
                "caption": captions.views[view].text,
                "backend": captions.views[view].backend,
            }
            for part_id, captions in captioned.items()
            for view, request in captions.requests.items()
        ],
        "captions": [
            {
                **identity,
                "part_id": part_id,
                "name": names[part_id],
                "caption": captions.unified.text,
                "backend": captions.unified.backend,
                "views": len(captions.views),
            }
            for part_id, captions in captioned.items()
        ],
    }


@lru_cache(maxsize=1)
def load_backend(params: CaptionsParams, scratch: Path) -> CaptionBackend:
    """The backend that the parameters name, loaded once a process. UserError when it cannot be had."""
    # Imported here: an endpoint's client needs no torch, and torch takes seconds.
    if params.backend == "openai":
        from pipeline.captions.openai import OpenAIBackend

        return OpenAIBackend(params.endpoint, params.max_words, scratch / "answers")
    if params.backend == "mllama":
        from pipeline.captions.mllama import MllamaBackend

        return MllamaBackend(params.mllama, params.max_words)
    from pipeline.captions.describe import DescribeBackend

    return DescribeBackend(scratch / "models", params.max_words)


def prepare_backend(params: CaptionsParams, scratch: Path) -> None:
    """What need be done once before many processes load the backend; UserError when it cannot be had at all."""
    if params.backend == "openai":
        from pipeline.captions.endpoint import Access

        Access.of(params.endpoint.base_url)
    if params.backend == "describe":
        from pipeline.captions.smollm2 import weights

        weights(scratch / "models")


def _subjects(task: CaptionTask) -> dict[int, Subject]:
    boxes = part_boxes(task.glb)
    corners = np.concatenate(list(boxes.values()))
    whole = np.stack([corners.min(axis=0), corners.max(axis=0)])
    names = task.names
    siblings = tuple(name for _, name in names.parts)
    subjects = {WHOLE: Subject(names.name, names.category, None, "", siblings)}
    for part_id, name in names.parts:
        subjects[part_id] = Subject(names.name, names.category, name, place_in_object(boxes[part_id], whole), siblings)
    return subjects
