"""The networks of a preset at full size on the meta device, and what a batch of their training looks like.

Shape suffixes as in `pipeline.diffusion.denoiser`, and S parts of an object.
"""

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from functools import cache

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from pipeline.diffusion.autoencoder import (
    PatchAutoencoder,
    build_autoencoder,
    latent_channels,
    latent_factor,
    to_latents,
)
from pipeline.diffusion.denoiser import Conditions, predict
from pipeline.diffusion.tasks import TASKS, Task
from pipeline.diffusion.unet import MultiViewUNet, build_unet, fine_tuned_from
from pipeline.params.diffusion import DiffusionParams
from pipeline.params.gaussians import GaussiansParams
from pipeline.params.reconstruction import ReconstructionParams
from pipeline.params.render import RenderParams
from pipeline.params.train import JointLrmParams, LrmParams, TaskParams, TrainParams
from pipeline.plan.encoders import Encoder, image_encoder, text_encoders
from pipeline.plan.layouts import Checkpoint, checkpoint_layout
from pipeline.plan.trace import inference_flops
from pipeline.reconstruction.field import Field
from pipeline.reconstruction.joint_lrm import joint_of
from pipeline.reconstruction.lrm import build_lrm, example_inputs
from pipeline.reconstruction.pixel_gaussians import RAY, SHOWN, build_gaussians
from pipeline.reconstruction.renderer import render as render_fields
from pipeline.surface.features import PAIRS
from pipeline.surface.grouping import TOKENS, GroupingModel
from pipeline.surface.superfaces import MOST

META = torch.device("meta")


@dataclass(frozen=True)
class Stem:
    """The first layer of a network, where the rest is the same in several networks."""

    module: nn.Module
    forward: Callable[[int], Tensor]
    """The layer's output for a batch of so many samples."""
    body: Hashable
    """Equal for networks that differ in their stem alone."""


@dataclass(frozen=True)
class Network:
    """A network to train, and the frozen ones around it; all on the meta device."""

    name: str
    shape: tuple[int, int, int]
    """What goes into the network for one sample: channels, height, width."""
    module: nn.Module
    forward: Callable[[int], Tensor]
    """The network's output in training, for a batch of so many samples."""
    schedule: TaskParams
    frozen: tuple[nn.Module, ...] = ()
    """Networks that lie in memory beside it and are not trained."""
    frozen_flops: int = 0
    """FLOPs of what these compute for one sample."""
    stem: Stem | None = field(default=None, repr=False)


