"""Checkpoints of a training: files that are written whole or not at all; the last good checkpoint is kept."""

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from pipeline.errors import UserError
from pipeline.folders import written
from pipeline.training.average import Average

CHECKSUM = "sha256"
"""The key of a checkpoint's metadata."""
NAME = re.compile(r"step-(?P<step>\d+)(?:-\d+-of-(?P<count>\d+))?\.safetensors")


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
    """The checkpoints in a folder: `step-N.safetensors` while a training runs, then `finished.safetensors`.

    With `piece_bytes` a checkpoint is several files of at most so many bytes of tensors, `step-N-I-of-M.safetensors`,
    each with a checksum of its own, for machines between which large files do not pass; a tensor that is larger has a
    file to itself. Either form is found and read again, whichever is asked for.
    """

    def __init__(self, folder: Path, piece_bytes: int | None = None) -> None:
        self.folder, self.piece_bytes = folder, piece_bytes
        self.finished = folder / "finished.safetensors"
        folder.mkdir(parents=True, exist_ok=True)

    def latest(self) -> int:
        """The steps done at the last whole checkpoint; 0 when there is none."""
        found = (NAME.fullmatch(path.name) for path in self.folder.iterdir())
        steps = {int(match["step"]) for match in found if match}
        return max((step for step in steps if self.files(step)), default=0)

    def path(self, step: int) -> Path:
        """The checkpoint after `step` steps, where it is one file."""
        return self.folder / f"step-{step:08d}.safetensors"

    def files(self, step: int) -> list[Path]:
        """The files of the checkpoint after `step` steps; none when it is not there, or a file is missing."""
        if self.path(step).exists():
            return [self.path(step)]
        files = sorted(self.folder.glob(f"step-{step:08d}-*-of-*.safetensors"))
        counts = {int(match["count"]) for path in files if (match := NAME.fullmatch(path.name)) and match["count"]}
        return files if counts == {len(files)} else []

    def read(self, step: int) -> dict[str, Tensor]:
        """The tensors of the checkpoint after `step` steps; UserError when they are not what was written."""
        return {name: value for file in self.files(step) for name, value in load_tensors(file).items()}

    def write(self, step: int, state: State) -> None:
        """Write the checkpoint after `step` steps; the ones before it go once it is there."""
        self._write(self._pieces(step, state.tensors()))

    def finish(self, module: nn.Module) -> None:
        """Keep the weights of the finished training, and nothing else."""
        self._write({self.finished: module.state_dict()})

    def clear(self) -> None:
        """Remove what killed trainings had begun to write; for the one who has the right to write here."""
        for path in self.folder.iterdir():
            if path.name.startswith("."):  # also of safetensors, which begins a file under a name of its own
                path.unlink()

    def _pieces(self, step: int, tensors: Mapping[str, Tensor]) -> dict[Path, dict[str, Tensor]]:
        """The tensors of a checkpoint by the file that they go into."""
        if self.piece_bytes is None:
            return {self.path(step): dict(tensors)}
        pieces: list[dict[str, Tensor]] = [{}]
        size = 0
        for name, value in sorted(tensors.items()):
            if pieces[-1] and size + value.nbytes > self.piece_bytes:
                pieces.append({})
                size = 0
            pieces[-1][name] = value
            size += value.nbytes
        names = (f"step-{step:08d}-{number}-of-{len(pieces)}.safetensors" for number in range(1, len(pieces) + 1))
        return {self.folder / name: piece for name, piece in zip(names, pieces, strict=True)}

    def _write(self, files: Mapping[Path, Mapping[str, Tensor]]) -> None:
        for path, tensors in files.items():
            contiguous = {name: value.detach().contiguous() for name, value in tensors.items()}
            with written(path) as partial:
                save_file(contiguous, partial, {CHECKSUM: _checksum(contiguous)})
                with partial.open("rb") as handle:
                    os.fsync(handle.fileno())
        for other in self.folder.glob("step-*.safetensors"):
            if other not in files:
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
