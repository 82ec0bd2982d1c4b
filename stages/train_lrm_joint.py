"""Stage `train_lrm_joint`: the joint reconstruction model, from rendered grids of objects and of their parts.

    python -m stages.train_lrm_joint

trains here, on as many processes as `stages.train` would; on a cluster start it by `accelerate launch ... -m
stages.train_lrm_joint` on every machine. It starts as the model that `train_lrm` has trained. It is
not in dvc.yaml.
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
from pipeline.reconstruction.joint_examples import LABELS, JointExamples
from pipeline.reconstruction.joint_lrm import joint_of, load_joint_lrm
from pipeline.reconstruction.joint_objective import JointObjective
from pipeline.reconstruction.lrm import build_lrm, load_lrm
from pipeline.shards.read import read_manifest
from pipeline.training.folder import training_folder
from pipeline.training.launch import launched
from pipeline.training.loop import train
from pipeline.training.results import curve_of, report
from pipeline.training.start import go_on_from, only_training
from stages.entry import one_sentence_errors

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
    loop, schedule, start = params.loop, params.lrm_joint, _start(params, data)
    folder = training_folder(
        NAME,
        CONTRACT,
        reconstruction.deciding(),
        render.model_dump(include=set(CAMERA)),
        loop.deciding(),
        schedule.deciding(),
        content_digest(start),
        {table: read_manifest(data / table).digest for table in (*TABLES.values(), LABELS)},
    )
    out = data / "models" / NAME
    with only_training(loop, out) as main:
        objects, held_out = DrawnObjects(data, "train", render), validation_objects(data, render, NAME)
        torch.manual_seed(loop.seed)
        model = joint_of(build_lrm(reconstruction, render))
        found = load_joint_lrm(start) if start.name == NAME else joint_of(load_lrm(start))
        go_on_from(model, found, start, reconstruction.aside)
        examples = JointExamples(objects, data, reconstruction, render, schedule, loop.seed, loop.augment)
        objective = JointObjective(model, examples, held_out, reconstruction, schedule.overlap_weight)
        train(objective, NAME, loop, schedule, folder, curve_of(NAME), force)
        if main:
            with replaced(out) as partial:
                model.save_pretrained(partial)
            report(NAME, objective, params)


def _start(params: TrainParams, data: Path) -> Path:
    """The model to go on from: in `train.init_from` the one of this name, else the LRM; or the LRM of the same data."""
    folder = Path(params.init_from) if params.init_from else data / "models"
    return folder / NAME if params.init_from and (folder / NAME).is_dir() else folder / "lrm"


def launch(overrides: Sequence[str] = (), force: bool = False) -> None:
    """Train with params.yaml and `overrides`, on as many processes as the machine has GPUs."""
    if launched("stages.train_lrm_joint", [*overrides, *(["--force"] if force else [])]):
        return
    groups = load_group(TrainParams, overrides), load_group(ReconstructionParams, overrides)
    run(*groups, load_group(RenderParams, overrides), force=force)


if __name__ == "__main__":
    with one_sentence_errors():
        launch([argument for argument in sys.argv[1:] if argument != "--force"], force="--force" in sys.argv)
