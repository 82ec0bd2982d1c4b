"""Which parts an object is taken apart into: one of several segmentations, or the part at a seed point (3.2, suppl. B).

Shape suffixes: R runs, H W pixels of the grid, N regions or parts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.applications.part import Segmentation
from pipeline.diffusion.pipelines import SegmentationPipeline
from pipeline.errors import Invalid, UserError
from pipeline.params.choice import Choice
from pipeline.params.segment import SegmentParams
from pipeline.parts.label_maps import Parts, tidy
from pipeline.parts.segmentation import run_scores, segment
from pipeline.reconstruction.carving import Carver
from pipeline.regions.proposals import Proposals, iou
from pipeline.regions.ranking import SAME_REGION, Pool

SELECTED, REST = 1, 2
"""The labels of the part at a seed point, and of all the others together."""


@dataclass(frozen=True)
class Chosen:
    """The parts of an object's grid."""

    labels: np.ndarray
    """(H, W) uint8: 1..S; 0 the background, and views in which the segmentation found nothing."""
    scores: Mapping[int, float | None]
    """Of each part, the share of runs that have a region that overlaps it by an IoU above 1/2; None without runs."""
    segmentations: Sequence[Segmentation]
    merged: int
    """Regions that joined another, for their size or since there were more than `max_parts`."""


def choose_parts(
    model: SegmentationPipeline,
    grid: np.ndarray,
    shown_HW: np.ndarray,
    choice: Choice,
    params: SegmentParams,
    seed: int,
    carver: Carver,
) -> Chosen:
    """Segment a grid (H, W, 3) in [0, 1] several times, and choose.

    Where no run finds a part, the object is one part. UserError when the seed point is on the background, or when there
    are fewer answers for it than the one that is to be used.
    """
    at = choice.grid_pixel(len(shown_HW) // 2)
    if at is not None and not shown_HW[at]:
        x, y = at[1] % (len(shown_HW) // 2), at[0] % (len(shown_HW) // 2)
        raise Invalid(f"The pixel {x},{y} of view {choice.view} is background; give a seed point on the object.")
    maps_RHW = segment(model, grid, shown_HW, params, seed, carver)
    pool = Pool.of_runs(maps_RHW)
    ranked = _automatic(maps_RHW, shown_HW, params) if at is None else _seeded(pool, at, shown_HW, params.runs)
    if len(ranked) < choice.use:
        raise UserError(
            f"Of {params.runs} segmentations there are {len(ranked)} different parts at the seed point, so there is no "
            f"number {choice.use}; try another point, another seed or more runs."
        )
    kept = ranked[: choice.samples]
    segmentations = [Segmentation(parts.labels, score, run) for parts, score, run in kept]
    used = kept[choice.use - 1][0]
    return Chosen(used.labels, _scores(used.labels, pool, params.runs), segmentations, len(used.merged))


def _automatic(maps_RHW: np.ndarray, shown_HW: np.ndarray, params: SegmentParams) -> list[tuple[Parts, float, int]]:
    """Every run's segmentation, tidied up, with its score and its number; the best first."""
    scores = run_scores(maps_RHW)
    ranked = []
    for run in np.argsort(-scores, kind="stable").tolist():
        parts = tidy(maps_RHW[run], shown_HW, params.max_parts, params.min_part_pixels)
        if not parts.labels.any():
            parts = Parts(shown_HW.astype(np.uint8), [])
        ranked.append((parts, float(scores[run]), run))
    return ranked


def _seeded(pool: Pool, at: tuple[int, int], shown_HW: np.ndarray, runs: int) -> list[tuple[Parts, float, int]]:
    """The same of every region that contains the seed, as the part SELECTED beside the REST."""
    regions = pool.ranked_at(*at)
    return [
        (Parts(np.where(shown_HW, np.where(mask, SELECTED, REST), 0).astype(np.uint8), []), float(score / runs), run)
        for mask, score, run in zip(regions.masks(), regions.score_N, regions.run_N.tolist(), strict=True)
    ]


def _scores(labels_HW: np.ndarray, pool: Pool, runs: int) -> dict[int, float]:
    parts = Proposals.of_maps(labels_HW[None])
    agree_N = (iou(parts, pool.proposals) > SAME_REGION).sum(axis=1)
    return {int(label): float(count / runs) for label, count in zip(parts.label_N, agree_N, strict=True)}
