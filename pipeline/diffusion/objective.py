"""What the training loop minimises for a diffusion task: v-prediction of noised latents (supplement A.3 to A.8).

Shape suffixes as in `pipeline.diffusion.denoiser`; of `levels_N`, N the timesteps of validation.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from diffusers import DDPMScheduler
from torch import Tensor, nn

from pipeline.diffusion.autoencoder import to_images, to_latents
from pipeline.diffusion.conditioning import encode_conditions
from pipeline.diffusion.denoiser import Conditions, predict
from pipeline.diffusion.denoising import sample_latents
from pipeline.diffusion.networks import Model, Tokens
from pipeline.diffusion.samples import Samples, collate
from pipeline.diffusion.tasks import Task

if TYPE_CHECKING:
    from pipeline.params.diffusion import SamplerParams

VALIDATION = 64
VALIDATION_BATCH = 8
GOLDEN = 0.6180339887
"""The multiples of this, modulo 1, are spread evenly however many are taken."""
PICTURES = 4
EVEN_SHARE, MOST_WEIGHT = 0.06, 10.0
"""Of `part_weights`: the share of a picture at which a part's pixels count 1, and the most that one counts."""
WHITE = 0.97
"""A pixel of a part's picture that is at least this in all channels counts as background."""
NOISE = 1
"""Keeps the draws of noise apart from those of the augmentation, which come from the same seed and number."""


class DiffusionObjective:
    """The loss of one task over its training examples.

    With a `part_balance`, errors of a task that draws parts count by `part_weights`; with 0 all alike, as in the paper.

    The noise and the noise level of a sample are functions of the seed and the sample's number alone, so that neither
    an interruption nor the number of processes changes what is learnt. Where the parts of an object are drawn together,
    a sample is of several: they have one level, a noise each, and their mean is the sample's loss.
    """

    collate = staticmethod(collate)

    def __init__(
        self,
        task: Task,
        model: Model,
        schedule: DDPMScheduler,
        sampler: SamplerParams,
        examples: Samples,
        validation: Samples | None,
        seed: int,
        text_outputs: Tokens | None = None,
        image_outputs: Tokens | None = None,
        part_balance: float = 0.0,
    ) -> None:
        """`text_outputs` and `image_outputs` are tokens computed beforehand; None to encode every batch's."""
        self.task, self.model, self.schedule, self.sampler, self.seed = task, model, schedule, sampler, seed
        self.module = model.unet
        self._examples, self._validation = examples, validation
        self._text_outputs, self._image_outputs = text_outputs, image_outputs
        self.part_balance = part_balance

    def examples(self) -> Samples:
        """The training examples."""
        return self._examples

    def loss(self, module: nn.Module, batch: dict[str, Any]) -> Tensor:
        """The mean squared error of v, weighted, for each sample of the batch: (B,)."""
        timesteps = [self._draw(number).timestep for number in batch["number"].tolist()]
        return self._loss_at(module, batch, torch.tensor(timesteps))

    def validation(self) -> dict[str, float]:
        """The mean loss over VALIDATION samples of validation objects, spread evenly over the noise levels.

        The same samples, noise and levels each time. Nothing when there are no validation objects.
        """
        if self._validation is None:
            return {}
        levels_N = torch.arange(VALIDATION) * GOLDEN % 1 * self.schedule.config.num_train_timesteps
        losses = []
        for numbers in torch.arange(VALIDATION).split(VALIDATION_BATCH):
            batch = collate([self._validation[number] for number in numbers.tolist()])
            losses.append(self._loss_at(self.module, batch, levels_N[batch["number"]].long()))
        return {"loss": torch.cat(losses).mean().item()}

    def pictures(self) -> dict[str, np.ndarray]:
        """What the network is shown, what it should draw and what it draws: uint8 (H, W, 3), a row an object."""
        source = self._validation or self._examples
        batch = collate([source[number] for number in range(min(PICTURES, source.count))])
        conditions = self.conditions(batch, drop=False)
        latents_BCHW = self._target_latents(batch)
        generators = [torch.Generator().manual_seed(self.seed + place) for place in range(len(latents_BCHW))]
        null_text = self._null_text
        drawn = sample_latents(
            self.module, self.schedule, conditions, latents_BCHW.shape, self.sampler, generators, null_text
        )
        shown = [batch["images"][name] for name in self.task.images[1:] + self.task.images[:1]]
        columns = [*shown, to_images(self.model.autoencoder, drawn).cpu()]
        height = max(image.shape[-2] for image in columns)
        padded = [nn.functional.pad(image, (2, 2, 2, 2 + height - image.shape[-2]), value=1.0) for image in columns]
        rows = torch.cat(padded, dim=3).permute(0, 2, 3, 1).flatten(0, 1)
        return {"samples": (rows.clamp(0, 1) * 255).round().byte().numpy()}

    def conditions(self, batch: dict[str, Any], drop: bool = True) -> Conditions:
        """The batch's conditions, encoded; with `drop`, none for the samples that train classifier-free guidance."""
        device = self._device
        images = {name: image.to(device) for name, image in batch["images"].items()}
        masks = {name: mask.to(device) for name, mask in batch["masks"].items()}
        objects = batch["number"].to(device) if self.task.joint else None
        conditions = encode_conditions(
            self.task,
            images,
            masks,
            self.model.autoencoder,
            self._text(batch),
            self._image_tokens(batch, images),
            objects,
        )
        return conditions.dropped(batch["dropped"].to(device), self._null_text) if drop else conditions

    def _loss_at(self, module: nn.Module, batch: dict[str, Any], timesteps_B: Tensor) -> Tensor:
        timesteps_B = timesteps_B.to(self._device)
        with torch.no_grad():
            latents_BCHW = self._target_latents(batch)
            conditions = self.conditions(batch)
        numbers = batch["number"].tolist()
        draws = {number: self._draw(number) for number in numbers}
        noise = [draws[number].noise(latents_BCHW.shape[1:]) for number in numbers]
        noise_BCHW = torch.stack(noise).to(latents_BCHW)
        noised_BCHW = self.schedule.add_noise(latents_BCHW, noise_BCHW, timesteps_B)
        v_BCHW = self.schedule.get_velocity(latents_BCHW, noise_BCHW, timesteps_B)
        predicted_BCHW = predict(module, noised_BCHW, timesteps_B, conditions)
        errors_BHW = (predicted_BCHW.float() - v_BCHW).square().mean(dim=1)
        if self.task.of_parts and self.part_balance:
            weights_BHW = part_weights(batch["images"][self.task.target].to(self._device), self.part_balance)
            errors_BHW = errors_BHW * nn.functional.adaptive_avg_pool2d(weights_BHW, errors_BHW.shape[1:])
        errors_B = errors_BHW.mean(dim=(1, 2))
        if not self.task.joint:
            return errors_B
        _, parts = batch["number"].unique_consecutive(return_counts=True)
        return torch.stack([of_object.mean() for of_object in errors_B.split(parts.tolist())])

    def _target_latents(self, batch: dict[str, Any]) -> Tensor:
        return to_latents(self.model.autoencoder, batch["images"][self.task.target].to(self._device))

    @property
    def _device(self) -> torch.device:
        """The network's, to which the frozen networks follow it.

        It is that of their first tensors: `ModelMixin.device` looks through all modules each time.
        """
        device = _first_tensor(self.module).device
        for network in (self.model.autoencoder, self.model.text, self.model.image):
            if network is not None and _first_tensor(network).device != device:
                network.to(device)
        return device

    def _draw(self, number: int) -> Draw:
        return Draw(self.seed, number, self.schedule.config.num_train_timesteps)

    def _text(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor | None]:
        if self.task.caption is None:
            null = self._null_text
            size = len(batch["caption"])
            pooled_BP = None if null.pooled_BP is None else null.pooled_BP.expand(size, -1)
            return null.text_BLD.expand(size, -1, -1), pooled_BP
        if self._text_outputs is not None:
            return self._text_outputs[batch["text_row"].cpu()].to(self._device), None
        tokens: tuple[Tensor, Tensor | None] = self.model.text.encode(batch["caption"])
        return tokens

    @cached_property
    def _null_text(self) -> Conditions:
        text_BLD, pooled_BP = self.model.text.encode([""])
        device = self._device
        return Conditions(text_BLD.to(device), None if pooled_BP is None else pooled_BP.to(device))

    def _image_tokens(self, batch: dict[str, Any], images: dict[str, Tensor]) -> Tensor | None:
        if self.task.image_tokens is None:
            return None
        if self._image_outputs is not None:
            return self._image_outputs[batch["image_row"].cpu()].to(self._device)
        assert self.model.image is not None
        return self.model.image.encode(images[self.task.image_tokens])


