"""Trained models to give away: half precision, a model card, the objects behind them and their loss curves."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from safetensors.torch import load_file, save_file

from pipeline.errors import UserError
from pipeline.folders import SUMS, changed_files, check_replaceable, check_sums, replaced
from pipeline.params.base import PARAMS_FILE
from pipeline.report.charts import thinned
from pipeline.report.gallery import write_gallery
from pipeline.report.page import TEMPLATES
from pipeline.report.result_tables import ResultTable, result_tables
from pipeline.report.rows import read_curve, read_metrics
from pipeline.report.run_facts import MODELS, MOST_POINTS, sentences, stage_of, trainings
from pipeline.report.surface_gallery import write_surface_gallery
from pipeline.report.taken_apart import FUSED, MODELLED
from pipeline.shards.progress import Progress
from pipeline.shards.read import read_table

CREDITS = ["object_id", "split", "name", "author", "licence", "source", "origin"]
CARD, OBJECTS, CURVES, GALLERY = "README.md", "objects.csv", "curves.png", "gallery.png"
SURFACE_GALLERIES = {MODELLED: "taken-apart.png", FUSED: "taken-apart-fused.png"}
KIND = "export"
"""Of the folder, in its SHA256SUMS."""


def export_models(out: Path, data: Path, project: Path) -> Path:
    """Write the folder `out`, of the layout of `data`/models, and return its model card.

    Weights are float16. An older export in `out` is replaced, and that is said on stderr, when all went well. UserError
    when `out` is another folder that is not empty, or an export that somebody changed; when a model or a figure of the
    card is missing or damaged, when a weight is too large for float16, or when no evaluated object shows more than one
    part.
    """
    check_replaceable(out, KIND)
    if changed := changed_files(out):
        raise UserError(
            f"{out / changed[0]} was changed since it was exported; move it away, or export to a new folder."
        )
    models = data / "models"
    for name in MODELS:
        if not (models / name).is_dir():
            raise UserError(f"{models / name} is missing; run the stage `{stage_of(name)}`, which trains it.")
        check_sums(models / name)
    objects = read_table(data / "assets/objects").to_pandas()
    kept = objects[objects["status"] == "ok"].sort_values("object_id")
    if out.exists() and any(out.iterdir()):
        print(f"The older export in {out} will be replaced.", file=sys.stderr, flush=True)
    with replaced(out, KIND) as folder:
        with Progress("Networks", len(MODELS)) as progress:
            for name in MODELS:
                _copy_in_half(models / name, folder / name)
                progress.advance(note=name)
        kept.to_csv(folder / OBJECTS, columns=CREDITS, index=False, lineterminator="\n")
        _draw_curves(project, folder / CURVES)
        write_gallery(folder / GALLERY, data)
        for regime, name in SURFACE_GALLERIES.items():
            write_surface_gallery(folder / name, data, regime)
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        (folder / CARD).write_text(_card(out.name, data, project, kept, size), encoding="utf-8")
    return out / CARD


def _copy_in_half(source: Path, target: Path) -> None:
    for path in sorted(source.rglob("*")):
        copy = target / path.relative_to(source)
        if path.is_dir() or path.name == SUMS:  # the halves have others
            continue
        copy.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix != ".safetensors":
            shutil.copyfile(path, copy)
            continue
        weights = load_file(path)
        halved = {name: value.half() if value.is_floating_point() else value for name, value in weights.items()}
        for name, value in halved.items():
            if not value.isfinite().all():
                raise UserError(f"{path}: the layer {name} has values too large for float16, or none; train it anew.")
        save_file(halved, copy, {"format": "pt"})


def _draw_curves(project: Path, path: Path) -> None:
    """The loss curves of all trainings in one picture."""
    figure = Figure(figsize=(12, 12), layout="constrained")
    FigureCanvasAgg(figure)
    drawn, empty = np.split(figure.subplots(4, 3).ravel(), [len(MODELS)])
    for axes in empty:
        axes.set_axis_off()
    for axes, name in zip(drawn, MODELS, strict=True):
        curve = read_curve(project, name, stage_of(name))
        for number, label in enumerate(("loss", "on validation objects")):
            points = [row[number] for row in curve if row[number][1] > 0]
            if points:
                axes.plot(*zip(*thinned(points, MOST_POINTS), strict=True), label=label)
        axes.set(title=name if curve else f"{name}: not trained on", yscale="log", xlabel="step")
        if curve:
            axes.legend()
    figure.savefig(path, dpi=80)


def _card(title: str, data: Path, project: Path, kept: pd.DataFrame, size: int) -> str:
    evaluated = read_metrics(project, "evaluate", "evaluate")
    params = yaml.safe_load((project / PARAMS_FILE).read_text(encoding="utf-8"))
    said, objects = evaluated.pop("conventions"), evaluated.pop("objects")
    environment = Environment(loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, trim_blocks=True)
    return environment.get_template("model_card.md").render(
        title=title,
        megabytes=size / 1e6,
        facts=sentences(data, project),
        trainings=trainings(project),
        schedules=params["train"],
        licences=kept[["licence", "source"]].value_counts().items(),
        splits=kept["split"].value_counts(),
        authors=kept["author"].nunique(),
        tables=[_markdown(table) for table in result_tables(evaluated)],
        objects=objects,
        conventions=json.dumps(said, indent=1),
    )


def _markdown(table: ResultTable) -> str:
    spans = [name for name, count in table.groups for _ in range(count)]
    grouped = [f"{span}, {column}" for span, column in zip(spans, table.columns, strict=bool(spans))]
    titles = grouped or table.columns
    rows = [["", *titles], ["---"] * (len(titles) + 1)]
    for method, cells in table.rows.items():
        rows.append([method, *(f"{cell.text} ({cell.note})" if cell.note else cell.text for cell in cells)])
    return f"{table.title}\n\n" + "\n".join("| " + " | ".join(row) + " |" for row in rows)
