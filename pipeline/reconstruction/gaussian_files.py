"""The files that viewers of gaussian splats read.

They are those of 3D Gaussian Splatting (Kerbl et al. 2023): a binary PLY whose vertices have centres, logits of
opacity, logarithms of scales, quaternions (w, x, y, z), and colours as the constant term of spherical harmonics. Terms
that change with the direction are left out when a file is read.

Shape suffixes: N gaussians.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from pipeline.assets.bundle import Bundle
from pipeline.assets.ply import read_elements
from pipeline.assets.reading import Reading
from pipeline.assets.reasons import ObjectDropped
from pipeline.errors import UserError
from pipeline.folders import regular
from pipeline.reconstruction.gaussians import Gaussians

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


def encoded_gaussians(gaussians: Gaussians) -> bytes:
    """As a file that viewers of gaussian splats read."""
    alpha_N1 = gaussians.opacities_N[:, None].clamp(LEAST_ALPHA, 1 - LEAST_ALPHA)
    harmonic_N3 = (gaussians.colours_N3 - 0.5) / CONSTANT
    scales_N3 = gaussians.scales_N3.clamp(min=LEAST_SCALE).log()
    normals_N3 = torch.zeros_like(gaussians.centres_N3)
    columns = (gaussians.centres_N3, normals_N3, harmonic_N3, alpha_N1.logit(), scales_N3, gaussians.rotations_N4)
    rows = torch.cat([column.detach().cpu().float() for column in columns], dim=1).numpy().astype("<f4")
    properties = "".join(f"property float {name}\n" for name in COLUMNS)
    header = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(gaussians)}\n{properties}end_header\n"
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
