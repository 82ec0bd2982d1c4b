"""What a training writes down as it goes: the loss curve for `dvc plots`, the TensorBoard log and the progress."""

from __future__ import annotations

import re
import sys
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.folders import written
from pipeline.shards.progress import Progress

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

HEADER = "step,loss,validation"
NUMBER = r"-?(?:\d+(?:\.\d+)?(?:e[+-]\d+)?|inf|nan)"
ROW = re.compile(rf"(\d+),{NUMBER},({NUMBER})")


class Curve:
    """The loss of every step as CSV, written as the steps are done: `step,loss,validation`.

    `loss` is the mean over the samples of the step; `validation` is the latest loss on validation objects with the
    averaged weights, measured before the first step and then now and then: a gap would be drawn as a zero.

    There are two copies. DVC deletes a stage's outs before it runs the stage; the journal beside the checkpoints stays.
    A training that goes on after `done` steps drops the later rows, so that every step is in the curve once.
    """

    def __init__(self, journal: Path, curve: Path, done: int) -> None:
        self.paths = journal, curve
        rows = [row for row in _rows(journal) if int(row[1]) <= done]
        self.validation = float(rows[-1][2]) if rows else float("nan")
        if len(rows) < done:
            print(f"{journal} lacks {done - len(rows)} of {done} steps, and so does the curve.", file=sys.stderr)
        for path in self.paths:
            with written(path) as partial:
                partial.write_text("\n".join([HEADER, *(row[0] for row in rows)]) + "\n", encoding="utf-8")

    def add(self, step: int, loss: float) -> None:
        """One more step is done; `self.validation` is what was measured last."""
        for path in self.paths:
            with path.open("a", encoding="utf-8") as handle:
                handle.write(f"{step},{loss:.6g},{self.validation:.6g}\n")


@dataclass
class Journal:
    """What the main process writes down: loss curve, TensorBoard log and progress."""

    curve: Curve
    board: SummaryWriter | None
    """None where TensorBoard is not installed."""
    progress: Progress

    def __post_init__(self) -> None:
        self.losses: deque[float] = deque(maxlen=50)

    def add(self, step: int, loss: float, values: dict[str, float]) -> None:
        """A step is done."""
        self.curve.add(step, loss)
        self.losses.append(loss)
        self._scalars(step, {"loss": loss, **values})
        mean = sum(self.losses) / len(self.losses)
        self.progress.advance(note=f"{self.progress.rate:.3g} steps/s, loss {mean:.4g}")

    def measured(self, step: int, values: dict[str, float]) -> None:
        """What was measured on validation objects after `step` steps; `loss` goes into the curve."""
        self.curve.validation = values.get("loss", self.curve.validation)
        self._scalars(step, {f"validation/{name}": value for name, value in values.items()})

    def drawn(self, step: int, pictures: dict[str, np.ndarray]) -> None:
        """Sample pictures by name, (H, W, 3) uint8."""
        if self.board is None:
            return
        for name, picture in pictures.items():
            self.board.add_image(name, picture, step, dataformats="HWC")
        self.board.flush()

    def _scalars(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items() if self.board is not None else ():
            self.board.add_scalar(name, value, step)


def _rows(path: Path) -> list[re.Match[str]]:
    """The rows that a killed writer wrote to their end, and nobody damaged."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True) if path.exists() else []
    return [row for line in lines if line.endswith("\n") and (row := ROW.fullmatch(line.removesuffix("\n")))]
