"""Stages `train@TASK`: the autoencoder, then the multi-view diffusion models fine-tuned one from another.

    python -m stages.train segment

trains here: on all GPUs of the machine, or on its CPU (`PARTGEN_PROCESSES` says how many processes). On a cluster start
it on every machine by `accelerate launch ... -m stages.train segment`.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from pipeline.diffusion.autoencoder_objective import AutoencoderObjective, Pictures
from pipeline.diffusion.examples import Examples
from pipeline.diffusion.frozen import image_outputs, text_outputs
from pipeline.diffusion.models import BASE, digest, replaced, save_model, start_autoencoder, start_model
from pipeline.diffusion.objective import DiffusionObjective
from pipeline.diffusion.schedule import training_schedule
from pipeline.diffusion.tasks import TASKS, TRAININGS, Task
from pipeline.errors import UserError
from pipeline.params.base import load_group, nearest
from pipeline.params.diffusion import DiffusionParams
from pipeline.params.render import RenderParams
from pipeline.params.train import TrainParams
from pipeline.shards.read import read_manifest
from pipeline.shards.write import write_metrics
from pipeline.training.checkpoints import training_folder
from pipeline.training.loop import Objective, start, train
from stages.entry import one_sentence_errors

CONTRACT = "train/1"
LAUNCH = ("--multi_gpu", "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no")
"""Several processes on this machine, also on its CPU; the loop itself sees to the precision."""
CADENCE = ("checkpoint_every", "pictures_every", "validate_every")
"""Of the loop's parameters, those that do not change what is trained."""
OBJECTS = TASKS["segment"]
"""Whose validation examples, grids and colour maps, the autoencoder is measured on."""
TABLES = ("renders/grids", "masks/labels", "renders/conditioning", "captions/captions")
"""The autoencoder reads the first two."""


def run(
    task: str,
    params: TrainParams,
    diffusion: DiffusionParams,
    view_size: int,
    data: Path = Path("data"),
    force: bool = False,
) -> None:
    """Train the networks of one task, and write the folder of models, metrics, loss curve and sample pictures.

    UserError when the shards' views are not of `view_size` pixels.
    """
    schedule, models = params.schedule(task), data / "models"
    tables = TABLES[:2] if task == "autoencoder" else TABLES
    base = {"autoencoder": None, BASE: "autoencoder"}.get(task, BASE)
    folder = training_folder(
        task,
        CONTRACT,
        diffusion.model_dump(exclude={"sampler"}),
        params.loop.model_dump(exclude=set(CADENCE)),
        schedule,
        {table: read_manifest(data / table).digest for table in tables},
        digest(models / base) if base else "",
    )
    if force:
        shutil.rmtree(folder, ignore_errors=True)
    torch.manual_seed(params.loop.seed)  # of the weights that no base brings
    shards = Shards(data, diffusion, params.loop.seed, view_size)
    if task == "autoencoder":
        train_autoencoder(params, shards, folder)
    else:
        train_task(TASKS[task], params, shards, folder)


@dataclass(frozen=True)
class Shards:
    """What the data half made, and how it is read."""

    data: Path
    diffusion: DiffusionParams
    seed: int
    view_size: int

    def examples(self, task: Task, drop_condition: float = 0.0) -> Examples:
        """The training examples of a task, augmented."""
        return self._examples(task, "train", drop_condition, augment=True)

    def validation(self, task: Task) -> Examples | None:
        """Its validation examples; None, said aloud, where there are no such objects."""
        try:
            return self._examples(task, "val", 0.0, augment=False)
        except UserError as error:
            print(f"{task.name}: trained without validation: {error}", file=sys.stderr)
            return None

    def _examples(self, task: Task, split: str, drop: float, augment: bool) -> Examples:
        size = self.view_size
        return Examples(self.data, task, split, self.diffusion, self.seed, drop, augment, expected_view_size=size)


