"""How like the truth the parts and objects are that the networks draw and reconstruct: Tables 2 and 3, and objects that
are drawn from their caption or from one view.
"""

import io
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
import trimesh

from pipeline.assets.glb import load_parts
from pipeline.evaluation.evaluate_task import EvaluateTask, Found, device, read_labels, read_picture, read_renders
from pipeline.evaluation.figures import ASSEMBLED
from pipeline.evaluation.part_shapes import joined
from pipeline.evaluation.shape_metrics import shape_distance
from pipeline.evaluation.view_measures import ViewMeasures
from pipeline.params.evaluate import EvaluateParams
from pipeline.shards.table import WHOLE, decode_png
from pipeline.views.cameras import GRID_AZIMUTHS, over_white, untile
from pipeline.views.tables import GIVEN_VIEW

NEAREST = 0.9
"""A picture is closer to its own object than to this share of the others, to be in the nearest tenth."""


def completion(task: EvaluateTask) -> Found:
    """Table 2: parts that were completed beside the true ones, on the four views and, reconstructed, from novel ones.

    All parts of the object count, also those that are out of sight; a figure is their mean.
    """
    targets, novel = read_renders(task.grids), read_renders(task.novel)
    whole, truth = over_white(targets.pop(WHOLE)), read_labels(task)
    drawn = {("views", "oracle", part_id): over_white(target) for part_id, target in targets.items()}
    for part_id in targets:
        drawn["views", "none", part_id] = np.where((truth == part_id)[..., None], whole, 1.0).astype(np.float32)
    for setting, rows in (("views", task.completions), ("3d", task.views)):
        for row in rows:
            if row["source"] == "truth" and row["label"] != WHOLE:
                drawn[setting, row["method"], row["label"]] = read_picture(row)
    found: dict[tuple[str, str], list[dict[str, float]]] = {}
    for (setting, method, part_id), picture in drawn.items():
        target = (targets if setting == "views" else novel)[part_id]
        found.setdefault((method, setting), []).append(_measured(task.params, picture, target))
    for (method, setting), parts in found.items():
        yield method, setting, _mean_of_known(parts)


def reassembly(task: EvaluateTask) -> Found:
    """Table 3: parts put together again beside the whole reconstructed at once; with the overlap and the shapes.

    `true parts` and `oracle parts` are of the true masks, completed and as rendered; their shapes are also compared
    part by part, and the mean over the parts is the object's. An absent part is an empty mesh.
    """
    target = read_renders(task.novel)[WHOLE]
    for row in task.views:
        if row["label"] == WHOLE and (row["source"], row["method"]) in ASSEMBLED:
            yield ASSEMBLED[row["source"], row["method"]], "3d", _measured(task.params, read_picture(row), target)
    loaded = load_parts(task.glbs[0]["glb"])
    true_parts = {part.part_id: joined([mesh.triangles for mesh in part.meshes]) for part in loaded}
    true_whole = joined([mesh.triangles for mesh in true_parts.values()])
    for row in task.objects:
        name = ASSEMBLED[row["source"], row["method"]]
        absent = {"absent": row["absent"] / max(row["parts"], 1)}
        yield name, "shape", _shape(row["glb"], true_whole, task.params) | absent
        if name != "whole":
            yield name, "overlap", {figure: row[figure] for figure in ("mean_iou", "max_iou", "contested")}
    of_parts: dict[str, list[dict[str, float]]] = {}
    for row in task.parts:
        if row["source"] == "truth":
            figures = _shape(row["glb"], true_parts[row["label"]], task.params)
            of_parts.setdefault(ASSEMBLED[row["source"], row["method"]], []).append(figures)
    for name, parts in of_parts.items():
        yield name, "part shape", _mean_of_known(parts)


def generation(task: EvaluateTask) -> Found:
    """How like itself the object is when it is drawn from its caption or from one view; and that view, four times over.

    By the perceptual distance ST-LPIPS of a grid, the mean over its views: `closer_than` is the share of the other
    objects to whose grids it is farther than to the object's own, `in_nearest_tenth` whether that is .9 or more.
    """
    distance, others = loaded_measures(task.params.lpips, task.params.clip).measures["st_lpips"], dict(task.wholes)
    own = others.pop(task.object_id)
    drawn = {row["method"]: untile(read_picture(row)) for row in task.generations}
    if not drawn:
        return
    view = next(decode_png(row["image"]["bytes"]) for row in task.given if row["view"] == GIVEN_VIEW)
    drawn["view"] = np.stack([over_white(view)] * len(GRID_AZIMUTHS))
    views = np.concatenate(list(drawn.values()))
    distances = []
    for png in (own, *others.values()):
        grid = np.concatenate([untile(over_white(decode_png(png)))] * len(drawn))
        distances.append(distance(views, grid).reshape(len(drawn), -1).mean(axis=1))
    for method, (to_own, *to_others) in zip(drawn, np.stack(distances, axis=1).tolist(), strict=True):
        figures = {"st_lpips": to_own}
        if to_others:
            closer = float(np.mean(np.array(to_others) > to_own))
            figures |= {"closer_than": closer, "in_nearest_tenth": float(closer >= NEAREST)}
        yield method, "views", figures


@lru_cache(maxsize=1)
def loaded_measures(lpips: str | None, clip: str | None) -> ViewMeasures:
    """The measures of pictures, once a process."""
    return ViewMeasures(lpips, clip, device())


def _measured(params: EvaluateParams, picture: np.ndarray, target: np.ndarray) -> dict[str, float]:
    return loaded_measures(params.lpips, params.clip)(untile(picture), untile(target))


def _mean_of_known(results: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of every figure over those that have it."""
    known: dict[str, list[float]] = {}
    for result in results:
        for name, value in result.items():
            known.setdefault(name, []).append(value)
    return {name: float(np.mean(values)) for name, values in known.items()}


def _shape(glb: bytes, truth: trimesh.Trimesh, params: EvaluateParams) -> dict[str, float]:
    scene = trimesh.load_scene(io.BytesIO(glb), file_type="glb", process=False) if glb else trimesh.Scene()
    found = shape_distance(joined([scene.triangles] if scene.geometry else []), truth, params.seed, params.points)
    shares = {f"f_score_{threshold * 100:.0f}": score for threshold, score in found.f_score.items()}
    return {"chamfer": found.chamfer, **shares}
