"""Reconstruction without training: the visual hull of a grid's four silhouettes, coloured by projection.

The hull is the largest body whose outlines are those of the views, so hollows that no outline shows are filled. It
is written as a `Field` with set weights, so that renderer, mesher and files serve it like a trained one. The constants
below were chosen on novel views of training objects.

Shape suffixes: B grids, V views, H W pixels, R rays, S samples of a ray, D H W a volume's sides along z, y and x, N
cells of a list, C channels.
"""

import math
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import distance_transform_edt
from torch import Tensor, nn

from pipeline.reconstruction.field import Decoder, Field
from pipeline.reconstruction.rays import grid_rays, split_views
from pipeline.views.cameras import GRID_AZIMUTHS, Camera, camera_to_world

BACKGROUND_ALPHA = 0.02
"""A pixel whose alpha is less shows nothing."""
BACKGROUND_GREY = 0.06
"""Without alpha: a pixel that is whiter than 1 minus this in all its channels shows nothing."""
INSIDE = 0.4
"""Occupancy at the hull's surface. Below 1/2 what is thinner than a cell is not torn, and outlines grow by a tenth of a
pixel."""
CHANNELS = 4
"""Of a hull's volume: the logits of opacity and of the three colours, over LOGITS."""
LOGITS = 8.0
"""So that a volume's values are about 1, as a network wants them."""
SHARPNESS = 16.0
"""Logits of opacity for 1 of occupancy."""
ABSORBED = 4.0
"""Opacity times length that a ray gathers in one cell of full occupancy: it hides 98 % of what is behind."""
VIEW_EXPONENT = 2.0
"""Of the cosine between a view's direction and the surface's normal, the weight of the view's colour."""
COLOUR_LOGIT = 6.0
"""Colours are kept within the sigmoid of plus and minus this."""
HULL_CELLS = 64
"""Along each side of the hulls by which views of one object are compared, in segmentation and completion."""


