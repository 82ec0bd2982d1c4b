"""How far the parts of a divided surface are from the true parts: chamfer distance and F-scores.

Shape suffixes: F triangles, N atoms, S true parts, P predicted ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import trimesh

from pipeline.evaluation.shape_metrics import F_THRESHOLDS, ShapeDistance, shape_distance


@dataclass(frozen=True)
class PartShapes:
    """One object's surface as its atoms divide it, beside its true parts as they were modelled."""

    corners_F33: np.ndarray
    """The triangles of the surface that was divided."""
    atom_F: np.ndarray
    truths: Sequence[trimesh.Trimesh]
    """S meshes, with what touching parts hide."""
    seed: int
    points: int
    known: dict[tuple[bytes, int], ShapeDistance] = field(default_factory=dict)
    """What was measured already: methods often agree."""

    def figures(self, part_N: np.ndarray, overlap_PS: np.ndarray) -> dict[str, float]:
        """`chamfer` and `f_score_2`, `f_score_5`, `f_score_10` in percent: of each true part and the predicted one with
        the largest IoU, the mean over the true parts.
        """
        found = []
        for truth, part in enumerate(overlap_PS.argmax(axis=0)):
            mine_N = part_N == part
            key = (mine_N.tobytes(), truth)
            if key not in self.known:
                predicted = triangles(self.corners_F33[mine_N[self.atom_F]])
                self.known[key] = shape_distance(predicted, self.truths[truth], self.seed, self.points)
            found.append(self.known[key])
        return mean_figures(found)


def mean_figures(found: Sequence[ShapeDistance]) -> dict[str, float]:
    """The means of the chamfer distances, and of the F-scores in percent."""
    scores = {
        f"f_score_{threshold * 100:.0f}": 100 * float(np.mean([one.f_score[threshold] for one in found]))
        for threshold in F_THRESHOLDS
    }
    return {"chamfer": float(np.mean([one.chamfer for one in found])), **scores}


def triangles(corners_F33: np.ndarray) -> trimesh.Trimesh:
    """Triangles as a mesh without its looks."""
    return trimesh.Trimesh(corners_F33.reshape(-1, 3), np.arange(3 * len(corners_F33)).reshape(-1, 3), process=False)


def joined(pieces: Sequence[np.ndarray]) -> trimesh.Trimesh:
    """Triangles (F, 3, 3) of any number of pieces as one such mesh."""
    return triangles(np.concatenate([np.zeros((0, 3, 3)), *pieces]))
