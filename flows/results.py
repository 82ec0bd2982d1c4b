"""What a stage's run came to, and how a person sees it: artifacts in Prefect's UI, a table in the terminal."""

import base64
import io
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from rich.table import Table

from flows.graph import Stage
from pipeline.errors import UserError

WIDTH_PX, MAX_HEIGHT_PX = 960, 2400
"""Of the pictures that go into Prefect's database."""
MOST_SHOWN = 6
"""Metrics of a stage in the terminal's table; Prefect's page and the metrics file have all."""


@dataclass(frozen=True)
class Outcome:
    """How a stage went in a run."""

    stage: str
    state: str
    """`made`, `restored` (out of DVC's run-cache), `unchanged`, `failed`, `cancelled` or `not started`."""
    seconds: float = 0.0
    metrics: Mapping[str, Any] = field(default_factory=dict)


def read_metrics(folder: Path, stage: Stage) -> dict[str, Any]:
    """The metrics that `stage` wrote under `folder`, nested keys joined by dots; UserError when unreadable."""
    metrics: dict[str, Any] = {}
    for name in stage.metrics:
        try:
            metrics |= _flat(json.loads((folder / name).read_text(encoding="utf-8")))
        except (OSError, json.JSONDecodeError) as error:
            raise UserError(f"{stage.name}: the metrics {name} are not readable: {error}.") from None
    return metrics


def show_metrics(stage: str, metrics: Mapping[str, Any]) -> None:
    """A table artifact of the current task."""
    rows = [{"metric": key, "value": value} for key, value in metrics.items()]
    create_table_artifact(rows, key=_key(stage, "metrics"), description=f"Metrics of the stage {stage}")


def show_picture(stage: str, picture: Path) -> None:
    """A markdown artifact of the current task that carries the picture itself, made small: no URL is needed."""
    image = Image.open(picture).convert("RGB")
    image = image.resize((WIDTH_PX, image.height * WIDTH_PX // image.width), Image.Resampling.LANCZOS)
    image = image.crop((0, 0, WIDTH_PX, min(image.height, MAX_HEIGHT_PX)))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=70, optimize=True)
    data = base64.b64encode(stream.getvalue()).decode()
    markdown = f"![{stage}](data:image/jpeg;base64,{data})"
    create_markdown_artifact(markdown, key=_key(stage, "pictures"), description=f"What the stage {stage} made")


def summary(outcomes: Iterable[Outcome]) -> Table:
    """The outcomes as a table for the terminal."""
    table = Table("stage", "state", "seconds", "metrics", title="PartGen")
    table.columns[2].justify = "right"
    for outcome in outcomes:
        seconds = f"{outcome.seconds:.1f}" if outcome.seconds else ""
        scalars = [f"{key} {_short(value)}" for key, value in outcome.metrics.items() if not isinstance(value, list)]
        more = [f"and {len(scalars) - MOST_SHOWN} more"] if len(scalars) > MOST_SHOWN else []
        table.add_row(outcome.stage, outcome.state, seconds, ", ".join([*scalars[:MOST_SHOWN], *more]))
    return table


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _key(stage: str, kind: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", f"{stage}-{kind}".lower())  # all that Prefect allows in a key
