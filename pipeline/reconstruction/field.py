"""A neural field: a feature volume in [-1, 1]^3 with the MLPs that read opacity and colour from it.

Semantics are those of Lightplane (reference [1] of the supplement): features, interpolated trilinearly, go through a
trunk MLP and a relu; an opacity MLP makes softplus times a gain of it; a colour MLP, to whose input an encoding of the
ray's direction is added, a sigmoid. What lies outside the cube, or outside the field's support, is empty.

A field may stand elsewhere in the scene, and be larger or smaller there: p of the scene is (p - offset) / scale of the
cube, and opacity, which counts per unit of length, is divided by the scale. So a part that is moved or scaled hides as
much of what is behind it as before.

Shape suffixes: C channels, D H W the volume's sides along z, y and x, M samples, R rays, E width of the MLPs.
"""

import json
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from pipeline.errors import UserError
from pipeline.folders import regular
from pipeline.reconstruction.gaussians import Gaussians
from pipeline.reconstruction.rays import BOUND

METADATA = "field"
"""The entry of a file's metadata that holds what is no tensor, as JSON."""
GAUSSIANS = "gaussians/"
"""Begins the names of a file's tensors that are gaussians."""
SUPPORT_CHUNK = 2**16
"""Samples evaluated at once when a support is found."""


def mlp(channels: int, width: int, outputs: int, layers: int, last_bias: float = 0.0) -> nn.Sequential:
    """`layers` linear layers with relus between them; Xavier weights, zero biases but for the last layer's."""
    sizes = [channels, *[width] * (layers - 1), outputs]
    modules: list[nn.Module] = []
    for before, after in pairwise(sizes):
        linear = nn.Linear(before, after)
        nn.init.xavier_uniform_(linear.weight)
        nn.init.zeros_(linear.bias)
        modules += [linear, nn.ReLU()]
    nn.init.constant_(modules[-2].bias, last_bias)  # type: ignore[arg-type]
    return nn.Sequential(*modules[:-1])


