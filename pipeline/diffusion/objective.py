"""What the training loop minimises for a diffusion task: v-prediction of noised latents (supplement A.3 to A.8)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDPMScheduler, ModelMixin
from torch import Tensor, nn

from pipeline.diffusion.autoencoder import to_images, to_latents
from pipeline.diffusion.conditioning import encode_conditions
from pipeline.diffusion.denoiser import Conditions, predict
from pipeline.diffusion.examples import Examples, collate
from pipeline.diffusion.frozen import FrozenOutputs
from pipeline.diffusion.sampling import sample_latents
from pipeline.diffusion.tasks import Task
from pipeline.diffusion.unet import MultiViewUNet
from pipeline.params.diffusion import SamplerParams

VALIDATION_BATCHES = 8
PICTURES = 4
NOISE = 1
"""Keeps the draws of noise apart from those of the augmentation, which come from the same seed and number."""


@dataclass(frozen=True)
class Frozen:
    """The networks around a denoiser, which its training leaves as they are."""

    autoencoder: ModelMixin
    text: ModelMixin
    image: ModelMixin | None
    """None where the task has no image tokens."""
    text_outputs: FrozenOutputs | None = None
    """Text tokens computed beforehand; None to encode every batch's captions."""
    image_outputs: FrozenOutputs | None = None


