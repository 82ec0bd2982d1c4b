"""Table "Parts of 3D objects": how well an object's own surface is divided when its part names were taken off.

Shape suffixes: N atoms, S true parts, P predicted ones, R runs, H W pixels of the 2x2 grid.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.spatial.distance import cdist

from pipeline.evaluation.part_shapes import PartShapes
from pipeline.evaluation.surface_proposals import average_precisions
from pipeline.evaluation.surface_regimes import SurfaceRegime, true_parts
from pipeline.params.evaluate import EvaluateParams
from pipeline.surface.features import COLOURS, MATERIAL, AtomFeatures, without_colours
from pipeline.surface.grouping import GroupingModel, chosen_number, load_grouping, predicted
from pipeline.surface.hierarchy import cut, hierarchy
from pipeline.surface.object_atoms import ObjectAtoms
from pipeline.surface.scores import (
    MOST_LEVELS,
    ceiling,
    co_association,
    mean_best_iou,
    mean_best_iou_of_levels,
    overlaps,
)

CONVENTIONS: Mapping[str, str] = {
    "surface": "the object's own triangles, its part names taken off; areas count where pixels do in Table 1",
    "mean best IoU": "for each true part the best predicted one, the mean over parts, then over objects",
    "of all levels": f"the same, where the part may be of any cut of the hierarchy into 1 to {MOST_LEVELS} parts",
    "AP": "the parts of all these cuts are the proposals, ranked as in Table 1; of what has no hierarchy its parts",
    "chamfer, F": "the true part as it was modelled and the predicted part with the best IoU, as among `shapes`",
    "runs": "the share of the segmentation's runs that put two atoms into one part, weight .3 beside the model's own "
    "probability, .7: chosen on validation objects, and not what `decompose` does",
    "without colour": "one grey, no materials; such objects were in the training",
    "without geometry": "places, normals and all that is known of contacts are zero; the training had no such objects",
    "minus the model alone": "the difference of the mean best IoU, object by object",
}
EVIDENCE = 0.3
"""Weight of the co-association of the segmentation's runs beside the grouping model's probability, of 1 together; of 0
to .7 the best on validation objects."""
UNMERGED = {"A": "pieces x materials", "B": "pieces", "C": "superfaces"}
"""What the atoms of each regime are, but for what is divided where colours step."""
MODEL_ALONE = "grouping"
"""The method that `decompose` has."""
Found = Iterator[tuple[str, str, dict[str, float]]]
"""Method, setting and figures."""


def surface_parts(
    regimes: Sequence[SurfaceRegime],
    maps_RHW: np.ndarray,
    assembled_HW: np.ndarray | None,
    model: Path,
    params: EvaluateParams,
) -> Found:
    """The figures of one object, by method and regime: see CONVENTIONS; IoU, AP and F-scores in percent, `parts` how
    many are predicted.

    `maps_RHW` are the runs of the segmentation, of which the first `params.runs` are used, and `assembled_HW` is the
    label map that the neural way takes apart by; None where there is none.
    """
    grouping, truths = load_grouping(model), true_parts(regimes)
    for one in regimes:
        atoms, regime = one.atoms, one.name
        shapes = PartShapes(one.corners_F33, one.atom_F, truths, params.seed, params.points) if truths else None
        count = len(atoms.truth_NS)
        yield "one part", regime, _divided(atoms, np.zeros(count, int), None if regime == "B" else shapes)
        if len(atoms.pieces_PS):
            yield UNMERGED[regime], regime, _figures(atoms.pieces_PS, np.arange(len(atoms.pieces_PS)))
        yield "atoms" if len(atoms.pieces_PS) else UNMERGED[regime], regime, _divided(atoms, np.arange(count))
        if regime == "A":
            yield "materials", regime, _divided(atoms, np.unique(atoms.material_N, return_inverse=True)[1])
        for name, found_PS in (("K-means", atoms.clustered_PS), ("linkage", atoms.linked_PS)):
            if len(found_PS):
                yield name, regime, _figures(found_PS, np.arange(len(found_PS)))
        if assembled_HW is not None:
            yield "views", regime, _divided(atoms, lifted(assembled_HW, atoms), None if regime == "B" else shapes)
        yield "best atoms", regime, {"iou": 100 * ceiling(atoms.truth_NS)}
        own = predicted(grouping, atoms.features)
        yield MODEL_ALONE, regime, _grouped(grouping, atoms, own, shapes)
        for name, hidden in (("colour", without_colours), ("geometry", without_geometry)):
            without = predicted(grouping, hidden(atoms.features))
            yield f"{MODEL_ALONE} without {name}", regime, _grouped(grouping, atoms, without)
        for runs in params.runs:
            shared = co_association(maps_RHW[:runs], atoms.seen_HW, count)
            both = np.where(np.isnan(shared), own, EVIDENCE * shared + (1 - EVIDENCE) * own)
            yield f"{MODEL_ALONE} + {runs} runs", regime, _grouped(grouping, atoms, both)


def without_geometry(features: AtomFeatures) -> AtomFeatures:
    """Of atoms their colours, materials and sizes alone."""
    points, pairs = features.points_NK9.copy(), np.zeros_like(features.pairs_NNC)
    points[..., :6] = 0
    kept = [*COLOURS, MATERIAL]
    pairs[..., kept] = features.pairs_NNC[..., kept]
    return replace(features, points_NK9=points, pairs_NNC=pairs)


def lifted(labels_HW: np.ndarray, atoms: ObjectAtoms) -> np.ndarray:
    """(N,) The part of each atom in a label map, that of most of its pixels; of the nearest seen atom where none is."""
    count = len(atoms.truth_NS)
    pixels = np.zeros((count, int(labels_HW.max()) + 1))
    both = (atoms.seen_HW > 0) & (labels_HW > 0)
    np.add.at(pixels, (atoms.seen_HW[both].astype(int) - 1, labels_HW[both]), 1.0)
    seen = pixels.sum(axis=1) > 0
    if not seen.any():
        return np.zeros(count, int)
    centres = atoms.features.points_NK9[..., :3].mean(axis=1)
    nearest = np.flatnonzero(seen)[cdist(centres, centres[seen]).argmin(axis=1)]
    return np.asarray(
        np.unique(pixels.argmax(axis=1)[np.where(seen, np.arange(count), nearest)], return_inverse=True)[1]
    )


def _grouped(
    model: GroupingModel, atoms: ObjectAtoms, probability_NN: np.ndarray, shapes: PartShapes | None = None
) -> dict[str, float]:
    if len(probability_NN) == 1:
        alone = _divided(atoms, np.zeros(1, int), shapes)
        return alone | {"iou_levels": alone["iou"]}
    merges = hierarchy(probability_NN)
    part_N = cut(merges, chosen_number(model, probability_NN, merges, atoms.features.share_N))
    levels = [cut(merges, parts) for parts in range(1, min(len(probability_NN), MOST_LEVELS) + 1)]
    return {
        **_divided(atoms, part_N, shapes),
        "iou_levels": 100 * mean_best_iou_of_levels(atoms.truth_NS, merges),
        **average_precisions(atoms.truth_NS, levels),
    }


def _divided(atoms: ObjectAtoms, part_N: np.ndarray, shapes: PartShapes | None = None) -> dict[str, float]:
    near = {} if shapes is None else shapes.figures(part_N, overlaps(atoms.truth_NS, part_N))
    return {**_figures(atoms.truth_NS, part_N), **near}


def _figures(truth_NS: np.ndarray, part_N: np.ndarray) -> dict[str, float]:
    iou = 100 * mean_best_iou(truth_NS, part_N)
    return {"iou": iou, **average_precisions(truth_NS, [part_N]), "parts": float(part_N.max() + 1)}
