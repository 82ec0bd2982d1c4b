"""Tiny networks of all tasks, trained by the stage on a corpus of toys."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from pipeline.diffusion import objective
from pipeline.diffusion.tasks import TRAININGS
from pipeline.params.base import validate
from pipeline.params.diffusion import DiffusionParams
from pipeline.params.train import TrainParams
from stages.train import BASE, run
from tests.toy_corpus import write_toy_corpus

ROOT = Path(__file__).parents[1]
VIEW_SIZE = 16
SCRATCH = "scratch"


def tiny(**train: Any) -> tuple[TrainParams, DiffusionParams]:
    """The preset nano with small networks that start anew; `train` overrides the schedule of every task."""
    values = yaml.safe_load((ROOT / "presets/nano.yaml").read_text())
    diffusion, training = values["diffusion"], values["train"]
    diffusion["autoencoder"] |= {"widths": [16], "blocks": 1}
    diffusion["unet"] |= {"channels": [16, 32], "attention": [False, True], "transformer_layers": [1, 1]}
    diffusion["unet"]["head_channels"] = 16
    diffusion["image"] |= {"queries": 4, "width": 32, "hidden": 32, "depth": 1, "heads": 2}
    for sampler in diffusion["sampler"].values():
        sampler["steps"] = 2
    training["init_from"] = ""
    training["loop"] |= {"warmup_steps": 0, "checkpoint_every": 1000}
    for task in TRAININGS:
        training[task] = {"steps": 2, "batch": 2, "micro_batch": 2, "learning_rate": 0.001} | train
    training["edit"]["gradient_checkpointing"] = True
    training[BASE]["objects"] = ""
    return validate(TrainParams, training, "train"), validate(DiffusionParams, diffusion, "diffusion")


def write_toy_models(folder: Path) -> None:
    """Write `data` with the corpus and all networks, `metrics`, `plots`, and what the trainings keep in `scratch`."""
    write_toy_corpus(folder / "data", objects=6, view_size=VIEW_SIZE)
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("PARTGEN_SCRATCH", str(folder / SCRATCH))
        patch.setattr(objective, "VALIDATION", 8)
        for task in TRAININGS:
            run(task, *tiny(), VIEW_SIZE)
