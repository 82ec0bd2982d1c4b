"""Stage `train_lrm_joint`: the joint reconstruction model, from rendered grids of objects and of their parts.

    python -m stages.train_lrm_joint

trains here, on as many processes as `stages.train` would; on a cluster start it by `accelerate launch ... -m
stages.train_lrm_joint` on every machine. It starts as the model that `train_lrm` has trained. It is not in dvc.yaml.
"""

from collections.abc import Sequence
from pathlib import Path

from pipeline.params.reconstruction import ReconstructionParams
from pipeline.params.render import RenderParams
from pipeline.params.train import TrainParams
from pipeline.reconstruction.drawn_objects import DrawnObjects
from pipeline.reconstruction.joint_examples import LABELS, JointExamples
from pipeline.reconstruction.joint_lrm import joint_of, load_joint_lrm
from pipeline.reconstruction.joint_objective import JointObjective
from pipeline.reconstruction.lrm import build_lrm, load_lrm
from pipeline.reconstruction.views_training import train_from_views
from pipeline.training.start import go_on_from
from stages.trainings import launch_training, training_main

CONTRACT = "train_lrm_joint/1"
NAME = "lrm_joint"


def run(
    params: TrainParams,
    reconstruction: ReconstructionParams,
    render: RenderParams,
    data: Path = Path("data"),
    force: bool = False,
) -> None:
    """Train the joint model, and write its folder, metrics, loss curve and sample pictures.

    UserError when the shards were drawn by other cameras than those of `render`, or hold no training objects, and when
    the model that it starts from is not there, or was made with other params.
    """
    start = _start(params, data)

    def objective(objects: DrawnObjects, held_out: DrawnObjects | None) -> JointObjective:
        model = joint_of(build_lrm(reconstruction, render))
        found = load_joint_lrm(start) if start.name == NAME else joint_of(load_lrm(start))
        go_on_from(model, found, start, reconstruction.aside)
        loop, schedule = params.loop, params.lrm_joint
        examples = JointExamples(objects, data, reconstruction, render, schedule, loop.seed, loop.augment)
        return JointObjective(model, examples, held_out, reconstruction, schedule.overlap_weight)

    train_from_views(
        NAME,
        CONTRACT,
        params,
        reconstruction,
        render,
        objective,
        start=start,
        data=data,
        force=force,
        tables=(LABELS,),
    )


def _start(params: TrainParams, data: Path) -> Path:
    """The model to go on from: in `train.init_from` the one of this name, else the LRM; or the LRM of the same data."""
    folder = Path(params.init_from) if params.init_from else data / "models"
    return folder / NAME if params.init_from and (folder / NAME).is_dir() else folder / "lrm"


def launch(overrides: Sequence[str] = (), force: bool = False) -> None:
    """Train with params.yaml and `overrides`, on as many processes as the machine has GPUs."""
    launch_training("stages.train_lrm_joint", run, (TrainParams, ReconstructionParams, RenderParams), overrides, force)


if __name__ == "__main__":
    training_main(launch)