class Carver:
    """Visual hulls of grids of one camera: the four views of `pipeline.views.cameras` at one elevation."""

    def __init__(self, camera: Camera, elevation_deg: float, resolution: int, gain: float | None = None) -> None:
        """`gain` is that of the decoder that will read the logits of opacity; one for SHARPNESS when not given."""
        self.camera, self.elevation_deg = camera, elevation_deg
        self.resolution, self.cell = resolution, 2 / resolution
        steepness = ABSORBED / (self.cell * (1 - INSIDE))
        self.gain = steepness / SHARPNESS if gain is None else gain
        self.sharpness = steepness / self.gain
        poses = [camera_to_world(azimuth, elevation_deg, camera.distance) for azimuth in GRID_AZIMUTHS]
        self.poses_V44 = torch.from_numpy(np.stack(poses)).float()

    @torch.no_grad()
    def fields(self, grids_BCHW: Tensor) -> list[Field]:
        """The fields of grids (B, 3 or 4, 2H, 2W) in [0, 1]: RGB over white, and alpha where it is known.

        Of a grid that shows nothing, and of one whose views have nothing in common, the empty field.
        """
        decoder, fields = hull_decoder(self.gain, grids_BCHW.device), []
        for volume_CDHW in self.volumes(grids_BCHW):
            seen_DHW = volume_CDHW[0] * LOGITS > -self.sharpness * INSIDE / 2
            fields.append(Field(volume_CDHW, decoder, grown(seen_DHW)) if seen_DHW.any() else Field.empty(decoder))
        return fields

    @torch.no_grad()
    def volumes(self, grids_BCHW: Tensor) -> Tensor:
        """The hulls of grids, (B, CHANNELS, D, H, W).

        On the meta device, which has no silhouettes, the shape alone.
        """
        if grids_BCHW.is_meta:
            return grids_BCHW.new_empty(len(grids_BCHW), CHANNELS, *3 * (self.resolution,))
        volumes = []
        for views_VCHW in split_views(grids_BCHW):
            outlines_VHW = silhouettes(views_VCHW)
            occupancy_DHW = self.hull(outlines_VHW)
            opacity_DHW = self.sharpness * (occupancy_DHW - INSIDE)
            colour_CDHW = self._colours(views_VCHW[:, :3], outlines_VHW, occupancy_DHW).logit()
            volumes.append(torch.cat((opacity_DHW[None], colour_CDHW)) / LOGITS)
        return torch.stack(volumes)

    def hull(self, outlines_VHW: Tensor) -> Tensor:
        """Occupancy (D, H, W) in [0, 1] of cells: the least of what silhouettes (V, H, W) say of their centres."""
        axis = (torch.arange(self.resolution, device=outlines_VHW.device) + 0.5) * self.cell - 1
        z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
        points_N3 = torch.stack((x, y, z), dim=-1).view(-1, 3)
        cells_N = (points_N3.norm(dim=1) <= 1).nonzero()[:, 0]
        least_N = outlines_VHW.new_ones(len(cells_N))
        for view, outline_HW in enumerate(outlines_VHW):
            least_N = least_N.minimum(_sampled(outline_HW[None], self._projected(points_N3[cells_N], view))[:, 0])
            cells_N, least_N = cells_N[least_N > 0], least_N[least_N > 0]
        occupancy_N = outlines_VHW.new_zeros(len(points_N3)).index_copy(0, cells_N, least_N)
        return occupancy_N.view(3 * (self.resolution,))

    @torch.no_grad()
    def agreement(self, grid_CHW: Tensor) -> float:
        """How well a grid's silhouettes fit each other, in [0, 1]: the mean IoU over views with those of their hull.

        1 when one body has all four outlines, but for what cells and pixels round; 0 when no cell is within all four.
        """
        (views_VCHW,) = split_views(grid_CHW[None])
        outlines_VHW, ious = silhouettes(views_VCHW), []
        for outline_HW, (_, inside_HWS) in zip(outlines_VHW, self._along_rays(outlines_VHW), strict=True):
            hull_HW, drawn_HW = inside_HWS.any(dim=2), outline_HW > 1 / 2
            ious.append((hull_HW & drawn_HW).sum() / (hull_HW | drawn_HW).sum().clamp(min=1))
        return float(torch.stack(ious).mean())

    @torch.no_grad()
    def surface(self, outlines_VHW: Tensor) -> Tensor:
        """Where the pixels' rays meet the hull of silhouettes (V, H, W): (V, H, W, 3), and nan where they miss it."""
        points = []
        for points_HWS3, inside_HWS in self._along_rays(outlines_VHW):
            first_HW = inside_HWS.byte().argmax(dim=2)
            points_HW3 = points_HWS3.take_along_dim(first_HW[..., None, None], dim=2)[:, :, 0]
            points.append(points_HW3.where(inside_HWS.any(dim=2, keepdim=True), math.nan))
        return torch.stack(points)

    @torch.no_grad()
    def span(self, outlines_VHW: Tensor) -> Tensor:
        """Between which distances from their cameras the pixels' rays are in the hull of silhouettes (V, H, W).

        (2, V, H, W): of the first and the last sample in it, and nan where a ray misses it.
        """
        occupancy_DHW, samples = self.hull(outlines_VHW), 3 * self.resolution // 2
        shown_VHW = outlines_VHW > 0  # no other rays cross it
        rays_R = grid_rays(self.camera, self.elevation_deg, outlines_VHW.device)[shown_VHW]
        places = rays_R.points(samples)[None, None]
        inside_RS = F.grid_sample(occupancy_DHW[None, None], places, align_corners=False)[0, 0, 0] > INSIDE
        number_S = torch.arange(samples, device=outlines_VHW.device)
        ends_2R = torch.stack((inside_RS.byte().argmax(dim=1), (inside_RS * number_S).amax(dim=1)))
        lengths_2R = rays_R.near + ends_2R * rays_R.steps(samples)
        spans = outlines_VHW.new_full((2, *outlines_VHW.shape), math.nan)
        spans[:, shown_VHW] = lengths_2R.where(inside_RS.any(dim=1), math.nan)
        return spans

    def _along_rays(self, outlines_VHW: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Of one view after the other, since all samples are many: the samples of its rays, and which are in the hull.

        (H, W, S, 3) and (H, W, S).
        """
        occupancy_DHW = self.hull(outlines_VHW)
        rays_VHW = grid_rays(self.camera, self.elevation_deg, outlines_VHW.device)
        for view in range(len(outlines_VHW)):
            points_HWS3 = rays_VHW[view].points(3 * self.resolution // 2)
            along_HWS = F.grid_sample(occupancy_DHW[None, None], points_HWS3[None], align_corners=False)[0, 0]
            yield points_HWS3, along_HWS > INSIDE

    def _projected(self, points_N3: Tensor, view: int) -> Tensor:
        """Where a view sees points: (N, 2), right and down, from -1 to 1 over the picture."""
        pose_44 = self.poses_V44[view].to(points_N3)
        local_N3 = (points_N3 - pose_44[:3, 3]) @ pose_44[:3, :3]
        reach_N = -local_N3[:, 2] * math.tan(math.radians(self.camera.fov_deg) / 2)
        return torch.stack((local_N3[:, 0], -local_N3[:, 1]), dim=1) / reach_N[:, None]

    def _colours(self, colours_VCHW: Tensor, outlines_VHW: Tensor, occupancy_DHW: Tensor) -> Tensor:
        """Colours (3, D, H, W) of all cells; those that no view sees have that of the nearest one seen."""
        shell_DHW = (occupancy_DHW > 0) & grown(occupancy_DHW < INSIDE)
        index_N3 = shell_DHW.nonzero()
        points_N3 = (index_N3.flip(1) + 0.5) * self.cell - 1
        normals_N3 = _normals(occupancy_DHW)[:, shell_DHW].t()
        sums_N4 = points_N3.new_zeros(len(points_N3), 4)
        for view, (colour_CHW, outline_HW) in enumerate(zip(colours_VCHW, outlines_VHW, strict=True)):
            # What the outline covers of a pixel, without the white that fills the rest of it.
            covered_CHW = torch.cat((colour_CHW - (1 - outline_HW), outline_HW[None])).clamp(min=0)
            seen_N4 = _sampled(covered_CHW, self._projected(points_N3, view))
            towards_N3 = F.normalize(self.poses_V44[view, :3, 3].to(points_N3) - points_N3, dim=1)
            cosine_N = (normals_N3 * towards_N3).sum(dim=1).clamp(min=0)
            free_N = self._unhidden(points_N3 + 1.5 * self.cell * normals_N3, towards_N3, occupancy_DHW)
            sums_N4 += seen_N4 * (cosine_N**VIEW_EXPONENT * free_N)[:, None]
        known_N = sums_N4[:, 3] > 1e-3
        limit = 1 / (1 + math.exp(COLOUR_LOGIT))
        rgb_N3 = (sums_N4[:, :3] / sums_N4[:, 3:].clamp(min=1e-3)).clamp(limit, 1 - limit)
        colour_CDHW = occupancy_DHW.new_full((3, *occupancy_DHW.shape), 0.5)
        known_DHW = torch.zeros_like(shell_DHW)
        known_DHW[tuple(index_N3[known_N].t())] = True
        if not known_N.any():
            return colour_CDHW
        colour_CDHW[:, known_DHW] = rgb_N3[known_N].t()
        return spread_values(colour_CDHW, known_DHW)

    def _unhidden(self, points_N3: Tensor, towards_N3: Tensor, occupancy_DHW: Tensor) -> Tensor:
        """Which points (N, 3) see a camera in the direction (N, 3): the hull does not stand between; (N,) bool."""
        free_N = torch.ones(len(points_N3), dtype=torch.bool, device=points_N3.device)
        for step in range(math.ceil(2 / self.cell)):
            places = (points_N3 + step * self.cell * towards_N3).view(1, 1, 1, -1, 3)
            free_N &= F.grid_sample(occupancy_DHW[None, None], places, align_corners=False).view(-1) < INSIDE
        return free_N


def silhouettes(views_VCHW: Tensor) -> Tensor:
    """How much of each pixel the object's outline covers, (V, H, W) in [0, 1]; alpha, else what is not white.

    What shows anything is covered, glass too; only pixels at the outline are covered in part: by their alpha over that
    of the pixels around them. So a wire thinner than a pixel, pale as it is, is not lost.
    """
    if views_VCHW.shape[1] == 4:
        content_VHW, least = views_VCHW[:, 3], BACKGROUND_ALPHA
    else:
        content_VHW, least = 1 - views_VCHW.amin(dim=1), BACKGROUND_GREY
    shown_VHW = content_VHW > least
    outline_VHW = shown_VHW & _spread((~shown_VHW).float()).bool()
    covered_VHW = torch.where(outline_VHW, content_VHW / _spread(content_VHW).clamp(min=least), 1.0)
    return torch.where(shown_VHW, covered_VHW, 0.0)


def _spread(pictures_VHW: Tensor) -> Tensor:
    """The greatest value of each pixel and the eight around it."""
    return F.max_pool2d(pictures_VHW[:, None], 3, stride=1, padding=1)[:, 0]


def grown(cells_DHW: Tensor) -> Tensor:
    """Cells and the 26 around each."""
    return F.max_pool3d(cells_DHW[None].float(), 3, stride=1, padding=1)[0].bool()


def spread_values(values: Tensor, known: Tensor) -> Tensor:
    """Each cell or pixel with the values (C, ...) of the nearest one that is known (...); at least one must be."""
    nearest = distance_transform_edt(~known.cpu().numpy(), return_distances=False, return_indices=True)
    return values[(slice(None), *torch.from_numpy(nearest).long().to(values.device))]


def _sampled(picture_CHW: Tensor, places_N2: Tensor) -> Tensor:
    """A picture at places in [-1, 1], (N, C); nothing outside it."""
    return F.grid_sample(picture_CHW[None], places_N2[None, None], align_corners=False)[0, :, 0].t()


def _normals(occupancy_DHW: Tensor) -> Tensor:
    """Outward normals (3, D, H, W), x y z, of smoothed occupancy; 0 where it is level."""
    smooth = F.avg_pool3d(occupancy_DHW[None, None], 5, stride=1, padding=2)[0, 0]
    z, y, x = torch.gradient(smooth)
    return F.normalize(-torch.stack((x, y, z)), dim=0)


def hull_decoder(gain: float, device: torch.device | str) -> Decoder:
    """The smallest decoder that reads volumes of CHANNELS channels: logits of opacity and of colours, over LOGITS."""
    decoder = Decoder(channels=CHANNELS, width=2 * CHANNELS, layers=1, gain=gain, bias=0.0)
    pass_on(decoder)
    return decoder.requires_grad_(False).to(device)


@torch.no_grad()
def pass_on(decoder: Decoder) -> None:
    """Let a decoder read its first CHANNELS channels as those of a hull: opacity before the softplus, and colour.

    Relus take away what is below 0, so each channel x goes through the hidden layers as relu(x) and relu(-x), in
    their first 2 * CHANNELS units. What the others hold counts for nothing at first; the opacity's last bias stays.
    """
    pairs = 2 * CHANNELS
    signs = torch.cat((torch.eye(CHANNELS), -torch.eye(CHANNELS)))
    layers = {name: _linear(getattr(decoder, name)) for name in ("trunk", "opacity", "colour")}
    for linear in (*layers["trunk"], *layers["opacity"][:-1], *layers["colour"][:-1]):
        linear.weight[:pairs] = 0
        linear.weight[:pairs, :pairs] = torch.eye(pairs)[:, : linear.in_features]
    layers["trunk"][0].weight[:pairs, :CHANNELS] = signs
    layers["trunk"][0].weight[:pairs, CHANNELS:] = 0
    if decoder.ray is not None:
        decoder.ray.weight[:pairs] = 0
    for linear, outputs in ((layers["opacity"][-1], slice(0, 1)), (layers["colour"][-1], slice(1, CHANNELS))):
        linear.weight.zero_()
        linear.weight[:, :pairs] = LOGITS * signs.t()[outputs]


def _linear(network: nn.Sequential) -> list[nn.Linear]:
    return [module for module in network if isinstance(module, nn.Linear)]
