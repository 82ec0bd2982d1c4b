"""Stage `train_lrm`: the reconstruction model, from rendered grids of objects and of parts.

    python -m stages.train_lrm

trains here, on as many processes as `stages.train` would; on a cluster start it by `accelerate launch ... -m
stages.train_lrm` on every machine.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from pipeline.folders import content_digest, replaced
from pipeline.params.base import load_group
from pipeline.params.reconstruction import ReconstructionParams
from pipeline.params.render import RenderParams
from pipeline.params.train import TrainParams
from pipeline.reconstruction.drawn_objects import CAMERA, TABLES, DrawnObjects, validation_objects
from pipeline.reconstruction.examples import Examples
from pipeline.reconstruction.lrm import LRM, build_lrm, load_lrm
from pipeline.reconstruction.objective import LRMObjective
from pipeline.shards.read import read_manifest
from pipeline.training.folder import training_folder
from pipeline.training.launch import launched
from pipeline.training.loop import train
from pipeline.training.results import curve_of, report
from pipeline.training.start import go_on_from, only_training
from stages.entry import one_sentence_errors

CONTRACT = "train_lrm/1"
NAME = "lrm"


def run(
    params: TrainParams,
    reconstruction: ReconstructionParams,
    render: RenderParams,
    data: Path = Path("data"),
    force: bool = False,
) -> None:
    """Train the reconstruction model, and write its folder, metrics, loss curve and sample pictures.

    UserError when the shards were drawn by other cameras than those of `render`, or hold no training objects.
    """
    loop, schedule = params.loop, params.lrm
    folder = training_folder(
        NAME,
        CONTRACT,
        reconstruction.deciding(),
        render.model_dump(include=set(CAMERA)),
        loop.deciding(),
        schedule.deciding(),
        content_digest(Path(params.init_from) / NAME) if params.init_from else "",
        {table: read_manifest(data / table).digest for table in TABLES.values()},
    )
    out = data / "models" / NAME
    with only_training(loop, out) as main:
        objects, held_out = DrawnObjects(data, "train", render), validation_objects(data, render, NAME)
        torch.manual_seed(loop.seed)
        model = start_lrm(reconstruction, render, params.init_from)
        examples = Examples(objects, reconstruction, render, schedule.pieces, loop.seed, loop.augment)
        objective = LRMObjective(model, examples, held_out, reconstruction)
        train(objective, NAME, loop, schedule, folder, curve_of(NAME), force)
        if main:
            with replaced(out) as partial:
                model.save_pretrained(partial)
            report(NAME, objective, params)


def start_lrm(reconstruction: ReconstructionParams, render: RenderParams, init_from: str) -> LRM:
    """The network of the params, with the weights of that in the folder `init_from` where it is given.

    UserError when that one was made with other params, or is not there.
    """
    model = build_lrm(reconstruction, render)
    if init_from:
        folder = Path(init_from) / NAME
        go_on_from(model, load_lrm(folder), folder, reconstruction.aside)
    return model


def launch(overrides: Sequence[str] = (), force: bool = False) -> None:
    """Train with params.yaml and `overrides`, on as many processes as the machine has GPUs."""
    if launched("stages.train_lrm", [*overrides, *(["--force"] if force else [])]):
        return
    groups = load_group(TrainParams, overrides), load_group(ReconstructionParams, overrides)
    run(*groups, load_group(RenderParams, overrides), force=force)


if __name__ == "__main__":
    with one_sentence_errors():
        launch([argument for argument in sys.argv[1:] if argument != "--force"], force="--force" in sys.argv)
