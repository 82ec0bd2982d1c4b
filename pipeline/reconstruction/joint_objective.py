"""What the training loop minimises for the joint reconstruction model: each part alone, all together, and no overlap.

The squared errors of colour and alpha are those of the LRM, of rays through each part alone and of rays through all
parts by the rule of A.7. Where a label map says which part is in sight, each part's share of alpha is compared with it.
What two parts claim is looked at in points of the objects' sphere.

Shape suffixes: B samples, S parts, R rays, M points, V views, H W pixels of a view, or
with C D channels and depth of a volume.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.params.reconstruction import ReconstructionParams
from pipeline.reconstruction.drawn_objects import DrawnObjects, PosedViews, over_white
from pipeline.reconstruction.field import Field
from pipeline.reconstruction.joint_examples import JointExamples, sphere_points
from pipeline.reconstruction.joint_lrm import JointLRM
from pipeline.reconstruction.part_views import render_parts
from pipeline.reconstruction.rays import stacked, view_rays
from pipeline.reconstruction.renderer import render
from pipeline.reconstruction.views_objective import ALPHA_WEIGHT, HELD_OUT, LEAST_ERROR, PICTURES, WHITE_EDGE, tiled
from pipeline.views.cameras import Camera

SHARES_WEIGHT = 0.5
"""Of the squared error of the parts' shares of alpha, against that of colour."""
CLAIM = 4.0
"""Opacity, per unit of length, of which half of a point counts as claimed: that of the surfaces."""


