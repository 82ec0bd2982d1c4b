"""One object or text drawn: what the stage `generate` runs in its pool processes (main paper, 3.1; A.3 and A.4)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.diffusion.pipelines import ImageToMultiViewPipeline, MultiViewOutput, TextToMultiViewPipeline
from pipeline.heldout.generate_tables import FROM_IMAGE, FROM_TEXT, GENERATIONS, PROMPTS
from pipeline.heldout.loading import loaded
from pipeline.params.generate import GenerateParams
from pipeline.shards.table import decode_png, encode_png, image_cell
from pipeline.views.cameras import over_white

CONTRACT = "generate/1"
"""Raised when the same inputs give other rows."""


@dataclass(frozen=True)
class GenerateTask:
    """What one object is drawn from."""

    object_id: str
    split: str
    caption: str
    view: bytes
    """PNG of one view of it, with alpha."""
    models: Path
    params: GenerateParams


@dataclass(frozen=True)
class PromptTask:
    """A text that is drawn whatever the objects are."""

    object_id: str
    prompt: str
    models: Path
    params: GenerateParams


def generate_object(task: GenerateTask | PromptTask) -> dict[str, list[dict[str, Any]]]:
    """The rows of an object, or of a text. UserError for words that are too long for the text encoder."""
    if isinstance(task, PromptTask):
        output = loaded(TextToMultiViewPipeline, task.models / FROM_TEXT)(task.prompt, generator=_noise(task))
        return {PROMPTS.name: [{"object_id": task.object_id, "prompt": task.prompt, "image": _cell(output)}]}
    from_text = loaded(TextToMultiViewPipeline, task.models / FROM_TEXT)
    from_image = loaded(ImageToMultiViewPipeline, task.models / FROM_IMAGE)
    drawn = (
        (FROM_TEXT, task.caption, from_text(task.caption, generator=_noise(task))),
        (FROM_IMAGE, "", from_image(over_white(decode_png(task.view)), generator=_noise(task))),
    )
    rows = [
        {
            "object_id": task.object_id,
            "split": task.split,
            "method": method,
            "prompt": prompt,
            "image": _cell(output),
        }
        for method, prompt, output in drawn
    ]
    return {GENERATIONS.name: rows}


def _cell(output: MultiViewOutput) -> dict[str, Any]:
    return image_cell(encode_png((output.images[0] * 255).round().astype(np.uint8)), "grid.png")


def _noise(task: GenerateTask | PromptTask) -> torch.Generator:
    return torch.Generator().manual_seed(task.params.seed)
