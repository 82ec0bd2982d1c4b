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
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
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
from pipeline.params.train import TrainParams
from pipeline.shards.read import read_manifest
from pipeline.shards.write import write_metrics
from pipeline.training.checkpoints import training_folder
from pipeline.training.loop import Objective, train
from stages.entry import one_sentence_errors

CONTRACT = "train/1"
SEGMENT = TASKS["segment"]
TABLES = ("renders/grids", "renders/conditioning", "masks/labels", "captions/captions")


def run(
    task: str, params: TrainParams, diffusion: DiffusionParams, data: Path = Path("data"), force: bool = False
) -> None:
    """Train the networks of one task, and write the folder of models, metrics, loss curve and sample pictures."""
    schedule, models = params.schedule(task), data / "models"
    tables = TABLES[:3] if task == "autoencoder" else TABLES
    base = {"autoencoder": None, BASE: "autoencoder"}.get(task, BASE)
    folder = training_folder(
        task,
        CONTRACT,
        diffusion.model_dump(exclude={"sampler"}),
        params.loop,
        schedule,
        {table: read_manifest(data / table).digest for table in tables},
        digest(models / base) if base else "",
    )
    if force:
        shutil.rmtree(folder, ignore_errors=True)
    torch.manual_seed(params.loop.seed)  # of the weights that no base brings
    if task == "autoencoder":
        train_autoencoder(params, diffusion, data, folder)
    else:
        train_task(TASKS[task], params, diffusion, data, folder)


def train_task(task: Task, params: TrainParams, diffusion: DiffusionParams, data: Path, folder: Path) -> None:
    """Train the denoiser of a task."""
    schedule, loop = training_schedule(diffusion.schedule), params.loop
    view_size = read_manifest(data / "renders/grids").settings["view_size"]
    model = start_model(task, diffusion, data / "models", 2 * view_size)
    precomputed_text = text_outputs(data, model.text) if loop.precompute and task.caption else None
    precomputed_images = image_outputs(data, model.image) if loop.precompute and model.image is not None else None
    shards = (data, task)
    objective = DiffusionObjective(
        task,
        model,
        schedule,
        diffusion.sampler,
        examples=Examples(*shards, "train", diffusion, loop.seed, loop.drop_condition, augment=True),
        validation=validation_examples(*shards, diffusion, loop.seed),
        seed=loop.seed,
        text_outputs=precomputed_text,
        image_outputs=precomputed_images,
    )
    train(objective, task.name, loop, params.schedule(task.name), folder, Path("plots/train") / f"{task.name}.csv")
    if PartialState().is_main_process:
        save_model(model, task, schedule, diffusion, 2 * view_size, data / "models" / task.name)
        report(task.name, objective, params)


def train_autoencoder(params: TrainParams, diffusion: DiffusionParams, data: Path, folder: Path) -> None:
    """Train the autoencoder."""
    autoencoder = start_autoencoder(diffusion)
    seed = params.loop.seed
    pictures, validation = Pictures(data, "train", diffusion, seed), validation_examples(data, SEGMENT, diffusion, seed)
    objective = AutoencoderObjective(autoencoder, pictures, validation, diffusion.colours, seed)
    if not diffusion.checkpoint:
        objective.closed_form_start()
    train(objective, "autoencoder", params.loop, params.autoencoder, folder, Path("plots/train/autoencoder.csv"))
    if PartialState().is_main_process:
        with replaced(data / "models/autoencoder") as partial:
            autoencoder.save_pretrained(partial)
        report("autoencoder", objective, params)


def validation_examples(data: Path, task: Task, diffusion: DiffusionParams, seed: int) -> Examples | None:
    """The validation objects' examples; None, said aloud, when the split has none."""
    try:
        return Examples(data, task, "val", diffusion, seed, drop_condition=0.0, augment=False)
    except UserError as error:
        print(f"{task.name}: trained without validation: {error}", file=sys.stderr)
        return None


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


def start(task: str, overrides: Sequence[str] = (), force: bool = False) -> None:
    """Train a task with params.yaml and `overrides`, on as many processes as the machine has GPUs."""
    if task not in TRAININGS:
        raise UserError(f"There is no training `{task}`{nearest(task, TRAININGS)}; there are {', '.join(TRAININGS)}.")
    processes = os.environ.get("PARTGEN_PROCESSES") or str(max(1, torch.cuda.device_count()))
    if not processes.isdecimal() or int(processes) < 1:
        raise UserError(f"PARTGEN_PROCESSES is {processes!r}; give a whole number of processes.")
    if int(processes) > 1 and "RANK" not in os.environ:  # which accelerate sets for the processes that it starts
        launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", processes]
        command = [*launch, "-m", "stages.train", task, *overrides, *(["--force"] if force else [])]
        status = subprocess.run(command).returncode
        if status:
            sys.exit(status)
        return
    run(task, load_group(TrainParams, overrides), load_group(DiffusionParams, overrides), force=force)


if __name__ == "__main__":
    with one_sentence_errors():
        arguments = [argument for argument in sys.argv[1:] if argument != "--force"]
        if not arguments:
            raise UserError(f"`python -m stages.train` needs the name of a training: {', '.join(TRAININGS)}.")
        start(arguments[0], arguments[1:], force="--force" in sys.argv)
