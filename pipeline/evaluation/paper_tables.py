"""Tables 1 to 3 as text, each row beside the paper's, and that of the objects drawn from a text and from a view."""

from collections.abc import Mapping

from rich import box
from rich.console import Console
from rich.table import Table

from pipeline.evaluation import published
from pipeline.evaluation.figures import ALIGNED, ASSEMBLED, PART123, SAM2_FORMS
from pipeline.evaluation.ranking import RECALL_AT, THRESHOLDS
from pipeline.evaluation.summary import DIFFERENCE, Mean, Summary
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
    what_runs_add,
)
from pipeline.evaluation.truths import LARGE
from pipeline.params.complete import ALONE

WIDTH = 260
"""Characters a line may have: cells are never cut, and a narrow terminal folds lines itself."""
NOT_RUN = {
    PART123: "not run",
    **dict.fromkeys(SAM2_FORMS, "no weights given"),
}
"""Why a method of the paper may have no figures."""
OURS = "partgen "
MODES = ("automatic", "seeded")
TRUTHS = {"": "all parts", f", {LARGE}": LARGE}
"""By the end of a setting's name, the true parts that a column of Table 1 is of."""
LABELS = {
    "oracle": "oracle J",
    "complete": "PartGen B(I*M, I)",
    "complete_no_context": "without context B(I*M)",
    "complete_single_view": "single view B(I_v*M_v, I_v)",
    "complete_joint": "all parts together B(I*M, I)",
    "none": "none, J = I*M",
    "predicted parts": "predicted parts, completed",
    "true parts": "true parts, completed",
    "oracle parts": "true parts, as rendered",
    "whole": "whole, at once",
    PART123: "Part123",
    "image_to_mv": "from one view",
    "text_to_mv": "from the caption",
    "view": "that view, four times over",
    "sam2": "SAM2",
    "sam2-mask-decoder": "SAM2, mask decoder tuned",
    "sam2-grid": "SAM2, tuned on the grid",
    "hed-watershed": "HED + watershed (ours)",
    "felzenszwalb": "Felzenszwalb (ours)",
}
PICTURES = {
    "psnr_foreground": ("PSNR fg", 2),
    "psnr": ("PSNR all", 2),
    "ssim": ("SSIM", 3),
    "st_lpips": ("ST-LPIPS", 3),
    "lpips": ("LPIPS", 3),
    "clip": ("CLIP", 3),
}
"""Title and digits of the figures of pictures; those that no method has are left out."""
SHAPES = {
    "chamfer": ("chamfer", 4),
    "f_score_2": ("F .02", 3),
    "f_score_5": ("F .05", 3),
    "f_score_10": ("F .1", 3),
    "absent": ("absent", 3),
}
LIKENESSES = {
    "closer_than": ("closer than to others", 3),
    "in_nearest_tenth": ("than to nine tenths", 3),
    "st_lpips": ("ST-LPIPS", 3),
}
GENERATION = "Text and image to four views: like the object itself, or like another"
GENERATED = ("image_to_mv", "text_to_mv", "view")
"""The rows of that table."""
TOGETHER = "complete_joint"
"""The method of Table 2 that the paper has no row of; ours is left out where it was not asked for."""
COMPLETIONS = {
    "views": "Table 2. Completion: the four views",
    "3d": "Table 2. Completion: reconstructed, novel views",
}
"""The titles of Table 2 by setting."""
NOT_MEASURED = "not measured"
"""In the place of the first figure of a row that has none."""
FAILING = "Objects that fail (supplement D), as a share, and the means of what was measured"
FAILURES = {
    "fails": ("fail", 3),
    "beyond_ten": ("over ten regions", 3),
    "agreement": ("outlines, IoU", 3),
    "grouped": ("parts grouped", 3),
    "depth": ("depth error", 4),
}
FAILURE_ROWS = {
    "(a) views disagree, drawn from one view": ("image_to_mv", "views"),
    "(a) views disagree, drawn from the caption": ("text_to_mv", "views"),
    "(b) true parts grouped in one region": ("segment", "grouping"),
    "(c) depth, whole at once": ("whole", "depth"),
    "(c) depth, predicted parts": ("predicted parts", "depth"),
    "(c) depth, true parts completed": ("true parts", "depth"),
}
"""Method and setting of each row."""
OVERLAPS = {"mean_iou": ("mean IoU", 4), "max_iou": ("largest IoU", 4), "contested": ("contested", 4)}

