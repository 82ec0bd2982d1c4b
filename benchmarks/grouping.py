"""Parts of 3D objects: the evaluation's tables of surfaces alone, for one grouping model, of the objects of a split.

    python -m benchmarks.grouping [--data data] [--models data/models] [--split val] [--out FILE]

Needs the stage `atoms`, and `segment` for the rows with runs of the segmentation; objects that were not segmented have
none. The stage `evaluate` has the same tables, of the objects that went through all stages. With --out the figures are
also written as JSON.
"""

import argparse
import json
from collections import defaultdict
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

from pipeline.errors import NoObjects
from pipeline.evaluation.closed_parts import closed_parts
from pipeline.evaluation.paper_tables import surface_tables
from pipeline.evaluation.summary import summarise
from pipeline.evaluation.surface_parts import surface_parts
from pipeline.evaluation.surface_regimes import SurfaceRegime
from pipeline.evaluation.surface_tables import what_runs_add
from pipeline.params.base import load_group
from pipeline.params.evaluate import EvaluateParams
from pipeline.shards.progress import Progress
from pipeline.shards.read import iter_rows
from pipeline.shards.table import decode_png
from pipeline.surface.grouping import load_grouping
from stages.entry import one_sentence_errors

Rows = dict[str, list[dict[str, Any]]]
Work = tuple[str, Rows, Path, EvaluateParams]


def rows_of(data: Path, split: str) -> dict[str, Rows]:
    """By object of the split its rows of the tables that there are."""
    found: dict[str, Rows] = defaultdict(lambda: defaultdict(list))
    for name in ("atoms/atoms", "atoms/surfaces", "segmentations/runs", "segmentations/parts"):
        if name.startswith("atoms") or (data / name).is_dir():
            for row in iter_rows(data / name):
                if row["split"] == split:
                    found[row["object_id"]][name.partition("/")[2]].append(row)
    return {name: dict(rows) for name, rows in sorted(found.items()) if "atoms" in rows}


def figures_of(work: Work) -> list[dict[str, Any]]:
    """The rows of one object, as the stage `evaluate` has them."""
    name, rows, model, params = work
    regimes = SurfaceRegime.all_of(rows["atoms"], rows["surfaces"])
    labels = [decode_png(row["labels"]["bytes"]) for row in sorted(rows.get("runs", []), key=lambda row: row["run"])]
    assembled = rows.get("parts")
    used = decode_png(assembled[0]["labels"]["bytes"]) if assembled else None
    some = params if labels else params.model_copy(update={"runs": []})
    found = [
        *surface_parts(regimes, np.stack(labels) if labels else np.empty(0), used, model, some),
        *closed_parts(regimes, model, params),
    ]
    return [
        {"object_id": name, "table": "surface", "method": method, "setting": setting, "figure": figure, "value": value}
        for method, setting, figures in found
        for figure, value in figures.items()
        if np.isfinite(value)
    ]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder with the stages' tables")
    parser.add_argument("--models", type=Path, default=Path("data/models"), help="folder that has `grouping`")
    parser.add_argument("--split", default="val", choices=["val", "test"], help="whose objects")
    parser.add_argument("--out", type=Path, help="file for the figures, JSON")
    options = parser.parse_args()
    params = load_group(EvaluateParams, ())
    work: list[Work] = [
        (name, rows, options.models / "grouping", params) for name, rows in rows_of(options.data, options.split).items()
    ]
    if not work:
        raise NoObjects(f"{options.data / 'atoms'} has no object of the split `{options.split}`; take more assets.")
    load_grouping(options.models / "grouping")  # says so, before the work, when it is not there
    figures: list[dict[str, Any]] = []
    with get_context("spawn").Pool() as pool, Progress("objects", len(work)) as progress:
        for found in pool.imap_unordered(figures_of, work):
            figures += found
            progress.advance()
    summary = summarise(pd.DataFrame(figures), params.seed)
    console = Console(width=220)
    for table in surface_tables(summary):
        console.print(table)
    print(*what_runs_add(summary), f"{len(work)} objects of {options.split}", sep="\n")
    if options.out:
        options.out.write_text(json.dumps(summary["surface"], indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    with one_sentence_errors():
        main()
