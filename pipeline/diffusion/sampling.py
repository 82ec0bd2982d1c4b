"""Sampling: what the pipelines of all tasks share.

Shape suffixes as in `pipeline.diffusion.denoiser`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self, TypedDict

import numpy as np
import torch
from diffusers import AutoencoderKL, DDPMScheduler, DiffusionPipeline, ModelMixin
from pydantic import ValidationError

from pipeline.diffusion.autoencoder import PatchAutoencoder, latent_channels, latent_factor, to_images
from pipeline.diffusion.conditioning import encode_conditions, rows_of
from pipeline.diffusion.denoiser import Conditions
from pipeline.diffusion.denoising import sample_latents
from pipeline.diffusion.tasks import Task, find_task
from pipeline.diffusion.unet import MultiViewUNet
from pipeline.errors import UserError
from pipeline.folders import reading
from pipeline.params.base import explain
from pipeline.params.diffusion import SamplerParams
from pipeline.telemetry import without_telemetry
from pipeline.views.cameras import tile, untile


class Sampling(TypedDict, total=False):
    """How to sample; what is left out is as the model was saved with (`diffusion.sampler` in params.yaml)."""

    num_samples: int
    """Samples of each input, 1 unless given; the samples of one call differ."""
    generator: torch.Generator | list[torch.Generator] | None
    """Whose noise; a list has one for each picture that comes out, which then depends on that generator alone."""
    num_inference_steps: int
    guidance_scale: float
    """Of classifier-free guidance; 1 for none."""
    solver: str
    """`ddim`, `dpm-solver++` or `unipc`."""


class MultiViewPipeline(DiffusionPipeline):
    """The components of a task's model, and what sampling it takes for any task.

    `task` and `grid_size` (pixels of a side of the 2x2 grid) have to be given; they have defaults since diffusers takes
    an argument without one for a component. `colours` are the Q reference colours of `segment`. `solver`, `steps` and
    `guidance` are the defaults of `Sampling`. `scheduler` is the training's: the solver is made from it at each call.
    """

    tasks: ClassVar[tuple[str, ...]]
    """The tasks whose models the class samples."""
    _optional_components: ClassVar[list[str]] = ["image_encoder"]

    unet: MultiViewUNet
    autoencoder: PatchAutoencoder | AutoencoderKL
    text_encoder: Any
    image_encoder: Any
    scheduler: DDPMScheduler

    def __init__(
        self,
        unet: MultiViewUNet,
        autoencoder: PatchAutoencoder | AutoencoderKL,
        text_encoder: ModelMixin,
        scheduler: DDPMScheduler,
        image_encoder: ModelMixin | None = None,
        task: str = "",
        grid_size: int = 0,
        colours: int = 10,
        solver: str = "ddim",
        steps: int = 25,
        guidance: float = 1.0,
    ) -> None:
        super().__init__()
        if find_task(task).name not in self.tasks:
            raise UserError(
                f"This is a model of the task `{task}`, {type(self).__name__} samples {', '.join(self.tasks)}; "
                f"use `pipeline_class('{task}')`."
            )
        if grid_size <= 0:
            raise ValueError(f"grid_size is {grid_size}")
        if (image_encoder is None) != (find_task(task).image_tokens is None):
            raise ValueError(f"{task} {'needs an' if image_encoder is None else 'has no'} image encoder")
        self.register_modules(
            unet=unet,
            autoencoder=autoencoder,
            text_encoder=text_encoder,
            scheduler=scheduler,
            image_encoder=image_encoder,
        )
        self.register_to_config(
            task=task, grid_size=grid_size, colours=colours, solver=solver, steps=steps, guidance=guidance
        )

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **kwargs: Any) -> Self:
        """The model in a folder that `save_pretrained` wrote; UserError when there is none, or it is damaged."""
        if not (Path(pretrained_model_name_or_path) / cls.config_name).is_file():
            raise UserError(
                f"{pretrained_model_name_or_path} holds no model (no {cls.config_name}); "
                f"train it with `partgen run`, or name a folder that has one."
            )
        without_telemetry()
        with reading(Path(pretrained_model_name_or_path), "model"):
            return super().from_pretrained(pretrained_model_name_or_path, use_safetensors=True, **kwargs)

    @property
    def trained_task(self) -> Task:
        """What the network was trained for."""
        task = find_task(self.config.task)
        return task.of_network(self.unet.config.in_channels, latent_channels(self.autoencoder))

    @property
    def view_size(self) -> int:
        """Pixels of a side of one view."""
        return int(self.config.grid_size) // 2

    @torch.no_grad()
    def draw(
        self,
        images: Mapping[str, np.ndarray],
        masks: Mapping[str, np.ndarray],
        prompts: Sequence[str],
        *,
        num_samples: int = 1,
        generator: torch.Generator | list[torch.Generator] | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        solver: str | None = None,
    ) -> np.ndarray:
        """Target grids (B * num_samples, H, W, 3) float32 in [0, 1], the samples of one input after the other.

        `images`: (B, H, W, 3) each, `masks`: bool (B, H, W) each, B `prompts`. A task of one view draws each of the
        four views by itself, in one batch, and lays them out as a grid. A task that draws parts together takes
        the inputs for the parts of one object.
        """
        task, channels = self.trained_task, latent_channels(self.autoencoder)
        settings = self._settings(solver, num_inference_steps, guidance_scale)
        if num_samples < 1:
            raise UserError(f"num_samples is {num_samples}; give at least 1.")
        draws, size = (4, self.view_size) if task.views == 1 else (1, int(self.config.grid_size))
        count = len(prompts) * num_samples
        if isinstance(generator, list):
            if len(generator) != count:
                raise UserError(f"{len(generator)} generators were given for {count} pictures; give one each or one.")
            generator = [each for each in generator for _ in range(draws)]
        if task.views == 1:
            images = {name: np.concatenate([untile(grid) for grid in grids]) for name, grids in images.items()}
            masks = {name: np.concatenate([untile(grid) for grid in grids]) for name, grids in masks.items()}
            prompts = [prompt for prompt in prompts for _ in range(draws)]
        # from inputs x draws to inputs x samples x draws
        rows = torch.arange(len(prompts)).view(-1, 1, draws).expand(-1, num_samples, -1).flatten()
        conditions = rows_of(self._encode(images, masks, prompts), rows)
        if task.joint:
            samples = torch.arange(num_samples, device=self.unet.device).repeat(len(prompts))
            conditions = replace(conditions, objects_B=samples)
        side = size // latent_factor(self.autoencoder)
        shape = (len(rows), channels, side, side)
        latents_BCHW = sample_latents(
            self.unet, self.scheduler, conditions, shape, settings, generator, self._text([""]), self.progress_bar
        )
        drawn = to_images(self.autoencoder, latents_BCHW.to(self.autoencoder.dtype))
        if not drawn.isfinite().all():
            raise UserError(
                f"The network of {self.config.task} drew numbers that are not finite: its weights are damaged, or too "
                "large for their precision; copy them again, or train it again."
            )
        pictures = drawn.float().permute(0, 2, 3, 1).cpu().numpy()
        if task.views == 1:
            return np.stack([tile(views) for views in pictures.reshape(-1, 4, *pictures.shape[1:])])
        return pictures

    def _settings(self, solver: str | None, steps: int | None, guidance: float | None) -> SamplerParams:
        """How to sample: as the call says, else as the model does."""
        given = {"solver": solver, "steps": steps, "guidance": guidance}
        values = {name: self.config[name] if value is None else value for name, value in given.items()}
        try:
            settings = SamplerParams.model_validate(values)
        except ValidationError as error:
            raise UserError(f"Sampling: {explain(SamplerParams, error)}") from None
        limit = self.scheduler.config.num_train_timesteps
        if settings.steps > limit:
            raise UserError(f"Sampling: {settings.steps} steps are more than the {limit} of training; give fewer.")
        return settings

    def _encode(
        self, images: Mapping[str, np.ndarray], masks: Mapping[str, np.ndarray], prompts: Sequence[str]
    ) -> Conditions:
        """The conditions of each input, (B, ...)."""
        task, device, dtype = self.trained_task, self.unet.device, self.unet.dtype
        tensors = {name: torch.from_numpy(values).permute(0, 3, 1, 2).to(device) for name, values in images.items()}
        image_BNE = None
        if task.image_tokens:
            image_BNE = self.image_encoder.encode(tensors[task.image_tokens].to(self.image_encoder.dtype)).to(dtype)
        text = self._text(prompts)
        return encode_conditions(
            task,
            {name: values.to(self.autoencoder.dtype) for name, values in tensors.items()},
            {name: torch.from_numpy(values)[:, None].to(device) for name, values in masks.items()},
            self.autoencoder,
            (text.text_BLD, text.pooled_BP),
            image_BNE,
            torch.zeros(len(prompts), dtype=torch.long, device=device) if task.joint else None,
        )

    def _text(self, prompts: Sequence[str]) -> Conditions:
        """Text tokens alone."""
        device, dtype = self.unet.device, self.unet.dtype
        text_BLD, pooled_BP = self.text_encoder.encode(prompts)
        return Conditions(text_BLD.to(device, dtype), None if pooled_BP is None else pooled_BP.to(device, dtype))
