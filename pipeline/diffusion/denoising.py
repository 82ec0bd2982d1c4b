"""The denoising loop: latents out of noise.

Shape suffixes as in `pipeline.diffusion.denoiser`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import torch
from diffusers import DDPMScheduler, SchedulerMixin
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from pipeline.diffusion.denoiser import Conditions, predict
from pipeline.diffusion.schedule import sampler, set_steps
from pipeline.diffusion.unet import MultiViewUNet

if TYPE_CHECKING:
    from pipeline.params.diffusion import SamplerParams


def denoise(
    unet: MultiViewUNet,
    scheduler: SchedulerMixin,
    noise_BCHW: Tensor,
    conditions: Conditions,
    guidance: float = 1.0,
    null_text: Conditions | None = None,
    progress: Callable[[Tensor], Iterable[Tensor]] = iter,
) -> Tensor:
    """Latents (B, C, H, W) out of pure noise, along the timesteps that were set in the scheduler.

    Classifier-free guidance: v = v_null + guidance * (v_conditioned - v_null), both in one pass of 2B samples; at 1
    there is no second half. `null_text` holds the tokens of the empty string, (1, L, D).
    """
    everywhere = torch.ones(len(noise_BCHW), dtype=torch.bool, device=noise_BCHW.device)
    guided = guidance != 1.0
    if guided:
        if null_text is None:
            raise ValueError(f"guidance {guidance} needs the tokens of the null text")
        conditions = conditions.dropped(everywhere, null_text).joined(conditions)
    latents_BCHW = noise_BCHW * scheduler.init_noise_sigma
    for timestep in progress(scheduler.timesteps):
        noised_BCHW = scheduler.scale_model_input(latents_BCHW, timestep)
        if guided:
            noised_BCHW = torch.cat((noised_BCHW, noised_BCHW))
        v_BCHW = predict(unet, noised_BCHW, timestep.expand(len(noised_BCHW)), conditions)
        if guided:
            v_null_BCHW, v_conditioned_BCHW = v_BCHW.chunk(2)
            v_BCHW = v_null_BCHW + guidance * (v_conditioned_BCHW - v_null_BCHW)
        latents_BCHW = scheduler.step(v_BCHW, timestep, latents_BCHW).prev_sample
    return latents_BCHW


def sample_latents(
    unet: MultiViewUNet,
    schedule: DDPMScheduler,
    conditions: Conditions,
    shape: tuple[int, ...],
    settings: SamplerParams,
    generator: torch.Generator | list[torch.Generator] | None,
    null_text: Conditions | None = None,
    progress: Callable[[Tensor], Iterable[Tensor]] = iter,
) -> Tensor:
    """Latents of `shape` (B, C, H, W) for B conditions, from noise of the generator (or one generator a sample).

    The schedule is the training's; the solver that `settings` name is made from it. Guidance needs the `null_text`.
    """
    scheduler = sampler(schedule, settings.solver)
    set_steps(scheduler, settings.steps, unet.device)
    noise_BCHW = randn_tensor(shape, generator, unet.device, unet.dtype)
    return denoise(unet, scheduler, noise_BCHW, conditions, settings.guidance, null_text, progress)
