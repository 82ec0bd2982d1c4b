"""Training samples of the joint reconstruction model, out of the shards: an endless, numbered sequence.

A sample is a function of the seed and its number alone. It is an object in some of its parts, and what is seen of each
part alone and of the object; or, for a share of them and where there are no parts, the object alone as one grid.

Shape suffixes: S parts, R rays, V views, P pieces of views, H W pixels, C channels, M points.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from pipeline.params.reconstruction import ReconstructionParams
from pipeline.params.render import RenderParams
from pipeline.params.train import JointLrmParams
from pipeline.reconstruction.disturbed import disturbed
from pipeline.reconstruction.drawn_objects import DrawnObjects, PosedViews, over_white
from pipeline.reconstruction.examples import AUGMENTATIONS, pieces
from pipeline.reconstruction.rays import Rays, split_views, stacked
from pipeline.shards.dataset import ObjectRows
from pipeline.shards.table import decode_png
from pipeline.training.order import shuffled
from pipeline.views.augment import Augmentation
from pipeline.views.cameras import Camera

LABELS = "masks/labels"
ALONE_SHARE = 0.15
"""Of the samples with parts that are made as one grid all the same: the model must still know an object alone."""
FEWER_SHARE = 0.2
"""Of the samples in parts that have fewer of them than they could."""
POINTS = 8192
"""Of the objects' sphere, where it is looked at which parts claim them."""
UNKNOWN = 255
"""In place of a label where no label map says what is seen."""


