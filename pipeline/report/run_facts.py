"""What a run was: its objects, its pictures, its trainings with their loss curves, in plain words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.diffusion.tasks import TRAININGS
from pipeline.params.captions import SIGHT
from pipeline.report.charts import Chart, Point, chart, round_ticks, thinned
from pipeline.report.rows import read_curve, read_metrics, settings_of

MOST_POINTS = 250
"""Of a loss curve; neighbouring steps are averaged."""
WORK = {
    "autoencoder": "pictures to latents and back",
    "text_to_mv": "a prompt to the object from four sides",
    "image_to_mv": "one view to the object from four sides",
    "segment": "the four views to a colour for each part",
    "complete": "a part's visible pixels to the whole part, alone",
    "edit": "the remaining parts and a prompt to a new part",
    "complete_no_context": "the same as complete, without the rest of the object",
    "complete_single_view": "the same as complete, one view at a time",
    "lrm": "four views to a neural field",
    "grouping": "the pieces of a surface to parts",
}
"""What each model was trained to do."""
MODELS = (*TRAININGS, "lrm", "grouping")
"""In the order of the stages."""


@dataclass(frozen=True)
class Training:
    """One model's training."""

    name: str
    work: str
    parameters: int
    init_from: str
    """Folder of the network that it went on from; empty when it started anew."""
    steps: int
    samples: int
    validation: str
    """The last loss on validation objects."""
    curve: Chart | None
    """None where no step was taken."""


def sentences(data: Path, project: Path) -> list[str]:
    """The run in a few sentences."""
    assets, renders = read_metrics(project, "assets", "assets"), settings_of(data, "renders/grids")
    segmented, evaluated = settings_of(data, "segmentations/runs"), read_metrics(project, "evaluate", "evaluate")
    splits, view = assets["splits"], renders["view_size"]
    sources = ", ".join(f"{count} from {source}" for source, count in assets["kept_by_source"].items())
    return [
        f"{assets['kept']} real 3D objects with {assets['parts']} parts ({sources}): {splits.get('train', 0)} to train "
        f"on, {splits.get('val', 0)} to validate with, {splits.get('test', 0)} held out for the tables. "
        f"{assets['dropped']} more were dropped.",
        f"Every object and every part of it was rendered from four sides, {view} x {view} pixels a view, at azimuths "
        f"0, 90, 180 and 270 degrees and elevation {renders['elevation_deg']:g}, by {renders['engine'].capitalize()} "
        f"with {renders['samples']} samples a pixel.",
        SIGHT[settings_of(data, "captions/captions")["backend"]],
        f"{evaluated['objects']} held-out objects were segmented {segmented['segment']['runs']} "
        "times each. Of the segmentations the one that the others agree with most was taken; its parts were completed "
        "one by one, reconstructed in 3D and put together again."
        + _sampler(evaluated["conventions"].get("sampling", {})),
    ]


def trainings(project: Path) -> list[Training]:
    """All trainings, in the order of the stages; UserError that names the first that is missing."""
    return [_training(project, name) for name in MODELS]


def stage_of(model: str) -> str:
    """The stage that trains it."""
    return f"train@{model}" if model in TRAININGS else f"train_{model}"


def _training(project: Path, name: str) -> Training:
    stage = stage_of(name)
    metrics, curve = read_metrics(project, f"train/{name}", stage), read_curve(project, name, stage)
    validation: Mapping[str, Any] = metrics["validation"]
    shown = f"{validation['loss']:.3g}" if "loss" in validation else ""
    numbers = {key: metrics[key] for key in ("parameters", "init_from", "steps", "samples")}
    return Training(name, WORK[name], **numbers, validation=shown, curve=_loss_chart(name, curve) if curve else None)


def _loss_chart(name: str, curve: Sequence[tuple[Point, Point]]) -> Chart:
    """Values without a logarithm are left out: `validation` is nan until it was measured."""
    series = {}
    for number, title in enumerate(("loss", "on validation objects")):
        points = [row[number] for row in curve if row[number][1] > 0]
        if points:
            series[title] = thinned(points, MOST_POINTS)
    values = [y for points in series.values() for _, y in points] or [1.0]
    ends = (0.8 * min(values), 1.25 * max(values))
    return chart(name, ("step", "loss"), series, round_ticks(curve[-1][0][0], 4), ends, "log")


def _sampler(sampling: Mapping[str, Mapping[str, Any]]) -> str:
    ways = {
        name: f"{values['steps']} steps of {str(values['solver']).upper()}, guidance {values['guidance']:g}"
        for name, values in sampling.items()
    }
    tasks = {way: ", ".join(name for name in ways if ways[name] == way) for way in ways.values()}
    said = "; ".join(f"{names}: {way}" for way, names in tasks.items())
    return f" The diffusion models drew with these samplers: {said}." if said else ""
