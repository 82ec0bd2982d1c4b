"""What a finished training leaves behind: the folder of its networks, metrics, loss curve and sample pictures."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from pipeline.folders import written
from pipeline.params.train import TrainParams
from pipeline.shards.write import write_metrics
from pipeline.training.objective import Objective

PLOTS = Path("plots/train")


def curve_of(name: str) -> Path:
    """Where dvc.yaml declares the loss curve of the training `name`."""
    return PLOTS / f"{name}.csv"


def report(name: str, objective: Objective, params: TrainParams) -> None:
    """Measure and draw with the network as it is, and write both where dvc.yaml declares them."""
    schedule = params.schedule(name)
    objective.module.eval()
    with torch.no_grad():
        validation, pictures = objective.validation(), objective.pictures()
    metrics = {
        "init_from": params.init_from,
        "parameters": sum(parameter.numel() for parameter in objective.module.parameters()),
        "steps": schedule.steps,
        "samples": schedule.steps * schedule.batch,
        "validation": validation,
    }
    write_metrics(f"train/{name}", metrics)
    with written(PLOTS / f"{name}.png") as partial:
        Image.fromarray(np.concatenate(list(pictures.values()))).save(partial, "PNG")
