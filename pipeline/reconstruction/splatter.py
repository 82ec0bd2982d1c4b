"""The splatter: lifts features of pixels into a volume, the inverse of the renderer (supplement A.1, Lightplane).

Every pixel's feature is pushed along its ray: each sample of the ray adds it to the eight cells around, by trilinear
weights. Every cell is then divided by the weights it received. With an MLP, what a sample adds is the MLP of the
pixel's feature plus a prior volume's feature at the sample, so that it may differ along the ray.

Two paths with one signature, as in `renderer`: `splat_reference` under plain autograd, and `splat`, which computes
chunks of rays again in the backward pass. The rays are shared by the batch; their cells are sorted once for all of it.

Shape suffixes: B objects, R rays, S samples of a ray, M = R * S, C channels, D H W a volume's sides along z, y and x,
V = D * H * W, K cells of a sample, X values of all
objects at a cell.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from pipeline.reconstruction import trilinear
from pipeline.reconstruction.rays import Rays

LEAST_WEIGHT = 1e-5
"""A cell's weight counts as at least this, so that cells without a ray stay zero."""

CHUNK_SAMPLES = 2**14
"""Samples of all objects together that are in memory at once."""


def splat_reference(
    features_BRC: Tensor, rays: Rays, samples: int, side: int, net: nn.Module | None = None, prior: Tensor | None = None
) -> Tensor:
    """A volume (B, C, side, side, side) out of the features of a list of rays.

    `prior`, (B, C, D, H, W) of any resolution, and `net`, a map of (..., C) to (..., C'), come together or not at all.
    """
    batch, points = len(features_BRC), rays.points(samples).view(-1, 3)
    values_BMC = features_BRC.repeat_interleave(samples, dim=1)
    if net is not None and prior is not None:
        places = points.to(prior.dtype).view(1, 1, 1, -1, 3).expand(batch, -1, -1, -1, -1)
        values_BMC = net(values_BMC + F.grid_sample(prior, places, align_corners=False)[:, :, 0, 0].transpose(1, 2))
    at = trilinear.corners(points, torch.Size([side] * 3))
    added_BMKC = at.weights_MK[..., None] * values_BMC[:, :, None]
    empty = added_BMKC.new_zeros(batch, side**3, added_BMKC.shape[-1])
    sums_BVC = empty.index_add(1, at.cells_MK.view(-1), added_BMKC.flatten(1, 2))
    weight_V = empty.new_zeros(side**3).index_add(0, at.cells_MK.view(-1), at.weights_MK.view(-1))
    volume_BVC = sums_BVC / weight_V.clamp(min=LEAST_WEIGHT)[:, None]
    return volume_BVC.transpose(1, 2).unflatten(2, [side] * 3)


def splat(
    features_BRC: Tensor,
    rays: Rays,
    samples: int,
    side: int,
    net: nn.Module | None = None,
    prior: Tensor | None = None,
    chunk_samples: int = CHUNK_SAMPLES,
) -> Tensor:
    """As `splat_reference`, in memory for `chunk_samples` samples."""
    splat = _Splat(features_BRC, rays, samples, torch.Size([side] * 3), net, prior, chunk_samples)
    volume_VBC: Tensor = _Recomputed.apply(splat, features_BRC, prior, *splat.weights)
    return volume_VBC.permute(1, 2, 0).unflatten(2, [side] * 3)


