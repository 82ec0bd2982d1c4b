"""From the objects' figures to means over objects with their intervals: metrics/evaluate.json and the recall curves."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.evaluation.bootstrap import Interval, mean_interval, paired_difference
from pipeline.evaluation.surface_parts import MODEL_ALONE
from pipeline.shards.write import rounded

TABLES = ("segmentation", "completion", "reassembly", "generation", "surface", "failures")
DIFFERENCE = "3d minus whole"
"""The setting of Table 3 that holds the differences to the whole reconstructed at once, pair by pair."""
GAIN = "gain"
"""The figure of surfaces that is the difference of the mean best IoU to the grouping model alone, pair by pair."""
HEADLINES = (
    ("segmentation", "automatic", "ap50"),
    ("completion", "views", "psnr_foreground"),
    ("completion", "3d", "psnr_foreground"),
    ("reassembly", "3d", "psnr"),
    ("reassembly", "3d", "psnr_foreground"),
    ("generation", "views", "closer_than"),
    ("surface", "A", "iou"),
    ("surface", "B", "iou"),
    ("surface", "C", "iou"),
)
"""Table, setting and figure of what is compared first between runs: metrics/summary.json."""
RECALL = re.compile(r"recall(\d+)_at_(\d+)")

Mean = dict[str, float]
"""`mean`, `low`, `high` and `count`, of objects."""
Summary = dict[str, dict[str, dict[str, dict[str, Mean]]]]
"""By table, method, setting and figure."""


def summarise(figures: pd.DataFrame, seed: int) -> Summary:
    """The mean of every figure over those objects that have it, out of the table `figures`.

    Of Table 3 also the differences to `whole`, and of surfaces to the grouping model alone, over the objects that have
    both.
    """
    summary: Summary = {table: {} for table in TABLES}
    figures = figures.sort_values("object_id")
    grouped: Any = figures.groupby(["table", "method", "setting", "figure"])["value"]
    for (table, method, setting, figure), values in grouped:
        settings = summary[table].setdefault(method, {}).setdefault(setting, {})
        settings[figure] = _mean(mean_interval(values.to_numpy(), seed))
    for regime, of_regime in figures[(figures["table"] == "surface") & (figures["figure"] == "iou")].groupby("setting"):
        by_method: Any = of_regime.pivot(index="object_id", columns="method", values="value")
        for method in by_method:
            if method.startswith(f"{MODEL_ALONE} ") and MODEL_ALONE in by_method:
                both = by_method[[method, MODEL_ALONE]].dropna().to_numpy()
                if len(both):
                    gain = _mean(paired_difference(both[:, 0], both[:, 1], seed))
                    summary["surface"][method][str(regime)][GAIN] = gain
    assembled = figures[(figures["table"] == "reassembly") & (figures["setting"] == "3d")]
    wide: Any = assembled.pivot(index="object_id", columns=["method", "figure"], values="value")
    for method, figure in wide:
        if method != "whole" and ("whole", figure) in wide:
            both = wide[[(method, figure), ("whole", figure)]].dropna().to_numpy()
            if len(both):
                differences = summary["reassembly"][method].setdefault(DIFFERENCE, {})
                differences[figure] = _mean(paired_difference(both[:, 0], both[:, 1], seed))
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
    points = [
        (method, mode, int(match[1]) / 100, int(match[2]), figure["mean"])
        for method, modes in segmentation.items()
        for mode, figures in modes.items()
        for name, figure in figures.items()
        if (match := RECALL.fullmatch(name))
    ]
    curves = pd.DataFrame(points, columns=["method", "mode", "threshold", "k", "recall"])
    curves.sort_values(["method", "mode", "threshold", "k"]).to_csv(path, index=False, lineterminator="\n")