def train_task(task: Task, params: TrainParams, shards: Shards, folder: Path) -> None:
    """Train the denoiser of a task."""
    data, diffusion, loop, grid_size = shards.data, shards.diffusion, params.loop, 2 * shards.view_size
    examples, validation = shards.examples(task, loop.drop_condition), shards.validation(task)
    model, schedule = start_model(task, diffusion, data / "models", grid_size), training_schedule(diffusion.schedule)
    samples = params.schedule(task.name).steps * params.schedule(task.name).batch

    def pays(table: str, outputs: int = 1) -> bool:
        """Whether to compute a table's tokens beforehand: when there are fewer of them than of training samples."""
        return loop.precompute and outputs * read_manifest(data / table).rows < samples

    objective = DiffusionObjective(
        task,
        model,
        schedule,
        diffusion.sampler,
        examples,
        validation,
        loop.seed,
        text_outputs=text_outputs(data, model.text) if task.caption and pays("captions/captions") else None,
        image_outputs=image_outputs(data, model.image) if model.image and pays("renders/conditioning", 2) else None,
    )
    train(objective, task.name, loop, params.schedule(task.name), folder, Path("plots/train") / f"{task.name}.csv")
    if start(params.loop).is_main_process:
        save_model(model, task, schedule, diffusion, grid_size, data / "models" / task.name)
        report(task.name, objective, params)


def train_autoencoder(params: TrainParams, shards: Shards, folder: Path) -> None:
    """Train the autoencoder."""
    diffusion, seed = shards.diffusion, shards.seed
    autoencoder = start_autoencoder(diffusion)
    pictures = Pictures(shards.data, "train", diffusion, seed, shards.view_size)
    objective = AutoencoderObjective(autoencoder, pictures, shards.validation(OBJECTS), diffusion.colours, seed)
    if not diffusion.checkpoint:
        objective.closed_form_start()
    train(objective, "autoencoder", params.loop, params.autoencoder, folder, Path("plots/train/autoencoder.csv"))
    if not diffusion.checkpoint:
        objective.standardise()
    if start(params.loop).is_main_process:
        with replaced(shards.data / "models/autoencoder") as partial:
            autoencoder.save_pretrained(partial)
        report("autoencoder", objective, params)


def report(task: str, objective: Objective, params: TrainParams) -> None:
    """Write the metrics and the sample pictures of a finished training."""
    schedule = params.schedule(task)
    parameters = sum(parameter.numel() for parameter in objective.module.parameters())
    objective.module.eval()
    with torch.no_grad():
        validation, pictures = objective.validation(), objective.pictures()
    metrics: dict[str, Any] = {
        "parameters": parameters,
        "steps": schedule.steps,
        "samples": schedule.steps * schedule.batch,
        "validation": validation,
    }
    write_metrics(f"train/{task}", metrics)
    picture = Path("plots/train") / f"{task}.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(list(pictures.values()))).save(picture)


def launch(task: str, overrides: Sequence[str] = (), force: bool = False) -> None:
    """Train a task with params.yaml and `overrides`, on as many processes as the machine has GPUs."""
    if task not in TRAININGS:
        raise UserError(f"There is no training `{task}`{nearest(task, TRAININGS)}; there are {', '.join(TRAININGS)}.")
    processes = os.environ.get("PARTGEN_PROCESSES") or str(max(1, torch.cuda.device_count()))
    if not processes.isdecimal() or int(processes) < 1:
        raise UserError(f"PARTGEN_PROCESSES is {processes!r}; give a whole number of processes.")
    if int(processes) > 1 and "RANK" not in os.environ:  # which accelerate sets for the processes that it starts
        accelerate = [sys.executable, "-m", "accelerate.commands.launch", *LAUNCH, "--num_processes", processes]
        command = [*accelerate, "-m", "stages.train", task, *overrides, *(["--force"] if force else [])]
        status = subprocess.run(command).returncode
        if status:
            sys.exit(status)
        return
    train_params, diffusion = load_group(TrainParams, overrides), load_group(DiffusionParams, overrides)
    run(task, train_params, diffusion, load_group(RenderParams, overrides).view_size, force=force)


if __name__ == "__main__":
    with one_sentence_errors():
        arguments = [argument for argument in sys.argv[1:] if argument != "--force"]
        if not arguments:
            raise UserError(f"`python -m stages.train` needs the name of a training: {', '.join(TRAININGS)}.")
        launch(arguments[0], arguments[1:], force="--force" in sys.argv)
