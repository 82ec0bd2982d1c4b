"""Training samples of the reconstruction models, out of the shards: an endless, numbered sequence.

A sample is a function of the seed and its number alone, as in `pipeline.diffusion.examples`. It is a grid and what is
seen of the object from its views, the novel ones and the grid's own: by the rays of square pieces of them, or whole.

Shape suffixes: B samples, R rays, V views, P pieces of views, C channels, H W pixels.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from pipeline.params.reconstruction import ReconstructionParams
from pipeline.params.render import RenderParams
from pipeline.reconstruction.drawn_objects import DrawnObjects, PosedViews, over_white
from pipeline.reconstruction.rays import Rays, stacked, view_rays
from pipeline.training.order import shuffled
from pipeline.views.augment import Augmentation
from pipeline.views.cameras import Camera

AUGMENTATIONS = ("roll", "mirror")
"""Colours change by a permutation of their channels, after which a colour that is rare among the objects is none."""
WHOLE_SHARE = 0.5
"""Of the samples that are whole objects; the others are one part, each of an object's parts as likely as the others."""
SEEN_SHARE = 0.9
"""Of the pieces that have some of the object in them; the others lie anywhere."""


class DrawnExamples(Dataset[dict[str, Any]]):
    """What the samples of all reconstruction models have in common. Sample n is of epoch n // count; every epoch has an
    order of its own.
    """

    def __init__(self, objects: DrawnObjects, seed: int, augment: bool) -> None:
        self.objects, self.seed, self.augment = objects, seed, augment

    def drawn(self, number: int) -> tuple[PosedViews, np.random.Generator]:
        """The object or part of a sample, and what the sample's further draws are made with."""
        epoch, position = divmod(number, self.objects.count)
        place = shuffled(position, self.objects.count, (self.seed, epoch))
        draws = np.random.default_rng((self.seed, number))
        parts = self.objects.parts(place)
        whole, part = draws.random() < WHOLE_SHARE, 1 + int(draws.integers(max(1, parts)))
        drawn = self.objects.read(place, 0 if whole or not parts else part)
        if self.augment:
            drawn = drawn.changed(Augmentation.drawn(draws, AUGMENTATIONS), draws.permutation(3).tolist())
        return drawn, draws


class Examples(DrawnExamples):
    """Samples of a split's objects for the reconstruction model.

    A sample: `grid`, float32 (3, 2H, 2W) in [0, 1] over white; `rays`, Rays (R,), each moved along itself at random;
    what they see, `colour` (R, 3) over white and `alpha` (R,), in [0, 1]; `number`, `object_id`, and `part_id`, 0 for
    the whole object.
    """

    def __init__(
        self,
        objects: DrawnObjects,
        params: ReconstructionParams,
        render: RenderParams,
        pieces: int,
        seed: int,
        augment: bool,
    ) -> None:
        """`pieces` of `params.crop` pixels a side make the rays of a sample, from different views as far as they go."""
        super().__init__(objects, seed, augment)
        self.samples, self.pieces = params.samples, pieces
        self.camera = Camera(render.fov_deg, render.distance, render.view_size)
        self.side = min(params.crop, render.view_size)

    def __getitem__(self, number: int) -> dict[str, Any]:
        drawn, draws = self.drawn(number)
        rgba, cameras = drawn.views(self.objects.elevation_deg)
        chosen = np.resize(draws.permutation(len(cameras)), self.pieces).tolist()
        rays_PHW, seen_PCHW = pieces(rgba, cameras, chosen, self.camera, self.side, draws)
        colour, alpha = over_white(seen_PCHW)
        generator = torch.Generator().manual_seed(int(draws.integers(2**63)))
        return {
            "grid": over_white(drawn.grid)[0],
            "rays": rays_PHW.flat().jittered(self.samples, generator),
            "colour": colour.movedim(1, -1).reshape(-1, 3),
            "alpha": alpha.flatten(),
            "number": number,
            "object_id": drawn.object_id,
            "part_id": drawn.part_id,
        }


class ViewExamples(DrawnExamples):
    """Samples of a split's objects for the gaussians' model, which is drawn in whole views.

    A sample: `grid`, float32 (4, 2H, 2W) in [0, 1], RGB over white and alpha; some views, the novel ones and the grid's
    own, `colour` (V, 3, H, W) over white and `alpha` (V, H, W); their `cameras` (V, 2), azimuth and elevation in
    degrees; `number`, `object_id` and `part_id` as of `Examples`.
    """

    def __init__(self, objects: DrawnObjects, views: int, seed: int, augment: bool) -> None:
        """A sample has so many different views, as far as they go."""
        super().__init__(objects, seed, augment)
        self.views = views

    def __getitem__(self, number: int) -> dict[str, Any]:
        drawn, draws = self.drawn(number)
        rgba, cameras = drawn.views(self.objects.elevation_deg)
        chosen = np.resize(draws.permutation(len(cameras)), self.views)
        colour, alpha = over_white(rgba[chosen])
        grid = over_white(drawn.grid)
        return {
            "grid": torch.cat((grid[0], grid[1][None])),
            "colour": colour,
            "alpha": alpha,
            "cameras": torch.tensor(cameras, dtype=torch.float64)[chosen],
            "number": number,
            "object_id": drawn.object_id,
            "part_id": drawn.part_id,
        }


def collate(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Samples as a batch: tensors and rays with a first axis B, numbers (B,), `object_id` in a list."""
    batch: dict[str, Any] = {}
    for key, first in items[0].items():
        values = [item[key] for item in items]
        if isinstance(first, Rays):
            batch[key] = stacked(values)
        elif isinstance(first, Tensor):
            batch[key] = torch.stack(values)
        else:
            batch[key] = values if isinstance(first, str) else torch.tensor(values)
    return batch


def pieces(
    views_VCHW: Tensor,
    cameras: Sequence[tuple[float, float]],
    chosen: Sequence[int],
    camera: Camera,
    side: int,
    draws: np.random.Generator,
) -> tuple[Rays, Tensor]:
    """A square piece of each of the `chosen` views, `side` pixels: its rays (P, H, W), and its pixels (P, C, H, W).

    The views are from these azimuths and elevations; their fourth channel is alpha, by which the pieces are placed.
    """
    rays, seen = [], []
    for view in chosen:
        rows, columns = _piece(views_VCHW[view, 3] > 0, side, draws)
        rays.append(view_rays(camera, *cameras[view])[rows, columns])
        seen.append(views_VCHW[view, :, rows, columns])
    return stacked(rays), torch.stack(seen)


def _piece(shown_HW: Tensor, side: int, draws: np.random.Generator) -> tuple[slice, slice]:
    """Rows and columns of a square of a view; most often one with a pixel that is `shown`, where there is any."""
    size, places = len(shown_HW), shown_HW.nonzero()
    anywhere, within = draws.integers(0, size, 2), draws.integers(0, side, 2)
    pick, seen = draws.random(), draws.random() < SEEN_SHARE
    at = places[int(pick * len(places))].numpy() if seen and len(places) else anywhere
    top, left = np.clip(at - within, 0, size - side).tolist()
    return slice(top, top + side), slice(left, left + side)
