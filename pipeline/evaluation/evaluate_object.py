"""The figures of one object: what the stage `evaluate` runs in its pool processes (Tables 1 to 3 of the paper, and how
like itself the object is when it is drawn from its caption or from one view).

Ground truth and what the stages before made of it are rows of their tables. Where a stage has no rows of the object,
because it failed there, the figures that need them are missing.

Shape suffixes: R runs, H W pixels of the grid.
"""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch
import trimesh

from pipeline.assets.glb import load_parts
from pipeline.errors import ObjectFailed
from pipeline.evaluation.closed_parts import closed_parts
from pipeline.evaluation.edges import load_hed
from pipeline.evaluation.failures import assembled, depth_error, disagreement, grouping
from pipeline.evaluation.ranking import automatic, seeded
from pipeline.evaluation.regions import FelzenszwalbRegions, HedWatershed
from pipeline.evaluation.shape_metrics import shape_distance
from pipeline.evaluation.surface_parts import surface_parts
from pipeline.evaluation.surface_regimes import DIVISIONS, SurfaceRegime, divisions
from pipeline.evaluation.truths import truths
from pipeline.evaluation.view_measures import ViewMeasures
from pipeline.params.evaluate import EvaluateParams
from pipeline.regions.proposals import Proposals
from pipeline.regions.ranking import Pool
from pipeline.shards.table import WHOLE, Table, decode_png
from pipeline.views.cameras import GRID_AZIMUTHS, Camera, over_white, shown, untile
from pipeline.views.tables import GIVEN_VIEW

if TYPE_CHECKING:
    from pipeline.evaluation.sam2 import Sam2Segmenter

CONTRACT = "evaluate/5"
"""Raised when the same inputs give other rows."""

FIGURES = Table(
    "figures",
    1,
    pa.schema(
        [
            ("object_id", pa.string()),
            ("split", pa.string()),
            # segmentation, completion or reassembly: Tables 1, 2 and 3; generation; surface; failures
            ("table", pa.string()),
            ("method", pa.string()),
            # automatic, seeded, both also of large parts; views, 3d; 3d, shape, part shape, overlap; views; A, B, C,
            # closed; views, grouping, depth
            ("setting", pa.string()),
            ("figure", pa.string()),
            ("value", pa.float64()),  # finite: what is not is missing
        ]
    ),
    sort=("table", "method", "setting", "figure"),
)

Rows = Sequence[Mapping[str, Any]]

ASSEMBLED = {
    ("truth", "oracle"): "oracle parts",
    ("truth", "complete"): "true parts",
    ("predicted", "complete"): "predicted parts",
    ("whole", "whole"): "whole",
}
"""What Table 3 calls the source and the method of what was put together again."""
NEAREST = 0.9
"""A picture is closer to its own object than to this share of the others, to be in the nearest tenth."""
SAM2_FORMS = {"sam2": "sam2", "sam2-mask-decoder": "sam2_mask_decoder", "sam2-grid": "sam2_grid"}
"""The method of Table 1 whose weights a key of the params gives."""


@dataclass(frozen=True)
class EvaluateTask:
    """What one object's figures are made from: its rows in the tables of the stages."""

    object_id: str
    split: str
    grids: Rows
    """renders/grids: the whole and all parts."""
    novel: Rows
    """renders/novel, the same."""
    given: Rows
    """renders/conditioning."""
    labels: Rows
    """masks/labels."""
    generations: Rows
    """generations/grids."""
    runs: Rows
    """segmentations/runs."""
    completions: Rows
    """completions/grids."""
    views: Rows
    """reconstructions/views."""
    parts: Rows
    """reconstructions/parts."""
    objects: Rows
    """reconstructions/objects."""
    glbs: Rows
    """assets/glbs."""
    assembled: Rows
    """segmentations/parts."""
    atoms: Rows
    """atoms/atoms."""
    surfaces: Rows
    """atoms/surfaces."""
    grouping: Path
    """The folder of the grouping model."""
    wholes: Mapping[str, bytes]
    """PNGs of the grids of all objects that are evaluated, by object."""
    camera: Camera
    """Of a view of the grids."""
    elevation_deg: float
    params: EvaluateParams


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


Found = Iterator[tuple[str, str, dict[str, float]]]
"""Method, setting and figures."""


def segmentation(task: EvaluateTask) -> Found:
    """Table 1: how well ranked regions find the true parts, all of them and those at a seed."""
    labels = _labels(task)
    if not labels.any():
        raise ObjectFailed("no part of the object is in sight in any of the four views")
    known = truths(labels, task.glbs[0]["glb"])

    def measured(name: str, ranked: Proposals, at: Callable[[int, int], Proposals]) -> Found:
        for suffix, truth in known.items():
            yield name, f"automatic{suffix}", automatic(ranked, truth)
            yield name, f"seeded{suffix}", seeded(at, truth)

    rgba = _renders(task.grids)[WHOLE]
    image, foreground = over_white(rgba), shown(rgba)
    runs = sorted(task.runs, key=lambda row: row["run"])
    maps = np.stack([decode_png(row["labels"]["bytes"]) for row in runs])
    pools = {f"partgen {count}": maps[:count] for count in task.params.runs}
    for name, baseline in baselines().items():
        pools[name] = baseline.segment(image, foreground)
    for name, regions_RHW in pools.items():
        pool = Pool.of_runs(regions_RHW)
        yield from measured(name, pool.ranked(), pool.ranked_at)
    weights = task.params.weights()
    for name, key in SAM2_FORMS.items():
        if key in weights:
            sam2 = loaded_sam2(weights[key], task.params.sam2_queries).looking_at(image)
            yield from measured(name, sam2.automatic(foreground), sam2.seeded)


