"""Fields out of what other reconstructors make: densities, gaussians, and the surfaces of meshes.

A baked field is what `pipeline.reconstruction.carving` makes of silhouettes: logits of opacity and colours in a volume,
and a decoder with set weights that hands them on. So renderer, mesher, overlap, files and edits take it like any other.

Shape suffixes: D H W a volume's sides along z, y and x, C channels of a colour, N gaussians, M pairs of a gaussian and
a cell, P points on a surface.
"""

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from pipeline.reconstruction.carving import ABSORBED, COLOUR_LOGIT, INSIDE, LOGITS, SHARPNESS, grown, hull_decoder
from pipeline.reconstruction.carving import spread_values as spread
from pipeline.reconstruction.field import Decoder, Field
from pipeline.reconstruction.gaussians import Gaussians

LEAST_HIDDEN = 1e-3
"""A cell that hides less than this of what is behind it holds nothing."""
LEAST_LOGIT = -8.0
"""Of the opacity, so that what is empty does not pull its neighbours' interpolated values down without end."""
SIGMAS = 3.0
"""A gaussian is added to the cells within so many of its standard deviations."""
MOST_ALPHA = 0.999
"""Opacities of gaussians count as at most this; of 1 the density would have no bounds."""
CHUNK_PAIRS = 2**22
"""Pairs of a gaussian and a cell in memory at once."""


def cell_centres(resolution: int, device: torch.device | str = "cpu") -> Tensor:
    """Of a volume of the cube [-1, 1]^3, (D, H, W, 3): x, y, z."""
    axis = (torch.arange(resolution, device=device) + 0.5) * 2 / resolution - 1
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    return torch.stack((x, y, z), dim=-1)


def density_field(sigma_DHW: Tensor, colour_CDHW: Tensor, known_DHW: Tensor) -> Field:
    """The field of opacities per unit of length, at least 0, and colours in [0, 1] where they are `known`."""
    cell = 2 / len(sigma_DHW)
    gain = 1 / cell
    absorbed_DHW = sigma_DHW * cell
    seen_DHW = absorbed_DHW > LEAST_HIDDEN
    # The inverse of softplus.
    logits_DHW = absorbed_DHW + (-torch.expm1(-absorbed_DHW.clamp(min=1e-12))).log()
    return _field(
        logits_DHW.clamp(min=LEAST_LOGIT), colour_CDHW, known_DHW, seen_DHW, hull_decoder(gain, sigma_DHW.device)
    )


def solid_field(occupancy_DHW: Tensor, colour_CDHW: Tensor, known_DHW: Tensor) -> Field:
    """The field of a body: the share of each cell that it fills, and colours in [0, 1] where they are `known`."""
    cell = 2 / len(occupancy_DHW)
    decoder = hull_decoder(ABSORBED / (cell * (1 - INSIDE)) / SHARPNESS, occupancy_DHW.device)
    logits_DHW = SHARPNESS * (occupancy_DHW - INSIDE)
    return _field(logits_DHW, colour_CDHW, known_DHW, occupancy_DHW > INSIDE / 2, decoder)


def _field(logits_DHW: Tensor, colour_CDHW: Tensor, known_DHW: Tensor, seen_DHW: Tensor, decoder: Decoder) -> Field:
    if not seen_DHW.any() or not known_DHW.any():
        return Field.empty(decoder)
    limit = 1 / (1 + math.exp(COLOUR_LOGIT))
    colours_CDHW = spread(colour_CDHW.clamp(limit, 1 - limit), known_DHW).logit()
    return Field(torch.cat((logits_DHW[None], colours_CDHW)) / LOGITS, decoder, grown(seen_DHW))