class Decoder(nn.Module):
    """The three MLPs of a field; all fields of one reconstruction model share theirs.

    `layers` counts the linear layers of each MLP. With no `ray_harmonics` colour does not depend on the direction.
    """

    def __init__(
        self, channels: int, width: int, layers: int, ray_harmonics: int = 0, gain: float = 1.0, bias: float = -5.0
    ) -> None:
        super().__init__()
        self.config = dict(
            channels=channels, width=width, layers=layers, ray_harmonics=ray_harmonics, gain=gain, bias=bias
        )
        self.gain, self.ray_harmonics = gain, ray_harmonics
        self.trunk = mlp(channels, width, width, layers)
        self.opacity = mlp(width, width, 1, layers, last_bias=bias)
        self.colour = mlp(width, width, 3, layers)
        self.ray = nn.Linear(3 + 6 * ray_harmonics, width, bias=False) if ray_harmonics else None

    def encoded(self, directions_R3: Tensor) -> Tensor | None:
        """What is added to the colour MLP's input of a ray, (R, E): a linear map of its harmonic embedding."""
        if self.ray is None:
            return None
        frequencies = 2.0 ** torch.arange(self.ray_harmonics, dtype=directions_R3.dtype, device=directions_R3.device)
        angles = (directions_R3[:, :, None] * frequencies).flatten(1)
        encoding: Tensor = self.ray(torch.cat((angles.sin(), angles.cos(), directions_R3), dim=1))
        return encoding

    def forward(self, features_MC: Tensor, encoding_ME: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Opacity sigma (M,), at least 0, and colour (M, 3) in (0, 1)."""
        trunk_ME = self.trunk(features_MC).relu()
        return self._sigma(trunk_ME), self.colour(trunk_ME if encoding_ME is None else trunk_ME + encoding_ME).sigmoid()

    def sigma(self, features_MC: Tensor) -> Tensor:
        """Opacity alone, (M,)."""
        return self._sigma(self.trunk(features_MC).relu())

    def _sigma(self, trunk_ME: Tensor) -> Tensor:
        return self.gain * F.softplus(self.opacity(trunk_ME)[:, 0])


def check_placement(offset_3: Sequence[float], scale: float) -> None:
    """UserError when a part cannot stand at this place of the scene, in this size."""
    if not (all(map(math.isfinite, (*offset_3, scale))) and scale > 0):
        x, y, z = offset_3
        raise UserError(
            f"A part cannot stand at ({x:g}, {y:g}, {z:g}) with scale {scale:g}; give numbers, and a scale above 0."
        )


@dataclass(frozen=True)
class Field:
    """One part, or one object."""

    volume_CDHW: Tensor
    decoder: Decoder
    support_DHW: Tensor | None = None
    """Cells that may hold something, bool; all others are exactly empty. Without it softplus leaves a haze that adds up
    over the parts. None: the whole cube."""
    offset_3: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Where the cube's centre stands in the scene: x, y, z."""
    scale: float = 1.0
    """Half the cube's side in the scene, positive."""
    gaussians: Gaussians | None = None
    """In the cube's frame, what the field was baked of; kept in its file, and looked at by nothing that renders it."""

    @classmethod
    def empty(cls, decoder: Decoder) -> "Field":
        """A field of a single cell that holds nothing anywhere."""
        weight = next(decoder.parameters())
        volume_CDHW = weight.new_zeros(int(decoder.config["channels"]), 1, 1, 1)
        return cls(volume_CDHW, decoder, torch.zeros(1, 1, 1, dtype=torch.bool, device=weight.device))

    @property
    def is_empty(self) -> bool:
        """Whether its support says that it holds nothing; without data nothing is known to be empty."""
        return self.support_DHW is not None and not self.support_DHW.is_meta and not bool(self.support_DHW.any())

    @property
    def is_placed(self) -> bool:
        """Whether it stands elsewhere than the object that it was made for."""
        return self.scale != 1 or any(self.offset_3)

    def placed(self, offset_3: Sequence[float], scale: float = 1.0) -> "Field":
        """The same at another place of the scene, wherever it stood before; UserError when there is no such place."""
        check_placement(offset_3, scale)
        x, y, z = map(float, offset_3)
        return replace(self, offset_3=(x, y, z), scale=float(scale))

    def moved(self, by_3: Sequence[float]) -> "Field":
        """The same, moved in the scene; UserError as in `placed`."""
        return self.placed([old + new for old, new in zip(self.offset_3, by_3, strict=True)], self.scale)

    def local(self, points_M3: Tensor) -> Tensor:
        """Points of the scene in the frame of the cube."""
        if not self.is_placed:
            return points_M3
        return (points_M3 - points_M3.new_tensor(self.offset_3)) / self.scale

    def occupied(self, points_M3: Tensor) -> Tensor:
        """Which points of the scene lie in the cube, and in a cell of the support; (M,) bool."""
        local_M3 = self.local(points_M3)
        inside_M = (local_M3.abs() <= 1).all(dim=1)
        if self.support_DHW is None:
            return inside_M
        sides_3 = torch.tensor(self.support_DHW.shape[::-1], device=points_M3.device)
        cell_M3 = ((local_M3 + 1) / 2 * sides_3).long().clamp(min=0).minimum(sides_3 - 1)
        return inside_M & self.support_DHW[cell_M3[:, 2], cell_M3[:, 1], cell_M3[:, 0]]

    def features(self, points_M3: Tensor) -> Tensor:
        """The interpolated features (M, C) at points of the scene, zero beyond the volume; differentiable."""
        places = self.local(points_M3).to(self.volume_CDHW.dtype).view(1, 1, 1, -1, 3)
        return F.grid_sample(self.volume_CDHW[None], places, align_corners=False)[0, :, 0, 0].t()

    def evaluate(self, points_M3: Tensor, directions_M3: Tensor) -> tuple[Tensor, Tensor]:
        """Opacity (M,) and colour (M, 3) at points of the scene seen along directions of length 1."""
        sigma_M, colour_M3 = self.decoder(self.features(points_M3), self.decoder.encoded(directions_M3))
        return sigma_M * self.occupied(points_M3) / self.scale, colour_M3

    def opacity(self, points_M3: Tensor) -> Tensor:
        """Opacity (M,) at points of the scene, computed only where the support says that something may be."""
        where = self.occupied(points_M3).nonzero()[:, 0]
        sigma = self.decoder.sigma(self.features(points_M3[where])) / self.scale
        return sigma.new_zeros(len(points_M3)).index_copy(0, where, sigma)

    def cells(self) -> Tensor:
        """Centres (M, 3), in the scene, of the cells that may hold something: the support's, else all of the volume."""
        shape, device = self.volume_CDHW.shape[1:], self.volume_CDHW.device
        support_DHW = (
            torch.ones(shape, dtype=torch.bool, device=device) if self.support_DHW is None else self.support_DHW
        )
        sides_3 = torch.tensor(support_DHW.shape[::-1], device=device)
        local_M3 = (support_DHW.nonzero().flip(1) + 0.5) * 2 / sides_3 - 1
        return local_M3 * self.scale + local_M3.new_tensor(self.offset_3)

    def reach(self) -> float:
        """Radius of a sphere around the scene's centre out of which the field does not stick."""
        sides = self.volume_CDHW.shape[1:] if self.support_DHW is None else self.support_DHW.shape
        diagonal = self.scale * math.hypot(*(1 / side for side in sides))
        cells_M3 = self.cells()
        farthest = float(cells_M3.norm(dim=1).max()) + diagonal if len(cells_M3) else 0.0
        return min(farthest, math.hypot(*self.offset_3) + self.scale * BOUND)

    @torch.no_grad()
    def supported(self, floor: float) -> "Field":
        """With the support of the cells whose opacity reaches `floor` somewhere, and their neighbours.

        Opacity is that of the field where it was made, whatever its scale. It is looked at in eight places of each
        cell; the neighbours are there since it changes between them. Cells beyond the objects' bounding sphere are
        left out: no ray of a camera samples them, so that what stands in them is accidental.
        """
        shape = self.volume_CDHW.shape[1:]
        device, dtype = self.volume_CDHW.device, self.volume_CDHW.dtype
        looked_at = _in_sphere(shape, device) if self.support_DHW is None else self.support_DHW
        home = replace(self, offset_3=(0.0, 0.0, 0.0), scale=1.0, support_DHW=looked_at)
        axes = [(torch.arange(2 * side, device=device, dtype=dtype) + 0.5) / side - 1 for side in shape]
        reached = torch.zeros([2 * side for side in shape], dtype=torch.bool, device=device)
        for z, layer in zip(axes[0], reached, strict=True):
            y, x = torch.meshgrid(axes[1], axes[2], indexing="ij")
            points = torch.stack((x, y, z.expand_as(x)), dim=-1).view(-1, 3)
            layer.view(-1).copy_(torch.cat([home.opacity(some) for some in points.split(SUPPORT_CHUNK)]) >= floor)
        cells = F.max_pool3d((reached & _in_sphere(reached.shape, device))[None].float(), 2)
        support_DHW = F.max_pool3d(cells, 3, stride=1, padding=1)[0].bool() & _in_sphere(shape, device)
        if self.support_DHW is not None:
            support_DHW &= F.adaptive_max_pool3d(self.support_DHW[None].to(dtype), shape)[0].bool()
        return replace(self, support_DHW=support_DHW)

    def splats(self) -> Gaussians | None:
        """The gaussians that it was baked of, in the scene."""
        return None if self.gaussians is None else self.gaussians.placed(self.offset_3, self.scale)

    def checked(self, name: str) -> "Field":
        """The field itself; UserError when its features or weights are not finite numbers."""
        for tensor in (self.volume_CDHW, *self.decoder.parameters()):
            if not torch.isfinite(tensor).all():
                raise UserError(f"{name} holds values that are not finite; reconstruct the part again.")
        return self

    def encoded(self) -> bytes:
        """Everything as one safetensors file, the same bytes for the same field."""
        tensors = {f"decoder.{name}": value for name, value in self.decoder.state_dict().items()}
        tensors["volume"] = self.volume_CDHW
        if self.support_DHW is not None:
            tensors["support"] = self.support_DHW
        if self.gaussians is not None:
            tensors |= {f"{GAUSSIANS}{name}": value for name, value in vars(self.gaussians).items()}
        # One entry: safetensors writes several in an order of chance.
        values = {"decoder": self.decoder.config, "offset": self.offset_3, "scale": self.scale}
        metadata = {METADATA: json.dumps(values)}
        return save({name: value.detach().contiguous() for name, value in tensors.items()}, metadata)

    def save(self, path: Path) -> None:
        """Write the field to a file."""
        path.write_bytes(self.encoded())


def load_field(path: Path) -> Field:
    """Read what `Field.save` wrote; UserError as `read_field`, or when there is none."""
    try:
        content = regular(path).read_bytes()
    except FileNotFoundError:
        raise UserError(f"There is no field at {path}; the stage `reconstruct` writes them.") from None
    return read_field(content, str(path))


def read_field(content: bytes, source: str) -> Field:
    """What `Field.encoded` gave; UserError, which names its `source`, for anything else and for values not finite."""
    try:
        tensors = load(content)
        (length,) = struct.unpack_from("<Q", content)  # of the header, which `load` has checked
        values: dict[str, Any] = json.loads(json.loads(content[8 : 8 + length])["__metadata__"][METADATA])
        decoder = Decoder(**values["decoder"]).to(dtype=tensors["volume"].dtype)
        weights = {name.removeprefix("decoder."): value for name, value in tensors.items() if name[:8] == "decoder."}
        splats = {name.removeprefix(GAUSSIANS): value for name, value in tensors.items() if name.startswith(GAUSSIANS)}
        decoder.load_state_dict(weights)
        field = Field(tensors["volume"], decoder.requires_grad_(False), tensors.get("support"))
        if splats:
            field = replace(field, gaussians=Gaussians(**splats))
        return field.placed(values["offset"], values["scale"]).checked(source)
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(
            f"{source} is no field of this program ({type(error).__name__}); reconstruct it again."
        ) from None


def _in_sphere(shape: torch.Size, device: torch.device) -> Tensor:
    """The cells (D, H, W) that the bounding sphere touches, bool."""
    nearest = []
    for side in shape:
        edges = torch.linspace(-1, 1, side + 1, device=device)
        nearest.append(torch.where(edges[:-1] * edges[1:] < 0, 0, torch.minimum(edges[:-1].abs(), edges[1:].abs())))
    z, y, x = torch.meshgrid(*nearest, indexing="ij")
    return x**2 + y**2 + z**2 <= BOUND**2