def completion(task: EvaluateTask) -> Found:
    """Table 2: parts that were completed beside the true ones, on the four views and, reconstructed, from novel ones.

    All parts of the object count, also those that are out of sight; a figure is their mean.
    """
    targets, novel = _renders(task.grids), _renders(task.novel)
    whole, truth = over_white(targets.pop(WHOLE)), _labels(task)
    drawn = {("views", "oracle", part_id): over_white(target) for part_id, target in targets.items()}
    for part_id in targets:
        drawn["views", "none", part_id] = np.where((truth == part_id)[..., None], whole, 1.0).astype(np.float32)
    for setting, rows in (("views", task.completions), ("3d", task.views)):
        for row in rows:
            if row["source"] == "truth" and row["label"] != WHOLE:
                drawn[setting, row["method"], row["label"]] = _picture(row)
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
    target = _renders(task.novel)[WHOLE]
    for row in task.views:
        if row["label"] == WHOLE and (row["source"], row["method"]) in ASSEMBLED:
            yield ASSEMBLED[row["source"], row["method"]], "3d", _measured(task.params, _picture(row), target)
    loaded = load_parts(task.glbs[0]["glb"])
    true_parts = {part.part_id: _surface([mesh.triangles for mesh in part.meshes]) for part in loaded}
    true_whole = _surface([mesh.triangles for mesh in true_parts.values()])
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
    drawn = {row["method"]: untile(_picture(row)) for row in task.generations}
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
        if found := disagreement(_picture(row), task.camera, angle):
            yield row["method"], "views", found
    yield "segment", "grouping", grouping(decode_png(assembled(task.runs)["labels"]["bytes"]), _labels(task))
    truth = _surface([mesh.triangles for part in load_parts(task.glbs[0]["glb"]) for mesh in part.meshes])
    for row in task.objects:
        scene = trimesh.load_scene(io.BytesIO(row["glb"]), file_type="glb", process=False) if row["glb"] else None
        if scene and (found := depth_error(_surface([scene.triangles]), truth, task.camera, angle, task.params.seed)):
            yield ASSEMBLED[row["source"], row["method"]], "depth", found


@lru_cache(maxsize=1)
def baselines() -> dict[str, HedWatershed | FelzenszwalbRegions]:
    """The methods of Table 1 that need no weights of the user, once a process; UserError when HED's are missing."""
    return {"hed-watershed": HedWatershed(load_hed().to(_device())), "felzenszwalb": FelzenszwalbRegions()}


@lru_cache(maxsize=3)
def loaded_sam2(folder: str, queries: int) -> "Sam2Segmenter":
    """SAM2 with some weights, once a process."""
    from pipeline.evaluation.sam2 import Sam2Segmenter  # transformers take seconds to import

    return Sam2Segmenter.from_pretrained(folder, queries, _device())


@lru_cache(maxsize=1)
def loaded_measures(lpips: str | None, clip: str | None) -> ViewMeasures:
    """The measures of pictures, once a process."""
    return ViewMeasures(lpips, clip, _device())


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


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
    found = shape_distance(_surface([scene.triangles] if scene.geometry else []), truth, params.seed, params.points)
    shares = {f"f_score_{threshold * 100:.0f}": score for threshold, score in found.f_score.items()}
    return {"chamfer": found.chamfer, **shares}


def _surface(triangles: Sequence[np.ndarray]) -> trimesh.Trimesh:
    """Triangles (T, 3, 3) as one mesh without their looks."""
    corners = np.concatenate([np.zeros((0, 3, 3)), *triangles])
    return trimesh.Trimesh(corners.reshape(-1, 3), np.arange(3 * len(corners)).reshape(-1, 3), process=False)


def _labels(task: EvaluateTask) -> np.ndarray:
    labels: np.ndarray = decode_png(task.labels[0]["labels"]["bytes"])
    return labels


def _renders(rows: Rows) -> dict[int, np.ndarray]:
    """RGBA pictures (H, W, 4) uint8 by part id."""
    return {row["part_id"]: decode_png(row["image"]["bytes"]) for row in rows}


def _picture(row: Mapping[str, Any]) -> np.ndarray:
    """RGB (H, W, 3) float32 in [0, 1]."""
    return decode_png(row["image"]["bytes"]).astype(np.float32) / 255
