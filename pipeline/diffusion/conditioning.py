"""Conditions of a batch: pictures, masks and tokens encoded as the denoiser takes them, for training and sampling.

Shape suffixes as in `pipeline.diffusion.denoiser`.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor

from pipeline.diffusion.autoencoder import PatchAutoencoder, latent_factor, to_latents
from pipeline.diffusion.denoiser import Conditions
from pipeline.diffusion.tasks import Task


@torch.no_grad()
def encode_conditions(
    task: Task,
    images: Mapping[str, Tensor],
    masks: Mapping[str, Tensor],
    autoencoder: PatchAutoencoder | AutoencoderKL,
    text: tuple[Tensor, Tensor | None],
    image_tokens: Tensor | None = None,
    objects: Tensor | None = None,
) -> Conditions:
    """The conditions of a task (A.3 to A.6, A.8).

    `images`: (B, 3, H, W) in [0, 1] each, at least those that the task stacks or lays beside; `masks`: (B, 1, H, W) of
    0 and 1; `text`: tokens (B, L, D) and SDXL's pooled embedding (B, P) or None; `image_tokens`: (B, N, E) for a task
    that attends to an image; `objects`: the number of each sample's object, (B,), for a task that draws the parts of
    one together. Nothing here is trained, so no gradients.

    A stacked mask goes down to the latents' resolution by the average of its pixels: a part of one pixel is still seen.
    """
    if (image_tokens is None) != (task.image_tokens is None):
        raise ValueError(f"{task.name} attends to {task.image_tokens or 'no image'}: give image tokens accordingly")
    if (objects is None) == task.joint:
        raise ValueError(
            f"{task.name} draws parts {'together' if task.joint else 'one by one'}: give objects accordingly"
        )
    stacked = [to_latents(autoencoder, images[name]) for name in task.stacked]
    if task.stacked_mask is not None:
        mask_BCHW = F.avg_pool2d(masks[task.stacked_mask].float(), latent_factor(autoencoder))
        stacked.append(mask_BCHW.to(stacked[0].dtype))
    return Conditions(
        text_BLD=text[0],
        pooled_BP=text[1],
        stacked_BKHW=torch.cat(stacked, dim=1) if stacked else None,
        beside_BCHW=to_latents(autoencoder, white_below(images[task.beside])) if task.beside else None,
        image_BNE=image_tokens,
        objects_B=objects,
    )


def white_below(views: Tensor) -> Tensor:
    """Views (B, 3, H, W) on top of as much white: (B, 3, 2H, W), as high as the grid of views of their size."""
    return F.pad(views, (0, 0, 0, views.shape[-2]), value=1.0)


def rows_of(conditions: Conditions, rows: Tensor) -> Conditions:
    """The conditions of the samples `rows` (indices, in any order and number)."""
    tensors = {field.name: getattr(conditions, field.name) for field in fields(conditions)}
    taken: dict[str, Any] = {
        name: None if tensor is None else tensor[rows.to(tensor.device)] for name, tensor in tensors.items()
    }
    return Conditions(**taken)