@torch.no_grad()
def bake_gaussians(gaussians: Gaussians, resolution: int) -> Field:
    """Gaussians in the cube [-1, 1]^3 as a field of `resolution` cells a side.

    Each is a density whose peak is such that a ray through its centre, along its thinnest axis, is hidden as much as by
    the splat; so what several hide together multiplies up as in compositing. A gaussian that is thinner than a cell is
    as thick as one, and hides as much.
    """
    cell, device = 2 / resolution, gaussians.centres_N3.device
    covariances_N33 = gaussians.covariances() + (cell / 2) ** 2 * torch.eye(3, device=device)
    thinnest_N = (gaussians.scales_N3.amin(dim=1).square() + (cell / 2) ** 2).sqrt()
    hidden_N = -torch.log1p(-gaussians.opacities_N.clamp(0, MOST_ALPHA))
    peaks_N = hidden_N / (math.sqrt(2 * math.pi) * thinnest_N)
    inverse_N33 = torch.linalg.inv(covariances_N33)
    reach_N3 = SIGMAS * covariances_N33.diagonal(dim1=1, dim2=2).sqrt()
    low_N3 = ((gaussians.centres_N3 - reach_N3 + 1) / cell).floor().long().clamp(0, resolution)
    high_N3 = ((gaussians.centres_N3 + reach_N3 + 1) / cell).ceil().long().clamp(0, resolution)
    sides_N3 = (high_N3 - low_N3).clamp(min=0)
    pairs_N = sides_N3.prod(dim=1)
    # Density, and the colours times it.
    sums = torch.zeros(4, resolution**3, device=device)
    start, ends = 0, pairs_N.cumsum(0).cpu().numpy()
    while start < len(pairs_N):
        before = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + CHUNK_PAIRS, side="right")))
        some = slice(start, stop)
        which_M = torch.repeat_interleave(torch.arange(start, stop, device=device), pairs_N[some])
        first_N = pairs_N[some].cumsum(0) - pairs_N[some]
        rank_M = torch.arange(len(which_M), device=device) - first_N[which_M - start]
        sides_M3 = sides_N3[which_M]
        steps = (rank_M % sides_M3[:, 0], rank_M // sides_M3[:, 0] % sides_M3[:, 1])
        steps_M3 = torch.stack((*steps, rank_M // (sides_M3[:, 0] * sides_M3[:, 1])), dim=1)
        index_M3 = low_N3[which_M] + steps_M3
        away_M3 = (index_M3 + 0.5) * cell - 1 - gaussians.centres_N3[which_M]
        squared_M = torch.einsum("mi,mij,mj->m", away_M3, inverse_N33[which_M], away_M3)
        density_M = peaks_N[which_M] * torch.exp(-squared_M / 2) * (squared_M <= SIGMAS**2)
        cells_M = (index_M3[:, 2] * resolution + index_M3[:, 1]) * resolution + index_M3[:, 0]
        coloured = density_M * gaussians.colours_N3[which_M].t()
        sums.index_add_(1, cells_M, torch.cat((density_M[None], coloured)))
        start = stop
    volume = sums.view(4, *3 * (resolution,))
    known_DHW = volume[0] * cell > LEAST_HIDDEN
    field = density_field(volume[0], volume[1:] / volume[0].clamp(min=1e-12), known_DHW)
    return field if field.is_empty else replace(field, gaussians=gaussians)


def bake_surface(
    triangles: np.ndarray, points_P3: np.ndarray, colours_P3: np.ndarray, resolution: int, device: torch.device | str
) -> Field:
    """A surface in the cube [-1, 1]^3 as a field: what its triangles (T, 3, 3) enclose; where open, they themselves.

    Points on the surface (P, 3) have display colours (P, 3) in [0, 1].
    """
    occupancy_DHW = torch.from_numpy(solid(triangles, resolution)).to(device)
    index_P3 = ((torch.from_numpy(points_P3).to(device) + 1) * resolution / 2).floor().long()
    within_P = ((index_P3 >= 0) & (index_P3 < resolution)).all(dim=1)
    x, y, z = index_P3[within_P].t()
    cells_P = (z * resolution + y) * resolution + x
    ones = torch.ones(1, len(cells_P), device=device)
    values = torch.cat((torch.from_numpy(colours_P3).float().to(device)[within_P].t(), ones))
    sums = torch.zeros(4, resolution**3, device=device).index_add_(1, cells_P, values).view(4, *3 * (resolution,))
    return solid_field(occupancy_DHW, sums[:3] / sums[3].clamp(min=1), sums[3] > 0)


FINER = 2
"""Points a side at which a cell is asked whether it is inside a surface."""
ASIDE = 1e-4
"""Share of a step by which the lines along which a surface is crossed stand beside the points, so that they meet no
edges."""


def solid(triangles: np.ndarray, resolution: int) -> np.ndarray:
    """The share of each cell that lies within a surface (T, 3, 3): (D, H, W) float32.

    A point is inside when an odd number of triangles lies before it along two of the three axes at least. Where a
    surface passes and encloses nothing, as a sheet of paper does, its cells are full.
    """
    count, votes = resolution * FINER, np.zeros((resolution * FINER,) * 3, np.uint8)
    crossed = np.zeros_like(votes, dtype=bool)
    for axis in range(3):
        others = [other for other in range(3) if other != axis]
        line, at = _crossings((triangles[..., others] + 1) * count / 2, (triangles[..., axis] + 1) * count / 2, count)
        toggles = np.zeros((count * count, count + 1), np.int32)
        # The first point behind a crossing; points lie at whole numbers and a half.
        np.add.at(toggles, (line, np.clip(np.ceil(at - 0.5), 0, count).astype(int)), 1)
        inside = np.cumsum(toggles[:, :count], axis=1) % 2 == 1
        touched = np.zeros((count * count, count), bool)
        hit = (at >= 0) & (at < count)
        touched[line[hit], at[hit].astype(int)] = True
        order = np.argsort([*others, axis])[::-1]  # to z, y, x
        votes += inside.reshape(count, count, count).transpose(order)
        crossed |= touched.reshape(count, count, count).transpose(order)

    def coarse(fine: np.ndarray) -> np.ndarray:
        blocks = fine.reshape(resolution, FINER, resolution, FINER, resolution, FINER)
        return np.asarray(blocks.mean(axis=(1, 3, 5), dtype=np.float32))

    occupancy = coarse(votes >= 2)
    near = grown(torch.from_numpy(occupancy > INSIDE)).numpy()
    return np.where((coarse(crossed) > 0) & ~near, np.float32(1), occupancy)


def _crossings(plane: np.ndarray, depth: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Where lines through a plane's points cross triangles: the lines' numbers, and the depths there.

    Corners (T, 3, 2) in the plane and their depths (T, 3), all in steps; line i * count + j passes (i + 1/2, j + 1/2).
    """
    low = np.clip(np.ceil(plane.min(axis=1) - 0.5 - ASIDE), 0, count).astype(int)
    high = np.clip(np.floor(plane.max(axis=1) - 0.5 - ASIDE) + 1, 0, count).astype(int)
    sides = np.maximum(high - low, 0)
    pairs = sides.prod(axis=1)
    lines, depths = [np.zeros(0, int)], [np.zeros(0)]
    for some in np.array_split(np.arange(len(plane)), max(1, -(-int(pairs.sum()) // CHUNK_PAIRS))):
        which = np.repeat(some, pairs[some])
        rank = np.arange(len(which)) - np.repeat(np.cumsum(pairs[some]) - pairs[some], pairs[some])
        place = low[which] + np.stack(
            (rank // np.maximum(sides[which, 1], 1), rank % np.maximum(sides[which, 1], 1)), 1
        )
        a, b, c = (plane[which, corner] - (place + 0.5 + ASIDE * np.array([1.0, 0.618])) for corner in range(3))
        areas = np.stack([u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0] for u, v in ((b, c), (c, a), (a, b))], axis=1)
        total = areas.sum(axis=1)
        inside = ((areas > 0).all(axis=1) | (areas < 0).all(axis=1)) & (total != 0)
        weights = areas[inside] / total[inside, None]
        lines.append(place[inside] @ np.array([count, 1]))
        depths.append((weights * depth[which[inside]]).sum(axis=1))
    return np.concatenate(lines), np.concatenate(depths)
