"""Gaussians: what LGM and GRM make of four views, and the files that viewers of gaussian splats read.

The file is that of 3D Gaussian Splatting (Kerbl et al. 2023): a binary PLY whose vertices have centres, logits of
opacity, logarithms of scales, quaternions (w, x, y, z), and colours as the constant term of spherical harmonics. Terms
that change with the direction are left out when a file is read.

Shape suffixes: N gaussians.
"""

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.assets.bundle import Bundle
from pipeline.assets.ply import read_elements
from pipeline.assets.reading import Reading
from pipeline.assets.reasons import ObjectDropped
from pipeline.errors import UserError
from pipeline.folders import regular

CONSTANT = 0.28209479177387814
"""The constant spherical harmonic, 1 / (2 sqrt(pi))."""
NORMALS = ("nx", "ny", "nz")
"""Viewers want them in the file, and read nothing of them."""
COLUMNS = (
    "x", "y", "z", *NORMALS, "f_dc_0", "f_dc_1", "f_dc_2", "opacity", "scale_0", "scale_1", "scale_2",
    "rot_0", "rot_1", "rot_2", "rot_3",
)  # fmt: skip
"""Of a file, in its order; float32 each."""
LEAST_SCALE, LEAST_ALPHA = 1e-8, 1e-6
"""What is below, or nearer to 1, is written as this: files hold logarithms and logits."""


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

    def encoded(self) -> bytes:
        """As a file that viewers of gaussian splats read."""
        alpha_N1 = self.opacities_N[:, None].clamp(LEAST_ALPHA, 1 - LEAST_ALPHA)
        harmonic_N3 = (self.colours_N3 - 0.5) / CONSTANT
        scales_N3 = self.scales_N3.clamp(min=LEAST_SCALE).log()
        normals_N3 = torch.zeros_like(self.centres_N3)
        columns = (self.centres_N3, normals_N3, harmonic_N3, alpha_N1.logit(), scales_N3, self.rotations_N4)
        rows = torch.cat([column.detach().cpu().float() for column in columns], dim=1).numpy().astype("<f4")
        properties = "".join(f"property float {name}\n" for name in COLUMNS)
        header = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(self)}\n{properties}end_header\n"
        return header.encode() + rows.tobytes()


def is_gaussians(content: bytes) -> bool:
    """Whether a PLY holds gaussians, by its header."""
    head = content[: content.find(b"end_header")]
    return content.startswith(b"ply") and b" f_dc_0" in head and b" rot_0" in head


def load_gaussians(path: Path) -> Gaussians:
    """What a file holds; UserError as `read_gaussians`."""
    return read_gaussians(regular(path).read_bytes(), path.name)


def read_gaussians(content: bytes, source: str) -> Gaussians:
    """The gaussians of a PLY; UserError, which names its `source`, for anything else and for values not finite."""
    try:
        vertex = read_elements(Reading(Bundle(source, {source: content}), 0, 0.0, 0)).get("vertex", {})
        rows = {name: vertex[name].astype(np.float32) for name in COLUMNS if name not in NORMALS}
    except ObjectDropped as error:
        raise UserError(f"{source} is no file of gaussians ({error}); write it again.") from None
    except (KeyError, AttributeError) as error:
        raise UserError(
            f"{source} is no file of gaussians (its vertices have no {error}); "
            "write the layout of 3D Gaussian Splatting."
        ) from None
    values = torch.from_numpy(np.stack(list(rows.values()), axis=1))
    if not len(values) or not torch.isfinite(values).all():
        raise UserError(f"{source} holds {'no gaussians' if not len(values) else 'values not finite'}; write it again.")
    centres, harmonic, opacity, scales, rotations = values.split((3, 3, 1, 3, 4), dim=1)
    return Gaussians(
        centres,
        opacity[:, 0].sigmoid(),
        scales.clamp(max=10).exp(),
        F.normalize(rotations, dim=1),
        (harmonic * CONSTANT + 0.5).clamp(0, 1),
    )


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