class Preset:
    """All networks of a preset, built when they are asked for."""

    def __init__(
        self,
        diffusion: DiffusionParams,
        train: TrainParams,
        render: RenderParams,
        reconstruction: ReconstructionParams | None = None,
        gaussians: GaussiansParams | None = None,
    ) -> None:
        """Without `reconstruction` or `gaussians` that model is left out. UserError when the params do not fit."""
        self._params, self._train, self._render = diffusion, train, render
        self._reconstruction, self._gaussians = reconstruction, gaussians
        self._checkpoint = checkpoint_layout(diffusion.checkpoint) if diffusion.checkpoint else None
        with META:
            self._autoencoder = _autoencoder(diffusion, self._checkpoint)
            self._texts = text_encoders(diffusion.text, self._checkpoint)
            self._image = image_encoder(diffusion.image)
        self._flops_of_encoder = cache(lambda encoder: inference_flops(encoder.encode))
        self._flops_of_latents = cache(self._trace_latents)
        known = (self._checkpoint.assumed if self._checkpoint else "", *(text.assumed for text in self._texts))
        self.assumed = tuple(dict.fromkeys(note for note in (*known, self._image.assumed) if note))
        """What is not on this machine and therefore assumed, a sentence each."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the networks."""
        models = {"gaussians": self._gaussians, "lrm_joint": self._reconstruction, "lrm": self._reconstruction}
        return ("autoencoder", *TASKS, "grouping", *(name for name, params in models.items() if params))

    def networks(self) -> Iterator[Network]:
        """The networks, one after the other, in the order in which they are trained."""
        yield self.autoencoder()
        for task in TASKS.values():
            yield self.denoiser(task)
        yield _grouping_model(self._train.grouping)
        if self._gaussians:
            yield _gaussians_model(self._gaussians, self._render, self._train.gaussians)
        if self._reconstruction:
            yield _joint_model(self._reconstruction, self._render, self._train.lrm_joint)
            yield _reconstruction_model(self._reconstruction, self._render, self._train.lrm)

    def autoencoder(self) -> Network:
        """The autoencoder, as it is trained on grids."""
        autoencoder, side = self._autoencoder, 2 * self._render.view_size

        def forward(batch: int) -> Tensor:
            images = torch.empty(batch, 3, side, side, device=META)
            decoded: Tensor = autoencoder.decode(autoencoder.encode(images).latent_dist.mode()).sample
            return decoded

        return Network("autoencoder", (3, side, side), autoencoder, forward, self._train.autoencoder)

    def denoiser(self, task: Task) -> Network:
        """The network of one task; a sample of one that draws parts together has `diffusion.colours` of them."""
        side = self._render.view_size * (2 if task.views == 4 else 1)
        latents = side // latent_factor(self._autoencoder)
        channels = latent_channels(self._autoencoder)
        unet = self._unet(task, channels, latents)
        if self._train.denoiser(task.name).gradient_checkpointing:
            unet.enable_gradient_checkpointing()
        shape = (unet.config.in_channels, latents, latents + (latents // 2 if task.beside else 0))
        # As many parts as an object may have: what a micro batch needs at most.
        parts = self._params.colours if task.joint else 1

        def forward(batch: int) -> Tensor:
            noised_BCHW = torch.empty(batch * parts, channels, latents, latents, device=META)
            timesteps_B = torch.zeros(batch * parts, dtype=torch.long, device=META)
            return predict(unet, noised_BCHW, timesteps_B, self._conditions(task, unet, noised_BCHW))

        def first_layer(batch: int) -> Tensor:
            hidden: Tensor = unet.conv_in(torch.empty(batch * parts, *shape, device=META))
            return hidden

        encoders: tuple[Encoder, ...] = ()
        if not self._train.loop.precompute:
            encoders = (*self._texts, *([self._image] if task.image_tokens else []))
        pictures = [side] * (1 + len(task.stacked)) + ([side // 2] if task.beside else [])
        return Network(
            task.name,
            shape,
            unet,
            forward,
            self._train.schedule(task.name),
            frozen=(self._autoencoder, *(encoder.module for encoder in encoders)),
            frozen_flops=parts * sum(self._flops_of_latents(side, width) for width in pictures)
            + sum(self._flops_of_encoder(encoder) for encoder in encoders),
            stem=Stem(unet.conv_in, first_layer, body=(shape[1:], task.image_tokens is not None, task.joint)),
        )

    def _unet(self, task: Task, channels: int, latents: int) -> MultiViewUNet:
        with META:
            if self._checkpoint is None:
                width = sum(text.width for text in self._texts)
                return build_unet(self._params, task, channels, latents, width, self._image.width)
            return fine_tuned_from(MultiViewUNet(**self._checkpoint.unet), task, self._params, self._image.width)

    def _conditions(self, task: Task, unet: MultiViewUNet, noised_BCHW: Tensor) -> Conditions:
        batch, channels, height, width = noised_BCHW.shape
        text_width, further = unet.config.cross_attention_dim, unet.config.in_channels - channels
        pooled = self._texts[-1].pooled
        return Conditions(
            text_BLD=_empty(batch, self._params.text.max_tokens, text_width),
            pooled_BP=_empty(batch, pooled) if pooled else None,
            stacked_BKHW=_empty(batch, further, height, width) if further else None,
            beside_BCHW=_empty(batch, channels, height, width // 2) if task.beside else None,
            image_BNE=_empty(batch, self._image.tokens, self._image.width) if task.image_tokens else None,
            objects_B=torch.zeros(batch, dtype=torch.long, device=META) if task.joint else None,
        )

    def _trace_latents(self, height: int, width: int) -> int:
        return inference_flops(lambda: to_latents(self._autoencoder, _empty(1, 3, height, width)))


def _autoencoder(params: DiffusionParams, checkpoint: Checkpoint | None) -> PatchAutoencoder | AutoencoderKL:
    if checkpoint is None:
        return build_autoencoder(params.autoencoder)
    return AutoencoderKL(**checkpoint.autoencoder)


def _grouping_model(schedule: TaskParams) -> Network:
    """With as many atoms as a fused object has; most others have fewer."""
    with META:
        model = GroupingModel()

    def forward(batch: int) -> Tensor:
        padding = torch.zeros(batch, MOST, dtype=torch.bool, device=META)
        logits: Tensor = model(_empty(batch, MOST, TOKENS), _empty(batch, MOST, MOST, len(PAIRS)), padding)
        return logits

    return Network("grouping", (len(PAIRS), MOST, MOST), model, forward, schedule)


def _gaussians_model(params: GaussiansParams, render: RenderParams, schedule: TaskParams) -> Network:
    """Without the drawing of the gaussians, whose work is that of the pixels that they cover."""
    with META:
        model = build_gaussians(params, render)
    side, coarse = 2 * render.view_size, render.view_size // params.stride

    def forward(batch: int) -> Tensor:
        values: Tensor = model(_empty(batch, 4, SHOWN * params.stride**2 + RAY, coarse, coarse))
        return values

    return Network("gaussians", (4, side, side), model, forward, schedule)


def _reconstruction_model(params: ReconstructionParams, render: RenderParams, schedule: LrmParams) -> Network:
    # In one piece: how many samples are computed at once changes neither FLOPs nor what is kept, only the time here.
    whole = params.model_copy(update={"chunk_samples": 2**62})
    with META:
        model = build_lrm(whole, render)

    def forward(batch: int) -> Tensor:
        colours: Tensor = model(**example_inputs(whole, render, batch, META, schedule.pieces)).colour
        return colours

    side = 2 * render.view_size
    return Network("lrm", (3, side, side), model, forward, schedule)


def _joint_model(params: ReconstructionParams, render: RenderParams, schedule: JointLrmParams) -> Network:
    """Of objects of as many parts as a step takes; the points where their overlap is looked at are left out."""
    whole = params.model_copy(update={"chunk_samples": 2**62})
    with META:
        model = joint_of(build_lrm(whole, render))
    given = example_inputs(whole, render, 1, META, schedule.pieces)
    grid_3HW, rays = given["grids_B3HW"][0], given["rays_BR"][0]

    def forward(batch: int) -> Tensor:
        grids_S3HW = grid_3HW.expand(schedule.parts, -1, -1, -1)
        seen = []
        for volumes in model([grids_S3HW] * batch, [grid_3HW] * batch):
            fields = [Field(volume, model.decoder) for volume in volumes]
            for shown in [*([one] for one in fields), fields]:
                seen.append(render_fields(shown, rays, params.samples, chunk_samples=whole.chunk_samples).colour)
        return torch.stack(seen)

    side = 2 * render.view_size
    return Network("lrm_joint", (3 * schedule.parts, side, side), model, forward, schedule)


def _empty(*shape: int) -> Tensor:
    return torch.empty(shape, device=META)
