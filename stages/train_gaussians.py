"""Stage `train_gaussians`: a gaussian for every pixel of four views, from rendered grids of objects and of parts.

    python -m stages.train_gaussians

trains here, on as many processes as `stages.train` would; on a cluster start it by `accelerate launch ... -m
stages.train_gaussians` on every machine. It is not in dvc.yaml.
"""

from collections.abc import Sequence
from pathlib import Path

from pipeline.params.gaussians import GaussiansParams
from pipeline.params.render import RenderParams
from pipeline.params.train import TrainParams
from pipeline.reconstruction.drawn_objects import DrawnObjects
from pipeline.reconstruction.examples import ViewExamples
from pipeline.reconstruction.gaussians_objective import GaussiansObjective
from pipeline.reconstruction.pixel_gaussians import PixelGaussians, build_gaussians, load_gaussians_model
from pipeline.reconstruction.views_training import train_from_views
from pipeline.training.start import go_on_from
from stages.trainings import launch_training, training_main

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
    start = Path(params.init_from) / NAME if params.init_from else None

    def objective(objects: DrawnObjects, held_out: DrawnObjects | None) -> GaussiansObjective:
        model = start_gaussians(gaussians, render, start)
        examples = ViewExamples(objects, params.gaussians.views, params.loop.seed, params.loop.augment)
        return GaussiansObjective(model, examples, held_out, gaussians)

    train_from_views(NAME, CONTRACT, params, gaussians, render, objective, start=start, data=data, force=force)


def start_gaussians(params: GaussiansParams, render: RenderParams, start: Path | None) -> PixelGaussians:
    """The network of the params, with the weights of that in the folder `start` where it is given.

    UserError when that one was made with other params, or is not there.
    """
    model = build_gaussians(params, render)
    if start:
        go_on_from(model, load_gaussians_model(start), start)
    return model


def launch(overrides: Sequence[str] = (), force: bool = False) -> None:
    """Train with params.yaml and `overrides`, on as many processes as the machine has GPUs."""
    launch_training("stages.train_gaussians", run, (TrainParams, GaussiansParams, RenderParams), overrides, force)


if __name__ == "__main__":
    training_main(launch)
