"""The parts that are found of a fused object when what their division opened is closed, or not, beside the true parts.

Shape suffixes: N atoms, S true parts.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from pipeline.evaluation.part_shapes import mean_figures, triangles
from pipeline.evaluation.shape_metrics import shape_distance
from pipeline.evaluation.surface_regimes import SurfaceRegime, in_parts, true_parts
from pipeline.params.evaluate import EvaluateParams
from pipeline.surface.close import capped
from pipeline.surface.grouping import grouped, load_grouping
from pipeline.surface.scores import overlaps

FUSED = "C"
"""The regime whose parts are open where they touched."""
CLOSED = "closed"
"""The setting of these figures."""
CAP = "cap"
"""The method: `--close cap`. What stays open has its shapes in the table of the regime."""


def closed_parts(
    regimes: Sequence[SurfaceRegime], model: Path, params: EvaluateParams
) -> Iterator[tuple[str, str, dict[str, float]]]:
    """Chamfer distance and F-scores, in percent, of the parts with caps: as of `PartShapes.figures`."""
    truths = true_parts(regimes)
    for one in regimes:
        if one.name == FUSED and truths:
            part_N = grouped(load_grouping(model), one.atoms.features)
            best_S = overlaps(one.atoms.truth_NS, part_N).argmax(axis=0)
            parts = capped(in_parts(one.surfaces, part_N[one.atom_F]))
            found = []
            for truth, best in zip(truths, best_S, strict=True):
                corners = [surface.vertices[surface.faces] for surface in parts[best].surfaces]
                found.append(shape_distance(triangles(np.concatenate(corners)), truth, params.seed, params.points))
            yield CAP, CLOSED, mean_figures(found)
