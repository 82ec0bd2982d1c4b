"""Stable-Diffusion-style checkpoints as a base: folders that diffusers' pipelines for 1.5, 2.x and SDXL save."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from huggingface_hub import snapshot_download

from pipeline.diffusion.text import ClipText, load_clip_text, load_tokenizer
from pipeline.diffusion.unet import MultiViewUNet, load_unet
from pipeline.errors import UserError
from pipeline.folders import without_origin

FILES = ("*.json", "*.txt", "unet/*.safetensors", "vae/*.safetensors", "text_encoder*/*.safetensors")
"""What is downloaded of a checkpoint that is given by id."""


@dataclass(frozen=True)
class Checkpoint:
    """The networks of a checkpoint, in float32."""

    unet: MultiViewUNet
    autoencoder: AutoencoderKL
    text: ClipText
    prediction: str
    """What its network was trained to predict, `epsilon` or `v_prediction`; our fine-tuning makes it v (A.3)."""


def load_checkpoint(checkpoint: str) -> Checkpoint:
    """The networks of a folder, or of an id of the Hugging Face hub.

    UserError when it is neither, when a part is missing or its weights have another shape than its config says (names
    the layer), or when the parts do not fit one another.
    """
    folder = _folder(checkpoint)
    parts = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    for part in ("unet", "vae", "text_encoder", "tokenizer"):
        if not (folder / part).is_dir():
            has = ", ".join(sorted(path.name for path in folder.iterdir() if path.is_dir())) or "no folders"
            raise UserError(
                f"The checkpoint {checkpoint} ({parts.get('_class_name')}) has no folder `{part}` but {has}; "
                "give one of Stable Diffusion 1.5, 2.x or SDXL."
            )
    endings = [ending for ending in ("", "_2") if (folder / f"text_encoder{ending}").is_dir()]
    encoders = [load_clip_text(folder / f"text_encoder{ending}") for ending in endings]
    tokenizers = [load_tokenizer(folder / f"tokenizer{ending}") for ending in endings]
    max_tokens = min(encoder.config.max_position_embeddings for encoder in encoders)
    loaded = Checkpoint(
        unet=load_unet(folder / "unet"),
        autoencoder=_load_autoencoder(folder / "vae"),
        text=ClipText(encoders=encoders, tokenizers=tokenizers, max_tokens=max_tokens),
        prediction=_prediction(folder / "scheduler"),
    )
    _check_fit(checkpoint, loaded)
    return loaded


def _folder(checkpoint: str) -> Path:
    folder = Path(checkpoint)
    if not folder.exists():
        try:
            folder = Path(snapshot_download(checkpoint, allow_patterns=list(FILES)))
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())[:100].rstrip(".")
            raise UserError(
                f"diffusion.checkpoint is {checkpoint!r}, which is no folder here and cannot be downloaded ({reason}); "
                "give the folder or the id of a Stable Diffusion checkpoint, or leave it empty."
            ) from None
    if not (folder / "model_index.json").is_file():
        raise UserError(
            f"diffusion.checkpoint is {checkpoint!r}, which holds no model_index.json; give a folder of the layout "
            "that StableDiffusionPipeline.save_pretrained writes."
        )
    return folder


def _load_autoencoder(folder: Path) -> AutoencoderKL:
    try:
        loaded: Any = AutoencoderKL.from_pretrained(folder, torch_dtype=torch.float32, output_loading_info=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"{folder} holds no autoencoder: {' '.join(str(error).split())[:300]}.") from None
    autoencoder, found = loaded
    if found["missing_keys"]:
        raise UserError(f"{folder}: the layer {min(found['missing_keys'])} is missing; copy the checkpoint again.")
    return without_origin(autoencoder)


def _prediction(folder: Path) -> str:
    try:
        config = json.loads((folder / "scheduler_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise UserError(f"{folder} holds no scheduler_config.json; copy the checkpoint again.") from None
    return str(config.get("prediction_type", "epsilon"))


def _check_fit(checkpoint: str, loaded: Checkpoint) -> None:
    unet, text = loaded.unet.config, loaded.text
    pooled = None
    if unet.addition_embed_type == "text_time":  # SDXL: the pooled text, then six numbers about the picture's size
        pooled = unet.projection_class_embeddings_input_dim - 6 * unet.addition_time_embed_dim
    fits = (
        ("attn2.to_k (width of the text tokens)", unet.cross_attention_dim, text.width),
        ("add_embedding (width of the pooled text)", pooled, text.pooled_width),
        ("conv_out (latent channels)", unet.out_channels, loaded.autoencoder.config.latent_channels),
    )
    for layer, needs, has in fits:
        if needs != has:
            raise UserError(
                f"The checkpoint {checkpoint} does not fit together: its network's {layer} is made for {needs}, "
                f"the other parts give {has}; give a Stable Diffusion 1.5, 2.x or SDXL base checkpoint."
            )
