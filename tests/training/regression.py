"""A small training: for the tests of the loop, and as a program of its own that a test starts.

python -m tests.training.regression '{"folder": "FOLDER"}'
"""

import json
import os
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from pipeline.params.train import LoopParams, TaskParams
from pipeline.training.loop import train
from pipeline.training.start import start

SETTINGS = LoopParams(
    seed=3,
    precision="fp32",
    warmup_steps=4,
    cooldown=0.0,
    weight_decay=0.01,
    clip_norm=1e6,
    ema_decay=0.9,
    drop_condition=0.0,
    part_balance=0.0,
    augment=False,
    precompute=False,
    checkpoint_every=5,
    validate_every=4,
    pictures_every=8,
)
SCHEDULE = TaskParams(steps=18, batch=8, micro_batch=4, learning_rate=0.01)


@dataclass
class Samples(Dataset):
    """Vectors and what to make of them. One sample may be spoilt, and at one the process may be killed."""

    spoilt: int | None = None
    killed: int | None = None

    def __getitem__(self, number: int) -> dict[str, Any]:
        if number == self.killed:
            os.kill(os.getpid(), signal.SIGKILL)
        x = torch.randn(6, generator=torch.Generator().manual_seed(number))
        y = torch.full((2,), torch.nan) if number == self.spoilt else torch.stack((x.sum(), x[0] * x[1]))
        return {"x": x, "y": y, "object_id": f"object-{number}"}


@dataclass
class Regression:
    """An objective; it remembers with which weights it was validated."""

    samples: Samples = field(default_factory=Samples)
    dropout: float = 0.0
    seen: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        torch.manual_seed(0)
        self.module = nn.Sequential(nn.Linear(6, 8), nn.SiLU(), nn.Dropout(self.dropout), nn.Linear(8, 2))

    def examples(self) -> Samples:
        return self.samples

    def collate(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        stacked = {key: torch.stack([item[key] for item in items]) for key in ("x", "y")}
        return {**stacked, "object_id": [item["object_id"] for item in items]}

    def loss(self, module: nn.Module, batch: dict[str, Any]) -> Tensor:
        return ((module(batch["x"]) - batch["y"]) ** 2).mean(dim=1)

    def validation(self) -> dict[str, float]:
        assert not self.module.training
        self.seen.append(flat(self.module))
        batch = self.collate([Samples()[number] for number in range(10_000, 10_008)])
        torch.rand(7)  # what is drawn here must not change the training
        return {"loss": float(self.loss(self.module, batch).mean()), "largest_weight": float(self.seen[-1].max())}

    def pictures(self) -> dict[str, np.ndarray]:
        return {"prediction": np.full((4, 6, 3), 128, np.uint8)}


def flat(module: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten().clone() for parameter in module.parameters()])


def run(
    folder: Path,
    objective: Regression | None = None,
    schedule: TaskParams = SCHEDULE,
    force: bool = False,
    **settings: Any,
) -> Regression:
    objective = objective or Regression()
    places = folder / "training", folder / "curve.csv"
    train(objective, "toy", SETTINGS.model_copy(update=settings), schedule, *places, force)
    return objective


def schedule(**values: Any) -> TaskParams:
    return SCHEDULE.model_copy(update=values)


if __name__ == "__main__":
    values = json.loads(sys.argv[1])
    print(start(SETTINGS).num_processes, flush=True)
    samples = Samples(values.pop("spoilt", None), values.pop("killed", None))
    chosen = schedule(micro_batch=values.pop("micro_batch", SCHEDULE.micro_batch))
    run(Path(values.pop("folder")), Regression(samples, values.pop("dropout", 0.0)), chosen, **values)
