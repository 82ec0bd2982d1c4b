"""What the stages up to `reconstruct` would make of the toy corpus, made up: known errors give known figures."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import trimesh

from pipeline.assets.glb import Node, pack
from pipeline.assets.tables import GLBS
from pipeline.heldout import segment_tables
from pipeline.heldout.complete_object import COMPLETIONS
from pipeline.heldout.generate_tables import GENERATIONS, PROMPTS
from pipeline.heldout.reconstruct_tables import OBJECTS, PARTS, VIEWS
from pipeline.heldout.segment_tables import RUNS
from pipeline.shards.read import iter_rows
from pipeline.shards.table import FAILURES, decode_png, encode_png, image_cell
from pipeline.shards.write import write_tables
from pipeline.surface.find_atoms import AtomsTask, object_atoms
from pipeline.surface.grouping import GroupingModel
from pipeline.surface.object_atoms import ATOMS, SURFACES
from pipeline.views.cameras import Camera, over_white
from tests.toy_corpus import DISTANCE, ELEVATION_DEG, FOV_DEG, toy_boxes

ERRORS = {"oracle": 0, "complete": 26, "complete_no_context": 51, "none": 77, "whole": 13, "image_to_mv": 20}
"""Of every channel of every pixel, of 255, in what the methods draw."""
RUNS_STORED = 2
COARSE: dict[str, object] = {
    "pipeline.surface.fuse.CELLS": 64,
    "pipeline.surface.fuse.POINTS": 60_000,
    "pipeline.surface.superfaces.MOST": 60,
}
"""In what detail a few boxes are fused and divided: less than real objects, which take seconds."""
MOVED = 0.5
"""How far from its place the mesh of a completed part lies."""


def off_by(rgba: np.ndarray, error: int) -> dict[str, Any]:
    """A picture's cell whose every value is wrong by `error`."""
    values = (over_white(rgba) * 255).round().astype(np.int16)
    return image_cell(encode_png(np.where(values > 127, values - error, values + error).astype(np.uint8)), "grid.png")


def boxes_glb(boxes: np.ndarray) -> bytes:
    """Boxes (S, 2, 3) as the parts of a GLB."""
    nodes = [
        Node(f"part {number}", {"part": number}, [trimesh.creation.box(bounds=box)])
        for number, box in enumerate(boxes, start=1)
    ]
    return pack(nodes, "", {}) if nodes else b""


@cache
def toy_atoms(object_id: str, split: str, glb: bytes, view_size: int) -> dict[str, list[dict[str, Any]]]:
    """Its rows of the stage `atoms`; found once."""
    task = AtomsTask(object_id, split, glb, Camera(FOV_DEG, DISTANCE, view_size), ELEVATION_DEG)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in COARSE.items():
            patch.setattr(name, value)
        return object_atoms(task)


