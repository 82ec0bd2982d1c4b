"""The tables and recall curves of metrics/evaluate.json as the page shows them, each row beside the paper's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.evaluation import published
from pipeline.evaluation.figures import ASSEMBLED
from pipeline.evaluation.paper_tables import (
    COMPLETIONS,
    FAILING,
    FAILURES,
    GENERATED,
    GENERATION,
    LABELS,
    LIKENESSES,
    MODES,
    NOT_MEASURED,
    NOT_RUN,
    OVERLAPS,
    PICTURES,
    SHAPES,
    TRUTHS,
    completion_rows,
    failure_rows,
    precision_title,
    segmentation_label,
)
from pipeline.evaluation.ranking import RECALL_AT, THRESHOLDS
from pipeline.evaluation.summary import DIFFERENCE, TABLES, Mean, Summary
from pipeline.evaluation.surface_tables import (
    CLOSING,
    LABELLED_FIGURES,
    SURFACE,
    SURFACE_SHAPES,
    SURFACES,
    closing_rows,
    labelled_rows,
    regime_rows,
    surface_label,
)
from pipeline.report.charts import Chart, chart

Columns = Mapping[str, tuple[str, int]]
"""Title and digits by figure."""


@dataclass(frozen=True)
class Cell:
    """A figure: its mean over objects, or the paper's."""

    text: str
    note: str = ""
    """The interval, and the share of exact views, which a mean of PSNRs leaves out."""
    paper: bool = False


@dataclass(frozen=True)
class ResultTable:
    """A row a method; `groups` are headings over neighbouring columns, with how many each spans."""

    title: str
    columns: Sequence[str]
    rows: Mapping[str, Sequence[Cell]]
    groups: Sequence[tuple[str, int]] = field(default=())


def result_tables(summary: Summary) -> list[ResultTable]:
    """Tables 1 to 3, what belongs to them, and that of the objects drawn from a text and from a view."""
    generated = {method: summary["generation"].get(method, {}).get("views", {}) for method in GENERATED}
    return [
        _precision(summary["segmentation"]),
        *_completion(summary["completion"]),
        *_reassembly(summary),
        _likeness(GENERATION, generated, LIKENESSES, {}),
        *_surface(summary),
        *([_likeness(FAILING, failing, FAILURES, {})] if (failing := failure_rows(summary)) else []),
    ]


def recall_charts(summary: Summary) -> list[Chart]:
    """One a mode and threshold, with a line a method, percent (Fig. A2)."""
    charts = []
    for mode in MODES:
        for threshold in THRESHOLDS:
            series = {
                _label(method): [
                    (k, 100 * modes[mode][f"recall{threshold * 100:.0f}_at_{k}"]["mean"]) for k in RECALL_AT
                ]
                for method, modes in sorted(summary["segmentation"].items(), key=lambda item: _runs(item[0]) or 999)
                if mode in modes
            }
            title = f"{mode.capitalize()}, IoU > {threshold:g}"
            charts.append(chart(title, ("K regions", "recall, %"), series, RECALL_AT, (0, 100)))
    return charts


def figures_table(rows: Sequence[Mapping[str, Any]]) -> list[ResultTable]:
    """The figures of one object, out of its rows of evaluation/figures: what those tables are the means of."""
    found: dict[str, dict[str, dict[str, dict[str, Mean]]]] = {table: {} for table in TABLES}
    for row in rows:
        figures = found[row["table"]].setdefault(row["method"], {}).setdefault(row["setting"], {})
        figures[row["figure"]] = {"mean": row["value"]}
    precision = {f"ap{threshold * 100:.0f}": (f"AP{threshold * 100:.0f}, %", 1) for threshold in THRESHOLDS}
    tables = [
        _grouped(
            "Segmentation",
            _in_order(found["segmentation"]),
            {mode + suffix: precision for mode in MODES for suffix in TRUTHS},
            scale=100,
        ),
        _grouped(
            "Completed parts",
            {label: settings for label, (_, settings) in completion_rows(found["completion"]).items()},
            {"views": _brief(PICTURES), "3d": _brief(PICTURES)},
        ),
        _grouped(
            "Put together",
            {method: found["reassembly"].get(method, {}) for method in ASSEMBLED.values()},
            {"3d": _brief(PICTURES), "shape": _brief(SHAPES), "overlap": {"mean_iou": OVERLAPS["mean_iou"]}},
        ),
        _grouped(
            "Drawn from a text and from a view",
            {method: found["generation"].get(method, {}) for method in GENERATED},
            {"views": {name: LIKENESSES[name] for name in ("closer_than", "st_lpips")}},
        ),
    ]
    return [table for table in tables if table.rows]


def _precision(found: Mapping[str, Mapping[str, Mapping[str, Mean]]]) -> ResultTable:
    rows = {}
    named: dict[str, Mapping[str, Mapping[str, Mean]]] = {method: {} for method in published.SEGMENTATION}
    for method, modes in _in_order(named | dict(found)).items():
        if not modes and method not in NOT_RUN:
            continue  # a number of runs that was not asked for
        cells = []
        for mode in MODES:
            cells += [
                _cell(modes.get(mode + suffix, {}), name, 1, 100) for suffix in TRUTHS for name in ("ap50", "ap75")
            ]
            cells.append(Cell(str(published.SEGMENTATION.get(method, {}).get(mode, "")), paper=True))
        if not modes:
            cells[0] = Cell(NOT_RUN[method])
        rows[segmentation_label(method, found)] = cells
    groups = [group for mode in MODES for group in (*((f"{mode}, {name}", 2) for name in TRUTHS.values()), (mode, 1))]
    titles = ([*["mAP50", "mAP75"] * len(TRUTHS), "paper's"]) * len(MODES)
    return ResultTable(precision_title(found), titles, rows, groups)


