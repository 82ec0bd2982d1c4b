"""Everything that the report is made from, of toys: two held-out objects, with hostile texts wherever one can stand."""

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import trimesh

from pipeline.assets.glb import Node, pack
from pipeline.assets.tables import GLBS, OBJECTS, PARTS
from pipeline.captions.tables import CAPTIONS
from pipeline.diffusion.tasks import TRAININGS
from pipeline.evaluation.figures import ASSEMBLED, FIGURES
from pipeline.evaluation.image_metrics import SMALLEST_PX
from pipeline.evaluation.ranking import RECALL_AT, THRESHOLDS
from pipeline.evaluation.summary import summarise
from pipeline.evaluation.surface_regimes import DIVISIONS
from pipeline.heldout import segment_tables
from pipeline.heldout.complete_object import COMPLETIONS
from pipeline.heldout.generate_tables import PROMPTS
from pipeline.shards.read import iter_rows, read_manifest
from pipeline.shards.table import FAILURES, Table
from pipeline.shards.write import write_json, write_tables
from pipeline.surface.object_atoms import ObjectAtoms
from pipeline.views.tables import GRIDS
from tests.stages.test_show import filled
from tests.toy_corpus import toy_boxes, write_toy_corpus
from tests.toy_results import write_toy_results

HOSTILE = '<img src=x onerror="window.hit=1">\'&<script>window.hit=1</script>'
NUMBERS = {"toy-000": 0, "toy-001": 1}
"""Two and three parts. The first has hostile names, the second none."""
TRAINED = "trained"
"""An object that was trained on; it looks like the second."""
STAGES = (
    "assets",
    "renders",
    "masks",
    "atoms",
    "captions",
    "generations",
    "segmentations",
    "completions",
    "reconstructions",
    "evaluation",
)
STEPS = 30
KEPT = "autoencoder"
"""The network that was not trained on."""


def write_toy_project(project: Path) -> Path:
    """Write data, metrics and plots into a project's folder; the folder of its data."""
    data = project / "data"
    write_toy_corpus(data, objects=len(NUMBERS), view_size=SMALLEST_PX, shards=1)
    write_toy_results(data, NUMBERS)
    write_assets(data)
    drawn = [{**row, "prompt": f"a toy {HOSTILE}"} for row in iter_rows(data / "generations/prompts")]
    put(data / "generations", PROMPTS, drawn)
    put(data / "captions", CAPTIONS, [], {"backend": "describe"})
    settings = read_manifest(data / "renders/grids").settings | {"engine": "cycles", "samples": 4}
    grids = list(iter_rows(data / "renders/grids"))
    trained = [{**row, "object_id": TRAINED, "split": "train"} for row in grids if row["object_id"] == "toy-001"]
    put(data / "renders", GRIDS, [*grids, *trained], settings)
    chosen = [{**row, "merged": 1} for row in iter_rows(data / "segmentations/runs") if row["run"] == 0]
    put(data / "segmentations", segment_tables.PARTS, chosen)
    completed = list(iter_rows(data / "completions/grids"))
    predicted = [{**row, "source": "predicted", "pixels": 7} for row in completed if row["method"] == "complete"]
    put(data / "completions", COMPLETIONS, [*completed, *predicted])
    figures = [row for object_id in NUMBERS for row in figures_of(object_id)]
    put(data / "evaluation", FIGURES, figures)
    put(data / "evaluation", DIVISIONS, divisions_of(data))
    for stage in STAGES:
        failed = {"captions": [{"object_id": "toy-000", "kind": "object", "reason": f"no words {HOSTILE}"}]}
        put(data / stage, FAILURES, failed.get(stage, []))
    write_metrics(project, figures)
    return data


def put(stage: Path, table: Table, rows: list[dict[str, Any]], settings: dict[str, Any] | None = None) -> None:
    """Write or replace one table of a stage; of rows, the columns that the table has."""
    given = [{name: row[name] for name in table.schema.names} for row in rows]
    alone = stage.with_name("alone")
    arrow = pa.Table.from_pylist(given, schema=table.storage_schema())
    write_tables(alone, [table], [(0, {table.name: arrow})], settings or {})
    shutil.rmtree(stage / table.name, ignore_errors=True)
    stage.mkdir(exist_ok=True)
    (alone / table.name).rename(stage / table.name)
    alone.rmdir()


