"""Stage `train_lrm`: the reconstruction model, from rendered grids of objects and of parts.

    python -m stages.train_lrm

trains here, on as many processes as `stages.train` would; on a cluster start it by `accelerate launch ... -m
stages.train_lrm` on every machine.
"""

from collections.abc import Sequence
from pathlib import Path

from pipeline.params.reconstruction import ReconstructionParams
from pipeline.params.render import RenderParams
from pipeline.params.train import TrainParams
from pipeline.reconstruction.drawn_objects import DrawnObjects
from pipeline.reconstruction.examples import Examples
from pipeline.reconstruction.lrm import LRM, build_lrm, load_lrm
from pipeline.reconstruction.objective import LRMObjective
from pipeline.reconstruction.views_training import train_from_views
from pipeline.training.start import go_on_from
from stages.trainings import launch_training, training_main

CONTRACT = "train_lrm/2"
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
    start = Path(params.init_from) / NAME if params.init_from else None

    def objective(objects: DrawnObjects, held_out: DrawnObjects | None) -> LRMObjective:
        model = start_lrm(reconstruction, render, start)
        loop, pieces = params.loop, params.lrm.pieces
        examples = Examples(objects, reconstruction, render, pieces, loop.seed, loop.augment)
        return LRMObjective(model, examples, held_out, reconstruction)

    train_from_views(NAME, CONTRACT, params, reconstruction, render, objective, start=start, data=data, force=force)


def start_lrm(reconstruction: ReconstructionParams, render: RenderParams, start: Path | None) -> LRM:
    """The network of the params, with the weights of that in the folder `start` where it is given.

    UserError when that one was made with other params, or is not there.
    """
    model = build_lrm(reconstruction, render)
    if start:
        go_on_from(model, load_lrm(start), start, reconstruction.aside)
    return model


def launch(overrides: Sequence[str] = (), force: bool = False) -> None:
    """Train with params.yaml and `overrides`, on as many processes as the machine has GPUs."""
    launch_training("stages.train_lrm", run, (TrainParams, ReconstructionParams, RenderParams), overrides, force)


if __name__ == "__main__":
    training_main(launch)
