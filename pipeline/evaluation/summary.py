"""From the objects' figures to means over objects with their intervals: metrics/evaluate.json and the recall curves."""

import csv
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.evaluation.bootstrap import Interval, mean_interval, paired_difference
from pipeline.shards.write import rounded

TABLES = ("segmentation", "completion", "reassembly", "generation", "failures")
DIFFERENCE = "3d minus whole"
"""The setting of Table 3 that holds the differences to the whole reconstructed at once, pair by pair."""
HEADLINES = (
    ("segmentation", "automatic", "ap50"),
    ("completion", "views", "psnr_foreground"),
    ("completion", "3d", "psnr_foreground"),
    ("reassembly", "3d", "psnr"),
    ("reassembly", "3d", "psnr_foreground"),
    ("generation", "views", "closer_than"),
)
"""Table, setting and figure of what is compared first between runs: metrics/summary.json."""
RECALL = re.compile(r"recall(\d+)_at_(\d+)")

Mean = dict[str, float]
"""`mean`, `low`, `high` and `count`, of objects."""
Summary = dict[str, dict[str, dict[str, dict[str, Mean]]]]
"""By table, method, setting and figure."""


def summarise(rows: Iterable[Mapping[str, Any]], seed: int) -> Summary:
    """The mean of every figure over those objects that have it, out of rows of the table `figures`.

    Of Table 3 also the differences to `whole`, over the objects that have both.
    """
    values: dict[tuple[str, str, str, str], dict[str, float]] = {}
    for row in rows:
        key = row["table"], row["method"], row["setting"], row["figure"]
        values.setdefault(key, {})[row["object_id"]] = row["value"]
    summary: Summary = {table: {} for table in TABLES}
    for (table, method, setting, figure), found in sorted(values.items()):
        settings = summary[table].setdefault(method, {})
        settings.setdefault(setting, {})[figure] = _mean(mean_interval(_ordered(found, found), seed))
        whole = values.get((table, "whole", setting, figure))
        if (table, setting) != ("reassembly", "3d") or method == "whole" or whole is None:
            continue
        both = found.keys() & whole.keys()
        if both:
            difference = paired_difference(_ordered(found, both), _ordered(whole, both), seed)
            settings.setdefault(DIFFERENCE, {})[figure] = _mean(difference)
    return summary


def headlines(summary: Summary) -> dict[str, dict[str, float]]:
    """The means of HEADLINES by `table, setting, figure` and method."""
    found: dict[str, dict[str, float]] = {}
    for table, setting, figure in HEADLINES:
        for method, settings in summary[table].items():
            if figure in settings.get(setting, {}):
                found.setdefault(f"{table}, {setting}, {figure}", {})[method] = settings[setting][figure]["mean"]
    return found


def _mean(interval: Interval) -> Mean:
    """As the metrics file has it."""
    ends: Mean = rounded({name: getattr(interval, name) for name in ("mean", "low", "high")})
    return {**ends, "count": interval.count}


def write_recall(path: Path, segmentation: Mapping[str, Mapping[str, Mapping[str, Mean]]]) -> None:
    """The recall curves (Fig. A2) as CSV: `method`, `mode`, `threshold` of the IoU, `k`, `recall`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("method", "mode", "threshold", "k", "recall"))
        for method, modes in segmentation.items():
            for mode, figures in modes.items():
                found = {match: figure["mean"] for name, figure in figures.items() if (match := RECALL.fullmatch(name))}
                curve = sorted((int(match[1]) / 100, int(match[2]), mean) for match, mean in found.items())
                writer.writerows((method, mode, *point) for point in curve)


def _ordered(values: Mapping[str, float], objects: Iterable[str]) -> np.ndarray:
    """Of some objects, in the order of their ids."""
    return np.array([values[object_id] for object_id in sorted(objects)])