def write_assets(data: Path) -> None:
    objects, parts, glbs = [filled(OBJECTS, object_id="dropped", status="dropped", reason="single part")], [], []
    objects.append(filled(OBJECTS, object_id=TRAINED, split="train", name="trained toy", status="ok", author="T."))
    for object_id, number in NUMBERS.items():
        row, text = {"object_id": object_id, "split": "test"}, HOSTILE if number == 0 else "plain"
        objects.append(
            filled(OBJECTS, **row, name=f"{text} toy", status="ok", author=f"A. {text}", licence=f"CC0-1.0 {text}")
        )
        nodes = []
        for label, box in enumerate(toy_boxes(number)[0], start=1):
            parts.append(filled(PARTS, **row, part_id=label, name=f"{text} {label}"))
            nodes.append(Node(f"{text} {label}", {"part": label}, [trimesh.creation.box(bounds=box)]))
        glbs.append({**row, "glb": pack(nodes, "", {})})
    put(data / "assets", OBJECTS, objects)
    put(data / "assets", PARTS, parts)
    put(data / "assets", GLBS, glbs)


def figures_of(object_id: str) -> list[dict[str, Any]]:
    """Made-up rows of evaluation/figures."""
    found: dict[tuple[str, str, str], dict[str, float]] = {}
    for method in ("partgen 1", "partgen 10", "hed-watershed"):
        for mode in ("automatic", "seeded"):
            recalls = {f"recall{threshold * 100:.0f}_at_{k}": k / 10 for threshold in THRESHOLDS for k in RECALL_AT}
            found["segmentation", method, mode] = {"ap50": 0.4567, "ap75": 0.25, **recalls}
    found["completion", "oracle", "views"] = {"psnr_exact": 1.0, "ssim": 1.0}
    found["completion", "complete", "views"] = {"psnr_exact": 0.25, "psnr_foreground": 21.25, "ssim": 0.5}
    found["generation", "image_to_mv", "views"] = {"closer_than": 0.875, "in_nearest_tenth": 0.0, "st_lpips": 0.0625}
    found["surface", "grouping", "A"] = {"iou": 81.25, "iou_levels": 90.5, "parts": 4.0}
    found["surface", "grouping", "C"] = {"iou": 50.125, "iou_levels": 66.0, "parts": 5.0, "chamfer": 0.0625}
    found["surface", "grouping + 10 runs", "C"] = {"iou": 51.125, "iou_levels": 66.0, "parts": 5.0}
    found["surface", "cap", "closed"] = {"chamfer": 0.03125, "f_score_2": 50.0, "f_score_5": 75.0, "f_score_10": 87.5}
    found["failures", "image_to_mv", "views"] = {"agreement": 0.25, "fails": 1.0}
    found["failures", "segment", "grouping"] = {"grouped": 0.75, "fails": 1.0, "beyond_ten": 0.0}
    found["failures", "whole", "depth"] = {"depth": 0.5, "fails": 1.0}
    found["failures", "predicted parts", "depth"] = {"depth": 0.03125, "fails": 0.0}
    for method in ASSEMBLED.values():
        found["reassembly", method, "3d"] = {"psnr_foreground": 18.125}
    return [
        {"object_id": object_id, "split": "test", "table": table, "method": method, "setting": setting}
        | {"figure": figure, "value": value}
        for (table, method, setting), figures in found.items()
        for figure, value in figures.items()
    ]


def divisions_of(data: Path) -> list[dict[str, Any]]:
    """Rows of evaluation/divisions: every atom is of the part that has most of it; the first object is said to be the
    better one.
    """
    rows = []
    for row in iter_rows(data / "atoms/atoms"):
        found = {name: row[name] for name in ("object_id", "split", "regime")}
        part_N = ObjectAtoms.unpacked(row["arrays"]).truth_NS.argmax(axis=1) + 1
        rows.append({**found, "part": part_N.tolist(), "iou": 80.0 - 5 * NUMBERS[row["object_id"]]})
    return rows


def write_metrics(project: Path, figures: list[dict[str, Any]]) -> None:
    """metrics and plots of the evaluation, the assets and all trainings."""
    conventions = {"segmentation": {"order": "score, then area"}, "stages": {"view_size": 16, "azimuths": [0.0, 90.0]}}
    evaluated = {**summarise(pd.DataFrame(figures), 0), "conventions": conventions, "objects": len(NUMBERS)}
    write_json(project / "metrics/evaluate.json", evaluated)
    assets = {"kept": 2, "dropped": 1, "parts": 5, "kept_by_source": {"toys": 2}, "splits": {"test": 2}}
    write_json(project / "metrics/assets.json", assets)
    (project / "plots/train").mkdir(parents=True)
    for name in (*TRAININGS, "lrm", "grouping"):
        steps = 0 if name == KEPT else STEPS
        init_from = "weights/toy" if name in ("segment", KEPT) else ""
        values = {"parameters": 1234567, "init_from": init_from, "steps": steps}
        values |= {"samples": 2 * steps, "validation": {"loss": 0.5}}
        write_json(project / f"metrics/train/{name}.json", values)
        rows = [f"{step},{1 / step:.6g},{2 / step:.6g}" for step in range(1, steps + 1)]
        (project / f"plots/train/{name}.csv").write_text("\n".join(["step,loss,validation", *rows]) + "\n")
