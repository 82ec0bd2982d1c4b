"""Layouts of pretrained networks: those of a folder, or of the checkpoint that is assumed where there is none."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPVisionConfig, CLIPVisionModel

from pipeline.errors import UserError

# stabilityai/stable-diffusion-2-1 (v-prediction), from the config.json of its folders.
ASSUMED_UNET: dict[str, Any] = {
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (320, 640, 1280, 1280),
    "attention_head_dim": (5, 10, 20, 20),
    "cross_attention_dim": 1024,
    "use_linear_projection": True,
}
ASSUMED_AUTOENCODER: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
}
ASSUMED_CHECKPOINT = (
    "Stable Diffusion 2.1 v (UNet of widths 320, 640, 1280, 1280 with 5, 10, 20, 20 heads, linear projections and "
    "cross-attention to 1024 channels; autoencoder of 4 channels at 1/8; text encoder of CLIP ViT-H/14)"
)
# laion/CLIP-ViT-H-14-laion2B-s32B-b79K; its text model as Stable Diffusion 2.x uses it, without the last layer.
ASSUMED_TEXT = CLIPTextConfig(
    hidden_size=1024, intermediate_size=4096, num_hidden_layers=23, num_attention_heads=16, hidden_act="gelu"
)
ASSUMED_VISION = CLIPVisionConfig(
    hidden_size=1280, intermediate_size=5120, num_hidden_layers=32, num_attention_heads=16, patch_size=14
)


@dataclass(frozen=True)
class Checkpoint:
    """What a Stable-Diffusion-style checkpoint consists of."""

    unet: dict[str, Any]
    autoencoder: dict[str, Any]
    texts: tuple[Callable[[], Any], ...]
    """Builders of the text encoders: one, or two for SDXL."""
    assumed: str
    """Empty, or what of this is assumed, as a sentence."""


def checkpoint_layout(path: str) -> Checkpoint:
    """The layout of a checkpoint's folder, or the assumed one; UserError when the folder is incomplete."""
    folder = Path(path)
    if not folder.is_dir():
        note = f"The checkpoint {path} is not on this machine; assumed is the layout of {ASSUMED_CHECKPOINT}."
        return Checkpoint(ASSUMED_UNET, ASSUMED_AUTOENCODER, (lambda: CLIPTextModel(ASSUMED_TEXT),), note)
    kinds = {"text_encoder": CLIPTextModel, "text_encoder_2": CLIPTextModelWithProjection}
    texts = tuple(
        _builder(kind, CLIPTextConfig(**_config(folder / name)))
        for name, kind in kinds.items()
        if (folder / name).is_dir()
    )
    return Checkpoint(_config(folder / "unet"), _config(folder / "vae"), texts, "")


def clip_text(path: str) -> tuple[Callable[[], Any], str]:
    """Builder of a CLIP text model, and what of it is assumed, as a sentence."""
    config, assumed = _clip(path, "text_config", CLIPTextConfig, ASSUMED_TEXT)
    return _builder(CLIPTextModel, config), assumed


def clip_vision(path: str) -> tuple[Callable[[], Any], str]:
    """Builder of a CLIP vision model, and what of it is assumed, as a sentence."""
    config, assumed = _clip(path, "vision_config", CLIPVisionConfig, ASSUMED_VISION)
    return _builder(CLIPVisionModel, config), assumed


def _clip(path: str, part: str, kind: type, otherwise: Any) -> tuple[Any, str]:
    """The config of one half of CLIP; a folder holds that half alone, or both, each under its name."""
    if not (Path(path) / "config.json").is_file():
        return otherwise, f"The CLIP model {path} is not on this machine; assumed is CLIP ViT-H/14."
    values = _config(Path(path))
    return kind(**values.get(part, values)), ""


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise UserError(f"{path} is missing or not JSON; copy the checkpoint's folder again.") from None
    return {key: value for key, value in values.items() if not key.startswith("_")}


def _builder(kind: type, config: Any) -> Callable[[], Any]:
    return lambda: kind(config)
