"""What the figures of a run depend on, as it is printed below the tables and stored beside the figures."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.evaluation import failures, part_objaverse, ranking, shape_metrics, surface_parts, truths, view_measures
from pipeline.evaluation.bootstrap import CONFIDENCE, RESAMPLES
from pipeline.evaluation.figures import PART123, SAM2_FORMS
from pipeline.evaluation.segmentation_figures import baselines
from pipeline.params.evaluate import EvaluateParams
from pipeline.shards.read import read_manifest

MODELS = ("text_to_mv", "image_to_mv", "segment", "complete", "complete_no_context", "complete_single_view")
SAMPLER = ("solver", "steps", "guidance", "colours", "grid_size")
"""What a model's index says of how it is sampled."""

COMPLETION: Mapping[str, str] = {
    "parts": "all true parts of an object, those out of sight too; the paper takes one at random",
    "oracle": "the rendered grid J of the part",
    "none": "J = I * M over white",
    "network alone": "each network's first draw of a part as it is, nothing pasted: as in the paper",
    "visible pixels kept": "pixels of the part's mask as the grid has them, white far from the object, the best of "
    "`draws` by the agreement of the silhouettes",
    "mean": "over an object's parts first, then over objects",
    "3d": "the grid reconstructed, seen from four random views",
}
REASSEMBLY: Mapping[str, str] = {
    "predicted parts": "of the assembled segmentation, completed one by one",
    "true parts": "of the true masks, completed one by one",
    "oracle parts": "as rendered, J, reconstructed one by one",
    "whole": "the object's own grid I, reconstructed at once",
    "target": "the whole object from four random views; the PSNR is of all pixels and of the foreground",
    "overlap": "of an object's reconstructed parts: mean and largest IoU of pairs in space, and the share of the "
    "union's volume that two or more claim",
    "absent": "parts without a surface, as a share; their meshes are empty",
}
GENERATION: Mapping[str, str] = {
    "drawn": "each object once, from its caption and from one random view of it",
    "closer than to others": "share of the other evaluated objects to whose true grids what was drawn is farther "
    "than to the object's own, by ST-LPIPS, mean over the four views; chance: .5",
    "than to nine tenths": "share of the objects for which that is .9 or more; chance: .1",
    "that view, four times over": "in place of the grid: what colours and size alone tell",
}


def conventions(data: Path, params: EvaluateParams) -> dict[str, Any]:
    """By subject, each a mapping of names to plain words and numbers."""
    baseline = {name: method.conventions() for name, method in baselines().items()}
    made = read_manifest(data / "reconstructions/views").settings
    complete = made.get("complete", {})
    shapes = {"points": f"{params.points} of each surface, uniform by area, seed {params.seed}"}
    return {
        "segmentation": {**ranking.CONVENTIONS, **truths.CONVENTIONS, **baseline, **_part123(params), **_sam2(params)},
        "completion": {**COMPLETION, **{key: complete[key] for key in ("keep_visible", "draws") if key in complete}},
        "reassembly": dict(REASSEMBLY),
        "generation": dict(GENERATION),
        "pictures": dict(view_measures.CONVENTIONS),
        "shapes": {**shape_metrics.CONVENTIONS, **shapes},
        "surfaces": dict(surface_parts.CONVENTIONS),
        "PartObjaverse-Tiny": dict(part_objaverse.CONVENTIONS),
        "intervals": {
            "bootstrap": f"percentile, over objects, {CONFIDENCE:.0%}, {RESAMPLES} resamples, seed {params.seed}"
        },
        "failure analysis": dict(failures.CONVENTIONS),
        "failures": {"objects": "those that a stage failed with are left out of the tables that need it"},
        "sampling": {name: found for name in MODELS if (found := _sampler(data / "models" / name))},
        "stages": made,
    }


def lines(values: Mapping[str, Any], depth: int = 0) -> list[str]:
    """One convention a line, nested ones indented."""
    found = []
    for name, value in values.items():
        text = f"{'  ' * depth}{name}:"
        if isinstance(value, Mapping):
            nested = all(not isinstance(inner, Mapping) for inner in value.values())
            flat = ", ".join(f"{key} {_shown(inner)}" for key, inner in value.items())
            found += [f"{text} {flat}"] if depth and nested else [text, *lines(value, depth + 1)]
        else:
            found.append(f"{text} {_shown(value)}")
    return found


def _part123(params: EvaluateParams) -> dict[str, Any]:
    if params.part123 is None:
        return {}
    from pipeline.evaluation.part123 import CONVENTIONS as OF_PART123  # it brings OpenGL

    return {PART123: OF_PART123}


def _sam2(params: EvaluateParams) -> dict[str, Any]:
    given = [name for name, key in SAM2_FORMS.items() if key in params.weights()]
    if not given:
        return {}
    from pipeline.evaluation.sam2 import conventions as of_sam2  # transformers take seconds to import

    return dict.fromkeys(given, of_sam2(params.sam2_queries))


def _sampler(model: Path) -> dict[str, Any]:
    """Empty where the model is not here, such as when only its results were copied."""
    index = model / "model_index.json"
    values = json.loads(index.read_text(encoding="utf-8")) if index.is_file() else {}
    return {name: values[name] for name in SAMPLER if name in values}


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
