"""Pictures of gaussians, by the rules of 3D Gaussian Splatting (Kerbl et al. 2023), in plain PyTorch.

Two paths with one signature, as in `renderer`: `draw_reference`, which composites one gaussian after the other, and
`draw`, which lists the pairs of a gaussian and a pixel that it reaches, sorts them by pixel, and finds what is in front
of each by a cumulative sum of log-transmittances. Both are differentiable.

A splat is blurred by BLUR square pixels of the picture that is drawn, so the fewer its pixels, the fatter all splats
are: `draw_views` draws finer than wanted, and averages.

Shape suffixes: N gaussians, M pairs of a gaussian and a pixel, L rows of a gaussian, P = H * W pixels, H W rows and
columns of a picture.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.reconstruction.gaussians import Gaussians

BLUR = 0.3
"""Square pixels that are added to the variance of every splat."""
MOST_ALPHA, LEAST_ALPHA = 0.99, 1 / 255
"""Of a splat in a pixel: more counts as this, and less as nothing."""
LEAST_SEEN = 1e-4
"""What would leave less than this of the light ends the pixel, and is left out itself."""
NEAR = 0.2
"""What is nearer to the camera is not drawn."""
BEYOND = 1.3
"""Slopes that are larger than this times that of the picture's edge count as this where splats are projected."""
CHUNK_PAIRS = 2**22
"""Pairs in memory at once, but for a row of pixels that has more."""
FINEST = 512
"""Pixels a side at which LGM's and GRM's gaussians were trained to be drawn."""


@dataclass(frozen=True)
class Drawn:
    """A picture of gaussians, over white."""

    colour_HW3: Tensor
    alpha_HW: Tensor


@dataclass(frozen=True)
class _Projected:
    """Gaussians on a picture, the nearest first."""

    places_N2: Tensor
    """Column and row of the centres in pixels; the first pixel's centre is at 1/2."""
    covariances_N22: Tensor
    opacities_N: Tensor
    colours_N3: Tensor

    def alphas(self, which_M: Tensor, pixels_M2: Tensor) -> Tensor:
        """What gaussians hide of the pixels with these centres, (M,); 0 where it does not count."""
        (xx_N, xy_N), (_, yy_N) = (row.unbind(dim=1) for row in self.covariances_N22.unbind(dim=1))
        inverse_N3 = torch.stack((yy_N, -2 * xy_N, xx_N), dim=1) / (xx_N * yy_N - xy_N**2)[:, None]
        # One table, which is gathered once.
        table_N6 = torch.cat((self.places_N2, inverse_N3, self.opacities_N[:, None]), dim=1)
        x_M, y_M, xx_M, xy_M, yy_M, opacity_M = table_N6[which_M].unbind(dim=1)
        x_M, y_M = pixels_M2[:, 0] - x_M, pixels_M2[:, 1] - y_M
        squared_M = xx_M * x_M**2 + xy_M * x_M * y_M + yy_M * y_M**2
        alpha_M = (opacity_M * torch.exp(-squared_M / 2)).clamp(max=MOST_ALPHA)
        return torch.where(alpha_M < LEAST_ALPHA, 0.0, alpha_M)