class DiffusionObjective:
    """The loss of one task over its training examples.

    The noise and the noise level of a sample are functions of the seed and the sample's number alone, so that neither an
    interruption nor the number of processes changes what is learnt.
    """

    collate = staticmethod(collate)

    def __init__(
        self,
        task: Task,
        unet: MultiViewUNet,
        frozen: Frozen,
        schedule: DDPMScheduler,
        sampler: SamplerParams,
        examples: Examples,
        validation: Examples | None,
        seed: int,
    ) -> None:
        self.task, self.module, self.frozen, self.schedule = task, unet, frozen, schedule
        self.sampler, self.seed = sampler, seed
        self._examples, self._validation = examples, validation

    def examples(self) -> Examples:
        """The training examples."""
        return self._examples

    def loss(self, module: nn.Module, batch: dict[str, Any]) -> Tensor:
        """The mean squared error of v, for each sample of the batch: (B,)."""
        device = next(module.parameters()).device
        numbers = batch["number"].tolist()
        timesteps = torch.tensor([self._draw(number).timestep for number in numbers], device=device)
        return self._loss_at(module, batch, timesteps)

    def validation(self) -> dict[str, float]:
        """The mean loss over validation objects, at noise levels spread evenly; nothing when there are no such objects."""
        if self._validation is None:
            return {}
        losses = []
        for batch in _batches(self._validation, VALIDATION_BATCHES, self._batch_size()):
            spread = torch.linspace(0, 1, len(batch["number"]) + 2)[1:-1]
            timesteps = (spread * self.schedule.config.num_train_timesteps).long().to(self.module.device)
            losses.append(self._loss_at(self.module, batch, timesteps))
        return {"loss": torch.cat(losses).mean().item()}

    def pictures(self) -> dict[str, np.ndarray]:
        """What the network is shown, what it should draw and what it draws: uint8 (H, W, 3), a row an object."""
        source = self._validation or self._examples
        (batch,) = _batches(source, 1, min(PICTURES, source.count))
        conditions = self.conditions(batch, drop=False)
        latents_BCHW = self._target_latents(batch)
        generators = [torch.Generator().manual_seed(self.seed + place) for place in range(len(latents_BCHW))]
        null_text = self._null_text()
        drawn = sample_latents(
            self.module, self.schedule, conditions, latents_BCHW.shape, self.sampler, generators, null_text
        )
        shown = [batch["images"][name] for name in self.task.images[1:] + self.task.images[:1]]
        columns = [*shown, to_images(self.frozen.autoencoder, drawn).cpu()]
        height = max(image.shape[-2] for image in columns)
        padded = [nn.functional.pad(image, (2, 2, 2, 2 + height - image.shape[-2]), value=1.0) for image in columns]
        rows = torch.cat(padded, dim=3).permute(0, 2, 3, 1).flatten(0, 1)
        return {"samples": (rows.clamp(0, 1) * 255).round().byte().numpy()}

    def conditions(self, batch: dict[str, Any], drop: bool = True) -> Conditions:
        """The batch's conditions, encoded; with `drop`, none for the samples that train classifier-free guidance."""
        device = self.module.device
        images = {name: image.to(device) for name, image in batch["images"].items()}
        masks = {name: mask.to(device) for name, mask in batch["masks"].items()}
        conditions = encode_conditions(
            self.task, images, masks, self.frozen.autoencoder, self._text(batch), self._image_tokens(batch, images)
        )
        return conditions.dropped(batch["dropped"].to(device), self._null_text()) if drop else conditions

    def _loss_at(self, module: nn.Module, batch: dict[str, Any], timesteps_B: Tensor) -> Tensor:
        with torch.no_grad():
            latents_BCHW = self._target_latents(batch)
            conditions = self.conditions(batch)
        noise = [self._draw(number).noise(latents_BCHW.shape[1:]) for number in batch["number"].tolist()]
        noise_BCHW = torch.stack(noise).to(latents_BCHW)
        noised_BCHW = self.schedule.add_noise(latents_BCHW, noise_BCHW, timesteps_B)
        v_BCHW = self.schedule.get_velocity(latents_BCHW, noise_BCHW, timesteps_B)
        predicted_BCHW = predict(module, noised_BCHW, timesteps_B, conditions)
        return (predicted_BCHW.float() - v_BCHW).square().mean(dim=(1, 2, 3))

    def _target_latents(self, batch: dict[str, Any]) -> Tensor:
        with torch.no_grad():
            return to_latents(self.frozen.autoencoder, batch["images"][self.task.target].to(self.module.device))

    def _draw(self, number: int) -> "Draw":
        return Draw(self.seed, number, self.schedule.config.num_train_timesteps)

    def _batch_size(self) -> int:
        return min(8, self._validation.count) if self._validation is not None else 0

    def _text(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor | None]:
        with torch.no_grad():
            if self.frozen.text_outputs is not None:
                return self.frozen.text_outputs[batch["text_row"]].to(self.module.device), None
            tokens: tuple[Tensor, Tensor | None] = self.frozen.text.encode(batch["caption"])
        return tokens

    def _null_text(self) -> Conditions:
        with torch.no_grad():
            return Conditions(*self.frozen.text.encode([""]))

    def _image_tokens(self, batch: dict[str, Any], images: dict[str, Tensor]) -> Tensor | None:
        if self.task.image_tokens is None:
            return None
        with torch.no_grad():
            if self.frozen.image_outputs is not None:
                return self.frozen.image_outputs[batch["image_row"]].to(self.module.device)
            assert self.frozen.image is not None
            tokens: Tensor = self.frozen.image.encode(images[self.task.image_tokens])
        return tokens


class Draw:
    """The noise level and the noise of one sample."""

    def __init__(self, seed: int, number: int, steps: int) -> None:
        state = int(np.random.SeedSequence((seed, number, NOISE)).generate_state(1, np.uint64)[0])
        self.generator = torch.Generator().manual_seed(state)
        self.timestep = int(torch.randint(steps, (), generator=self.generator))

    def noise(self, shape: Sequence[int]) -> Tensor:
        """Standard normal, on the CPU whatever the device, so that it is the same on all."""
        return torch.randn(tuple(shape), generator=self.generator)


def _batches(examples: Examples, batches: int, size: int) -> list[dict[str, Any]]:
    """The first examples, `size` at a time, none twice."""
    numbers = range(min(batches * size, examples.count))
    return [collate([examples[n] for n in numbers[start : start + size]]) for start in range(0, len(numbers), size)]
