"""The networks of a preset at full size on the meta device, and what a batch of their training looks like.

Shape suffixes as in pipeline/diffusion/denoiser.py.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL, ModelMixin
from torch import Tensor, nn

from pipeline.diffusion.autoencoder import build_autoencoder, latent_channels, latent_factor, to_latents
from pipeline.diffusion.denoiser import Conditions, predict
from pipeline.diffusion.tasks import TASKS, Task
from pipeline.diffusion.unet import MultiViewUNet, build_unet, fine_tuned_from
from pipeline.params.diffusion import DiffusionParams
from pipeline.params.train import TaskParams, TrainParams
from pipeline.plan.encoders import Encoder, image_encoder, text_encoders
from pipeline.plan.layouts import Checkpoint, checkpoint_layout

META = torch.device("meta")


@dataclass(frozen=True)
class Network:
    """A network to train, and the frozen ones around it; all on the meta device."""

    name: str
    shape: str
    """What goes into the network for one sample: channels x height x width."""
    module: nn.Module
    forward: Callable[[int], Tensor]
    """The network's output in training, for a batch of so many samples."""
    schedule: TaskParams
    frozen: tuple[nn.Module, ...] = ()
    """Networks that lie in memory beside it and are not trained."""
    encode: Callable[[int], object] = lambda batch: None
    """What the frozen networks compute for a batch of so many samples."""


class Preset:
    """All networks of a preset, built when they are asked for."""

    def __init__(self, diffusion: DiffusionParams, train: TrainParams, view_size: int) -> None:
        """`view_size`: pixels a side of a view; a grid has twice as many. UserError when the params do not fit."""
        self._params, self._train, self._view_size = diffusion, train, view_size
        self._checkpoint = checkpoint_layout(diffusion.checkpoint) if diffusion.checkpoint else None
        with META:
            self._autoencoder = _autoencoder(diffusion, self._checkpoint)
            self._texts = text_encoders(diffusion, self._checkpoint)
            self._image = image_encoder(diffusion)
        known = (self._checkpoint.assumed if self._checkpoint else "", *(text.assumed for text in self._texts))
        self.assumed = tuple(dict.fromkeys(note for note in (*known, self._image.assumed) if note))
        """What is not on this machine and therefore assumed, a sentence each."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the networks, in the order in which they are trained."""
        return ("autoencoder", *TASKS)

    def networks(self) -> Iterator[Network]:
        """The networks, one after the other."""
        yield self._of_images()
        for task in TASKS.values():
            yield self._denoiser(task)

    def _of_images(self) -> Network:
        autoencoder, side = self._autoencoder, 2 * self._view_size

        def forward(batch: int) -> Tensor:
            images = torch.empty(batch, 3, side, side, device=META)
            decoded: Tensor = autoencoder.decode(autoencoder.encode(images).latent_dist.mode()).sample
            return decoded

        return Network("autoencoder", _shape(3, side, side), autoencoder, forward, self._train.autoencoder)

    def _denoiser(self, task: Task) -> Network:
        side = self._view_size * (2 if task.views == 4 else 1)
        latents = side // latent_factor(self._autoencoder)
        channels = latent_channels(self._autoencoder)
        unet = self._unet(task, channels, latents)
        encoders = (*self._texts, *([self._image] if task.image_tokens else []))
        encoders = () if self._train.loop.precompute else encoders
        width = latents + (latents // 2 if task.beside else 0)

        def forward(batch: int) -> Tensor:
            noised_BCHW = torch.empty(batch, channels, latents, latents, device=META)
            timesteps_B = torch.zeros(batch, dtype=torch.long, device=META)
            return predict(unet, noised_BCHW, timesteps_B, self._conditions(task, unet, noised_BCHW))

        def encode(batch: int) -> None:
            for _ in (task.target, *task.stacked):
                to_latents(self._autoencoder, torch.empty(batch, 3, side, side, device=META))
            if task.beside:
                to_latents(self._autoencoder, torch.empty(batch, 3, side, side // 2, device=META))
            for encoder in encoders:
                encoder.encode(batch)

        shape = _shape(unet.config.in_channels, latents, width)
        frozen = (self._autoencoder, *(encoder.module for encoder in encoders))
        return Network(task.name, shape, unet, forward, self._train.schedule(task.name), frozen, encode)

    def _unet(self, task: Task, channels: int, latents: int) -> MultiViewUNet:
        with META:
            if self._checkpoint is None:
                text_width = sum(text.width for text in self._texts)
                return build_unet(self._params, task, channels, latents, text_width, self._image.width)
            base = MultiViewUNet(**self._checkpoint.unet)
            return fine_tuned_from(base, task, self._params, self._image.width)

    def _conditions(self, task: Task, unet: MultiViewUNet, noised_BCHW: Tensor) -> Conditions:
        batch, channels, height, width = noised_BCHW.shape
        further = unet.config.in_channels - channels
        pooled = sum(text.pooled for text in self._texts)
        tokens = self._params.text.max_tokens
        return Conditions(
            text_BLD=torch.empty(batch, tokens, unet.config.cross_attention_dim, device=META),
            pooled_BP=torch.empty(batch, pooled, device=META) if pooled else None,
            stacked_BKHW=torch.empty(batch, further, height, width, device=META) if further else None,
            beside_BCHW=torch.empty(batch, channels, height, width // 2, device=META) if task.beside else None,
            image_BNE=torch.empty(batch, self._image.tokens, self._image.width, device=META)
            if task.image_tokens
            else None,
        )


def _autoencoder(params: DiffusionParams, checkpoint: Checkpoint | None) -> ModelMixin:
    if checkpoint is None:
        return build_autoencoder(params.autoencoder)
    return AutoencoderKL(**checkpoint.autoencoder)


def _shape(*sizes: int) -> str:
    return " x ".join(map(str, sizes))