def part_weights(images_B3HW: Tensor, balance: float) -> Tensor:
    """What the errors of pixels count, (B, H, W), in pictures (B, 3, H, W) in [0, 1] of a part over white.

    1 for the background; for the part (EVEN_SHARE / share)^balance, at most MOST_WEIGHT, where share is that of the
    picture's pixels which it has. With a balance of 1 parts count alike, whatever their size. Not published.
    """
    part_BHW = images_B3HW.amin(dim=1) < WHITE
    share_B11 = part_BHW.float().mean(dim=(1, 2), keepdim=True)
    weight_B11 = (EVEN_SHARE / share_B11).pow(balance).clamp(max=MOST_WEIGHT)
    return torch.where(part_BHW, weight_B11, 1.0)


class Draw:
    """The noise level and the noise of one sample."""

    def __init__(self, seed: int, number: int, steps: int) -> None:
        state = int(np.random.SeedSequence((seed, number, NOISE)).generate_state(1, np.uint64)[0])
        self.generator = torch.Generator().manual_seed(state)
        self.timestep = int(torch.randint(steps, (), generator=self.generator))

    def noise(self, shape: Sequence[int]) -> Tensor:
        """Standard normal, on the CPU whatever the device, so that it is the same on all."""
        return torch.randn(tuple(shape), generator=self.generator)


def _first_tensor(network: nn.Module) -> Tensor:
    return next(chain(network.parameters(), network.buffers()))
