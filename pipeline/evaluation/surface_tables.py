"""The tables of parts of 3D objects on their own surface: their rows, columns and words."""

from collections.abc import Mapping

from pipeline.evaluation.closed_parts import CAP, CLOSED, FUSED
from pipeline.evaluation.part_objaverse import LABELS, SETTING
from pipeline.evaluation.summary import GAIN, Mean, Summary
from pipeline.evaluation.surface_parts import MODEL_ALONE

SURFACES = "Parts of 3D objects, part names taken off: {}"
SURFACE_REGIMES = {
    "A": "as modelled, with pieces and materials",
    "B": "one baked texture, with pieces",
    "C": "fused into one watertight skin, without pieces",
}
SURFACE_SHAPES = {
    "chamfer": ("chamfer", 4),
    "f_score_2": ("F .02, %", 1),
    "f_score_5": ("F .05, %", 1),
    "f_score_10": ("F .1, %", 1),
}
SURFACE = {
    "iou": ("mean best IoU, %", 1),
    GAIN: ("minus the model alone", 1),
    "iou_levels": ("of all levels, %", 1),
    "ap50": ("AP50, %", 1),
    "ap75": ("AP75, %", 1),
    **SURFACE_SHAPES,
    "parts": ("parts", 1),
}
LABELLED = "PartObjaverse-Tiny, a user's copy: true parts are {}"
LABELLED_FIGURES = {
    "iou": ("mean best IoU, %", 1),
    "iou_levels": ("of all levels, %", 1),
    "iou_faces": ("by faces, %", 1),
    "iou_levels_faces": ("by faces, of all levels, %", 1),
    "ap50": ("AP50, %", 1),
    "ap75": ("AP75, %", 1),
    "parts": ("parts", 1),
}
NOT_RUN_HERE = "not run: evaluate.part_objaverse_tiny is null"
CLOSING = "Parts of fused objects beside the true ones, by what becomes of openings (--close)"
SURFACE_LABELS = {
    "one part": "one part for all",
    "pieces x materials": "pieces x materials, nothing merged",
    "materials": "materials",
    "pieces": "pieces, nothing merged",
    "atoms": "pieces (x materials) divided where colours step, nothing merged",
    "superfaces": "superfaces, nothing merged",
    "K-means": "K-means of place, normal and colour",
    "linkage": "average linkage of superfaces by creases and colours",
    "views": "the label map of the views, lifted",
    "best atoms": "each atom its true majority",
    "grouping": "grouping model alone: what decompose does",
    "grouping without colour": "... objects without colours",
    "grouping without geometry": "... without places, normals and contacts",
    "none": "open, as they are",
    "cap": "with caps",
    "complete": "completed: see python -m benchmarks.closing",
}
Figures = Mapping[str, Mean]


def regime_rows(summary: Summary) -> dict[str, dict[str, Figures]]:
    """By regime, in words, the figures of every method."""
    methods = {name: found for name, found in summary["surface"].items() if set(found) & set(SURFACE_REGIMES)}
    order = list(SURFACE_LABELS)

    def place(method: str) -> tuple[int, int]:
        runs = number_of_runs(method)
        return order.index(MODEL_ALONE if runs else method), runs

    found: dict[str, dict[str, Figures]] = {
        what: {method: methods[method][regime] for method in sorted(methods, key=place) if regime in methods[method]}
        for regime, what in SURFACE_REGIMES.items()
    }
    return {what: rows for what, rows in found.items() if rows}


def closing_rows(summary: Summary) -> dict[str, Figures]:
    """The rows of the table of openings: open, and closed."""
    found = summary["surface"]
    capped = found.get(CAP, {}).get(CLOSED)
    return {"none": found[MODEL_ALONE][FUSED], CAP: capped, "complete": {}} if capped else {}


def labelled_rows(summary: Summary) -> dict[str, dict[str, Figures]]:
    """By title the figures of every method on PartObjaverse-Tiny; a row without figures where it was not run."""
    found: dict[str, dict[str, Figures]] = {
        LABELLED.format(what): {
            method: settings[SETTING.format(what)]
            for method in SURFACE_LABELS
            if SETTING.format(what) in (settings := summary["surface"].get(method, {}))
        }
        for what in LABELS
    }
    found = {title: rows for title, rows in found.items() if rows}
    return found or {LABELLED.format(next(iter(LABELS))): {NOT_RUN_HERE: {}}}


def what_runs_add(summary: Summary) -> list[str]:
    """By regime a sentence on whether runs of the segmentation help the grouping model."""
    found = []
    for regime, what in SURFACE_REGIMES.items():
        gains = {
            runs: settings[regime][GAIN]
            for method, settings in summary["surface"].items()
            if (runs := number_of_runs(method)) and GAIN in settings.get(regime, {})
        }
        if gains:
            most = gains[max(gains)]
            interval = f"{most['mean']:+.1f} [{most['low']:.1f}, {most['high']:.1f}]"
            sure = "help" if most["low"] > 0 else "harm" if most["high"] < 0 else "add nothing that is sure"
            found.append(f"{regime}, {what}: {max(gains)} runs of the segmentation {sure}: {interval} IoU.")
    return found


def number_of_runs(method: str) -> int:
    """Of `grouping + N runs`; 0 for all other methods."""
    runs = method.removeprefix(f"{MODEL_ALONE} + ").removesuffix(" runs")
    return int(runs) if runs.isdecimal() else 0


def surface_label(method: str) -> str:
    """What a method is called in these tables; as it is, where it has no other name."""
    if runs := number_of_runs(method):
        return f"... with {runs} run{'s' if runs > 1 else ''} of the segmentation"
    return SURFACE_LABELS.get(method, method)
