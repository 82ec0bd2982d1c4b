"""The Emission-Absorption renderer for N parts (supplement A.7): one object is N = 1.

Two paths with one signature. `render_reference` is the formula under plain autograd. `render` takes rays in chunks,
evaluates a part only where its support says that something may be, keeps nothing of a sample, and computes each chunk
again in the backward pass; so its memory beyond the volumes and their gradients is that of one chunk. Rays have no
gradient on this path, and there is no second derivative. Parts whose support holds nothing cost nothing.

Parts may differ in their volumes' resolutions, decoders and places in the scene; they share the samples of a ray. Where
several of them claim a point, the paper adds them up; with `overlap="densest"` the point is its densest part's alone.

Shape suffixes: R rays, S samples of a ray, N parts, M samples of one part that are evaluated, C channels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from dataclasses import fields as dataclass_fields
from itertools import chain
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pipeline.errors import UserError
from pipeline.reconstruction import trilinear
from pipeline.reconstruction.field import Field
from pipeline.reconstruction.rays import Rays

EPSILON = 1e-10
"""In the denominator of the weights w^h, which are 0/0 in empty space. It changes a colour by at most EPSILON a unit of
length."""

Overlap = Literal["additive", "densest"]

CHUNK_SAMPLES = 2**14
"""Samples of all parts together that are in memory at once; on a CPU more are no faster."""


@dataclass(frozen=True)
class Rendered:
    """What rays see. Rows of rays that hit nothing: background, 0, 0, 0."""

    colour: Tensor
    """(R, 3) in [0, 1], over the background."""
    alpha: Tensor
    """(R,) in [0, 1], how much of the background is hidden."""
    depth: Tensor
    """(R,), distance from the ray's origin times visibility, summed up; over alpha it is the mean distance."""
    shares: Tensor
    """(R, N), how much of alpha is each part's; they sum up to alpha, and their argmax is the part in sight."""


def render_reference(
    fields: Sequence[Field], rays: Rays, samples: int, background: float = 1.0, overlap: Overlap = "additive"
) -> Rendered:
    """A list of rays (R,) through N parts; the background is one grey level. UserError without a part."""
    points, directions = rays.points(samples), rays.directions[:, None].expand(-1, samples, -1)
    read = [field.evaluate(points.reshape(-1, 3), directions.reshape(-1, 3)) for field in _checked(fields)]
    sigma_RSN = torch.stack([sigma for sigma, _ in read], dim=-1).view(*points.shape[:2], -1)
    colour_RSN3 = torch.stack([colour for _, colour in read], dim=-2).view(*sigma_RSN.shape, 3)
    return composite(resolved(sigma_RSN, overlap), colour_RSN3, rays, background)


def resolved(sigma_RSN: Tensor, overlap: Overlap) -> Tensor:
    """Opacities as they are composed: with "densest" that of all parts but the densest is 0 (of equals, the first)."""
    if overlap == "additive":
        return sigma_RSN
    densest_RS1 = sigma_RSN.argmax(dim=2, keepdim=True)
    return torch.zeros_like(sigma_RSN).scatter(2, densest_RS1, sigma_RSN.gather(2, densest_RS1))


def composite(sigma_RSN: Tensor, colour_RSN3: Tensor, rays: Rays, background: float) -> Rendered:
    """The rendering function of A.7, with T_{-1} = 1 so that the first sample emits.

    T_j = exp(-sum_{k <= j} sum_h Delta sigma^h_k)       visible_j = T_{j-1} - T_j
    w^h_j = sigma^h_j / (sum_l sigma^l_j + EPSILON)      v = sum_j visible_j sum_h w^h_j f^h_j + (1 - alpha) background

    Colours f are mixed after their activation; the background is added once, with the joint alpha.
    """
    total_RS = sigma_RSN.sum(dim=2)
    absorbed_RS = rays.steps(total_RS.shape[1])[:, None] * total_RS
    before_RS = torch.exp(absorbed_RS - absorbed_RS.cumsum(dim=1))
    visible_RS = before_RS * -torch.expm1(-absorbed_RS)
    weight_RSN = sigma_RSN * (visible_RS / (total_RS + EPSILON))[:, :, None]
    alpha_R = visible_RS.sum(dim=1)
    colour_R3 = torch.einsum("rsn,rsnc->rc", weight_RSN, colour_RSN3) + (1 - alpha_R)[:, None] * background
    depth_R = (visible_RS * rays.lengths(total_RS.shape[1])).sum(dim=1)
    return Rendered(colour_R3, alpha_R, depth_R, weight_RSN.sum(dim=1))


