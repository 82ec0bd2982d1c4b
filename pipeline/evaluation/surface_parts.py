"""Table "Parts of 3D objects": how well an object's own surface is divided when its part names were taken off.

Shape suffixes: N atoms, S true parts, P predicted ones, R runs, H W pixels of the 2x2 grid.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist

from pipeline.surface.features import without_colours
from pipeline.surface.grouping import load_grouping, predicted
from pipeline.surface.hierarchy import LEVEL, MOST_PARTS, cut, hierarchy, number_of_parts
from pipeline.surface.object_atoms import ObjectAtoms
from pipeline.surface.scores import ceiling, co_association, mean_best_iou, mean_best_iou_of_levels

EVIDENCE = 0.3
"""Weight of the co-association of the segmentation's runs beside the grouping model's probability, of 1 together; set
by guess, not chosen on validation objects."""
UNMERGED = {"A": "pieces x materials", "B": "pieces", "C": "superfaces"}
"""What the atoms of each regime are."""
Found = Iterator[tuple[str, str, dict[str, float]]]
"""Method, setting and figures."""


def surface_parts(
    atoms: Sequence[Mapping[str, Any]],
    maps_RHW: np.ndarray,
    assembled_HW: np.ndarray | None,
    counts: Sequence[int],
    model: Path,
) -> Found:
    """The figures of one object, by method and regime (rows of the table `atoms`).

    `iou`: for each true part the IoU by area of the best predicted one, the mean over parts, in percent; `iou_levels`:
    where that may be of any cut of the hierarchy; `parts`: how many are predicted. `maps_RHW` are the runs of the
    segmentation, of which the first `counts` are used, and `assembled_HW` is the label map that the neural way takes
    apart by; None where there is none.
    """
    grouping = load_grouping(model)
    for row in atoms:
        regime, one = row["regime"], ObjectAtoms.unpacked(row["arrays"])
        count = len(one.truth_NS)
        yield "one part", regime, _figures(one, np.zeros(count, int))
        yield UNMERGED[regime], regime, _figures(one, np.arange(count))
        if regime == "A":
            yield "materials", regime, _figures(one, np.unique(one.material_N, return_inverse=True)[1])
        for name, found_PS in (("K-means", one.clustered_PS), ("linkage", one.linked_PS)):
            if len(found_PS):
                yield name, regime, {"iou": 100 * mean_best_iou(found_PS, np.arange(len(found_PS)))}
        if assembled_HW is not None:
            yield "views", regime, _figures(one, lifted(assembled_HW, one))
        yield "best atoms", regime, {"iou": 100 * ceiling(one.truth_NS)}
        own = predicted(grouping, one.features)
        yield "grouping", regime, _grouped(one, own)
        yield "grouping without colour", regime, _grouped(one, predicted(grouping, without_colours(one.features)))
        for runs in counts:
            shared = co_association(maps_RHW[:runs], one.seen_HW, count)
            both = np.where(np.isnan(shared), own, EVIDENCE * shared + (1 - EVIDENCE) * own)
            yield f"grouping + {runs} runs", regime, _grouped(one, both)


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


def _grouped(atoms: ObjectAtoms, probability_NN: np.ndarray) -> dict[str, float]:
    if len(probability_NN) == 1:
        alone = _figures(atoms, np.zeros(1, int))
        return alone | {"iou_levels": alone["iou"]}
    merges = hierarchy(probability_NN)
    part_N = cut(merges, number_of_parts(merges, LEVEL, MOST_PARTS))
    return _figures(atoms, part_N) | {"iou_levels": 100 * mean_best_iou_of_levels(atoms.truth_NS, merges)}


def _figures(atoms: ObjectAtoms, part_N: np.ndarray) -> dict[str, float]:
    return {"iou": 100 * mean_best_iou(atoms.truth_NS, part_N), "parts": float(part_N.max() + 1)}