def draw_views(
    gaussians: Gaussians, poses: list[np.ndarray], fov_deg: float, size: int, finest: int = FINEST
) -> list[Drawn]:
    """Pictures from cameras at these poses (4, 4), each drawn at the multiple of `size` next below `finest`."""
    factor = max(1, finest // size)
    pictures = []
    for pose in poses:
        fine = draw(gaussians, pose, fov_deg, size * factor)
        values_4HW = torch.cat((fine.colour_HW3, fine.alpha_HW[..., None]), dim=-1).permute(2, 0, 1)
        values_4HW = F.avg_pool2d(values_4HW, factor)
        pictures.append(Drawn(values_4HW[:3].permute(1, 2, 0), values_4HW[3]))
    return pictures


def draw_reference(gaussians: Gaussians, pose: np.ndarray, fov_deg: float, size: int) -> Drawn:
    """A picture of `size` pixels a side from a camera at a pose (4, 4) as of `pipeline.views.cameras`."""
    seen = _projected(gaussians, pose, fov_deg, size)
    middle = torch.arange(size).to(seen.places_N2) + 0.5
    row, column = torch.meshgrid(middle, middle, indexing="ij")
    pixels_P2 = torch.stack((column, row), dim=-1).view(-1, 2)
    colour_P3, left_P = pixels_P2.new_zeros(len(pixels_P2), 3), pixels_P2.new_ones(len(pixels_P2))
    ended_P = torch.zeros(len(pixels_P2), dtype=torch.bool, device=pixels_P2.device)
    for number in range(len(seen.places_N2)):
        which_P = torch.full((len(pixels_P2),), number, device=pixels_P2.device)
        alpha_P = seen.alphas(which_P, pixels_P2)
        ended_P = ended_P | (left_P * (1 - alpha_P) < LEAST_SEEN)
        alpha_P = torch.where(ended_P, 0.0, alpha_P)
        colour_P3 = colour_P3 + (left_P * alpha_P)[:, None] * seen.colours_N3[number]
        left_P = left_P * (1 - alpha_P)
    return Drawn((colour_P3 + left_P[:, None]).view(size, size, 3), (1 - left_P).view(size, size))


def draw(gaussians: Gaussians, pose: np.ndarray, fov_deg: float, size: int) -> Drawn:
    """As `draw_reference`."""
    seen = _projected(gaussians, pose, fov_deg, size)
    sums_P4 = seen.colours_N3.new_zeros(size * size, 4)
    for which_M, pixels_M in _pairs(seen, size):
        centres_M2 = torch.stack((pixels_M % size, pixels_M // size), dim=1).to(seen.places_N2) + 0.5
        alpha_M = seen.alphas(which_M, centres_M2)
        # In double precision: the sum runs over all pixels.
        passed_M = torch.log1p(-alpha_M.double()).cumsum(0)
        before_M = F.pad(passed_M[:-1], (1, 0))
        first_M = torch.searchsorted(pixels_M, pixels_M)
        at_first_M = before_M[first_M]
        light_M = torch.exp(before_M - at_first_M)
        last_M = torch.exp(passed_M - at_first_M) >= LEAST_SEEN
        weight_M = (light_M * last_M).to(alpha_M.dtype) * alpha_M
        values_M4 = torch.cat((seen.colours_N3[which_M], torch.ones_like(weight_M)[:, None]), dim=1)
        sums_P4 = sums_P4.index_add(0, pixels_M, weight_M[:, None] * values_M4)
    alpha_P1 = sums_P4[:, 3:]
    colour_P3 = sums_P4[:, :3] + (1 - alpha_P1)
    return Drawn(colour_P3.view(size, size, 3), alpha_P1.view(size, size))


def _projected(gaussians: Gaussians, pose: np.ndarray, fov_deg: float, size: int) -> _Projected:
    pose_44 = torch.from_numpy(pose).to(gaussians.centres_N3)
    axes_33 = pose_44[:3, :3] * pose_44.new_tensor([1.0, -1.0, -1.0])  # right, down, forward
    local_N3 = (gaussians.centres_N3 - pose_44[:3, 3]) @ axes_33
    order = local_N3[:, 2].detach().argsort(stable=True)
    order = order[local_N3[order, 2] > NEAR]
    local_N3, gaussians = local_N3[order], gaussians[order]
    slope = math.tan(math.radians(fov_deg) / 2)
    focal = size / (2 * slope)
    depth_N = local_N3[:, 2]
    slopes_N2 = local_N3[:, :2] / depth_N[:, None]
    kept_N2 = slopes_N2.clamp(-BEYOND * slope, BEYOND * slope)
    zero_N, one_N = torch.zeros_like(depth_N), torch.ones_like(depth_N)
    rows = [torch.stack(row, dim=1) for row in ((one_N, zero_N, -kept_N2[:, 0]), (zero_N, one_N, -kept_N2[:, 1]))]
    to_picture_N23 = (focal / depth_N)[:, None, None] * torch.stack(rows, dim=1) @ axes_33.t()
    covariances_N22 = to_picture_N23 @ gaussians.covariances() @ to_picture_N23.transpose(1, 2)
    blurred_N22 = covariances_N22 + BLUR * torch.eye(2).to(covariances_N22)
    return _Projected(focal * slopes_N2 + size / 2, blurred_N22, gaussians.opacities_N, gaussians.colours_N3)


@torch.no_grad()
def _pairs(seen: _Projected, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Numbers of gaussians and of the pixels that they reach, sorted by pixel, then by depth; some rows at a time."""
    device = seen.places_N2.device
    (xx_N, xy_N), (_, yy_N) = (row.unbind(dim=1) for row in seen.covariances_N22.unbind(dim=1))
    # Where the opacity is LEAST_ALPHA; a little more, since `alphas` decides.
    reach_N = 2 * (seen.opacities_N.clamp(min=1e-12) / LEAST_ALPHA).log() + 1e-3
    shown_N = reach_N > 0
    reach_N = reach_N.clamp(min=0)
    x_N, y_N = seen.places_N2.unbind(dim=1)
    low_N = (y_N - (reach_N * yy_N).sqrt() - 0.5).ceil().clamp(0, size).long()
    high_N = (y_N + (reach_N * yy_N).sqrt() - 0.5).floor().clamp(-1, size - 1).long()
    rows_N = torch.where(shown_N, high_N - low_N + 1, 0).clamp(min=0)
    which_L = torch.repeat_interleave(torch.arange(len(rows_N), device=device), rows_N)
    row_L = low_N[which_L] + torch.arange(len(which_L), device=device) - (rows_N.cumsum(0) - rows_N)[which_L]
    # Of the ellipse in that row: middle and half width.
    below_L = row_L + 0.5 - y_N[which_L]
    middle_L = x_N[which_L] + (xy_N / yy_N)[which_L] * below_L
    rest_L = (reach_N[which_L] - below_L**2 / yy_N[which_L]).clamp(min=0)
    half_L = (rest_L * (xx_N - xy_N**2 / yy_N).clamp(min=0)[which_L]).sqrt()
    start_L = (middle_L - half_L - 0.5).ceil().clamp(0, size).long()
    end_L = (middle_L + half_L - 0.5).floor().clamp(-1, size - 1).long()
    count_L = (end_L - start_L + 1).clamp(min=0)
    in_rows = torch.zeros(size, dtype=torch.long, device=device).index_add(0, row_L, count_L).cumsum(0).cpu().numpy()
    top = 0
    while top < size:
        before = int(in_rows[top - 1]) if top else 0
        bottom = max(top + 1, int(np.searchsorted(in_rows, before + CHUNK_PAIRS, side="right")))
        band_L = ((row_L >= top) & (row_L < bottom) & (count_L > 0)).nonzero()[:, 0]
        top = bottom
        counts_L = count_L[band_L]
        line_M = torch.repeat_interleave(torch.arange(len(band_L), device=device), counts_L)
        if not len(line_M):
            continue
        rank_M = torch.arange(len(line_M), device=device) - (counts_L.cumsum(0) - counts_L)[line_M]
        line_M = band_L[line_M]
        pixels_M = row_L[line_M] * size + start_L[line_M] + rank_M
        pixels_M, order = pixels_M.sort(stable=True)
        yield which_L[line_M[order]], pixels_M
