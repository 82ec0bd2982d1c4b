"""The worst objects of every failure of supplement D, as pictures."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.evaluation.failures import assembled
from pipeline.evaluation.figures import ASSEMBLED
from pipeline.evaluation.paper_tables import FAILURE_ROWS
from pipeline.report.object_pictures import Shown, overlay
from pipeline.report.page_files import PageFiles
from pipeline.shards.dataset import ObjectRows
from pipeline.shards.table import WHOLE, decode_png
from pipeline.views.cameras import over_white

MOST_EXAMPLES = 3
MEASURES = {"views": ("agreement", 1, "outlines, IoU"), "grouping": ("grouped", -1, "parts grouped, share"),
            "depth": ("depth", -1, "depth error")}  # fmt: skip
"""By setting, what the objects are ranked by, whether the least of it is the worst (1), and how it is called."""


@dataclass(frozen=True)
class Failure:
    """A kind of failure and its worst objects."""

    title: str
    examples: Sequence[tuple[str, Sequence[Shown]]]
    """By object: its id with what was measured, and its pictures."""


def failure_examples(
    figures: Iterable[Mapping[str, Any]], tables: Mapping[str, ObjectRows], files: PageFiles
) -> list[Failure]:
    """Of every kind that any object fails by, in the order of the table; `figures` are rows of evaluation/figures."""
    found: dict[tuple[str, str], dict[str, dict[str, float]]] = {}
    for row in figures:
        if row["table"] == "failures":
            of_kind = found.setdefault((row["method"], row["setting"]), {})
            of_kind.setdefault(row["object_id"], {})[row["figure"]] = row["value"]
    failures = []
    for number, (title, (method, setting)) in enumerate(FAILURE_ROWS.items(), start=1):
        figure, sign, name = MEASURES[setting]
        failed = {key: one[figure] for key, one in found.get((method, setting), {}).items() if one["fails"]}
        worst = sorted(failed, key=lambda key: (sign * failed[key], key))[:MOST_EXAMPLES]
        examples = []
        for rank, key in enumerate(worst, start=1):
            pictures = _pictures(f"fail-{number}-{rank}", method, setting, key, tables, files)
            examples.append((f"{key}: {name} {failed[key]:.2f}", pictures))
        if examples:
            failures.append(Failure(f"{title}: {len(failed)} of {len(found[method, setting])} objects", examples))
    return failures


def _pictures(
    stem: str, method: str, setting: str, object_id: str, tables: Mapping[str, ObjectRows], files: PageFiles
) -> list[Shown]:
    def rows(table: str, **wanted: object) -> list[Mapping[str, Any]]:
        return [row for row in tables[table].of(object_id) if all(row[key] == value for key, value in wanted.items())]

    def pixels(row: Mapping[str, Any], column: str = "image") -> Any:
        return decode_png(row[column]["bytes"])

    if setting == "views":
        drawn = {"Drawn": pixels(rows("generated", method=method)[0])}
    elif setting == "grouping":
        whole = over_white(pixels(rows("grids", part_id=WHOLE)[0]))
        labels = {"True parts": rows("labels")[0], "Regions": assembled(rows("runs"))}
        drawn = {title: overlay(pixels(row, "labels"), whole) for title, row in labels.items()}
    else:
        source, made_by = next(pair for pair, name in ASSEMBLED.items() if name == method)
        drawn = {"Rendered": over_white(pixels(rows("novel", part_id=WHOLE)[0]))}
        drawn["Reconstructed"] = pixels(rows("views", source=source, method=made_by, label=WHOLE)[0])
    return [
        Shown(files.picture(f"{stem}-{place}", picture), title) for place, (title, picture) in enumerate(drawn.items())
    ]
