"""Table 1: how well the regions of segmentations find the true parts of one object (supplement B).

Shape suffixes: R runs, H W pixels of the grid.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from pipeline.errors import ObjectFailed
from pipeline.evaluation.edges import load_hed
from pipeline.evaluation.evaluate_task import EvaluateTask, Found, device, read_labels, read_renders
from pipeline.evaluation.figures import ALIGNED, PART123, SAM2_FORMS
from pipeline.evaluation.ranking import automatic, seeded
from pipeline.evaluation.regions import FelzenszwalbRegions, HedWatershed
from pipeline.evaluation.truths import truths
from pipeline.regions.proposals import Proposals
from pipeline.regions.ranking import Pool
from pipeline.shards.table import WHOLE, decode_png
from pipeline.views.cameras import over_white, shown

if TYPE_CHECKING:
    from pipeline.evaluation.sam2 import Sam2Segmenter


def segmentation(task: EvaluateTask) -> Found:
    """Table 1: how well ranked regions find the true parts, all of them and those at a seed."""
    labels = read_labels(task)
    if not labels.any():
        raise ObjectFailed("no part of the object is in sight in any of the four views")
    known = truths(labels, task.glbs[0]["glb"])

    def measured(name: str, ranked: Proposals, at: Callable[[int, int], Proposals]) -> Found:
        for suffix, truth in known.items():
            yield name, f"automatic{suffix}", automatic(ranked, truth)
            yield name, f"seeded{suffix}", seeded(at, truth)

    rgba = read_renders(task.grids)[WHOLE]
    image, foreground = over_white(rgba), shown(rgba)
    runs = sorted(task.runs, key=lambda row: row["run"])
    maps = np.stack([decode_png(row["labels"]["bytes"]) for row in runs])
    pools = {f"partgen {count}": maps[:count] for count in task.params.runs}
    for name, baseline in baselines().items():
        pools[name] = baseline.segment(image, foreground)
    if task.part123 is not None:
        from pipeline.evaluation.part123 import part123_views  # it draws with OpenGL

        made = part123_views(task.part123, foreground, task.camera, task.elevation_deg)
        pools[PART123] = made.labels[None]
        yield PART123, ALIGNED, {"iou": made.iou}
    for name, regions_RHW in pools.items():
        pool = Pool.of_runs(regions_RHW)
        yield from measured(name, pool.ranked(), pool.ranked_at)
    weights = task.params.weights()
    for name, key in SAM2_FORMS.items():
        if key in weights:
            sam2 = loaded_sam2(weights[key], task.params.sam2_queries).looking_at(image)
            yield from measured(name, sam2.automatic(foreground), sam2.seeded)


@lru_cache(maxsize=1)
def baselines() -> dict[str, HedWatershed | FelzenszwalbRegions]:
    """The methods of Table 1 that need no weights of the user, once a process; UserError when HED's are missing."""
    return {"hed-watershed": HedWatershed(load_hed().to(device())), "felzenszwalb": FelzenszwalbRegions()}


@lru_cache(maxsize=3)
def loaded_sam2(folder: str, queries: int) -> "Sam2Segmenter":
    """SAM2 with some weights, once a process."""
    from pipeline.evaluation.sam2 import Sam2Segmenter  # transformers take seconds to import

    return Sam2Segmenter.from_pretrained(folder, queries, device())