def write_toy_results(data: Path, numbers: dict[str, int]) -> None:
    """Beside a toy corpus, of the objects by id and number: assets, generations, segmentations, completions,
    reconstructions, atoms and a grouping model of random weights.

    The first segmentation is the truth, the second one part. The last completed part is absent. Drawn from its view an
    object is like itself, from its caption like the next one; the one text is drawn as the first object.
    """
    rows: dict[str, list[dict[str, Any]]] = {
        table.name: [] for table in (GLBS, RUNS, COMPLETIONS, VIEWS, PARTS, OBJECTS, ATOMS, SURFACES)
    }
    found = {
        name: [row for row in iter_rows(data / name) if row["object_id"] in numbers]
        for name in ("renders/grids", "renders/novel", "masks/labels")
    }
    assembled: list[dict[str, Any]] = []
    for row in found["masks/labels"]:
        common = {"object_id": row["object_id"], "split": row["split"]}
        boxes = toy_boxes(numbers[row["object_id"]])[0]
        truth = decode_png(row["labels"]["bytes"])
        glb = boxes_glb(boxes)
        rows[GLBS.name].append({**common, "glb": glb})
        for name, found_rows in toy_atoms(row["object_id"], row["split"], glb, len(truth) // 2).items():
            rows[name] += found_rows
        assembled.append({**common, "run": 0, "merged": 0, "labels": row["labels"]})
        for run, labels in enumerate((truth, (truth > 0).astype(np.uint8))):
            rows[RUNS.name].append(
                {**common, "run": run, "score": 0.5, "labels": image_cell(encode_png(labels), "labels.png")}
            )
        meshes = {
            ("truth", "oracle"): boxes,
            ("truth", "complete"): boxes[:-1] + MOVED,
            ("predicted", "complete"): boxes[:0],
            ("whole", "whole"): boxes,
        }
        for (source, method), some in meshes.items():
            of = {**common, "source": source, "method": method}
            count = len(boxes) if source == "truth" else 1
            shared = {"mean_iou": 0.1, "max_iou": 0.2, "contested": 0.3}
            figures = {"parts": count, "absent": max(count - len(some), 0), **shared, "glb": boxes_glb(some)}
            rows[OBJECTS.name].append({**of, **figures})
            for label in range(1, count + 1):
                glb = boxes_glb(some if source == "whole" else some[label - 1 : label])
                told = {"name": f"part {label}", "absent": "" if glb else "empty", "triangles": 12, "glb": glb}
                rows[PARTS.name].append({**of, "label": label, **told})
    for row in found["renders/grids"]:
        if row["part_id"]:
            of = {"object_id": row["object_id"], "split": row["split"], "source": "truth", "label": row["part_id"]}
            for method in ("complete", "complete_no_context"):
                image = off_by(decode_png(row["image"]["bytes"]), ERRORS[method])
                rows[COMPLETIONS.name].append({**of, "method": method, "pixels": 1, "image": image})
    for row in found["renders/novel"]:
        shown = [("truth", method) for method in ("oracle", "complete", "complete_no_context", "none")]
        if not row["part_id"]:
            shown += [("predicted", "complete"), ("whole", "whole")]
        for source, method in shown:
            of = {"object_id": row["object_id"], "split": row["split"], "source": source, "method": method}
            image = off_by(decode_png(row["image"]["bytes"]), ERRORS[method])
            rows[VIEWS.name].append({**of, "label": row["part_id"], "image": image})
    wholes = [row for row in found["renders/grids"] if not row["part_id"]]
    generated = []
    for own, following in zip(wholes, [*wholes[1:], wholes[0]], strict=True):
        for method, drawn in (("image_to_mv", own), ("text_to_mv", following)):
            of = {"object_id": own["object_id"], "split": own["split"], "method": method, "prompt": ""}
            generated.append({**of, "image": off_by(decode_png(drawn["image"]["bytes"]), ERRORS["image_to_mv"])})
    prompts = [
        {"object_id": "prompt-001", "prompt": "a toy", "image": off_by(decode_png(wholes[0]["image"]["bytes"]), 0)}
    ]
    torch.manual_seed(0)
    GroupingModel(width=12, layers=1, heads=2, pair_width=8).save(data / "models/grouping")
    settings = {"shards": 1, "segment": {"runs": RUNS_STORED}}
    contents = {
        GENERATIONS.name: pa.Table.from_pylist(generated, schema=GENERATIONS.storage_schema()),
        PROMPTS.name: pa.Table.from_pylist(prompts, schema=PROMPTS.storage_schema()),
        FAILURES.name: pa.Table.from_pylist([], schema=FAILURES.storage_schema()),
    }
    write_tables(data / "generations", (GENERATIONS, PROMPTS, FAILURES), [(0, contents)], settings)
    stages = {
        "assets": (GLBS,),
        "segmentations": (RUNS, segment_tables.PARTS),
        "completions": (COMPLETIONS,),
        "atoms": (ATOMS, SURFACES),
    }
    for stage, tables in {**stages, "reconstructions": (VIEWS, PARTS, OBJECTS)}.items():
        contents = {
            table.name: pa.Table.from_pylist(
                assembled if table is segment_tables.PARTS else rows.get(table.name, []), schema=table.storage_schema()
            )
            for table in (*tables, FAILURES)
        }
        write_tables(data / stage, (*tables, FAILURES), [(0, contents)], settings)
