"""The report: one folder with a page that opens from disk, without network or server.

Names, captions, authors and reasons come from others' files: the templates escape all text, and the page's policy lets
no script run but those beside it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline.evaluation import published
from pipeline.evaluation.surface_tables import what_runs_add
from pipeline.folders import replaced
from pipeline.report import charts
from pipeline.report.charts import Chart
from pipeline.report.failure_examples import Failure, failure_examples
from pipeline.report.object_pictures import ObjectPictures, Shown, TrainedOn, pixels_of
from pipeline.report.object_section import ObjectSection, object_section, read_tables
from pipeline.report.page_files import PageFiles
from pipeline.report.ranks import ranked_surfaces
from pipeline.report.result_tables import ResultTable, recall_charts, result_tables
from pipeline.report.rows import STAGE_OF, read_failures, read_metrics, require, settings_of
from pipeline.report.run_facts import Training, sentences, trainings
from pipeline.report.taken_apart import MODELLED
from pipeline.report.training_grids import CANDIDATES
from pipeline.shards.read import read_table
from pipeline.views.cameras import Camera
from pipeline.views.palette import PART_COLOURS

TEMPLATES = Path(__file__).parent / "templates"
PAGE = "index.html"
POLICY = (
    "default-src 'none'; script-src 'self' file:; style-src 'self' file:; img-src 'self' file: blob: data:; "
    "connect-src blob:"
)
"""`file:` for browsers to which a page on disk has no self; blobs are the textures inside models."""


@dataclass(frozen=True)
class Report:
    """Everything that the page shows, in its order."""

    facts: Sequence[str]
    trainings: Sequence[Training]
    tables: Sequence[ResultTable]
    added: Sequence[str]
    """What runs of the segmentation add to the grouping of atoms."""
    conventions: Mapping[str, Any]
    worst: Sequence[Failure]
    recall: Sequence[Chart]
    texts: Sequence[tuple[str, Sequence[Shown]]]
    """Of each text of `generate.prompts`, what was drawn and the closest training object."""
    trained_on: int
    """Objects among which that was looked for."""
    candidates: int
    """Of them, compared by ST-LPIPS."""
    objects: Sequence[ObjectSection]
    left_out: int
    """Objects that are in the tables and not shown one by one."""
    failures: Mapping[str, Sequence[tuple[str, str]]]
    """By stage, objects and reasons."""
    credits: Sequence[Mapping[str, Any]]
    """Rows of assets/objects of all that is shown."""


def write_report(out: Path, data: Path, project: Path, objects: int) -> Path:
    """Replace the folder `out` by a report on what lies in `data`, and in `project`/metrics and plots; its page.

    At most `objects` objects are shown one by one. The same inputs give the same bytes. UserError when a table or a
    file is missing, which names the stage that makes it.
    """
    with replaced(out) as folder:
        report = _read(data, project, objects, PageFiles(folder))
        (folder / PAGE).write_text(_html(report), encoding="utf-8")
    return out / PAGE


def _read(data: Path, project: Path, limit: int, files: PageFiles) -> Report:
    evaluated = read_metrics(project, "evaluate", "evaluate")
    for folder in ("assets/objects", "segmentations/runs"):
        require(data / folder)
    failures = read_failures(data)
    segmented = sorted(set(read_table(data / "segmentations/runs", ["object_id"]).column("object_id").to_pylist()))
    tables = read_tables(data)
    best = ranked_surfaces(data, MODELLED)
    shown = [*best, *(object_id for object_id in segmented if object_id not in best)][:limit]
    made = settings_of(data, "renders/grids")
    camera = Camera(made["fov_deg"], made["distance"], made["view_size"])
    assets = {row["object_id"]: row for row in read_table(data / "assets/objects").to_pylist()}
    of_object = {
        object_id: [(stage, reason) for stage in failures for name, reason in failures[stage] if name == object_id]
        for object_id in shown
    }
    trained = TrainedOn(data, {object_id: row["name"] for object_id, row in assets.items()})
    texts = _texts(data, trained, files)
    sections = [
        object_section(number, assets[object_id], tables, of_object[object_id], trained, files, camera)
        for number, object_id in enumerate(shown, start=1)
    ]
    return Report(
        facts=sentences(data, project),
        trainings=trainings(project),
        tables=result_tables(evaluated),
        added=what_runs_add(evaluated),
        conventions=evaluated["conventions"],
        worst=failure_examples(read_table(data / "evaluation/figures").to_pylist(), tables, files),
        recall=recall_charts(evaluated),
        texts=texts,
        trained_on=len(trained),
        candidates=CANDIDATES,
        objects=sections,
        left_out=len(segmented) - len(shown),
        failures={stage: found for stage, found in failures.items() if found},
        credits=[assets[object_id] for object_id in [*shown, *sorted(trained.shown - set(shown))]],
    )


def _texts(data: Path, trained: TrainedOn, files: PageFiles) -> list[tuple[str, list[Shown]]]:
    require(data / "generations/prompts")
    found = []
    for row in sorted(read_table(data / "generations/prompts").to_pylist(), key=lambda row: row["object_id"]):
        pictures, drawn = ObjectPictures(row["object_id"], files), pixels_of(row["image"])
        found.append(
            (row["prompt"], [pictures.shown("drawn", drawn, "Drawn"), *trained.closest(pictures, "drawn", drawn)])
        )
    return found


def _html(report: Report) -> str:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    palette = [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in PART_COLOURS[1:].tolist()]
    template = environment.get_template("page.html")
    return template.render(
        report=report, palette=palette, policy=POLICY, note=published.NOTE, stages=list(STAGE_OF.values()), chart=charts
    )
