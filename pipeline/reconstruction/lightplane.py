"""One field rendered by the package `lightplane` (reference [1] of the supplement), where it is installed.

It has kernels for CUDA devices and a plain PyTorch path; both import triton. No package index has it, its home is
https://github.com/facebookresearch/lightplane; it needs cogapp, plotly and triton 2 (its pull request 5 is for 3).

The packing follows the layout and the formulas in its source (version 0.1, commit 407e7314). Compared with the
package's own plain path over 40 fields, results differ by at most 4.8e-7 in colour, 8.6e-7 in alpha and 2.6e-6 in
depth.

As in `renderer`: samples from `near` to `far`, both included; steps of (far - near) / (samples - 1), in its code if not
in its documentation; the first sample emits; depth is distance times visibility, summed up. Handled here:
- A support is its scaffold. There always is one, since only that makes samples outside the cube empty: its option
  `mask_out_of_bounds_samples` zeroes their features, which leaves the haze of the opacity's bias.
- A placement moves and scales the rays, whose directions may have any length there; the gain is divided by the scale.
- The ray's encoding is computed here. The background is added with the transmittance that is left.
- Its kernels need sizes of powers of 2, at least 16: channels and layers are padded with zeros, which changes nothing.
What differs: it computes in float32. A sample exactly on a face of a support's cells may count to either side. Kernels
are compiled anew for another number of rays or samples, or another gain.

Shape suffixes: R rays, C channels, D H W the volume's sides along z, y and x, E width of the MLPs.
"""

import importlib
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.errors import UserError
from pipeline.reconstruction.field import Decoder, Field
from pipeline.reconstruction.rays import Rays
from pipeline.reconstruction.renderer import CHUNK_SAMPLES, Overlap, Rendered


def render_lightplane(
    fields: Sequence[Field],
    rays: Rays,
    samples: int,
    background: float = 1.0,
    overlap: Overlap = "additive",
    chunk_samples: int = CHUNK_SAMPLES,
    plain: bool = False,
) -> Rendered:
    """As `renderer.render` for one field, by Lightplane's kernels, or by its plain PyTorch path on any device.

    Volume and weights have gradients. `overlap` and `chunk_samples` are there for the signature's sake: one field
    overlaps with nothing, the kernels keep no samples, and the plain path keeps them all. UserError when there are
    several fields, when the kernels have no CUDA device, or when the package cannot be imported.
    """
    if len(fields) != 1:
        raise UserError(f"Lightplane renders one field, not {len(fields)}; `renderer.render` composites several.")
    field, device = fields[0], fields[0].volume_CDHW.device
    if field.is_empty:  # of a single cell as a rule, which Lightplane takes for a plane
        nothing = torch.zeros(len(rays), device=device)
        return rendered(nothing, nothing, torch.zeros(len(rays), 3, device=device), background)
    if device.type != "cuda" and not plain:
        raise UserError(
            f"Lightplane's kernels need a CUDA device, and the field is on {device}; move it, or use `renderer.render`."
        )
    try:
        package: Any = importlib.import_module("lightplane")
    except ImportError as error:
        raise UserError(
            f"The package lightplane cannot be imported ({error}); install it from "
            "https://github.com/facebookresearch/lightplane, or use `renderer.render`."
        ) from None
    packed = pack(field, rays)
    renderer = package.lightplane_renderer_naive if plain else package.lightplane_renderer
    lengths_R, absorbed_R, colour_R3 = renderer(
        package.Rays(**packed.rays),
        packed.grid,
        package.DecoderParams(**packed.decoder_params),
        num_samples=samples,
        gain=packed.gain,
        scaffold=packed.scaffold_1DHW,
    )
    return rendered(lengths_R, absorbed_R, colour_R3, background)


class Packed(NamedTuple):
    """A field and rays as Lightplane takes them; names within are those of its interface."""

    rays: dict[str, Tensor]
    """Of its `Rays`: those of the scene in the frame of the field's cube, with their encoding (R, E)."""
    grid: list[Tensor]
    """One volume (1, D, H, W, C)."""
    decoder_params: dict[str, Any]
    """Of its `DecoderParams`: all weights in one tensor, and the sizes of each MLP's layers."""
    gain: float
    scaffold_1DHW: Tensor
    """1 where something may be, else 0."""


def pack(field: Field, rays: Rays, dtype: torch.dtype = torch.float32) -> Packed:
    """For a list of rays (R,), and a field whose volume and support have at least two cells a side."""
    decoder, volume = field.decoder, field.volume_CDHW.to(dtype)
    support = volume.new_ones(2, 2, 2) if field.support_DHW is None else field.support_DHW.to(dtype)
    assert min(*volume.shape[1:], *support.shape) > 1, "Lightplane takes what has a side of one cell for a plane."
    encoding_RE = decoder.encoded(rays.directions)
    if encoding_RE is None:
        encoding_RE = volume.new_zeros(len(rays), int(decoder.config["width"]))
    scene = rays.to(dtype)
    packed_rays = dict(
        origins=field.local(scene.origins),
        directions=scene.directions / field.scale,
        near=scene.near,
        far=scene.far,
        grid_idx=torch.zeros(len(rays), dtype=torch.int32, device=volume.device),
        encoding=_padded_rows(encoding_RE.to(dtype)),
    )
    grid = [_padded_rows(volume.permute(1, 2, 3, 0))[None]]
    return Packed(packed_rays, grid, _pack_decoder(decoder, dtype), decoder.gain / field.scale, support[None])


def _pack_decoder(decoder: Decoder, dtype: torch.dtype) -> dict[str, Any]:
    """Trunk, opacity, colour: of each the weights, (inputs, outputs), of all layers in turn, and then the biases."""
    parameters: list[Tensor] = []
    sizes: dict[str, Tensor] = {}
    for name, mlp in (("trunk", decoder.trunk), ("opacity", decoder.opacity), ("color", decoder.colour)):
        linears = [layer for layer in mlp if isinstance(layer, nn.Linear)]
        widths = [padded(width) for width in (linears[0].in_features, *(linear.out_features for linear in linears))]
        if name == "opacity":
            widths[-1] = 1  # the one size that the kernels want as it is
        weights, biases = [], []
        for linear, (inputs, outputs) in zip(linears, pairwise(widths), strict=True):
            after = outputs - linear.out_features
            weights.append(F.pad(linear.weight.t(), (0, after, 0, inputs - linear.in_features)).flatten())
            biases.append(F.pad(linear.bias, (0, after)))
        parameters += weights + biases
        sizes[f"n_hidden_{name}"] = torch.tensor(widths, dtype=torch.int32, device=weights[0].device)
    return {"mlp_params": torch.cat(parameters).to(dtype), **sizes, "color_chn": 3}


def _padded_rows(values: Tensor) -> Tensor:
    return F.pad(values, (0, padded(values.shape[-1]) - values.shape[-1]))


def padded(size: int) -> int:
    """The next size that the kernels can take: a power of 2, at least 16."""
    return max(16, 1 << (size - 1).bit_length())


def rendered(lengths_R: Tensor, absorbed_R: Tensor, colour_R3: Tensor, background: float) -> Rendered:
    """What Lightplane returns (visible distance, -log of the last transmittance, visible colour) as this project's."""
    alpha_R = -torch.expm1(-absorbed_R)
    return Rendered(colour_R3 + (1 - alpha_R)[:, None] * background, alpha_R, lengths_R, alpha_R[:, None])
