"""The autoencoder: pictures to latents of C channels and back (supplement A.1).

`PatchAutoencoder` is that of `nano`: its linear part is found in closed form, so that it is good before it is trained,
and all its layers work at the latents' resolution, so that it is fast on a CPU. The other presets have diffusers'
AutoencoderKL.

Shape suffixes: B samples, C latent channels, P values of a patch (3 x factor x factor), N patches, H W pixels, h w
latents.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from torch import Tensor, nn

from pipeline.errors import UserError

if TYPE_CHECKING:
    from pipeline.params.diffusion import AutoencoderParams

NORM_EPS = 1e-4
MIN_DEVIATION = 1e-4
"""A channel that never changes is not blown up."""


class ChannelNorm(nn.Module):
    """Divides by the root mean square over the channels, at every place for itself.

    Unlike GroupNorm it knows nothing of the rest of the picture, so that crops and whole grids are coded alike.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(width, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, h, w) to the same."""
        return x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + NORM_EPS) * self.gain


class Residual(nn.Module):
    """x + conv(silu(conv(norm(x)))), which starts as x."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(width)
        self.first, self.second = nn.Conv2d(width, width, 3, padding=1), zero_convolution(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, h, w) to the same."""
        residual: Tensor = self.second(F.silu(self.first(self.norm(x))))
        return x + residual


def refinement(inputs: int, outputs: int, width: int, blocks: int) -> nn.Sequential:
    """Convolutions from `inputs` to `outputs` channels, which start at zero."""
    first, last = nn.Conv2d(inputs, width, 3, padding=1), zero_convolution(width, outputs)
    return nn.Sequential(first, *(Residual(width) for _ in range(blocks)), ChannelNorm(width), last)


def zero_convolution(inputs: int, outputs: int) -> nn.Conv2d:
    """A 3 x 3 convolution that gives zero until it is trained."""
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1)
    for parameter in convolution.parameters():
        nn.init.zeros_(parameter)
    return convolution


class Certain:
    """A distribution without spread, where diffusers' autoencoders have a Gaussian."""

    def __init__(self, latents: Tensor) -> None:
        self.latents = latents

    def mode(self) -> Tensor:
        """The latents."""
        return self.latents

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """The latents: nothing is random."""
        return self.latents


class PatchAutoencoder(ModelMixin, ConfigMixin):
    """Latents of non-overlapping patches: a linear map plus convolutions at the latents' resolution, both ways.

    z = linear(patches) + refine(patches), then standardised in every channel; back likewise, with a linear map of a
    latent and its eight neighbours. The residual blocks are all the decoder's: in the encoder they add .3 dB, and every
    training step of a denoiser encodes. `closed_form_start` sets the linear maps, `standardise` the channels' means and
    deviations. Pictures are (B, 3, H, W) in [-1, 1], H and W multiples of `factor`.
    """

    latent_mean: Tensor
    latent_deviation: Tensor

    @register_to_config
    def __init__(self, factor: int, latent_channels: int, width: int, blocks: int, scaling_factor: float = 1.0) -> None:
        super().__init__()
        values = 3 * factor**2
        self.encode_linear = nn.Conv2d(values, latent_channels, 1)
        self.encode_refine = refinement(values, latent_channels, width, 0)
        self.decode_linear = nn.Conv2d(latent_channels, values, 3, padding=1)
        self.decode_refine = refinement(latent_channels, values, width, blocks)
        self.register_buffer("latent_mean", torch.zeros(latent_channels, 1, 1))
        self.register_buffer("latent_deviation", torch.ones(latent_channels, 1, 1))

    def encode(self, sample: Tensor) -> AutoencoderKLOutput:
        """`latent_dist` of pictures; its mode is (B, C, h, w)."""
        patches_BPhw = F.pixel_unshuffle(sample, self.config.factor)
        latents_BChw = self.encode_linear(patches_BPhw) + self.encode_refine(patches_BPhw)
        return AutoencoderKLOutput(latent_dist=Certain((latents_BChw - self.latent_mean) / self.latent_deviation))

    def encode_linear_only(self, sample: Tensor) -> Tensor:
        """The latents (B, C, h, w) of pictures without the convolutions' share."""
        latents: Tensor = self.encode_linear(F.pixel_unshuffle(sample, self.config.factor))
        return (latents - self.latent_mean) / self.latent_deviation

    def decode(self, latents: Tensor) -> DecoderOutput:
        """`sample`, the pictures of latents (B, C, h, w), not clamped."""
        latents_BChw = latents * self.latent_deviation + self.latent_mean
        patches_BPhw = self.decode_linear(latents_BChw) + self.decode_refine(latents_BChw)
        return DecoderOutput(sample=F.pixel_shuffle(patches_BPhw, self.config.factor))


Autoencoder: TypeAlias = PatchAutoencoder | AutoencoderKL


