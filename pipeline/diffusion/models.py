"""The networks of a task before and after its training: what it starts from, and the folder it is kept in."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from diffusers import AutoencoderKL, DDPMScheduler, ModelMixin

from pipeline.diffusion.autoencoder import (
    Autoencoder,
    PatchAutoencoder,
    build_autoencoder,
    latent_channels,
    latent_factor,
)
from pipeline.diffusion.checkpoint import load_checkpoint
from pipeline.diffusion.image import ClipImage, EfficientNetLite0, build_image_encoder
from pipeline.diffusion.pipelines import pipeline_class
from pipeline.diffusion.tasks import Task
from pipeline.diffusion.text import ClipText, MiniLM, build_text_encoder
from pipeline.diffusion.unet import MultiViewUNet, build_unet, fine_tuned_from, load_unet
from pipeline.errors import UserError
from pipeline.params.diffusion import DiffusionParams
from pipeline.training.results import replaced

BASE = "text_to_mv"
"""What every other task is fine-tuned from (A.4 to A.8)."""

Loaded = TypeVar("Loaded", bound=ModelMixin)


@dataclass(frozen=True)
class Model:
    """The networks of a task."""

    unet: MultiViewUNet
    autoencoder: Autoencoder
    text: MiniLM | ClipText
    image: EfficientNetLite0 | ClipImage | None
    """None where the task has no image tokens."""


def start_autoencoder(params: DiffusionParams) -> Autoencoder:
    """The checkpoint's autoencoder, or one of random weights."""
    if params.checkpoint:
        return load_checkpoint(params.checkpoint).autoencoder
    return build_autoencoder(params.autoencoder)


def start_model(task: Task, params: DiffusionParams, models: Path, grid_size: int) -> Model:
    """The networks from which the task's training starts.

    `text_to_mv` starts from the checkpoint, or from random weights; all others from `text_to_mv` in `models`.
    """
    image = build_image_encoder(params.image) if task.image_tokens else None
    embed_width = image.width if image is not None else None
    if task.name != BASE:
        folder = models / BASE
        base = load_unet(folder / "unet")
        autoencoder, text = load_autoencoder(folder / "autoencoder"), load_text_encoder(folder / "text_encoder")
        unet = fine_tuned_from(base, task, params, embed_width)
    elif params.checkpoint:
        checkpoint = load_checkpoint(params.checkpoint)
        autoencoder, text = load_autoencoder(models / "autoencoder"), checkpoint.text
        unet = fine_tuned_from(checkpoint.unet, task, params, embed_width)
    else:
        autoencoder, text = load_autoencoder(models / "autoencoder"), build_text_encoder(params.text)
        side = grid_size // latent_factor(autoencoder)
        unet = build_unet(params, task, latent_channels(autoencoder), side, text.width, embed_width)
    for network in (autoencoder, text, image):
        if network is not None:
            network.eval().requires_grad_(False)
    return Model(unet, autoencoder, text, image)


def save_model(
    model: Model, task: Task, schedule: DDPMScheduler, params: DiffusionParams, grid_size: int, out: Path
) -> None:
    """Replace `out` by the task's pipeline, as diffusers saves it."""
    pipeline = pipeline_class(task.name)(
        unet=model.unet,
        autoencoder=model.autoencoder,
        text_encoder=model.text,
        image_encoder=model.image,
        scheduler=schedule,
        task=task.name,
        grid_size=grid_size,
        colours=params.colours,
        solver=params.sampler.solver,
        steps=params.sampler.steps,
        guidance=params.sampler.guidance,
    )
    with replaced(out) as partial:
        pipeline.save_pretrained(partial)


def digest(folder: Path) -> str:
    """Of all files of a model's folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    found = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            found.update(f"{path.relative_to(folder)} {hashlib.file_digest(file, 'sha256').hexdigest()}".encode())
    return found.hexdigest()


def _load(folder: Path, kinds: Sequence[type[Loaded]]) -> Loaded:
    """A network whose class is named in its config; UserError where there is none."""
    try:
        name = json.loads((folder / "config.json").read_text(encoding="utf-8"))["_class_name"]
        kind = {kind.__name__: kind for kind in kinds}[name]
    except (OSError, ValueError, KeyError):
        expected = " or ".join(kind.__name__ for kind in kinds)
        raise UserError(f"{folder} holds no {expected}; train it first (`partgen run`).") from None
    return kind.from_pretrained(folder)


def load_autoencoder(folder: Path) -> Autoencoder:
    """The autoencoder of a folder; UserError where there is none."""
    return _load(folder, (PatchAutoencoder, AutoencoderKL))


def load_text_encoder(folder: Path) -> MiniLM | ClipText:
    """The text encoder of a folder; UserError where there is none."""
    return _load(folder, (MiniLM, ClipText))
