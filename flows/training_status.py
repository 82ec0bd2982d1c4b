"""How far trainings are, in lines for a terminal: from the log, and from the loss curves that they write."""

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.params.base import PARAMS_FILE, read_yaml

TAIL_BYTES = 1 << 16
"""Of the log, in which the last line of progress is looked for: one comes every half minute."""
PROGRESS = re.compile(
    r"\S+ \S+ (?P<name>\S+): (?P<done>\d+) of (?P<all>\d+), about (?P<left>.+?) left(?:, (?P<note>.*))?"
)
RATE = re.compile(r"([\d.e+-]+) steps/s")


def describe(
    folder: Path, stages: Sequence[str], done: Mapping[str, Sequence[Any]], current: str, running: bool, log: Path
) -> str:
    """A line a stage: what it came to, or how far it is, or that it waits.

    Of a training: step of steps, samples a second, time left, and the losses on validation objects. `done` has, by
    stage, whether it was made, restored or unchanged, and the seconds that it took.
    """
    params = read_yaml(folder / PARAMS_FILE)
    width = max(len(name) for name in stages)
    lines = []
    for name in stages:
        if name in done:
            state, seconds = done[name]
            text = f"{state} in {_duration(seconds)}" if state == "made" else state
            parts = [text, _validation(folder, name)] if name.startswith("train") else [text]
        elif name == current:
            parts = ["running" if running else "was begun and is not running", *_progress(folder, name, params, log)]
        else:
            parts = ["waits"]
        lines.append(f"{name:<{width}}  {', '.join(filter(None, parts))}")
    return "\n".join(lines)


def training_of(stage: str) -> str:
    """The name of a training, in params.yaml and of its loss curve: train@segment is segment, train_lrm is lrm."""
    return stage.removeprefix("train").lstrip("@_")


def _progress(folder: Path, stage: str, params: Mapping[str, Any], log: Path) -> list[str]:
    """Step of steps, rate, time left and losses of a stage that is under way."""
    training = training_of(stage)
    name = training if stage.startswith("train") else stage
    said = _last_progress(log, name)
    schedule = params.get("train", {}).get(training) if stage.startswith("train") else None
    if schedule is None:
        return [f"{said['done']} of {said['all']}, about {said['left']} left"] if said else []
    rows = _curve(folder, training)
    parts = [f"step {rows[-1]['step'] if rows else 0} of {schedule['steps']}"]
    if said:
        rate = RATE.search(said["note"] or "")
        parts += [f"{float(rate[1]) * schedule['batch']:.3g} samples/s"] if rate else []
        parts.append(f"about {said['left']} left")
    return [*parts, _validation(folder, stage)]


def _last_progress(log: Path, name: str) -> dict[str, str | None] | None:
    """The groups of the log's last line of progress since the stage began, if it is of this one."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - TAIL_BYTES))
        lines = file.read().decode(errors="replace").splitlines()
    for line in reversed(lines):
        if line.endswith(" begins"):
            return None
        if (match := PROGRESS.fullmatch(line)) and match["name"] == name:
            return match.groupdict()
    return None


def _validation(folder: Path, stage: str) -> str:
    """The losses on validation objects: the last one, and between which it went."""
    losses = [float(row["validation"]) for row in _curve(folder, training_of(stage))]
    measured = [loss for loss in losses if loss == loss]
    if not measured:
        return ""
    return f"validation {measured[-1]:.4g} (first {measured[0]:.4g}, least {min(measured):.4g})"


def _curve(folder: Path, training: str) -> list[dict[str, str]]:
    """The rows of a loss curve, but for a last one that is being written."""
    try:
        text = (folder / "plots/train" / f"{training}.csv").read_text(encoding="utf-8")
    except OSError:
        return []
    return list(csv.DictReader(text[: text.rfind("\n") + 1].splitlines()))


def _duration(seconds: float) -> str:
    if seconds < 600:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
