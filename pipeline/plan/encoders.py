"""The frozen text and image encoders around the denoisers, on the meta device."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipeline.params.diffusion import DiffusionParams
from pipeline.plan.layouts import Checkpoint, clip_text, clip_vision


@dataclass(frozen=True)
class Encoder:
    """A frozen encoder."""

    module: nn.Module
    encode: Callable[[int], object]
    """What it computes for a batch of so many samples."""
    width: int
    """Channels of a token."""
    tokens: int
    pooled: int = 0
    """Channels of the pooled embedding, where the denoiser takes one."""
    assumed: str = ""
    """Empty, or what of this is assumed, as a sentence."""


def text_encoders(params: DiffusionParams, checkpoint: Checkpoint | None) -> tuple[Encoder, ...]:
    """The text encoders: one, or the two of SDXL, whose tokens lie side by side in the channels."""
    tokens = params.text.max_tokens
    if params.text.encoder == "clip" and params.text.path:
        module, assumed = clip_text(params.text.path)
        return (_clip_text(module, tokens, assumed),)
    if checkpoint is not None:
        texts = tuple(_clip_text(module, tokens) for module in checkpoint.texts)
        return texts
    raise NotImplementedError


def _clip_text(build: Callable[[], nn.Module], tokens: int, assumed: str = "") -> Encoder:
    module = build()
    config = module.config

    def encode(batch: int) -> Tensor:
        states: Tensor = module(input_ids=torch.zeros(batch, tokens, dtype=torch.long, device="meta"))[0]
        return states

    return Encoder(module, encode, config.hidden_size, tokens, assumed=assumed)


def image_encoder(params: DiffusionParams) -> Encoder:
    """The encoder of `image_to_mv`'s image tokens."""
    build, assumed = clip_vision(params.image.path)
    module = build()
    size = module.config.image_size

    def encode(batch: int) -> object:
        return module(pixel_values=torch.empty(batch, 3, size, size, device="meta"))

    tokens = (size // module.config.patch_size) ** 2 + 1
    return Encoder(module, encode, module.config.hidden_size, tokens, assumed=assumed)
