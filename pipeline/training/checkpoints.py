"""Checkpoints of a training, in scratch: each one file, written whole or not at all; the last good one is kept."""

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from pipeline.errors import UserError
from pipeline.folders import written
from pipeline.shards.scratch import scratch
from pipeline.shards.store import content_key
from pipeline.training.average import Average

CONTRACT = "training/1"
CHECKSUM = "sha256"
"""The key of a checkpoint's metadata."""


def training_folder(name: str, *inputs: bytes | str | BaseModel | Mapping[str, Any]) -> Path:
    """Where the training `name` on these inputs (parameters, manifests, code contracts) keeps its checkpoints.

    The same inputs find their checkpoints again; any change of them starts afresh in another folder.
    """
    return scratch() / "training" / f"{name}-{content_key(CONTRACT, *inputs)[:16]}"


@dataclass(frozen=True)
class State:
    """All that changes from step to step; samples, noise and learning rate are functions of the step's number."""

    module: nn.Module
    optimizer: torch.optim.Optimizer
    average: Average

    def tensors(self) -> dict[str, Tensor]:
        """Weights and buffers, their average and the optimiser's moments, by name."""
        tensors = {f"weights/{name}": value for name, value in self.module.state_dict().items()}
        for name, parameter, value in zip(self._names(), self.average.parameters, self.average.values, strict=True):
            tensors[f"average/{name}"] = value
            for key, moment in self.optimizer.state[parameter].items():
                tensors[f"optimizer/{name}/{key}"] = moment
        return tensors

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what `tensors` gave."""
        weights, average, moments = (_under(prefix, tensors) for prefix in ("weights/", "average/", "optimizer/"))
        self.module.load_state_dict(weights)
        for value, name in zip(self.average.values, self._names(), strict=True):
            value.copy_(average[name])
        states = {index: _under(f"{name}/", moments) for index, name in enumerate(self._names())}
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": states})

    def _names(self) -> list[str]:
        return [name for name, parameter in self.module.named_parameters() if parameter.requires_grad]


class Checkpoints:
    """The checkpoints in a folder: `step-N.safetensors` while a training runs, then `finished.safetensors`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.finished = folder / "finished.safetensors"
        folder.mkdir(parents=True, exist_ok=True)

    def latest(self) -> int:
        """The steps done at the last checkpoint; 0 when there is none."""
        found = (re.fullmatch(r"step-(\d+)\.safetensors", path.name) for path in self.folder.iterdir())
        return max((int(match[1]) for match in found if match), default=0)

    def path(self, step: int) -> Path:
        """The checkpoint after `step` steps."""
        return self.folder / f"step-{step:08d}.safetensors"

    def write(self, step: int, state: State) -> None:
        """Write the checkpoint after `step` steps; the ones before it go once it is there."""
        self._write(self.path(step), state.tensors())

    def finish(self, module: nn.Module) -> None:
        """Keep the weights of the finished training, and nothing else."""
        self._write(self.finished, module.state_dict())

    def clear(self) -> None:
        """Remove what killed trainings had begun to write; for the one who has the right to write here."""
        for path in self.folder.iterdir():
            if path.name.startswith("."):  # also of safetensors, which begins a file under a name of its own
                path.unlink()

    def _write(self, path: Path, tensors: Mapping[str, Tensor]) -> None:
        contiguous = {name: value.detach().contiguous() for name, value in tensors.items()}
        with written(path) as partial:
            save_file(contiguous, partial, {CHECKSUM: _checksum(contiguous)})
            with partial.open("rb") as handle:
                os.fsync(handle.fileno())
        for other in self.folder.glob("step-*.safetensors"):
            if other != path:
                other.unlink()


def load_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint, on the CPU; UserError when they are not what was written."""
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            # Files of earlier versions have no checksum.
            good = (file.metadata() or {}).get(CHECKSUM, "") in ("", _checksum(tensors))
    except (SafetensorError, ValueError):
        good = False
    if not good:
        raise UserError(f"The checkpoint {path} is damaged; bring a copy back, or remove it to train from the start.")
    return tensors


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    """Of names, types, shapes and contents."""
    found = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        found.update(f"{name} {value.dtype} {list(value.shape)} ".encode())
        found.update(value.cpu().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