Figures = Mapping[str, Mean]
Columns = Mapping[str, tuple[str, int]]


def print_tables(summary: Summary) -> None:
    """All tables, with intervals in brackets."""
    console = Console(width=WIDTH)
    tables = (*_segmentation(summary), *_completion(summary), *_reassembly(summary), _generation(summary))
    failing = _figures(FAILING, failure_rows(summary), FAILURES)
    for table in (*tables, *surface_tables(summary), failing):
        console.print(table)
    print(published.NOTE, *what_runs_add(summary), sep="\n")


def _segmentation(summary: Summary) -> list[Table]:
    found = summary["segmentation"]
    ours = sorted((method for method in found if method.startswith(OURS)), key=lambda name: int(name.split()[-1]))
    methods = [*NOT_RUN, *(method for method in found if method not in (*NOT_RUN, *ours)), *ours]
    precision = _table(precision_title(found))
    for mode in MODES:
        columns = [title for name in TRUTHS.values() for title in (f"{mode}, {name}: mAP50", "mAP75")]
        for title in (*columns, "paper's"):
            precision.add_column(title, justify="right", no_wrap=True)
    for method in methods:
        cells = []
        for mode in MODES:
            for suffix in TRUTHS:
                figures = found.get(method, {}).get(mode + suffix, {})
                cells += [_cell(figures, "ap50", 1, 100), _cell(figures, "ap75", 1, 100)]
            cells.append(str(published.SEGMENTATION.get(method, {}).get(mode, "")))
        if method not in found:
            cells[0] = NOT_RUN[method]
        precision.add_row(segmentation_label(method, found), *cells)
    recall = _table("Recall of IoU > 0.5 and > 0.75 at K, percent, automatic | seeded (Fig. A2)")
    for threshold in THRESHOLDS:
        for k in RECALL_AT:
            recall.add_column(f"{threshold:g}, K={k}", justify="right", no_wrap=True)
    for method in methods:
        if method in found:
            names = [f"recall{threshold * 100:.0f}_at_{k}" for threshold in THRESHOLDS for k in RECALL_AT]
            modes = [found[method][mode] for mode in MODES]
            cells = [" | ".join(f"{100 * figures[name]['mean']:.1f}" for figures in modes) for name in names]
            recall.add_row(_label(method), *cells)
    return [precision, recall]


def segmentation_label(method: str, found: Mapping[str, Mapping[str, Figures]]) -> str:
    """What a row of Table 1 is called; of Part123 with how well its meshes were aligned."""
    aligned = found.get(method, {}).get(ALIGNED)
    return (
        f"{_label(method)}, one view; outlines fit by IoU {aligned['iou']['mean']:.2f}" if aligned else _label(method)
    )


def precision_title(found: Mapping[str, Mapping[str, Figures]]) -> str:
    """Of Table 1, with the number of objects that each of its truths is of."""
    counts = {
        name: max(
            (modes.get(MODES[0] + suffix, {}).get("ap50", {}).get("count", 0) for modes in found.values()), default=0
        )
        for suffix, name in TRUTHS.items()
    }
    said = ", ".join(f"{name} of {count}" for name, count in counts.items())
    return f"Table 1. Segmentation: mean average precision, percent (objects: {said})"


def completion_rows(found: Mapping[str, Mapping[str, Figures]]) -> dict[str, tuple[str, Mapping[str, Figures]]]:
    """The rows of Table 2: by label, the method whose row of the paper stands beside it (empty: none), and its figures
    by setting.

    Where visible pixels were kept, a network has two rows, alone and so; the paper's is the network alone.
    """
    rows: dict[str, tuple[str, Mapping[str, Figures]]] = {}
    for method in (*published.COMPLETION, *({TOGETHER} & found.keys())):
        paper = method if method in published.COMPLETION else ""
        if method + ALONE in found:
            rows[f"{LABELS[method]}, network alone"] = (paper, found[method + ALONE])
            rows[f"{LABELS[method]}, visible pixels kept"] = ("", found.get(method, {}))
        else:
            rows[LABELS[method]] = (paper, found.get(method, {}))
    return rows


