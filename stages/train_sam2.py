"""Trainings `train@sam2_mask_decoder` and `train@sam2_grid`: SAM2's two fine-tuned forms in Table 1.

    python -m stages.train_sam2 sam2_grid

Both start from the user's weights, `evaluate.sam2`, without which they cannot be: so they are not in dvc.yaml, and what
they write counts once `evaluate.sam2_mask_decoder` or `evaluate.sam2_grid` names it.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch

from pipeline.errors import Invalid, NoObjects, UserError
from pipeline.evaluation.sam2 import LAYOUT, Sam2Segmenter
from pipeline.evaluation.sam2_objective import PointPrompts, Sam2Objective
from pipeline.folders import content_digest, replaced
from pipeline.params.base import load_group, nearest
from pipeline.params.evaluate import EvaluateParams
from pipeline.params.train import TrainParams
from pipeline.shards.read import read_manifest
from pipeline.training.folder import training_folder
from pipeline.training.launch import launched
from pipeline.training.loop import train
from pipeline.training.results import curve_of, report
from pipeline.training.start import only_training
from stages.entry import one_sentence_errors

CONTRACT = "train_sam2/1"
FORMS: dict[str, tuple[Literal[1, 4], Literal["mask_decoder", "all"]]] = {
    "sam2_mask_decoder": (1, "mask_decoder"),
    "sam2_grid": (4, "all"),
}
"""By name, how many views the picture has, and what of the network is trained."""
TABLES = ("renders/grids", "masks/labels")


def run(name: str, params: TrainParams, weights: str, data: Path = Path("data"), force: bool = False) -> None:
    """Fine-tune the SAM2 of `weights`, and write its folder below data/models, metrics, loss curve and pictures.

    UserError when the weights are not SAM2's, or there are no training objects.
    """
    views, trained = FORMS[name]
    start = Sam2Segmenter.from_pretrained(weights)
    loop, schedule, out = params.loop, params.schedule(name), data / "models" / name
    folder = training_folder(
        name,
        CONTRACT,
        loop.deciding(),
        schedule.deciding(),
        {table: read_manifest(data / table).digest for table in TABLES},
        content_digest(Path(weights)),
    )
    with only_training(loop, out) as main:
        examples = PointPrompts(data, "train", start.processor, views, loop.seed)
        try:
            held_out = PointPrompts(data, "val", start.processor, views, loop.seed)
        except NoObjects:
            held_out = None
        torch.manual_seed(loop.seed)
        objective = Sam2Objective(start.model, examples, held_out, trained)
        train(objective, name, loop, schedule, folder, curve_of(name), force)
        if main:
            with replaced(out) as partial:
                start.model.save_pretrained(partial)
                start.processor.save_pretrained(partial)
            report(name, objective, params.model_copy(update={"init_from": weights}))
            print(f"{out} is trained; the stage `evaluate` measures it with evaluate.{name}={out}.")


def launch(name: str, overrides: Sequence[str] = (), force: bool = False) -> None:
    """Train with params.yaml and `overrides`, on as many processes as the machine has GPUs."""
    if name not in FORMS:
        raise Invalid(f"There is no training `{name}` of SAM2{nearest(name, FORMS)}; there are {', '.join(FORMS)}.")
    weights = load_group(EvaluateParams, overrides).sam2
    if weights is None:
        raise UserError(f"evaluate.sam2 is null, and train@{name} starts from the weights there; give it {LAYOUT}.")
    if not launched("stages.train_sam2", [name, *overrides, *(["--force"] if force else [])]):
        run(name, load_group(TrainParams, overrides), weights, force=force)


if __name__ == "__main__":
    with one_sentence_errors():
        arguments = [argument for argument in sys.argv[1:] if argument != "--force"]
        if not arguments:
            raise UserError(f"`python -m stages.train_sam2` needs the name of a training: {', '.join(FORMS)}.")
        launch(arguments[0], arguments[1:], force="--force" in sys.argv)
