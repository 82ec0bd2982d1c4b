"""The noise schedule and its solvers."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.diffusion.schedule import SOLVERS, sampler, set_steps, training_schedule
from pipeline.diffusion.tasks import TASKS
from pipeline.errors import UserError
from pipeline.params.diffusion import ScheduleParams


def schedule_params(snr_scale: float = 1.0, steps: int = 1000) -> ScheduleParams:
    scales = {"snr_scale": snr_scale, "parts_snr_scale": 0.02, "colours_snr_scale": 0.05}
    return ScheduleParams(steps=steps, beta_start=0.00085, beta_end=0.012, **scales)


torch.set_num_threads(1)  # with more, threads of a busy machine wait for one another
SCHEDULE = training_schedule(schedule_params(), TASKS["text_to_mv"])


@given(st.floats(0.01, 1), st.integers(2, 1500))
@settings(max_examples=30, deadline=None)
def test_the_last_step_has_no_signal_at_all(snr_scale: float, steps: int) -> None:
    abar = training_schedule(schedule_params(snr_scale, steps), TASKS["text_to_mv"]).alphas_cumprod
    assert abar.shape == (steps,)
    assert abar[-1] == 0
    assert (abar[:-1] > 0).all()
    assert (abar.diff() < 0).all()


def test_the_unscaled_schedule_is_stable_diffusions_with_the_published_rescaling() -> None:
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    root = (1 - betas).cumprod(0).sqrt()
    expected = ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2  # Lin et al. 2023, Algorithm 1
    torch.testing.assert_close(SCHEDULE.alphas_cumprod.double(), expected, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize(
    ("task", "scale"),
    [("segment", 0.05), ("edit", 0.02), *((task, 0.02) for task in TASKS if task.startswith("complete"))],
)
def test_colour_maps_and_parts_have_scales_of_their_own(task: str, scale: float) -> None:
    abar = training_schedule(schedule_params(1.0), TASKS[task]).alphas_cumprod
    torch.testing.assert_close(abar, training_schedule(schedule_params(scale), TASKS["image_to_mv"]).alphas_cumprod)


def test_snr_scale_moves_every_step_towards_noise() -> None:
    scaled = training_schedule(schedule_params(0.25), TASKS["text_to_mv"]).alphas_cumprod
    assert (scaled[:-1] < SCHEDULE.alphas_cumprod[:-1]).all()
    # before the rescaling the ratio is exact; at the first steps that changes next to nothing
    snr = (abar[:50] / (1 - abar[:50]) for abar in (scaled, SCHEDULE.alphas_cumprod))
    torch.testing.assert_close(next(snr) / next(snr), torch.full((50,), 0.25), atol=0.02, rtol=0)


@pytest.mark.parametrize("name", SOLVERS)
def test_solvers_have_the_schedules_betas_and_conventions(name: str) -> None:
    solver = sampler(SCHEDULE, name)
    assert torch.equal(solver.alphas_cumprod[:-1], SCHEDULE.alphas_cumprod[:-1])
    assert solver.alphas_cumprod[-1] <= 2**-24
    assert solver.config.prediction_type == "v_prediction"
    assert not getattr(solver.config, "clip_sample", False)


@pytest.mark.slow
@pytest.mark.parametrize("name", SOLVERS)
@given(steps=st.integers(1, 1000) | st.sampled_from([61, 103, 201, 250]))
@settings(max_examples=60, deadline=None)
def test_every_number_of_steps_starts_at_pure_noise(name: str, steps: int) -> None:
    solver = sampler(SCHEDULE, name)
    timesteps = set_steps(solver, steps)
    assert torch.equal(timesteps, solver.timesteps)
    assert len(timesteps) == steps == solver.num_inference_steps
    assert timesteps[0] == 999
    assert timesteps[-1] >= 0
    assert (timesteps.diff() < 0).all()


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("steps", [1, 2, 25, 61])
def test_a_network_that_knows_the_answer_is_followed_to_it(name: str, steps: int) -> None:
    generator = torch.Generator().manual_seed(0)
    answer, z = torch.randn(2, 1, 3, 4, 4, generator=generator)
    solver = sampler(SCHEDULE, name)
    for timestep in set_steps(solver, steps):
        abar = SCHEDULE.alphas_cumprod[timestep]
        noise = (z - abar.sqrt() * answer) / (1 - abar).sqrt()
        v = SCHEDULE.get_velocity(answer, noise, timestep[None])
        z = solver.step(v, timestep, z).prev_sample
    # the two fast solvers take a last step with 2^-12 of the picture in it for pure noise
    torch.testing.assert_close(z, answer, atol=1e-3, rtol=0)


@pytest.mark.parametrize("steps", [0, 1001])
def test_impossible_numbers_of_steps_are_refused(steps: int) -> None:
    with pytest.raises(UserError, match=f"{steps} sampling steps"):
        set_steps(sampler(SCHEDULE, "ddim"), steps)


def test_an_unknown_solver_is_refused_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"`dpm-solver`.*did you mean `dpm-solver\+\+`"):
        sampler(SCHEDULE, "dpm-solver")
