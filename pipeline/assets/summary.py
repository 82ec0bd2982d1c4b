"""Counts of what the stage made, and a picture of them."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pipeline.shards.read import iter_rows

_KINDS = (
    "a Git LFS pointer",
    "a line of",
    "a point cloud",
    "corrupt",
    "duplicate of",
    "missing buffer",
    "missing file",
    "needs the glTF extension",
    "no triangles",
    "refused reference",
    "truncated",
    "unreadable",
    "zero area",
)
"""How the reasons begin that go on with what they are about."""


def summarise(out: Path, absent: Sequence[str]) -> dict[str, Any]:
    """The metrics of the tables under `out`: counts by source, status, reason, split, part rule and number of parts."""
    rows = list(iter_rows(out / "objects"))
    kept = [row for row in rows if row["status"] == "ok"]
    return {
        "objects": len(rows),
        "kept": len(kept),
        "dropped": len(rows) - len(kept),
        "failed": sum(1 for _ in iter_rows(out / "failures", ["object_id"])),
        "absent_sources": sorted(absent),
        "sources": _counts(row["source"] for row in rows),
        "kept_by_source": _counts(row["source"] for row in kept),
        "dropped_by_reason": _counts(_kind(row["reason"]) for row in rows if row["status"] == "dropped"),
        "splits": {split: sum(row["split"] == split for row in kept) for split in ("train", "val", "test")},
        "part_rules": _counts(row["part_rule"] for row in kept),
        "parts": sum(row["part_count"] for row in kept if row["part_rule"] != "undivided"),
        "part_counts": {str(n): count for n, count in sorted(Counter(row["part_count"] for row in kept).items())},
        "triangles": sum(row["triangles"] for row in kept),
        "textured": sum(row["textures"] > 0 for row in kept),
        "glb_mb": round(sum(row["glb_bytes"] for row in kept) / 1e6, 3),
        "with_warnings": sum(bool(row["warnings"]) for row in rows),
    }


def write_plots(metrics: Mapping[str, Any], folder: Path) -> None:
    """Write `assets.png`, a summary picture, and `assets_parts.csv`, objects by number of parts.

    The same bytes for the same metrics.
    """
    folder.mkdir(parents=True, exist_ok=True)
    counts = metrics["part_counts"]
    lines = ["parts,objects", *(f"{parts},{objects}" for parts, objects in counts.items())]
    (folder / "assets_parts.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    figure = Figure(figsize=(10, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    histogram, splits, dropped = figure.subplots(1, 3, width_ratios=(3, 1.5, 3))
    histogram.bar(list(counts), list(counts.values()), color="#3b6ea5")
    histogram.set(title=f"{metrics['kept']} objects by number of parts", xlabel="parts", ylabel="objects")
    splits.bar(list(metrics["splits"]), list(metrics["splits"].values()), color="#5a9367")
    splits.set_title("split")
    _reasons(dropped, metrics["dropped_by_reason"], metrics["dropped"])
    figure.savefig(folder / "assets.png", dpi=100, metadata={"Software": None})


def _reasons(axes: Axes, reasons: Mapping[str, int], dropped: int) -> None:
    axes.barh(list(reasons)[::-1], list(reasons.values())[::-1], height=0.6, color="#b0584b")
    axes.set_ylim(len(reasons) - max(4, len(reasons)) - 0.5, len(reasons) - 0.5)
    axes.set_title(f"{dropped} dropped")
    if not reasons:
        axes.set_axis_off()


def _counts(values: Iterable[str]) -> dict[str, int]:
    """How often each value occurs, the most frequent first."""
    return dict(sorted(Counter(values).items(), key=lambda entry: (-entry[1], entry[0])))


def _kind(reason: str) -> str:
    """A reason without the name of the file or object it is about."""
    return next((kind for kind in _KINDS if reason.startswith(kind)), reason)