@torch.no_grad()
def closed_form_start(autoencoder: PatchAutoencoder, pictures: Sequence[Tensor], latent_noise: float = 0.0) -> None:
    """Set the linear maps from `pictures`, batches (B, 3, H, W) in [-1, 1].

    Encoding takes the principal components of the patches, each divided by its deviation: latents have mean 0 and
    variance 1 over the pictures. Decoding is the least-squares map from 3 x 3 latents, under Gaussian noise of
    deviation `latent_noise`, to the patch in their middle.
    """
    factor, channels = autoencoder.config.factor, autoencoder.config.latent_channels
    encode, decode = autoencoder.encode_linear, autoencoder.decode_linear
    patches = [F.pixel_unshuffle(batch.to(encode.weight.device), factor) for batch in pictures]

    sums_P = torch.stack([_rows(batch).sum(dim=0) for batch in patches]).sum(dim=0)
    products_PP = torch.stack([_rows(batch).T @ _rows(batch) for batch in patches]).sum(dim=0)
    count = sum(len(_rows(batch)) for batch in patches)
    mean_P = sums_P / count
    variances_P, directions_PP = torch.linalg.eigh(products_PP / count - torch.outer(mean_P, mean_P))
    deviation_C = variances_P[-channels:].clamp_min(MIN_DEVIATION**2).sqrt()
    encode_CP = (directions_PP[:, -channels:] / deviation_C).T.flip(0)
    encode.weight.copy_(encode_CP[:, :, None, None])
    encode.bias.copy_(-encode_CP @ mean_P)  # type: ignore[union-attr]

    # Least squares with a column of ones for the bias; noise that is averaged away adds to the diagonal.
    inputs = 9 * channels + 1
    normal, target = torch.zeros(inputs, inputs).to(mean_P), torch.zeros(inputs, len(mean_P)).to(mean_P)
    for batch in patches:
        nine = F.unfold(encode(batch), 3, padding=1).transpose(1, 2).flatten(0, 1).double()
        nine = F.pad(nine, (0, 1), value=1.0)
        normal += nine.T @ nine
        target += nine.T @ _rows(batch)
    noise = torch.full((inputs,), (latent_noise**2 + NORM_EPS**2) * count).to(normal)
    noise[-1] = 0
    solution = torch.linalg.solve(normal + noise.diag(), target)
    decode.weight.copy_(solution[:-1].T.view(decode.weight.shape))
    decode.bias.copy_(solution[-1])  # type: ignore[union-attr]


def _rows(patches_BPhw: Tensor) -> Tensor:
    """Patches one a row, float64 (N, P)."""
    return patches_BPhw.movedim(1, -1).flatten(0, -2).double()


@torch.no_grad()
def standardise(autoencoder: Autoencoder, pictures: Sequence[Tensor]) -> None:
    """Make the latents of `pictures`, batches (B, 3, H, W) in [0, 1], have mean 0 and variance 1.

    In every channel (`PatchAutoencoder`), or over all channels by `shift_factor` and `scaling_factor` (AutoencoderKL).
    What pictures decode to after a round trip stays the same.
    """
    latents_CN = torch.cat([to_latents(autoencoder, batch).transpose(0, 1).flatten(1) for batch in pictures], dim=1)
    if isinstance(autoencoder, PatchAutoencoder):
        mean_C11, deviation_C11 = (statistic[:, None, None] for statistic in _mean_and_deviation(latents_CN))
        autoencoder.latent_mean.add_(autoencoder.latent_deviation * mean_C11)
        autoencoder.latent_deviation.mul_(deviation_C11)
        return
    mean, deviation = _mean_and_deviation(latents_CN.flatten())
    scale, shift = autoencoder.config.scaling_factor, _shift(autoencoder)
    autoencoder.register_to_config(shift_factor=shift + float(mean) / scale, scaling_factor=scale / float(deviation))


def _mean_and_deviation(values: Tensor) -> tuple[Tensor, Tensor]:
    return values.mean(dim=-1), values.std(dim=-1).clamp_min(MIN_DEVIATION)


def build_autoencoder(params: AutoencoderParams) -> Autoencoder:
    """An autoencoder of random weights; UserError when the widths do not fit the factor."""
    if params.kind == "patch":
        if len(params.widths) != 1:
            raise UserError(
                f"diffusion.autoencoder.widths is {params.widths}, and the kind `patch` has one width; give one."
            )
        return PatchAutoencoder(params.factor, params.channels, params.widths[0], params.blocks)
    levels = len(params.widths)
    if 2 ** (levels - 1) != params.factor:
        raise UserError(
            f"diffusion.autoencoder.widths has {levels} resolutions, which makes a factor of {2 ** (levels - 1)} and "
            f"not {params.factor}; give one more width than the factor has halvings."
        )
    return AutoencoderKL(
        latent_channels=params.channels,
        block_out_channels=tuple(params.widths),
        layers_per_block=params.blocks,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        scaling_factor=1.0,
    )


def latent_factor(autoencoder: Autoencoder) -> int:
    """Side in pixels of what one latent stands for."""
    if isinstance(autoencoder, PatchAutoencoder):
        return int(autoencoder.config.factor)
    return int(2 ** (len(autoencoder.config.block_out_channels) - 1))


def latent_channels(autoencoder: Autoencoder) -> int:
    """C."""
    return int(autoencoder.config.latent_channels)


def to_latents(autoencoder: Autoencoder, images: Tensor) -> Tensor:
    """Latents (B, C, h, w) of images (B, 3, H, W) in [0, 1], about standardised: the posterior's mode, scaled."""
    latents: Tensor = autoencoder.encode(images * 2 - 1).latent_dist.mode()
    return (latents - _shift(autoencoder)) * autoencoder.config.scaling_factor


def to_images(autoencoder: Autoencoder, latents: Tensor) -> Tensor:
    """Images (B, 3, H, W), clamped to [0, 1], of latents as `to_latents` gives them."""
    images: Tensor = autoencoder.decode(latents / autoencoder.config.scaling_factor + _shift(autoencoder)).sample
    return (images / 2 + 0.5).clamp(0, 1)


def _shift(autoencoder: Autoencoder) -> float:
    return float(autoencoder.config.get("shift_factor") or 0.0)
