"""The figures of one object: what the stage `evaluate` runs in its pool processes (Tables 1 to 3 of the paper, and how
like itself the object is when it is drawn from its caption or from one view).

Ground truth and what the stages before made of it are rows of their tables. Where a stage has no rows of the object,
because it failed there, the figures that need them are missing.

Shape suffixes: R runs, H W pixels of the grid.
"""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import trimesh

from pipeline.assets.glb import load_parts
from pipeline.evaluation.closed_parts import closed_parts
from pipeline.evaluation.evaluate_task import EvaluateTask, Found, read_labels, read_picture
from pipeline.evaluation.failures import assembled, depth_error, disagreement, grouping
from pipeline.evaluation.figures import ASSEMBLED, FIGURES
from pipeline.evaluation.likeness_figures import completion, generation, reassembly
from pipeline.evaluation.part_shapes import joined
from pipeline.evaluation.segmentation_figures import segmentation
from pipeline.evaluation.surface_parts import surface_parts
from pipeline.evaluation.surface_regimes import DIVISIONS, SurfaceRegime, divisions
from pipeline.shards.table import decode_png

CONTRACT = "evaluate/5"
"""Raised when the same inputs give other rows."""


def evaluate_object(task: EvaluateTask) -> dict[str, list[dict[str, Any]]]:
    """The object's rows of `figures` and `divisions`. ObjectFailed when no part of it is in sight."""
    if not torch.cuda.is_available():
        torch.set_num_threads(1)  # the pool has a process for every core
    identity = {"object_id": task.object_id, "split": task.split}
    regimes = SurfaceRegime.all_of(task.atoms, task.surfaces)
    rows = [
        {**identity, "table": table, "method": method, "setting": setting, "figure": figure, "value": value}
        for table, found in (
            ("segmentation", segmentation(task)),
            ("completion", completion(task)),
            ("reassembly", reassembly(task)),
            ("generation", generation(task)),
            ("surface", surface(task, regimes)),
            ("failures", failures(task)),
        )
        for method, setting, figures in found
        for figure, value in figures.items()
        if np.isfinite(value)
    ]
    return {FIGURES.name: rows, DIVISIONS.name: [{**identity, **row} for row in divisions(regimes, task.grouping)]}


def surface(task: EvaluateTask, regimes: Sequence[SurfaceRegime]) -> Found:
    """Parts of 3D objects: the object's own surface, divided without its part names, and closed where it was fused."""
    runs = sorted(task.runs, key=lambda row: row["run"])
    maps = np.stack([decode_png(row["labels"]["bytes"]) for row in runs])
    used = decode_png(task.assembled[0]["labels"]["bytes"]) if task.assembled else None
    yield from surface_parts(regimes, maps, used, task.grouping, task.params)
    yield from closed_parts(regimes, task.grouping, task.params)


def failures(task: EvaluateTask) -> Found:
    """Supplement D: drawn views that disagree, true parts grouped together, and the depth of what was reconstructed."""
    angle = task.elevation_deg
    for row in task.generations:
        if found := disagreement(read_picture(row), task.camera, angle):
            yield row["method"], "views", found
    yield "segment", "grouping", grouping(decode_png(assembled(task.runs)["labels"]["bytes"]), read_labels(task))
    truth = joined([mesh.triangles for part in load_parts(task.glbs[0]["glb"]) for mesh in part.meshes])
    for row in task.objects:
        scene = trimesh.load_scene(io.BytesIO(row["glb"]), file_type="glb", process=False) if row["glb"] else None
        if scene and (found := depth_error(joined([scene.triangles]), truth, task.camera, angle, task.params.seed)):
            yield ASSEMBLED[row["source"], row["method"]], "depth", found
