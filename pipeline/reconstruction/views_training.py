"""The training of a reconstruction model from drawn objects and their parts, whichever model it is."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import torch
from diffusers.models.modeling_utils import ModelMixin

from pipeline.folders import content_digest, replaced
from pipeline.params.base import Group
from pipeline.params.render import RenderParams
from pipeline.params.train import TrainParams
from pipeline.reconstruction.drawn_objects import CAMERA, TABLES, DrawnObjects, validation_objects
from pipeline.shards.read import read_manifest
from pipeline.training.folder import training_folder
from pipeline.training.loop import train
from pipeline.training.objective import Objective
from pipeline.training.results import curve_of, report
from pipeline.training.start import only_training


class ModelObjective(Objective, Protocol):
    """An objective whose network is saved as a folder."""

    @property
    def module(self) -> ModelMixin:
        """The network."""


def train_from_views(
    name: str,
    contract: str,
    params: TrainParams,
    model: Group,
    render: RenderParams,
    make: Callable[[DrawnObjects, DrawnObjects | None], ModelObjective],
    *,
    start: Path | None,
    data: Path,
    force: bool,
    tables: tuple[str, ...] = (),
) -> None:
    """Train a model, and write its folder, metrics, loss curve and sample pictures.

    Args:
        name: of the training, which has its schedule in `params`, and of the model's folder below `data`/models.
        contract: another one when the same inputs give another model.
        model: the parameters of the network.
        render: says which cameras the shards must have been drawn by.
        make: gives the objective, of training and of validation objects; its random numbers are of the seed.
        start: the folder with the weights that the network starts from, if any.
        force: train anew what has been trained.
        tables: of `data`, which the objective reads besides TABLES.

    UserError when the shards were drawn by other cameras than those of `render`, or hold no training objects.
    """
    loop, schedule = params.loop, params.schedule(name)
    folder = training_folder(
        name,
        contract,
        model.deciding(),
        render.model_dump(include=set(CAMERA)),
        loop.deciding(),
        schedule.deciding(),
        content_digest(start) if start else "",
        {table: read_manifest(data / table).digest for table in (*TABLES.values(), *tables)},
    )
    out = data / "models" / name
    with only_training(loop, out) as main:
        objects, held_out = DrawnObjects(data, "train", render), validation_objects(data, render, name)
        torch.manual_seed(loop.seed)
        objective = make(objects, held_out)
        train(objective, name, loop, schedule, folder, curve_of(name), force)
        if main:
            with replaced(out) as partial:
                objective.module.save_pretrained(partial)
            report(name, objective, params)
