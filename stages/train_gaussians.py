"""Stage `train_gaussians`: a gaussian for every pixel of four views, from rendered grids of objects and of parts.

    python -m stages.train_gaussians

trains here, on as many processes as `stages.train` would; on a cluster start it by `accelerate launch ... -m
stages.train_gaussians` on every machine. It is not in dvc.yaml.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from pipeline.folders import content_digest, replaced
from pipeline.params.base import load_group
from pipeline.params.gaussians import GaussiansParams
from pipeline.params.render import RenderParams
from pipeline.params.train import TrainParams
from pipeline.reconstruction.drawn_objects import CAMERA, TABLES, DrawnObjects, validation_objects
from pipeline.reconstruction.examples import ViewExamples
from pipeline.reconstruction.gaussians_objective import GaussiansObjective
from pipeline.reconstruction.pixel_gaussians import PixelGaussians, build_gaussians, load_gaussians_model
from pipeline.shards.read import read_manifest
from pipeline.training.folder import training_folder
from pipeline.training.launch import launched
from pipeline.training.loop import train
from pipeline.training.results import curve_of, report
from pipeline.training.start import go_on_from, only_training
from stages.entry import one_sentence_errors

CONTRACT = "train_gaussians/1"
NAME = "gaussians"


def run(
    params: TrainParams,
    gaussians: GaussiansParams,
    render: RenderParams,
    data: Path = Path("data"),
    force: bool = False,
) -> None:
    """Train the model, and write its folder, metrics, loss curve and sample pictures.

    UserError when the shards were drawn by other cameras than those of `render`, or hold no training objects.
    """
    loop, schedule = params.loop, params.gaussians
    folder = training_folder(
        NAME,
        CONTRACT,
        gaussians.deciding(),
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
        model = start_gaussians(gaussians, render, params.init_from)
        examples = ViewExamples(objects, schedule.views, loop.seed, loop.augment)
        objective = GaussiansObjective(model, examples, held_out, gaussians)
        train(objective, NAME, loop, schedule, folder, curve_of(NAME), force)
        if main:
            with replaced(out) as partial:
                model.save_pretrained(partial)
            report(NAME, objective, params)


def start_gaussians(params: GaussiansParams, render: RenderParams, init_from: str) -> PixelGaussians:
    """The network of the params, with the weights of that in the folder `init_from` where it is given.

    UserError when that one was made with other params, or is not there.
    """
    model = build_gaussians(params, render)
    if init_from:
        folder = Path(init_from) / NAME
        go_on_from(model, load_gaussians_model(folder), folder)
    return model


def launch(overrides: Sequence[str] = (), force: bool = False) -> None:
    """Train with params.yaml and `overrides`, on as many processes as the machine has GPUs."""
    if launched("stages.train_gaussians", [*overrides, *(["--force"] if force else [])]):
        return
    groups = load_group(TrainParams, overrides), load_group(GaussiansParams, overrides)
    run(*groups, load_group(RenderParams, overrides), force=force)


if __name__ == "__main__":
    with one_sentence_errors():
        launch([argument for argument in sys.argv[1:] if argument != "--force"], force="--force" in sys.argv)
