"""The noise schedule and the solvers that sample from it (A.3).

z_t = sqrt(abar_t) z_0 + sqrt(1 - abar_t) noise; the networks predict v = sqrt(abar_t) noise - sqrt(1 - abar_t) z_0.
The last step is pure noise, abar_999 = 0 (zero terminal SNR), so sampling has to start right there: `trailing` spacing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, UniPCMultistepScheduler
from torch import Tensor

from pipeline.diffusion.tasks import Task
from pipeline.errors import UserError, nearest

if TYPE_CHECKING:
    from pipeline.params.diffusion import ScheduleParams

Sampler: TypeAlias = DDIMScheduler | DPMSolverMultistepScheduler | UniPCMultistepScheduler

SOLVERS: dict[str, type[Sampler]] = {
    "ddim": DDIMScheduler,
    "dpm-solver++": DPMSolverMultistepScheduler,
    "unipc": UniPCMultistepScheduler,
}


def training_schedule(params: ScheduleParams, task: Task) -> DDPMScheduler:
    """DDPM of scaled-linear betas, v-prediction and zero terminal SNR: alphas_cumprod[-1] is exactly 0."""
    scales = {"colours": params.colours_snr_scale, "part": params.parts_snr_scale}
    scale = scales.get(task.target, params.snr_scale)
    return DDPMScheduler(
        num_train_timesteps=params.steps,
        trained_betas=_scaled_betas(params, scale).tolist(),
        rescale_betas_zero_snr=True,
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        clip_sample=False,
    )


def sampler(schedule: DDPMScheduler, name: str) -> Sampler:
    """The solver of that name on the schedule's betas; UserError for an unknown one.

    `ddim` is the paper's. The other two are second-order in log-SNR, which is infinite at the last step; diffusers puts
    abar_999 = 2^-24 in its place there.
    """
    if name not in SOLVERS:
        raise UserError(f"There is no solver `{name}`{nearest(name, SOLVERS)}; the solvers are {', '.join(SOLVERS)}.")
    solver: Sampler = SOLVERS[name].from_config(schedule.config)
    return solver


def set_steps(solver: Sampler, steps: int, device: torch.device | None = None) -> Tensor:
    """Prepare a solver for that many steps; their timesteps (steps,), descending from the schedule's last.

    UserError for fewer than one step or more than the schedule has.
    """
    most = solver.config.num_train_timesteps
    if not 1 <= steps <= most:
        raise UserError(f"{steps} sampling steps are not possible; choose 1 to {most}.")
    solver.set_timesteps(steps, device=device)
    if len(solver.timesteps) > steps:
        # Rounding gives diffusers (0.42) a further step at t = -1 for 62 of the counts up to 1000, such as 61, 103
        # and 201: it would read abar at the index -1, take the finished picture for pure noise and spoil it.
        solver.timesteps = solver.timesteps[:steps]
        solver.num_inference_steps = steps
        if not isinstance(solver, DDIMScheduler):
            solver.sigmas = torch.cat((solver.sigmas[:steps], solver.sigmas[-1:]))
    timesteps: Tensor = solver.timesteps
    return timesteps


def _scaled_betas(params: ScheduleParams, snr_scale: float) -> Tensor:
    """The betas, (steps,) float64, that multiply every signal-to-noise ratio abar / (1 - abar) by `snr_scale`."""
    betas = torch.linspace(params.beta_start**0.5, params.beta_end**0.5, params.steps, dtype=torch.float64) ** 2
    abar = torch.cumprod(1 - betas, dim=0)
    abar = snr_scale * abar / (1 - abar + snr_scale * abar)
    return 1 - abar / torch.cat((abar.new_ones(1), abar[:-1]))
