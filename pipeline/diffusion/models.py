"""The networks of a task before and after its training: what it starts from, and the folder it is kept in."""

import json
from pathlib import Path

import torch
from diffusers import DDPMScheduler

from pipeline.diffusion.autoencoder import (
    Autoencoder,
    build_autoencoder,
    latent_channels,
    latent_factor,
)
from pipeline.diffusion.checkpoint import load_checkpoint
from pipeline.diffusion.image import build_image_encoder
from pipeline.diffusion.networks import Model, load_autoencoder, load_network
from pipeline.diffusion.pipelines import pipeline_class
from pipeline.diffusion.tasks import BASE, Task, find_task
from pipeline.diffusion.text import ClipText, MiniLM, build_text_encoder
from pipeline.diffusion.unet import MultiViewUNet, build_unet, check_shapes, fine_tuned_from, load_unet, shapes
from pipeline.folders import replaced
from pipeline.params.diffusion import DiffusionParams


def start_autoencoder(params: DiffusionParams, init_from: str = "") -> Autoencoder:
    """The autoencoder in the folder `init_from`, or the checkpoint's, or one of random weights."""
    if init_from:
        folder = Path(init_from) / "autoencoder"
        if not params.checkpoint:
            with torch.device("meta"):
                check_shapes(folder, shapes(build_autoencoder(params.autoencoder)))
        return load_autoencoder(folder)
    if params.checkpoint:
        return load_checkpoint(params.checkpoint).autoencoder
    return build_autoencoder(params.autoencoder)


def started_task(task: Task, init_from: str) -> Task:
    """The task as the network in the folder `init_from` was trained for it; as it is where there is no such network."""
    try:
        config = json.loads((Path(init_from) / task.name / "unet/config.json").read_text(encoding="utf-8"))
        return task.of_network(config["in_channels"], config["out_channels"])
    except (OSError, ValueError, KeyError):  # loading it says what is wrong
        return task


def started_from(task: Task, init_from: str) -> Path:
    """The folder below `init_from` from whose model the task's training goes on: its own, or else its base's where that
    is another than `text_to_mv`."""
    folder = Path(init_from) / task.name
    return folder if task.base == BASE or folder.is_dir() else folder.with_name(task.base)


def start_model(task: Task, params: DiffusionParams, models: Path, grid_size: int, init_from: str = "") -> Model:
    """The networks from which the task's training starts.

    The denoiser is the one that `started_from` names, where `init_from` is given. Otherwise that of `text_to_mv` starts
    from the checkpoint, or from random weights; all others from their base in `models`.
    """
    image = build_image_encoder(params.image) if task.image_tokens else None
    embed_width = image.width if image is not None else None
    checkpoint = load_checkpoint(params.checkpoint) if params.checkpoint and task.name == BASE else None
    if task.name != BASE:
        autoencoder = load_autoencoder(models / BASE / "autoencoder")
        text = load_text_encoder(models / BASE / "text_encoder")
    else:
        autoencoder = load_autoencoder(models / "autoencoder")
        text = checkpoint.text if checkpoint else build_text_encoder(params.text)

    def new(task: Task) -> MultiViewUNet:
        side = grid_size // latent_factor(autoencoder)
        return build_unet(params, task, latent_channels(autoencoder), side, text.width, embed_width)

    if init_from:
        found, expected = started_from(task, init_from), None
        if not params.checkpoint:
            with torch.device("meta"):
                expected = new(task if found.name == task.name else find_task(found.name))
        unet = load_unet(found / "unet", expected)
        if found.name != task.name:
            unet = fine_tuned_from(unet, task, params, embed_width)
    elif task.name != BASE:
        unet = fine_tuned_from(load_unet(models / task.base / "unet"), task, params, embed_width)
    elif checkpoint:
        unet = fine_tuned_from(checkpoint.unet, task, params, embed_width)
    else:
        unet = new(task)
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
        **params.sampler.of(task.name).model_dump(),
    )
    with replaced(out) as partial:
        pipeline.save_pretrained(partial)


def load_text_encoder(folder: Path) -> MiniLM | ClipText:
    """The text encoder of a folder; UserError where there is none."""
    return load_network(folder, (MiniLM, ClipText))