def _completion(summary: Summary) -> list[Table]:
    found = completion_rows(summary["completion"])
    tables = []
    for setting, title in COMPLETIONS.items():
        rows = {label: figures.get(setting, {}) for label, (_, figures) in found.items()}
        theirs = {label: published.COMPLETION[paper][setting] for label, (paper, _) in found.items() if paper}
        tables.append(_figures(title, rows, PICTURES, theirs))
    return tables


def _reassembly(summary: Summary) -> list[Table]:
    found = {method: summary["reassembly"].get(method, {}) for method in ASSEMBLED.values()}
    tables = []
    for title, setting, columns, theirs in (
        ("Table 3. Reassembly: novel views of the whole object", "3d", PICTURES, published.REASSEMBLY),
        ("The same minus the whole reconstructed at once, pair by pair", DIFFERENCE, PICTURES, None),
        ("Meshes beside the true one: the whole object", "shape", SHAPES, None),
        ("Meshes beside the true ones: part by part", "part shape", SHAPES, None),
        ("Overlap between the parts of an object", "overlap", OVERLAPS, None),
    ):
        rows = {method: settings[setting] for method, settings in found.items() if setting in settings}
        tables.append(_figures(title, rows, columns, theirs))
    return tables


def _generation(summary: Summary) -> Table:
    found = summary["generation"]
    return _figures(GENERATION, {name: found.get(name, {}).get("views", {}) for name in GENERATED}, LIKENESSES)


def surface_tables(summary: Summary) -> list[Table]:
    """Those of parts of 3D objects on their own surface."""
    tables = [_figures(SURFACES.format(what), rows, SURFACE) for what, rows in regime_rows(summary).items()]
    if closing := closing_rows(summary):
        tables.append(_figures(CLOSING, closing, SURFACE_SHAPES))
    return [*tables, *(_figures(title, rows, LABELLED_FIGURES) for title, rows in labelled_rows(summary).items())]


def failure_rows(summary: Summary) -> dict[str, Figures]:
    """The rows of supplement D by label: the share of the objects that fail, and what was measured."""
    found = summary.get("failures", {})
    return {
        label: figures
        for label, (method, setting) in FAILURE_ROWS.items()
        if (figures := found.get(method, {}).get(setting))
    }


def _figures(
    title: str, rows: Mapping[str, Figures], columns: Columns, theirs: Mapping[str, published.Likeness] | None = None
) -> Table:
    """A row a method, a column a figure that some method has; the paper's numbers last."""
    present = [figure for figure in columns if any(figure in figures for figures in rows.values())]
    table = _table(title)
    for figure in present:
        table.add_column(columns[figure][0], justify="right", no_wrap=True)
    if theirs is not None:
        table.add_column("paper: CLIP / LPIPS / PSNR", justify="right", no_wrap=True)
    for method, figures in rows.items():
        cells = [_cell(figures, figure, columns[figure][1]) for figure in present]
        if cells and not figures:
            cells[0] = NOT_MEASURED
        paper = [str(theirs.get(method, ""))] if theirs is not None else []
        table.add_row(_label(method), *cells, *paper)
    return table


def _cell(figures: Figures, figure: str, digits: int, scale: float = 1.0) -> str:
    """The mean with its interval, and what it leaves out; empty where there is none."""
    exact = figures["psnr_exact"]["mean"] if figure.startswith("psnr") and "psnr_exact" in figures else 0.0
    if figure not in figures:
        return "exact" if exact == 1 else ""
    mean, low, high = (f"{figures[figure][name] * scale:.{digits}f}" for name in ("mean", "low", "high"))
    left_out = f" ({exact:.1%} exact)" if exact and figure == "psnr_foreground" else ""
    return f"{mean} [{low}, {high}]{left_out}"


def _table(title: str) -> Table:
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold", pad_edge=False)
    table.add_column("")
    return table


def _label(method: str) -> str:
    if method.startswith(OURS):
        return f"PartGen, {method.removeprefix(OURS)} sample{'' if method == f'{OURS}1' else 's'}"
    return LABELS.get(method) or surface_label(method)
