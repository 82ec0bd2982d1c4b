"""InstantMesh (Xu et al. 2024): its networks, with the keys of their authors' weights, and our grids as they know them.

A vision transformer, modulated by the camera, reads each view; learned queries attend to all views' tokens and become
three planes of features; an MLP reads density and colour from them. The variants `mesh` have a signed distance in its
place. Written from the paper and from what the published weights hold.

Shape suffixes: B grids, V views, N = B * V, L tokens, C channels, D camera numbers, H W pixels, M points.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.reconstruction.baking import LEAST_HIDDEN, cell_centres, density_field
from pipeline.reconstruction.field import Field
from pipeline.reconstruction.instantmesh_encoder import Encoder
from pipeline.reconstruction.other_cameras import World, normalised, resized
from pipeline.reconstruction.other_weights import load_into, read_weights, tensors_of
from pipeline.reconstruction.rays import split_views
from pipeline.views.cameras import Camera

SIZE = 320
"""Of the pictures."""
PREFIX = "lrm_generator."
"""Of the keys in the authors' files."""
PLANES = ((0, 1), (0, 2), (2, 1))
"""The coordinates that are a plane's columns and rows."""
LEVEL = 10.0
"""Density at the surface. A signed distance d counts as the density softplus(LEVEL - 1 - d), as the variants `mesh`
were started from the others."""
CHUNK_POINTS = 2**17


@dataclass(frozen=True)
class Layout:
    """Sizes of the networks."""

    width: int = 768
    """Of the vision transformer, with its layers, heads, pixels of a patch and the patches a side of its positions."""
    encoder_layers: int = 12
    encoder_heads: int = 12
    patch: int = 16
    positions: int = 14
    planes_width: int = 1024
    """Of the transformer that makes the planes."""
    layers: int = 16
    heads: int = 16
    side: int = 32
    """Queries a side of a plane; the planes have twice as many cells."""
    features: int = 80
    """Of a plane."""
    hidden: int = 64
    """Width of the MLPs that read the planes."""
    mesh: bool = False
    """Whether these give a signed distance."""


class _PlanesLayer(nn.Module):
    def __init__(self, layout: Layout) -> None:
        super().__init__()
        width = layout.planes_width
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))
        self.cross_attn = nn.MultiheadAttention(
            width, layout.heads, kdim=layout.width, vdim=layout.width, bias=False, batch_first=True
        )
        self.self_attn = nn.MultiheadAttention(width, layout.heads, bias=False, batch_first=True)
        # The keys of the authors' weights count a layer of dropout.
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Identity(), nn.Linear(4 * width, width))

    def forward(self, queries: Tensor, tokens: Tensor) -> Tensor:
        queries = queries + self.cross_attn(self.norm1(queries), tokens, tokens, need_weights=False)[0]
        normed = self.norm2(queries)
        queries = queries + self.self_attn(normed, normed, normed, need_weights=False)[0]
        result: Tensor = queries + self.mlp(self.norm3(queries))
        return result


class PlanesTransformer(nn.Module):
    """Planes (B, 3, features, 2 side, 2 side) of all views' tokens (B, L, C)."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.side = layout.side
        self.pos_embed = nn.Parameter(torch.zeros(1, 3 * layout.side**2, layout.planes_width))
        self.layers = nn.ModuleList(_PlanesLayer(layout) for _ in range(layout.layers))
        self.norm = nn.LayerNorm(layout.planes_width, eps=1e-6)
        self.deconv = nn.ConvTranspose2d(layout.planes_width, layout.features, 2, stride=2)

    def forward(self, tokens_BLC: Tensor) -> Tensor:
        queries = self.pos_embed.expand(len(tokens_BLC), -1, -1)
        for layer in self.layers:
            queries = layer(queries, tokens_BLC)
        low = self.norm(queries).unflatten(1, (3, self.side, self.side)).movedim(-1, 2)
        result: Tensor = self.deconv(low.flatten(0, 1)).unflatten(0, (-1, 3))
        return result


def _mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    relus = [nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, hidden)]
    return nn.Sequential(*relus, nn.ReLU(), nn.Linear(hidden, outputs))


class _Decoder(nn.Module):
    def __init__(self, layout: Layout) -> None:
        super().__init__()
        inputs, hidden, self.mesh = 3 * layout.features, layout.hidden, layout.mesh
        if layout.mesh:
            self.net_sdf, self.net_rgb = _mlp(inputs, hidden, 1), _mlp(inputs, hidden, 3)
            # FlexiCubes moves its lattice by at most an eighth of a cell with these; they are known and not used.
            self.net_deformation, self.net_weight = _mlp(inputs, hidden, 3), _mlp(8 * inputs, hidden, 21)
        else:
            self.net = _mlp(inputs, hidden, 4)

    def forward(self, features_MC: Tensor) -> tuple[Tensor, Tensor]:
        """Density (M,) and colour (M, 3)."""
        if self.mesh:
            raw_M, colour_M3 = LEVEL - self.net_sdf(features_MC)[:, 0], self.net_rgb(features_MC)
        else:
            raw_M4 = self.net(features_MC)
            raw_M, colour_M3 = raw_M4[:, 0], raw_M4[:, 1:]
        return F.softplus(raw_M - 1), colour_M3.sigmoid() * 1.002 - 0.001


class _Synthesizer(nn.Module):
    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.decoder = _Decoder(layout)


class InstantMesh(nn.Module):
    """The networks, and what they say of points."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.encoder = Encoder(
            layout.width, layout.encoder_layers, layout.encoder_heads, layout.patch, layout.positions
        )
        self.transformer = PlanesTransformer(layout)
        self.synthesizer = _Synthesizer(layout)

    def planes(self, views_BV3HW: Tensor, cameras_BVD: Tensor) -> Tensor:
        """(B, 3, C, H, W) of normalised views and their cameras."""
        tokens = self.encoder(views_BV3HW.flatten(0, 1), cameras_BVD.flatten(0, 1))
        result: Tensor = self.transformer(tokens.unflatten(0, views_BV3HW.shape[:2]).flatten(1, 2))
        return result

    def evaluate(self, planes_3CHW: Tensor, points_M3: Tensor) -> tuple[Tensor, Tensor]:
        """Density (M,) and display colour (M, 3) at points of the cube [-1, 1]^3, in the network's frame."""
        result: tuple[Tensor, Tensor] = self.synthesizer.decoder(plane_features(planes_3CHW, points_M3))
        return result