def render(
    fields: Sequence[Field],
    rays: Rays,
    samples: int,
    background: float = 1.0,
    overlap: Overlap = "additive",
    chunk_samples: int = CHUNK_SAMPLES,
) -> Rendered:
    """As `render_reference`, in memory for `chunk_samples` samples."""
    drawn = [number for number, field in enumerate(_checked(fields)) if not field.is_empty]
    scene = _Scene(fields, drawn, rays, samples, background, overlap, chunk_samples)
    return Rendered(*_Recomputed.apply(scene, *scene.volumes, *scene.weights))


def _checked(fields: Sequence[Field]) -> Sequence[Field]:
    if not fields:
        raise UserError("There is no field to render; give at least one part.")
    return fields


@dataclass(frozen=True)
class _Part:
    """The samples of one part in one chunk."""

    field: Field
    where_M: Tensor | None
    """Which of the chunk's samples they are; None for all."""
    corners: trilinear.Corners
    features_MC: Tensor


@dataclass(frozen=True)
class _Scene:
    """All that a picture is made of."""

    fields: Sequence[Field]
    drawn: Sequence[int]
    """Numbers of the fields that are not empty."""
    rays: Rays
    samples: int
    background: float
    overlap: Overlap
    chunk_samples: int

    @property
    def volumes(self) -> list[Tensor]:
        return [field.volume_CDHW for field in self.fields]

    @property
    def weights(self) -> list[Tensor]:
        """Of the decoders; one that several parts share counts once."""
        decoders = dict.fromkeys(field.decoder for field in self.fields)
        return list(chain.from_iterable(decoder.parameters() for decoder in decoders))

    def chunks(self) -> Iterator[Tensor]:
        """Numbers of the rays, those left out that miss everything."""
        if not self.drawn:
            return
        crossing = self.rays.far > self.rays.near
        # Without data nothing is known to be empty.
        numbers = torch.arange(len(crossing), device=crossing.device) if crossing.is_meta else crossing.nonzero()[:, 0]
        fields = [self.fields[number] for number in self.drawn]
        if crossing.is_meta or any(field.support_DHW is None for field in fields):
            yield from numbers.split(max(1, self.chunk_samples // (self.samples * len(fields))))
            return
        for block in numbers.split(max(1, self.chunk_samples // self.samples)):
            points = self.rays[block].points(self.samples).view(-1, 3)
            held_R = torch.stack([field.occupied(points).view(-1, self.samples).sum(dim=1) for field in fields]).sum(0)
            hit = held_R > 0
            # What is evaluated of a ray, and its samples for their compositing, which is cheap.
            chunk_R = (held_R[hit] + self.samples).cumsum(0) // self.chunk_samples
            yield from block[hit].split(chunk_R.unique_consecutive(return_counts=True)[1].tolist())

    def parts(self, tables: Sequence[Tensor], rays: Rays) -> list[_Part]:
        """The features of the drawn parts' samples on some rays, outside autograd."""
        points = rays.points(self.samples).view(-1, 3)
        found = []
        shared: dict[tuple[object, ...], trilinear.Corners] = {}
        for field, table in ((self.fields[number], tables[number]) for number in self.drawn):
            shape, occupied = field.volume_CDHW.shape[1:], field.occupied(points)
            if occupied.is_meta or occupied.all():
                where, grid = None, (shape, field.offset_3, field.scale)
                if grid not in shared:  # parts without a support of their own share the samples' corners
                    shared[grid] = trilinear.corners(field.local(points), shape)
                corners = shared[grid]
            else:
                where = occupied.nonzero()[:, 0]
                corners = trilinear.corners(field.local(points[where]), shape)
            found.append(_Part(field, where, corners, trilinear.gather(table, corners)))
        return found

    def composed(self, parts: Sequence[_Part], rays: Rays) -> Rendered:
        """Decoders and compositing of some rays; differentiable in the features and the decoders' weights."""
        sigmas, colours = [], []
        for part in parts:
            encoding = part.field.decoder.encoded(rays.directions)
            if encoding is not None:
                encoding = encoding.repeat_interleave(self.samples, dim=0)
                encoding = encoding if part.where_M is None else encoding[part.where_M]
            sigma, colour = part.field.decoder(part.features_MC, encoding)
            sigma = sigma / part.field.scale
            if part.where_M is not None:
                count = len(rays) * self.samples
                sigma = sigma.new_zeros(count).index_copy(0, part.where_M, sigma)
                colour = colour.new_zeros(count, 3).index_copy(0, part.where_M, colour)
            sigmas.append(sigma)
            colours.append(colour)
        sigma_RSN = torch.stack(sigmas, dim=-1).view(len(rays), self.samples, len(parts))
        colour_RSN3 = torch.stack(colours, dim=-2).view(*sigma_RSN.shape, 3)
        seen = composite(resolved(sigma_RSN, self.overlap), colour_RSN3, rays, self.background)
        if len(parts) == len(self.fields):
            return seen
        numbers = torch.tensor(self.drawn, device=seen.shares.device)
        shares_RN = seen.shares.new_zeros(len(rays), len(self.fields)).index_copy(1, numbers, seen.shares)
        return replace(seen, shares=shares_RN)


class _Recomputed(torch.autograd.Function):
    """A scene's picture; volumes and weights are arguments so that autograd knows of them."""

    @staticmethod
    def forward(ctx: Any, scene: _Scene, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.scene = scene
        ctx.save_for_backward(*tensors)
        count, like = len(scene.rays), scene.fields[0].volume_CDHW
        seen = [
            like.new_full((count, 3), scene.background),
            like.new_zeros(count),
            like.new_zeros(count),
            like.new_zeros(count, len(scene.fields)),
        ]
        tables = [trilinear.table(volume) for volume in scene.volumes]
        for numbers in scene.chunks():
            rays = scene.rays[numbers]
            for whole, values in zip(seen, _values(scene.composed(scene.parts(tables, rays), rays)), strict=True):
                whole[numbers] = values
        return tuple(seen)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        scene: _Scene = ctx.scene
        _ = ctx.saved_tensors  # complains if one of them was changed since the forward pass
        weights = [weight for weight in scene.weights if weight.requires_grad]
        tables = [trilinear.table(volume.detach()) for volume in scene.volumes]
        wanted = [volume.requires_grad for volume in scene.volumes]
        to_tables = [torch.zeros_like(table) if want else None for table, want in zip(tables, wanted, strict=True)]
        to_weights = [torch.zeros_like(weight) for weight in weights]
        for numbers in scene.chunks():
            rays = scene.rays[numbers]
            parts = scene.parts(tables, rays)
            features = [part.features_MC.requires_grad_() for part in parts]
            with torch.enable_grad():
                # Aliases, since tools that hook into modules (torch's FLOP counter) want no leaves as their inputs.
                aliases = [replace(part, features_MC=part.features_MC.view_as(part.features_MC)) for part in parts]
                values = _values(scene.composed(aliases, rays))
            of_chunk = torch.autograd.grad(
                values, [*features, *weights], [grad[numbers] for grad in gradients], materialize_grads=True
            )  # a decoder of empty parts alone is not used
            for number, part, grad in zip(scene.drawn, parts, of_chunk, strict=False):
                to_table = to_tables[number]
                if to_table is not None:
                    trilinear.scatter(to_table, part.corners, grad)
            for to_weight, grad in zip(to_weights, of_chunk[len(features) :], strict=True):
                to_weight += grad
        to_volumes = [
            None if to_table is None else trilinear.volume(to_table, field.volume_CDHW.shape[1:])
            for to_table, field in zip(to_tables, scene.fields, strict=True)
        ]
        found = iter(to_weights)
        return None, *to_volumes, *(next(found) if weight.requires_grad else None for weight in scene.weights)


def _values(rendered: Rendered) -> list[Tensor]:
    return [getattr(rendered, field.name) for field in dataclass_fields(rendered)]