@dataclass(frozen=True)
class _Splat:
    """All that a volume is made of."""

    features_BRC: Tensor
    rays: Rays
    samples: int
    shape: torch.Size
    net: nn.Module | None
    prior: Tensor | None
    chunk_samples: int

    @property
    def weights(self) -> list[Tensor]:
        return [] if self.net is None else list(self.net.parameters())

    def chunks(self) -> Iterator[slice]:
        """Rays that are taken together."""
        batch, rays, _ = self.features_BRC.shape
        count = max(1, self.chunk_samples // (self.samples * batch))
        yield from (slice(start, start + count) for start in range(0, rays, count))

    def prior_table(self) -> Tensor | None:
        """The prior as one row a cell, (V, B * C)."""
        return None if self.prior is None else trilinear.table(self.prior.detach().flatten(0, 1))

    def features(self, chunk: slice) -> Tensor:
        """Of a chunk's rays, (R, B, C)."""
        return self.features_BRC[:, chunk].transpose(0, 1)

    def corners(self, chunk: slice, shape: torch.Size) -> trilinear.Corners:
        """The cells of all samples of a chunk."""
        return trilinear.corners(self.rays[chunk].points(self.samples).view(-1, 3), shape)

    def mapped(self, features_RBC: Tensor, prior_MX: Tensor) -> Tensor:
        """What each sample adds, (M, B, C'); differentiable."""
        assert self.net is not None
        values_MBC: Tensor = self.net(
            features_RBC.repeat_interleave(self.samples, dim=0) + prior_MX.view(-1, *features_RBC.shape[1:])
        )
        return values_MBC


class _Recomputed(torch.autograd.Function):
    """A splat, (V, B, C'); features, prior and weights are arguments so that autograd knows of them."""

    @staticmethod
    def forward(ctx: Any, splat: _Splat, features_BRC: Tensor, prior: Tensor | None, *weights: Tensor) -> Tensor:
        batch, _, channels = features_BRC.shape
        table, sums_VX = splat.prior_table(), None
        for chunk in splat.chunks():
            at, features_RBC = splat.corners(chunk, splat.shape), splat.features(chunk)
            if table is None:
                at, values = at.joined(splat.samples), features_RBC  # the same all along the ray
            else:
                assert splat.prior is not None
                prior_MX = trilinear.gather(table, splat.corners(chunk, splat.prior.shape[2:]))
                values = splat.mapped(features_RBC, prior_MX)
            if sums_VX is None:
                channels = values.shape[-1]
                sums_VX = features_BRC.new_zeros(splat.shape.numel(), batch * channels + 1)
            ones = values.new_ones(len(values), 1)  # their sums are the weights
            trilinear.scatter(sums_VX, at, torch.cat((values.flatten(1), ones), dim=1))
        assert sums_VX is not None
        weight_V1 = sums_VX[:, -1:].clamp(min=LEAST_WEIGHT)
        ctx.splat = splat
        ctx.save_for_backward(features_BRC, prior, weight_V1, *weights)
        return sums_VX[:, :-1].div_(weight_V1).unflatten(1, (batch, channels))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_VBC: Tensor) -> tuple[Tensor | None, ...]:
        splat: _Splat = ctx.splat
        features_BRC, prior, weight_V1, *_ = ctx.saved_tensors
        to_sums_VX = gradient_VBC.flatten(1) / weight_V1
        to_features = torch.zeros_like(features_BRC)
        weights = [weight for weight in splat.weights if weight.requires_grad]
        to_weights = [torch.zeros_like(weight) for weight in weights]
        table = splat.prior_table()
        to_table = None if table is None else torch.zeros_like(table)
        for chunk in splat.chunks():
            at, features_RBC = splat.corners(chunk, splat.shape), splat.features(chunk)
            if table is None or to_table is None:
                of_features = trilinear.gather(to_sums_VX, at.joined(splat.samples)).view_as(features_RBC)
            else:
                at_prior = splat.corners(chunk, prior.shape[2:])
                leaves = [features_RBC.detach().requires_grad_(), trilinear.gather(table, at_prior).requires_grad_()]
                with torch.enable_grad():
                    values = splat.mapped(*leaves)
                of_values = trilinear.gather(to_sums_VX, at).view_as(values)
                of_features, of_prior, *of_weights = torch.autograd.grad(values, [*leaves, *weights], of_values)
                trilinear.scatter(to_table, at_prior, of_prior)
                for to_weight, of_weight in zip(to_weights, of_weights, strict=True):
                    to_weight += of_weight
            to_features[:, chunk] = of_features.transpose(0, 1)
        to_prior = None if to_table is None else trilinear.volume(to_table, prior.shape[2:]).view(prior.shape)
        found = iter(to_weights)
        return None, to_features, to_prior, *(next(found) if w.requires_grad else None for w in splat.weights)
