"""Parameters of the diffusion models: what they are, shared by their training and by all that sample from them."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from pipeline.params.base import Group, StageGroup

Positive = Annotated[int, Field(gt=0)]


class AutoencoderParams(Group):
    """The autoencoder, where no checkpoint brings one."""

    kind: Literal["patch", "kl"]
    """`patch`: residual blocks on non-overlapping patches, from a closed-form start; `kl`: diffusers' AutoencoderKL."""
    factor: Positive
    """Side of a latent's patch of pixels; 8 in the paper (A.1)."""
    channels: Positive
    """Latent channels C; 8 in the paper (A.1)."""
    widths: list[Positive]
    """Channels of the hidden layers. `patch`: one number, the width of all its blocks; `kl`: one a resolution."""
    blocks: Positive
    """Residual blocks of the decoder (`patch`), or of each resolution of both (`kl`)."""


class UNetParams(Group):
    """The denoiser, where no checkpoint brings one: a UNet2DConditionModel."""

    channels: list[Positive]
    """One number a resolution, the finest first."""
    attention: list[bool]
    """Which of these resolutions attend to the tokens (and to themselves)."""
    layers: Positive
    """Residual blocks of each resolution."""
    transformer_layers: list[Positive]
    """Transformer blocks of each attention, one number a resolution."""
    head_channels: Positive
    """Channels of an attention head."""


class TextParams(Group):
    """Text tokens."""

    encoder: Literal["minilm", "clip"]
    """`minilm`: the sentence encoder that comes with the packages; `clip`: the CLIP of `path`, or of the checkpoint."""
    path: str
    """Folder or id of a CLIP text model; empty for the checkpoint's."""
    max_tokens: Positive
    """A prompt is padded to this many tokens; a longer one is refused."""


class ImageParams(Group):
    """Image tokens of `image_to_mv` (A.4)."""

    encoder: Literal["efficientnet-lite0", "clip"]
    """`efficientnet-lite0`: the ImageNet network that comes with the packages; `clip`: the CLIP of `path`."""
    path: str
    """Folder or id of a CLIP vision model."""
    queries: Positive
    """Tokens that the resampler makes; 157 in the paper."""
    width: Positive
    """Of these tokens; 1024 in the paper."""
    hidden: Positive
    """Channels inside the resampler."""
    depth: Positive
    """Layers of the resampler."""
    heads: Positive
    """Attention heads of the resampler."""


class ScheduleParams(Group):
    """The noise schedule: DDPM with scaled-linear betas, v-prediction and zero terminal SNR (A.3)."""

    steps: Positive
    """1000 in the paper."""
    beta_start: Annotated[float, Field(gt=0, lt=1)]
    """Variance that the first step adds; .00085 in Stable Diffusion."""
    beta_end: Annotated[float, Field(gt=0, lt=1)]
    """Variance that the last step adds, before the rescaling to zero terminal SNR; .012 in Stable Diffusion."""
    snr_scale: Annotated[float, Field(gt=0, le=1)]
    """Multiplies every signal-to-noise ratio; below 1 it moves steps to where a picture's layout is decided."""
    parts_snr_scale: Annotated[float, Field(gt=0, le=1)]
    """The same for parts alone (`complete` and its ablations, `edit`): mostly white, and whether anything is drawn in a
    view is decided in more noise."""
    colours_snr_scale: Annotated[float, Field(gt=0, le=1)]
    """The same for the colour maps of `segment`: flat areas of many pixels, whose colours are decided in more noise."""


class SamplerParams(Group):
    """How a model is sampled, where a caller does not say otherwise."""

    solver: Literal["ddim", "dpm-solver++", "unipc"]
    """`ddim` is the paper's; the others are for few steps."""
    steps: Positive
    """250 in the paper."""
    guidance: Annotated[float, Field(ge=0)]
    """Scale of classifier-free guidance; 1 for none. Not published."""


class SamplersParams(Group):
    """The sampler of each task."""

    text_to_mv: SamplerParams
    image_to_mv: SamplerParams
    segment: SamplerParams
    complete: SamplerParams
    edit: SamplerParams
    complete_no_context: SamplerParams
    complete_single_view: SamplerParams
    complete_joint: SamplerParams

    def of(self, task: str) -> SamplerParams:
        """That of one task."""
        sampler: SamplerParams = getattr(self, task)
        return sampler


class DiffusionParams(StageGroup):
    """The multi-view diffusion models."""

    name: ClassVar[str] = "diffusion"

    checkpoint: str
    """Folder or id of a Stable-Diffusion-style checkpoint (1.5, 2.x, SDXL) that brings UNet, autoencoder and text
    encoders; empty for networks as described here."""
    autoencoder: AutoencoderParams
    unet: UNetParams
    text: TextParams
    image: ImageParams
    schedule: ScheduleParams
    sampler: SamplersParams
    colours: Annotated[int, Field(ge=2, le=20)]
    """Q reference colours, at least as many as an object has parts. Not published."""
    palette: Literal["random", "appearance"]
    """Which part gets which of them. random: chance, for each sample, as in the paper. appearance: every part one like
    its own colour. docs/weights.md compares them."""
