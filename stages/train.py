"""Stages `train@TASK`: the autoencoder, then the multi-view diffusion models fine-tuned one from another.

    python -m stages.train segment

trains here: on all GPUs of the machine, or on its CPU (`PARTGEN_PROCESSES` says how many processes). On a cluster start
it on every machine by `accelerate launch ... -m stages.train segment`.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from pipeline.diffusion.models import save_model, started_from
from pipeline.diffusion.tasks import BASE, BESIDE, TASKS, TRAININGS
from pipeline.diffusion.trainings import TrainingData, autoencoder_objective, chosen_objects, task_objective
from pipeline.errors import Invalid, UserError, nearest
from pipeline.folders import content_digest, replaced
from pipeline.params.base import load_group
from pipeline.params.diffusion import DiffusionParams
from pipeline.params.render import RenderParams
from pipeline.params.train import TrainParams
from pipeline.shards.read import read_manifest
from pipeline.training.folder import training_folder
from pipeline.training.launch import launched
from pipeline.training.loop import train
from pipeline.training.results import curve_of, report
from pipeline.training.start import only_training
from stages.entry import one_sentence_errors

CONTRACT, AUTOENCODER_CONTRACT = "train/1", "train/2"
"""Raised when the same inputs give other networks."""
OF_AUTOENCODER = {"checkpoint", "autoencoder", "colours"}
"""The parameters of the diffusion models on which the autoencoder depends."""
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
    tables = TABLES[:2] if task == "autoencoder" else TABLES
    folder = training_folder(
        task,
        AUTOENCODER_CONTRACT if task == "autoencoder" else CONTRACT,
        diffusion.model_dump(include=OF_AUTOENCODER)
        if task == "autoencoder"
        else diffusion.model_dump(exclude={"sampler"} if task == "segment" else {"sampler", "palette"}),
        params.loop.deciding(),
        params.schedule(task).deciding(),
        {"objects": chosen_objects(params, task)},
        {table: read_manifest(data / table).digest for table in tables},
        "".join(content_digest(data / "models" / network) for network in _starts_from(task)),
        content_digest(_goes_on_from(task, params.init_from)) if params.init_from else "",
    )
    with only_training(params.loop, data / "models" / task) as main:
        torch.manual_seed(params.loop.seed)  # of the weights that no base brings
        training = TrainingData(data, diffusion, params.loop.seed, view_size, params.loop.augment)
        if task == "autoencoder":
            train_autoencoder(params, training, folder, main, force)
        else:
            train_task(task, params, training, folder, main, force)


def _starts_from(task: str) -> list[str]:
    """The networks below data/models that a training starts from, however they are sampled."""
    if task == "autoencoder":
        return []
    if task == BASE:
        return ["autoencoder"]
    return [*(f"{BASE}/{name}" for name in ("autoencoder", "text_encoder")), f"{TASKS[task].base}/unet"]


def _goes_on_from(task: str, init_from: str) -> Path:
    """The folder below `init_from` whose networks a training goes on from."""
    return Path(init_from) / task if task == "autoencoder" else started_from(TASKS[task], init_from)


def train_task(name: str, params: TrainParams, training: TrainingData, folder: Path, main: bool, force: bool) -> None:
    """Train the denoiser of a task; the `main` process writes."""
    task = TASKS[name]
    objective = task_objective(task, params, training)
    train(objective, name, params.loop, params.schedule(name), folder, curve_of(name), force)
    if main:
        grid_size, out = 2 * training.view_size, training.models / name
        save_model(objective.model, task, objective.schedule, training.diffusion, grid_size, out)
        report(name, objective, params)


def train_autoencoder(params: TrainParams, training: TrainingData, folder: Path, main: bool, force: bool) -> None:
    """Train the autoencoder; the `main` process writes."""
    objective = autoencoder_objective(params, training)
    train(objective, "autoencoder", params.loop, params.autoencoder, folder, curve_of("autoencoder"), force)
    if not (training.diffusion.checkpoint or params.init_from):
        objective.standardise()
    if main:
        with replaced(training.models / "autoencoder") as partial:
            objective.autoencoder.save_pretrained(partial)
        report("autoencoder", objective, params)


def launch(task: str, overrides: Sequence[str] = (), force: bool = False) -> None:
    """Train a task with params.yaml and `overrides`, on as many processes as the machine has GPUs."""
    names = (*TRAININGS, *BESIDE)
    if task not in names:
        other = "; the LRM is trained by `partgen stage train_lrm`" if task == "lrm" else nearest(task, names)
        raise Invalid(f"There is no training `{task}`{other}; there are {', '.join(names)}.")
    if launched("stages.train", [task, *overrides, *(["--force"] if force else [])]):
        return
    train_params, diffusion = load_group(TrainParams, overrides), load_group(DiffusionParams, overrides)
    run(task, train_params, diffusion, load_group(RenderParams, overrides).view_size, force=force)


if __name__ == "__main__":
    with one_sentence_errors():
        arguments = [argument for argument in sys.argv[1:] if argument != "--force"]
        if not arguments:
            raise UserError(
                f"`python -m stages.train` needs the name of a training: {', '.join((*TRAININGS, *BESIDE))}."
            )
        launch(arguments[0], arguments[1:], force="--force" in sys.argv)