def plane_features(planes_3CHW: Tensor, points_M3: Tensor) -> Tensor:
    """What three planes hold for points, one plane's features after the other: (M, 3 C); 0 outside."""
    places = torch.stack([points_M3[:, axes] for axes in PLANES])[:, :, None]
    sampled_3CM = F.grid_sample(planes_3CHW, places.to(planes_3CHW.dtype), align_corners=False)[..., 0]
    return sampled_3CM.permute(2, 0, 1).flatten(1)


class InstantMeshFields:
    """Grids to fields.

    Its frame is ours with other names of the axes. It was trained with a field of view of 50 degrees, and is used with
    30: whether padding to the former or telling it ours is better, only true weights can say; it is told ours.
    """

    world = World(np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]]), 1.0)

    def __init__(self, network: InstantMesh, camera: Camera, elevation_deg: float, resolution: int) -> None:
        self.network, self.resolution = network, resolution
        poses = self.world.poses(camera, elevation_deg)
        focal = 0.5 / np.tan(np.radians(camera.fov_deg) / 2)
        optics = np.tile([focal, focal, 0.5, 0.5], (len(poses), 1))
        cameras = np.concatenate((poses[:, :3].reshape(len(poses), 12), optics), axis=1)
        self.cameras_VD = torch.from_numpy(cameras).float()

    @torch.no_grad()
    def field(self, grid_CHW: Tensor) -> Field:
        """Of one grid (3 or 4, 2H, 2W) in [0, 1]."""
        views = normalised(resized(split_views(grid_CHW[None, :3])[0], SIZE))
        planes_3CHW = self.network.planes(views[None], self.cameras_VD[None].to(views))[0]
        return self.baked(planes_3CHW)

    def baked(self, planes_3CHW: Tensor) -> Field:
        """The field of planes, in our frame."""
        side = self.resolution
        points_M3 = cell_centres(side, planes_3CHW.device).view(-1, 3)
        theirs_M3 = points_M3 @ torch.from_numpy(self.world.rotation_33.T).to(points_M3)
        found = [self.network.evaluate(planes_3CHW, some) for some in theirs_M3.split(CHUNK_POINTS)]
        sigma_DHW = torch.cat([sigma for sigma, _ in found]).view(side, side, side)
        sigma_DHW = torch.where(points_M3.norm(dim=1).view(side, side, side) <= 1, sigma_DHW, 0.0)
        colour_CDHW = torch.cat([colour for _, colour in found]).t().reshape(3, side, side, side)
        return density_field(sigma_DHW, colour_CDHW, sigma_DHW * 2 / side > LEAST_HIDDEN)


def layout_of(keys: Sequence[str]) -> Layout:
    """Of the published ones, that which these keys come from: `base` has 12 layers, `large` 16."""
    layers = {int(key.split(".")[2]) for key in keys if key.startswith("transformer.layers.")}
    mesh = any(key.startswith("synthesizer.decoder.net_sdf.") for key in keys)
    large = max(layers, default=0) >= BASE["layers"]
    return Layout(mesh=mesh, **({} if large else BASE))


BASE: dict[str, Any] = {"layers": 12, "features": 40}
"""Sizes of the variants `base` that differ."""


def load_instantmesh(path: Path) -> InstantMesh:
    """The networks with their authors' weights; UserError for any other file."""
    found = read_weights(path, "instantmesh")
    weights = tensors_of(found.get("state_dict", found), PREFIX)
    with torch.device("meta"):
        network = InstantMesh(layout_of(list(weights)))
    load_into(network, weights, path, "InstantMesh")
    return network
