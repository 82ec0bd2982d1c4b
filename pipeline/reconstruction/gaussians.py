"""Gaussians: what our own model, LGM and GRM make of four views.

Shape suffixes: N gaussians.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Gaussians:
    """Coloured gaussians; all tensors float, on one device."""

    centres_N3: Tensor
    opacities_N: Tensor
    """In [0, 1]: what a splat hides at its centre."""
    scales_N3: Tensor
    """Standard deviations along the gaussian's own axes, above 0."""
    rotations_N4: Tensor
    """Unit quaternions (w, x, y, z) from its own axes to those of the scene."""
    colours_N3: Tensor
    """Display values in [0, 1]."""

    def __len__(self) -> int:
        return len(self.centres_N3)

    def __getitem__(self, which: Tensor | slice) -> "Gaussians":
        """Some of them."""
        return Gaussians(*(getattr(self, field.name)[which] for field in fields(self)))

    def to(self, device: torch.device | str) -> "Gaussians":
        """On another device."""
        return Gaussians(*(getattr(self, field.name).to(device) for field in fields(self)))

    def covariances(self) -> Tensor:
        """(N, 3, 3), symmetric."""
        axes_N33 = rotation_matrices(self.rotations_N4) * self.scales_N3[:, None]
        return axes_N33 @ axes_N33.transpose(1, 2)

    def placed(self, offset_3: tuple[float, float, float], scale: float) -> "Gaussians":
        """Each point p at scale * p + offset."""
        moved_N3 = scale * self.centres_N3 + self.centres_N3.new_tensor(offset_3)
        return replace(self, centres_N3=moved_N3, scales_N3=scale * self.scales_N3)

    def turned(self, rotation_33: Tensor, scale: float) -> "Gaussians":
        """Each point p at scale * rotation p; opacities are those of splats, which stay."""
        turn_4 = quaternion(rotation_33).to(self.rotations_N4)
        return Gaussians(
            scale * self.centres_N3 @ rotation_33.to(self.centres_N3).t(),
            self.opacities_N,
            self.scales_N3 * scale,
            _product(turn_4, self.rotations_N4),
            self.colours_N3,
        )


def joined(several: Sequence[Gaussians]) -> Gaussians:
    """All of them, one after the other."""
    names = [field.name for field in fields(Gaussians)]
    return Gaussians(*(torch.cat([getattr(one, name) for one in several]) for name in names))


def rotation_matrices(quaternions_N4: Tensor) -> Tensor:
    """(N, 3, 3) of unit quaternions (w, x, y, z)."""
    w, x, y, z = quaternions_N4.unbind(dim=1)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)


def quaternion(rotation_33: Tensor) -> Tensor:
    """The unit quaternion (4,) of a rotation, float64: the eigenvector of Bar-Itzhack's matrix (2000)."""
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = (row.unbind() for row in rotation_33.double().unbind())
    rows = (
        (xx + yy + zz, zy - yz, xz - zx, yx - xy),
        (zy - yz, xx - yy - zz, yx + xy, zx + xz),
        (xz - zx, yx + xy, yy - xx - zz, zy + yz),
        (yx - xy, zx + xz, zy + yz, zz - xx - yy),
    )
    _, vectors = torch.linalg.eigh(torch.stack([torch.stack(row) for row in rows]))
    return vectors[:, -1]


def _product(first_4: Tensor, second_N4: Tensor) -> Tensor:
    """The rotations of `second` followed by that of `first`."""
    a, b, c, d = first_4.unbind()
    w, x, y, z = second_N4.unbind(dim=1)
    product = (
        a * w - b * x - c * y - d * z,
        a * x + b * w + c * z - d * y,
        a * y - b * z + c * w + d * x,
        a * z + b * y - c * x + d * w,
    )
    return torch.stack(product, dim=1)
