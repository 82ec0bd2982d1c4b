"""Pictures of N parts, each alone and all together, from one look at their fields.

It is the rendering function of A.7, without gradients. `renderer.render` would evaluate each part twice: once for its
own picture, and once for the picture of all.

Shape suffixes: R rays, H of them that meet a part, S samples of a ray, N parts, M samples where a part may be,
V cells and C channels of a volume as a table.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from pipeline.reconstruction import trilinear
from pipeline.reconstruction.field import Field
from pipeline.reconstruction.rays import Rays
from pipeline.reconstruction.renderer import CHUNK_SAMPLES, Overlap, composite

WHITE = 1.0


@torch.no_grad()
def render_parts(
    fields: Sequence[Field], rays: Rays, samples: int, overlap: Overlap = "additive"
) -> tuple[Tensor, Tensor]:
    """Colours over white of a list of rays (R,): of each part alone, (N, R, 3), and of all together, (R, 3).

    All is white where there is no part. Memory beyond the pictures and a copy of the volumes is that of some rays.
    """
    alone_NR3 = rays.origins.new_full((len(fields), len(rays), 3), WHITE)
    joint_R3 = rays.origins.new_full((len(rays), 3), WHITE)
    drawn = [number for number, field in enumerate(fields) if not field.is_empty]
    tables = {number: trilinear.table(fields[number].volume_CDHW) for number in drawn}
    for chunk in (rays.far > rays.near).nonzero()[:, 0].split(max(1, CHUNK_SAMPLES // samples)):
        some = rays[chunk]
        points_RS3 = some.points(samples)
        joint = _Joint(points_RS3, overlap)
        for number in drawn:
            occupied_RS = fields[number].occupied(points_RS3.view(-1, 3)).view(points_RS3.shape[:2])
            met_H = occupied_RS.any(dim=1).nonzero()[:, 0]
            if len(met_H):
                sigma_HS, colour_HS3 = _evaluated(
                    fields[number], tables[number], some[met_H], points_RS3[met_H], occupied_RS[met_H]
                )
                alone_NR3[number, chunk[met_H]] = _composed(sigma_HS, colour_HS3, some[met_H])
                joint.add(met_H, sigma_HS, colour_HS3)
        joint_R3[chunk] = _composed(joint.sigma_RS, joint.colour_RS3, some)
    return alone_NR3, joint_R3


class _Joint:
    """Opacity and colour of all parts at some samples, added part by part."""

    def __init__(self, points_RS3: Tensor, overlap: Overlap) -> None:
        self.overlap = overlap
        self.sigma_RS = points_RS3.new_zeros(points_RS3.shape[:2])
        self.colour_RS3 = torch.zeros_like(points_RS3)

    def add(self, met_H: Tensor, sigma_HS: Tensor, colour_HS3: Tensor) -> None:
        """One more part: mixed in by its opacity, or, by the rule `densest`, in place of less dense ones."""
        before_HS = self.sigma_RS[met_H]
        if self.overlap == "additive":
            total_HS = before_HS + sigma_HS
            share_HS = sigma_HS / total_HS.clamp(min=torch.finfo(total_HS.dtype).tiny)
        else:
            total_HS, share_HS = before_HS.maximum(sigma_HS), (sigma_HS > before_HS).to(sigma_HS)
        self.sigma_RS[met_H] = total_HS
        self.colour_RS3[met_H] = torch.lerp(self.colour_RS3[met_H], colour_HS3, share_HS[..., None])


def _evaluated(
    field: Field, table_VC: Tensor, rays_H: Rays, points_HS3: Tensor, occupied_HS: Tensor
) -> tuple[Tensor, Tensor]:
    """Opacity (H, S) and colour (H, S, 3) of a field, 0 where it is empty."""
    corners = trilinear.corners(field.local(points_HS3[occupied_HS]), field.volume_CDHW.shape[1:])
    encoding = field.decoder.encoded(rays_H.directions)
    if encoding is not None:
        encoding = encoding[occupied_HS.nonzero()[:, 0]]
    sigma_M, colour_M3 = field.decoder(trilinear.gather(table_VC, corners), encoding)
    sigma_HS, colour_HS3 = torch.zeros_like(points_HS3[..., 0]), torch.zeros_like(points_HS3)
    sigma_HS[occupied_HS], colour_HS3[occupied_HS] = sigma_M / field.scale, colour_M3
    return sigma_HS, colour_HS3


def _composed(sigma_RS: Tensor, colour_RS3: Tensor, rays: Rays) -> Tensor:
    return composite(sigma_RS[..., None], colour_RS3[..., None, :], rays, WHITE).colour