class JointObjective:
    """The loss of the joint reconstruction model over its training examples."""

    def __init__(
        self,
        model: JointLRM,
        examples: JointExamples,
        validation: DrawnObjects | None,
        params: ReconstructionParams,
        overlap_weight: float,
    ) -> None:
        self.module, self._params, self._overlap_weight = model, params, overlap_weight
        self._examples, self._validation = examples, validation

    def examples(self) -> JointExamples:
        """The training examples."""
        return self._examples

    def collate(self, items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Objects have different numbers of parts, so that a batch is a list of them."""
        return {"objects": list(items), "object_id": [item["object_id"] for item in items]}

    def loss(self, module: nn.Module, batch: dict[str, Any]) -> Tensor:
        """(B,): the mean over an object's parts alone, and the object, and the overlap times its weight."""
        objects = batch["objects"]
        found = module([one["grids"] for one in objects], [one["whole"] for one in objects])
        with torch.autocast(found[0].device.type, enabled=False):
            return torch.stack([self._loss(*pair) for pair in zip(found, objects, strict=True)])

    def _loss(self, volumes_SCDHW: Tensor, sample: dict[str, Any]) -> Tensor:
        fields = [Field(volume, self.module.decoder) for volume in volumes_SCDHW]
        config: Any = self.module.config
        options = {"samples": config.samples, "chunk_samples": config.chunk_samples}
        loss = volumes_SCDHW.new_zeros(())
        for number, field in enumerate(fields):
            seen = render([field], sample["rays"][number], **options)
            loss = loss + _errors(seen.colour, seen.alpha, sample["colour"][number], sample["alpha"][number])
        loss = loss / len(fields)
        if sample["whole"] is None:
            return loss
        if len(sample["joint_rays"]):
            seen = render(fields, sample["joint_rays"], **options)
            loss = loss + _errors(seen.colour, seen.alpha, sample["joint_colour"], sample["joint_alpha"])
            parts_R = sample["seen"]
            if (parts_R >= 0).any():
                truth_RS = F.one_hot(parts_R.clamp(min=0), len(fields)) * sample["joint_alpha"][:, None]
                shares = (seen.shares - truth_RS).square().sum(dim=1)[parts_R >= 0].mean()
                loss = loss + SHARES_WEIGHT * shares
        return loss + self._overlap_weight * overlap(fields, sample["points"])

    @torch.no_grad()
    def validation(self) -> dict[str, float]:
        """How well novel views of up to HELD_OUT validation objects are drawn; nothing when there are none.

        `psnr` of objects put together, `psnr_parts` of their parts alone, each of all pixels over white; `overlap`, the
        mean of what the training keeps small; `loss`, the mean squared error of the pictures, for the loss curve.
        """
        objects = self._validation
        if objects is None:
            return {}
        errors: dict[str, list[float]] = {"psnr": [], "psnr_parts": []}
        overlaps, points_M3 = [], sphere_points(np.random.default_rng(0)).to(self.module.device)
        for place in _divided(objects, HELD_OUT):
            fields, whole, parts = self._made(objects, place)
            alone, together = self._drawn(fields, whole)
            for drawn, truth, name in [
                (together, whole, "psnr"),
                *((one, part, "psnr_parts") for one, part in zip(alone, parts, strict=True)),
            ]:
                errors[name] += (drawn - over_white(truth.novel_V4HW)[0]).square().mean(dim=(1, 2, 3)).tolist()
            overlaps.append(float(overlap(fields, points_M3)))
        everything = [error for values in errors.values() for error in values]
        if not everything:
            return {}
        decibels = {
            name: float(np.mean(-10 * np.log10(np.maximum(values, LEAST_ERROR)))) for name, values in errors.items()
        }
        return {"loss": float(np.mean(everything)), **decibels, "overlap": float(np.mean(overlaps))}

    @torch.no_grad()
    def pictures(self) -> dict[str, np.ndarray]:
        """The grid shown, novel views of the parts together and as they are: uint8 (H, W, 3), a row an object."""
        objects, rows = self._validation or self._examples.objects, []
        for place in _divided(objects, PICTURES):
            fields, whole, _ = self._made(objects, place)
            truth = tiled(over_white(whole.novel_V4HW)[0])
            columns = [over_white(whole.grid)[0], tiled(self._drawn(fields, whole)[1]), truth]
            rows.append(torch.cat([F.pad(column, (WHITE_EDGE,) * 4, value=1.0) for column in columns], dim=-1))
        picture = torch.cat(rows, dim=-2).permute(1, 2, 0)
        return {"samples": (picture.clamp(0, 1) * 255).round().byte().numpy()}

    def _made(self, objects: DrawnObjects, place: int) -> tuple[list[Field], PosedViews, list[PosedViews]]:
        """The fields of an object's true parts as at inference, the object and the parts."""
        whole = objects.read(place)
        parts = [objects.read(place, part) for part in range(1, 1 + objects.parts(place))]
        grids = torch.stack([over_white(one.grid)[0] for one in [whole, *parts]]).to(self.module.device)
        fields = self.module.fields(grids[1:], grids[0])
        return [field.supported(self._params.support_floor) for field in fields], whole, parts

    def _drawn(self, fields: Sequence[Field], whole: PosedViews) -> tuple[Tensor, Tensor]:
        """Novel views of each part alone, (S, V, 3, H, W), and of all together, (V, 3, H, W)."""
        config: Any = self.module.config
        camera = Camera(config.fov_deg, config.distance, config.view_size)
        rays = stacked([view_rays(camera, *where) for where in zip(whole.azimuths, whole.elevations, strict=True)])
        alone, together = render_parts(fields, rays.flat().to(self.module.device), config.samples)
        shape = (-1, camera.size, camera.size, 3)
        return (
            alone.view(len(fields), *shape).permute(0, 1, 4, 2, 3).cpu(),
            together.view(shape).permute(0, 3, 1, 2).cpu(),
        )


def overlap(fields: Sequence[Field], points_M3: Tensor) -> Tensor:
    """Which share of the space that parts claim is claimed by two of them, differentiable, at least 0 and below 1.

    In each point the sum over pairs of 2 sigma_i sigma_j over (sum of sigma)^2, which is 0 for one part and 1 - 1/n for
    n equal ones, as far as the point is claimed at all.
    """
    sigma_SM = torch.stack([field.opacity(points_M3) for field in fields])
    square_M = sigma_SM.sum(dim=0).square()
    bounded_M = square_M + CLAIM**2
    pairs_M = (square_M - sigma_SM.square().sum(dim=0)).clamp(min=0)
    claimed_M = (square_M / bounded_M).detach()
    return (pairs_M / bounded_M).sum() / claimed_M.sum().clamp(min=1)


def _errors(colour_R3: Tensor, alpha_R: Tensor, true_R3: Tensor, true_R: Tensor) -> Tensor:
    return (colour_R3 - true_R3).square().mean() + ALPHA_WEIGHT * (alpha_R - true_R).square().mean()


def _divided(objects: DrawnObjects, most: int) -> Iterator[int]:
    """The first objects that have two parts or more."""
    places = (place for place in range(objects.count) if objects.parts(place) > 1)
    for place, _ in zip(places, range(most), strict=False):
        yield place
