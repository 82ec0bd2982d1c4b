"""The trainings of the autoencoder and of the diffusion tasks: each one's network and examples, put together."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.diffusion.autoencoder_objective import AutoencoderObjective, Pictures
from pipeline.diffusion.examples import Examples
from pipeline.diffusion.frozen import image_outputs, text_outputs
from pipeline.diffusion.models import start_autoencoder, start_model, started_task
from pipeline.diffusion.objective import DiffusionObjective
from pipeline.diffusion.schedule import training_schedule
from pipeline.diffusion.tasks import BASE, TASKS, Task
from pipeline.errors import NoObjects, UserError
from pipeline.params.diffusion import DiffusionParams
from pipeline.params.train import TrainParams
from pipeline.shards.read import read_manifest

OBJECTS = TASKS["segment"]
"""Whose validation examples, grids and colour maps, the autoencoder is measured on."""


@dataclass(frozen=True)
class TrainingData:
    """What the data half made, and how it is read."""

    data: Path
    diffusion: DiffusionParams
    seed: int
    view_size: int
    augment: bool

    @property
    def models(self) -> Path:
        """The folder of the networks trained so far."""
        return self.data / "models"

    def examples(self, task: Task, drop_condition: float = 0.0, only: Sequence[str] | None = None) -> Examples:
        """The training examples of a task; `only` names the objects to keep."""
        return self._examples(task, "train", drop_condition, self.augment, only)

    def validation(self, task: Task) -> Examples | None:
        """Its validation examples; None, said aloud, where there are no such objects."""
        try:
            return self._examples(task, "val", 0.0, augment=False)
        except NoObjects as error:
            print(f"{task.name}: trained without validation: {error}", file=sys.stderr)
            return None

    def _examples(
        self, task: Task, split: str, drop: float, augment: bool, only: Sequence[str] | None = None
    ) -> Examples:
        size = self.view_size
        return Examples(self.data, task, split, self.diffusion, self.seed, drop, augment, only, size)


def chosen_objects(params: TrainParams, task: str) -> list[str] | None:
    """The ids of the objects that a task learns from; None for all. UserError when their file is of no use."""
    path = params.text_to_mv.objects if task == BASE else ""
    if not path:
        return None
    try:
        ids = Path(path).read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError):
        ids = []
    if not ids:
        raise UserError(
            f"train.text_to_mv.objects is {path!r}, which is no text file with ids of objects; give one, one id a line."
        )
    return ids


def task_objective(task: Task, params: TrainParams, training: TrainingData) -> DiffusionObjective:
    """The denoiser of a task, as its training starts."""
    task = started_task(task, params.init_from) if params.init_from else task
    data, diffusion, loop = training.data, training.diffusion, params.loop
    examples = training.examples(task, loop.drop_condition, chosen_objects(params, task.name))
    validation = training.validation(task)
    model = start_model(task, diffusion, training.models, 2 * training.view_size, params.init_from)
    schedule = params.denoiser(task.name)
    if schedule.gradient_checkpointing:
        model.unet.enable_gradient_checkpointing()
    samples = schedule.steps * schedule.batch

    def pays(table: str, outputs: int = 1) -> bool:
        """Whether to compute a table's tokens beforehand: when there are fewer of them than of training samples."""
        return loop.precompute and outputs * read_manifest(data / table).rows < samples

    return DiffusionObjective(
        task,
        model,
        training_schedule(diffusion.schedule, task),
        diffusion.sampler.of(task.name),
        examples,
        validation,
        loop.seed,
        text_outputs=text_outputs(data, model.text) if task.caption and pays("captions/captions") else None,
        image_outputs=image_outputs(data, model.image) if model.image and pays("renders/conditioning", 2) else None,
        part_balance=loop.part_balance,
    )


def autoencoder_objective(params: TrainParams, training: TrainingData) -> AutoencoderObjective:
    """The autoencoder, as its training starts: as it was trained before, from the checkpoint's or the closed form."""
    # every part gets every colour: by appearance some would be too rare to be learnt
    training = replace(training, diffusion=training.diffusion.model_copy(update={"palette": "random"}))
    diffusion, seed = training.diffusion, training.seed
    autoencoder = start_autoencoder(diffusion, params.init_from)
    pictures = Pictures(training.data, "train", diffusion, seed, training.augment, training.view_size)
    objective = AutoencoderObjective(autoencoder, pictures, training.validation(OBJECTS), diffusion.colours, seed)
    if not (diffusion.checkpoint or params.init_from):
        objective.closed_form_start()
    return objective
