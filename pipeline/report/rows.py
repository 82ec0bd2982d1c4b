"""Reading what the stages made, for the report: each missing table or file names the stage that makes it."""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.errors import UserError
from pipeline.report.charts import Point
from pipeline.shards.read import MANIFEST, read_manifest, read_table

STAGE_OF = {
    "assets": "assets",
    "renders": "render",
    "masks": "masks",
    "atoms": "atoms",
    "captions": "captions",
    "generations": "generate",
    "segmentations": "segment",
    "completions": "complete",
    "reconstructions": "reconstruct",
    "evaluation": "evaluate",
}
"""The stage that makes a folder of tables."""


def require(folder: Path) -> None:
    """UserError that names the stage to run when `folder`, a table of it, is not there."""
    if not (folder / MANIFEST).exists():
        raise _missing(folder, STAGE_OF[folder.parent.name])


def read_failures(data: Path) -> dict[str, list[tuple[str, str]]]:
    """By stage, the objects that it could not process, with the reasons; of `assets`, also those that it dropped."""
    found = {}
    for name, stage in STAGE_OF.items():
        require(data / name / "failures")
        rows = read_table(data / name / "failures").to_pylist()
        if stage == "assets":
            rows += [row for row in read_table(data / name / "objects").to_pylist() if row["status"] != "ok"]
        found[stage] = sorted((row["object_id"], row["reason"]) for row in rows)
    return found


def read_metrics(project: Path, name: str, stage: str) -> dict[str, Any]:
    """metrics/NAME.json below the project's folder; UserError when the stage did not write it yet."""
    path = project / "metrics" / f"{name}.json"
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise _missing(path, stage) from None
    return values


def read_curve(project: Path, name: str, stage: str) -> list[tuple[Point, Point]]:
    """The loss curve of a training: for each step, (step, loss) and (step, loss on validation objects)."""
    path = project / "plots/train" / f"{name}.csv"
    try:
        curve = pd.read_csv(path, dtype=float, float_precision="round_trip")[["step", "loss", "validation"]]
    except FileNotFoundError:
        raise _missing(path, stage) from None
    return [((step, loss), (step, validation)) for step, loss, validation in curve.to_numpy().tolist()]


def settings_of(data: Path, table: str) -> dict[str, Any]:
    """The settings that a table was made with."""
    require(data / table)
    return read_manifest(data / table).settings


def _missing(path: Path, stage: str) -> UserError:
    return UserError(f"{path} is not there yet; run the stage {stage} (`partgen stage {stage}`).")
