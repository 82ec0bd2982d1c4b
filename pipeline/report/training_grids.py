"""The objects of the split `train` that are most like what a network drew: beside them, copying is seen.

Shape suffixes: V views, H W pixels, C colours, N objects.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import adaptive_avg_pool2d

from pipeline.evaluation.image_metrics import StLpips
from pipeline.shards.dataset import ObjectRows
from pipeline.shards.read import iter_rows
from pipeline.shards.table import WHOLE, decode_png
from pipeline.views.cameras import over_white, tile, untile

CANDIDATES = 12
"""Objects that are compared by ST-LPIPS, those of least squared errors between small pictures; a copy is among them."""
SMALL_PX = 16


@dataclass(frozen=True)
class Neighbour:
    """A training object that is close to what was drawn."""

    object_id: str
    distance: float
    """ST-LPIPS of the grids, the mean over the views; near 0 for a copy."""
    grid: np.ndarray
    """(2H, 2W, 3) float32 in [0, 1], over white."""


class TrainingGrids:
    """The grids of the whole objects that the networks were trained on; of each a small copy is held."""

    def __init__(self, data: Path) -> None:
        self._rows = ObjectRows(data / "renders/grids", ["part_id", "image"])
        self.object_ids: list[str] = []
        self._small: list[np.ndarray] = []
        for row in iter_rows(data / "renders/grids"):
            if row["split"] == "train" and row["part_id"] == WHOLE:
                self.object_ids.append(row["object_id"])
                self._small.append(_small(_views(row["image"]["bytes"])))
        self._distance: StLpips | None = None

    def nearest(self, grid: np.ndarray) -> Neighbour | None:
        """The closest by ST-LPIPS to a grid (2H, 2W, 3) in [0, 1]; None where nothing was trained on.

        UserError for views that are too small for ST-LPIPS.
        """
        if not self.object_ids:
            return None
        self._distance = self._distance or StLpips()
        drawn_VHWC = untile(grid)
        small = _small(drawn_VHWC)
        errors_N = np.array([np.square(small.astype(float) - other).mean() for other in self._small])
        closest = [self.object_ids[place] for place in np.argsort(errors_N, kind="stable")[:CANDIDATES]]
        views = [_views(self._rows.whole(object_id)["image"]["bytes"]) for object_id in closest]
        distances = self._distance(np.concatenate([drawn_VHWC] * len(views)), np.concatenate(views))
        distances_N = distances.reshape(len(views), -1).mean(axis=1)
        place = int(distances_N.argmin())
        return Neighbour(closest[place], float(distances_N[place]), tile(views[place]))


def _views(png: bytes) -> np.ndarray:
    """The views of a grid with alpha, over white, (V, H, W, 3) float32 in [0, 1]."""
    return untile(over_white(decode_png(png)))


def _small(views_VHWC: np.ndarray) -> np.ndarray:
    """Views of SMALL_PX a side, (V, SMALL_PX, SMALL_PX, 3) uint8."""
    views_VCHW = torch.from_numpy(np.ascontiguousarray(views_VHWC, dtype=np.float32)).movedim(-1, 1)
    return (adaptive_avg_pool2d(views_VCHW, SMALL_PX).movedim(1, -1) * 255).round().byte().numpy()