def _completion(found: Mapping[str, Mapping[str, Mapping[str, Mean]]]) -> list[ResultTable]:
    rows = completion_rows(found)
    return [
        _likeness(
            title,
            {label: settings.get(setting, {}) for label, (_, settings) in rows.items()},
            PICTURES,
            {label: published.COMPLETION[paper][setting] for label, (paper, _) in rows.items() if paper},
        )
        for setting, title in COMPLETIONS.items()
    ]


def _surface(summary: Summary) -> list[ResultTable]:
    tables = [_likeness(SURFACES.format(what), rows, SURFACE, {}) for what, rows in regime_rows(summary).items()]
    if closing := closing_rows(summary):
        tables.append(_likeness(CLOSING, closing, SURFACE_SHAPES, {}))
    return [*tables, *(_likeness(title, rows, LABELLED_FIGURES, {}) for title, rows in labelled_rows(summary).items())]


def _reassembly(summary: Summary) -> list[ResultTable]:
    found = {method: summary["reassembly"].get(method, {}) for method in ASSEMBLED.values()}
    wanted: list[tuple[str, str, Columns, Mapping[str, published.Likeness]]] = [
        ("Table 3. Reassembly: novel views of the whole object", "3d", PICTURES, published.REASSEMBLY),
        ("Table 3, minus the whole reconstructed at once, object by object", DIFFERENCE, PICTURES, {}),
        ("Meshes beside the true one: the whole object", "shape", SHAPES, {}),
        ("Meshes beside the true ones: part by part", "part shape", SHAPES, {}),
        ("Overlap between the parts of an object", "overlap", OVERLAPS, {}),
    ]
    tables = [
        _likeness(
            title,
            {method: settings[setting] for method, settings in found.items() if setting in settings},
            columns,
            theirs,
        )
        for title, setting, columns, theirs in wanted
    ]
    return [table for table in tables if table.rows]


def _likeness(
    title: str,
    rows: Mapping[str, Mapping[str, Mean]],
    columns: Columns,
    theirs: Mapping[str, published.Likeness],
) -> ResultTable:
    present = _present(rows.values(), columns)
    cells = {}
    for method, figures in rows.items():
        paper = [Cell(str(theirs.get(method, "")), paper=True)] if theirs else []
        measured = [_cell(figures, name, columns[name][1]) for name in present]
        if measured and not figures:
            measured[0] = Cell(NOT_MEASURED)
        cells[_label(method)] = measured + paper
    titles = [columns[name][0] for name in present] + (["paper's CLIP / LPIPS / PSNR fg"] if theirs else [])
    return ResultTable(title, titles, cells)


def _grouped(
    title: str,
    methods: Mapping[str, Mapping[str, Mapping[str, Mean]]],
    settings: Mapping[str, Columns],
    scale: float = 1.0,
) -> ResultTable:
    """A row a method, the columns of several settings side by side."""
    known = {
        setting: _present([modes.get(setting, {}) for modes in methods.values()], columns)
        for setting, columns in settings.items()
    }
    rows = {
        _label(method): [
            _cell(modes.get(setting, {}), name, settings[setting][name][1], scale)
            for setting, names in known.items()
            for name in names
        ]
        for method, modes in methods.items()
        if modes
    }
    titles = [settings[setting][name][0] for setting, names in known.items() for name in names]
    return ResultTable(title, titles, rows, [(setting, len(names)) for setting, names in known.items() if names])


def _cell(figures: Mapping[str, Mean], name: str, digits: int, scale: float = 1.0) -> Cell:
    exact = figures["psnr_exact"]["mean"] if name.startswith("psnr") and "psnr_exact" in figures else 0.0
    if name not in figures:
        return Cell("exact" if exact == 1 else "")
    mean = figures[name]
    ends = [f"{mean[end] * scale:.{digits}f}" for end in ("low", "high") if end in mean]
    left_out = f"and {exact:.1%} exact" if exact and name == "psnr_foreground" else ""
    notes = [" to ".join(ends), left_out]
    return Cell(f"{mean['mean'] * scale:.{digits}f}", " ".join(note for note in notes if note))


def _present(rows: Any, columns: Columns) -> list[str]:
    """Those figures that some row has."""
    return [name for name in columns if any(name in figures for figures in rows)]


def _brief(columns: Columns) -> Columns:
    """Without what only a table of all objects needs."""
    return {name: column for name, column in columns.items() if name not in ("psnr", "f_score_2", "f_score_10")}


def _in_order(methods: Mapping[str, Any]) -> dict[str, Any]:
    """All others as they come, then PartGen's by its number of runs, as in the paper."""
    return dict(sorted(methods.items(), key=lambda item: _runs(item[0])))


def _label(method: str) -> str:
    runs = _runs(method)
    return f"PartGen, {runs} sample{'s' if runs > 1 else ''}" if runs else LABELS.get(method) or surface_label(method)


def _runs(method: str) -> int:
    """Of `partgen N`; 0 for all other methods."""
    name, _, runs = method.partition(" ")
    return int(runs) if name == "partgen" else 0
