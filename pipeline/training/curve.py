"""The loss curve of a training, for `dvc plots`."""

from pathlib import Path

HEADER = "step,loss,validation"


class Curve:
    """The loss of every step as CSV, written as the steps are done: `step,loss,validation`.

    `loss` is the mean over the samples of the step; `validation` is the latest loss on validation objects with the
    averaged weights, measured before the first step and then now and then: a gap would be drawn as a zero.

    There are two copies. DVC deletes a stage's outs before it runs the stage; the journal beside the checkpoints stays.
    A training that goes on after `done` steps drops the later rows, so that every step is in the curve once.
    """

    def __init__(self, journal: Path, curve: Path, done: int) -> None:
        self.paths = journal, curve
        rows = [row for row in _rows(journal) if int(row.partition(",")[0]) <= done]
        self.validation = float(rows[-1].rpartition(",")[2]) if rows else float("nan")
        for path in self.paths:
            _replace(path, "\n".join([HEADER, *rows]) + "\n")

    def add(self, step: int, loss: float) -> None:
        """One more step is done; `self.validation` is what was measured last."""
        for path in self.paths:
            with path.open("a", encoding="utf-8") as handle:
                handle.write(f"{step},{loss:.6g},{self.validation:.6g}\n")


def _rows(path: Path) -> list[str]:
    """The rows that a killed writer wrote to their end."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    return [line.rstrip("\n") for line in lines[1:] if line.endswith("\n")]


def _replace(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
