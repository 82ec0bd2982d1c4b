"""Trained models in the processes of a stage's pool: each read once a process, on the GPU where there is one."""

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

import torch

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline  # takes seconds, and some stages need none

PipelineT = TypeVar("PipelineT", bound="DiffusionPipeline")


def loaded(kind: type[PipelineT], model: Path) -> PipelineT:
    """The pipeline in a folder; UserError when there is none of this kind."""
    return cast(PipelineT, _loaded(kind, model))  # type: ignore[arg-type]  # mypy takes no TypeVar for hashable


def worker_device() -> torch.device:
    """The GPU; else the CPU, on which torch has one thread from now on: the pool has a process for every core."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    torch.set_num_threads(1)
    return torch.device("cpu")


@lru_cache(maxsize=4)
def _loaded(kind: type["DiffusionPipeline"], model: Path) -> "DiffusionPipeline":
    device = worker_device()
    pipeline = kind.from_pretrained(model)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)