class JointExamples(Dataset[dict[str, Any]]):
    """Samples of a split's objects for the joint reconstruction model.

    A sample: `grids`, float32 (S, 3, 2H, 2W) in [0, 1] over white; `whole` (3, 2H, 2W), or None where the one grid is
    the object. Of each grid `rays`, Rays (S, R), and what they see of the true part, `colour` (S, R, 3) over white and
    `alpha` (S, R). Of the object `joint_rays`, Rays (R,), `joint_colour`, `joint_alpha`, and `seen` (R,), the number of
    the part in sight, -1 where that is not known or none; the rays are those whose colour the S parts decide, and may
    be none. `points` (M, 3); `number` and `object_id`.
    """

    def __init__(
        self,
        objects: DrawnObjects,
        data: Path,
        reconstruction: ReconstructionParams,
        render: RenderParams,
        schedule: JointLrmParams,
        seed: int,
        augment: bool,
    ) -> None:
        self.objects, self.labels = objects, ObjectRows(data / LABELS, ["labels"])
        self.schedule, self.seed, self.augment = schedule, seed, augment
        self.samples, self.side = reconstruction.samples, min(reconstruction.crop, render.view_size)
        self.camera = Camera(render.fov_deg, render.distance, render.view_size)

    def __getitem__(self, number: int) -> dict[str, Any]:
        epoch, position = divmod(number, self.objects.count)
        place = shuffled(position, self.objects.count, (self.seed, epoch))
        draws = np.random.default_rng((self.seed, number))
        change, channels = Augmentation.drawn(draws, AUGMENTATIONS), draws.permutation(3).tolist()

        def read(part: int) -> PosedViews:
            drawn = self.objects.read(place, part)
            return drawn.changed(change, channels) if self.augment else drawn

        whole, chosen = read(0), self._chosen(place, draws)
        parts, labels_HW = [read(part) for part in chosen], torch.zeros(whole.grid.shape[1:], dtype=torch.uint8)
        if parts and whole.object_id in self.labels.numbers:
            labels_HW = torch.from_numpy(decode_png(self.labels.whole(whole.object_id)["labels"]["bytes"]))
            labels_HW = change.grid(labels_HW) if self.augment else labels_HW
        else:
            parts = []
        sample = self._alone(parts or [whole], draws)
        if parts:
            every = len(parts) == self.objects.parts(place)
            sample["grids"] = torch.stack([self._grid(part, whole, labels_HW, draws) for part in parts])
            sample |= self._together(parts, whole, labels_HW, every, draws)
        return {**sample, "points": sphere_points(draws), "number": number, "object_id": whole.object_id}

    def _chosen(self, place: int, draws: np.random.Generator) -> list[int]:
        """Some of an object's parts in any order; none where it is to be made as one."""
        parts = self.objects.parts(place)
        most, alone, fewer = min(parts, self.schedule.parts), draws.random() < ALONE_SHARE, draws.random() < FEWER_SHARE
        order = (1 + draws.permutation(parts)).tolist()
        if alone or parts < 2:
            return []
        return order[: int(draws.integers(1, most)) if fewer else most]

    def _grid(self, part: PosedViews, whole: PosedViews, labels_HW: Tensor, draws: np.random.Generator) -> Tensor:
        if draws.random() >= self.schedule.disturbed:
            return over_white(part.grid)[0]
        return disturbed(part.grid, whole.grid, labels_HW, part.part_id, draws)

    def _alone(self, grids: Sequence[PosedViews], draws: np.random.Generator) -> dict[str, Any]:
        """What is seen of each by itself."""
        rays, colours, alphas = [], [], []
        for one in grids:
            views, cameras = one.views(self.objects.elevation_deg)
            chosen = np.resize(draws.permutation(len(cameras)), self.schedule.pieces).tolist()
            rays_PHW, seen_P4HW = pieces(views, cameras, chosen, self.camera, self.side, draws)
            colour, alpha = over_white(seen_P4HW)
            rays.append(self._jittered(rays_PHW, draws))
            colours.append(colour.movedim(1, -1).reshape(-1, 3))
            alphas.append(alpha.flatten())
        return {
            "grids": torch.stack([over_white(one.grid)[0] for one in grids]),
            "whole": None,
            "rays": stacked(rays),
            "colour": torch.stack(colours),
            "alpha": torch.stack(alphas),
        }

    def _together(
        self, parts: Sequence[PosedViews], whole: PosedViews, labels_HW: Tensor, every: bool, draws: np.random.Generator
    ) -> dict[str, Any]:
        """What is seen of the object. Where parts are left out, a ray is known that sees one of the others, or nothing;
        novel views, of which there are no label maps, are known where none is left out.
        """
        views_V4HW, cameras = whole.views(self.objects.elevation_deg)
        labels_V1HW = torch.full_like(views_V4HW[:, :1], UNKNOWN)
        labels_V1HW[:4] = split_views(labels_HW[None, None])[0]
        views_V5HW = torch.cat((views_V4HW, labels_V1HW), dim=1)
        order = [*draws.permutation(4).tolist(), *(4 + draws.permutation(len(cameras) - 4)).tolist()]
        from_grid, novel = order[:4], order[4:]
        half = self.schedule.pieces // 2 if every else 0
        chosen = np.resize(from_grid, self.schedule.pieces - half).tolist() + np.resize(novel, half).tolist()
        rays_PHW, seen_P5HW = pieces(views_V5HW, cameras, chosen, self.camera, self.side, draws)
        colour, alpha = over_white(seen_P5HW[:, :4])
        label_R = seen_P5HW[:, 4].flatten()
        seen_R = torch.full(label_R.shape, -1)
        for number, part in enumerate(parts):
            seen_R[label_R == part.part_id] = number
        known_R = torch.ones_like(label_R, dtype=torch.bool) if every else (seen_R >= 0) | (alpha.flatten() == 0)
        return {
            "whole": over_white(whole.grid)[0],
            "joint_rays": self._jittered(rays_PHW, draws)[known_R],
            "joint_colour": colour.movedim(1, -1).reshape(-1, 3)[known_R],
            "joint_alpha": alpha.flatten()[known_R],
            "seen": seen_R[known_R],
        }

    def _jittered(self, rays_PHW: Rays, draws: np.random.Generator) -> Rays:
        generator = torch.Generator().manual_seed(int(draws.integers(2**63)))
        return rays_PHW.flat().jittered(self.samples, generator)


def sphere_points(draws: np.random.Generator) -> Tensor:
    """POINTS of the objects' sphere, each as likely as the others, (M, 3) float32."""
    points_M3 = draws.normal(size=(POINTS, 3))
    points_M3 *= draws.random((POINTS, 1)) ** (1 / 3) / np.linalg.norm(points_M3, axis=1, keepdims=True)
    return torch.from_numpy(points_M3).float()
