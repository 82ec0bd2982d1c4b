"""Stage `train_grouping`: the model that says which pieces of a surface are of one part.

    python -m stages.train_grouping

trains here; on a cluster start it by `accelerate launch ... -m stages.train_grouping` on every machine.
"""

from collections.abc import Sequence
from pathlib import Path

import torch

from pipeline.errors import NoObjects, UserError
from pipeline.folders import content_digest, reading, replaced
from pipeline.params.train import TrainParams
from pipeline.shards.read import read_manifest, read_table
from pipeline.surface.examples import GroupingExamples
from pipeline.surface.grouping import GroupingModel
from pipeline.surface.object_atoms import ObjectAtoms
from pipeline.surface.objective import GroupingObjective
from pipeline.training.folder import training_folder
from pipeline.training.loop import train
from pipeline.training.results import curve_of, report
from pipeline.training.start import only_training
from stages.trainings import launch_training, training_main

CONTRACT = "train_grouping/1"
NAME = "grouping"


def run(params: TrainParams, data: Path = Path("data"), force: bool = False) -> None:
    """Train the grouping model, and write its folder, metrics, loss curve and sample pictures.

    UserError when there are no training objects of more than one atom, or the weights to start from are others.
    """
    loop, schedule, table = params.loop, params.grouping, data / "atoms/atoms"
    folder = training_folder(
        NAME,
        CONTRACT,
        loop.deciding(),
        schedule.deciding(),
        content_digest(Path(params.init_from) / NAME) if params.init_from else "",
        read_manifest(table).digest,
    )
    out = data / "models" / NAME
    with only_training(loop, out) as main:
        rows = _rows(table)
        examples = GroupingExamples([(name, atoms) for split, _, name, atoms in rows if split == "train"], loop.seed)
        if not examples.rows:
            raise NoObjects(f"{table} has no training object of more than one piece; take more assets.")
        held_out = [(regime, name, atoms) for split, regime, name, atoms in rows if split == "val"]
        torch.manual_seed(loop.seed)
        objective = GroupingObjective(start_grouping(params.init_from), examples, held_out)
        train(objective, NAME, loop, schedule, folder, curve_of(NAME), force)
        if main:
            with replaced(out) as partial:
                objective.module.save(partial)
            report(NAME, objective, params)


def start_grouping(init_from: str) -> GroupingModel:
    """A new model, or the one in the folder `init_from`; UserError when it is not there or not of this form."""
    if not init_from:
        return GroupingModel()
    folder = Path(init_from) / NAME
    if not folder.is_dir():
        raise UserError(f"{folder} is missing; give train.init_from a folder that has it, or set it empty.")
    with reading(folder, "model"):
        return GroupingModel.load(folder)


def _rows(table: Path) -> list[tuple[str, str, str, ObjectAtoms]]:
    """Split, regime, id and atoms of all objects."""
    columns = read_table(table, ["split", "regime", "object_id", "arrays"]).to_pydict().values()
    return [(*said, ObjectAtoms.unpacked(content)) for *said, content in zip(*columns, strict=True)]


def launch(overrides: Sequence[str] = (), force: bool = False) -> None:
    """Train with params.yaml and `overrides`, on as many processes as the machine has GPUs."""
    launch_training("stages.train_grouping", run, (TrainParams,), overrides, force)


if __name__ == "__main__":
    training_main(launch)
