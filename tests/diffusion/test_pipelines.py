"""The samplers of all tasks, with tiny networks of random weights."""

import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from benchmarks.solvers import foreground_psnr, right_share
from pipeline.diffusion.autoencoder import build_autoencoder
from pipeline.diffusion.denoiser import Conditions
from pipeline.diffusion.denoising import denoise
from pipeline.diffusion.image import EfficientNetLite0
from pipeline.diffusion.models import started_task
from pipeline.diffusion.pictures import masked
from pipeline.diffusion.pipelines import (
    CompletionPipeline,
    EditingPipeline,
    ImageToMultiViewPipeline,
    SegmentationPipeline,
    TextToMultiViewPipeline,
    pipeline_class,
)
from pipeline.diffusion.sampling import MultiViewPipeline
from pipeline.diffusion.schedule import SOLVERS, sampler, training_schedule
from pipeline.diffusion.tasks import TASKS
from pipeline.diffusion.text import MiniLM
from pipeline.diffusion.unet import build_unet
from pipeline.errors import UserError
from pipeline.params.diffusion import (
    AutoencoderParams,
    DiffusionParams,
    ImageParams,
    SamplerParams,
    SamplersParams,
    ScheduleParams,
    TextParams,
    UNetParams,
)

GRID, VIEW = 32, 16
PARAMS = DiffusionParams(
    checkpoint="",
    autoencoder=AutoencoderParams(kind="patch", factor=4, channels=4, widths=[8], blocks=1),
    unet=UNetParams(channels=[16], attention=[True], layers=1, transformer_layers=[1], head_channels=8),
    text=TextParams(encoder="minilm", path="", max_tokens=8),
    image=ImageParams(encoder="efficientnet-lite0", path="", queries=3, width=8, hidden=8, depth=1, heads=2),
    schedule=ScheduleParams(
        steps=1000, beta_start=0.00085, beta_end=0.012, snr_scale=1.0, parts_snr_scale=1.0, colours_snr_scale=1.0
    ),
    sampler=SamplersParams(**dict.fromkeys(TASKS, SamplerParams(solver="ddim", steps=2, guidance=1.0))),
    colours=4,
    palette="random",
)
WEIGHTS = Path(__file__).parents[2] / "weights/nano"


@cache
def text_encoder() -> MiniLM:
    return MiniLM(max_tokens=PARAMS.text.max_tokens)


@cache
def image_encoder() -> EfficientNetLite0:
    return EfficientNetLite0()


@cache
def model(task_name: str) -> MultiViewPipeline:
    """A pipeline with random weights everywhere, those that start at zero included."""
    torch.manual_seed(0)
    task = TASKS[task_name]
    size = VIEW if task.views == 1 else GRID
    unet = build_unet(PARAMS, task, 4, size // 4, text_encoder().width)
    for weight in unet.parameters():
        if not weight.any():
            nn.init.normal_(weight, std=0.1)
    pipeline = pipeline_class(task_name)(
        unet=unet.eval(),
        autoencoder=build_autoencoder(PARAMS.autoencoder).eval(),
        text_encoder=text_encoder(),
        scheduler=training_schedule(PARAMS.schedule, task),
        image_encoder=image_encoder() if task.image_tokens else None,
        task=task_name,
        grid_size=GRID,
        colours=PARAMS.colours,
        **PARAMS.sampler.of(task_name).model_dump(),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def picture(seed: int, size: int = GRID) -> np.ndarray:
    return np.random.default_rng(seed).random((size, size, 3), dtype=np.float32)


def mask(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((GRID, GRID)) > 0.5


def inputs(task_name: str, seed: int = 0) -> tuple[Any, ...]:
    """What a user hands to the pipeline of the task."""
    kind = pipeline_class(task_name)
    prompt = ("a red chair", "a lamp")[seed]
    if kind is TextToMultiViewPipeline:
        return (prompt,)
    if kind is ImageToMultiViewPipeline:
        return (picture(seed, VIEW),)
    if kind is SegmentationPipeline:
        return (picture(seed),)
    return (picture(seed), mask(seed), prompt) if kind is EditingPipeline else (picture(seed), mask(seed))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(task_name: str, *arguments: Any, seed: int = 0, **options: Any) -> np.ndarray:
    images: np.ndarray = model(task_name)(*arguments, generator=seeded(seed), **options).images
    return images


@pytest.mark.parametrize("task_name", TASKS)
def test_samples_of_every_task(task_name: str) -> None:
    images = drawn(task_name, *inputs(task_name), num_samples=2)
    assert images.shape == (2, GRID, GRID, 3)
    assert images.dtype == np.float32
    assert images.min() >= 0
    assert images.max() <= 1
    assert not np.allclose(images[0], images[1], atol=0.01)
    assert np.array_equal(images, drawn(task_name, *inputs(task_name), num_samples=2))
    assert not np.allclose(images, drawn(task_name, *inputs(task_name), num_samples=2, seed=1), atol=0.01)


@pytest.mark.parametrize("task_name", TASKS)
def test_every_input_matters(task_name: str) -> None:
    first, others = inputs(task_name), inputs(task_name, 1)
    reference = drawn(task_name, *first)
    for place, other in enumerate(others):
        changed = drawn(task_name, *first[:place], other, *first[place + 1 :])
        assert np.abs(changed - reference).max() > 1e-3, f"argument {place}"


@pytest.mark.parametrize("task_name", TASKS)
def test_a_saved_model_draws_the_same(task_name: str, tmp_path: Path) -> None:
    model(task_name).save_pretrained(tmp_path)
    loaded = pipeline_class(task_name).from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    assert loaded.components.keys() == model(task_name).components.keys()
    assert [name for name, part in loaded.components.items() if part is None] == (
        [] if TASKS[task_name].image_tokens else ["image_encoder"]
    )
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} <= {".json", ".safetensors", ".txt"}
    again = loaded(*inputs(task_name), generator=seeded(0)).images
    assert np.array_equal(again, drawn(task_name, *inputs(task_name)))


@pytest.mark.slow
def test_five_lines_in_a_new_process(tmp_path: Path) -> None:
    model("segment").save_pretrained(tmp_path / "segment")
    Image.fromarray((picture(0) * 255).astype(np.uint8)).save(tmp_path / "grid.png")
    program = """
import numpy, torch
from PIL import Image
from pipeline.diffusion.pipelines import SegmentationPipeline
segment = SegmentationPipeline.from_pretrained("segment")
drawn = segment(Image.open("grid.png"), num_samples=5, generator=torch.Generator().manual_seed(0))
numpy.save("labels.npy", drawn.labels)
"""
    command = [sys.executable, "-c", f"import sys; sys.path.append({str(Path.cwd())!r})\n{program}"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    expected = model("segment")(Image.open(tmp_path / "grid.png"), num_samples=5, generator=seeded(0))
    assert np.array_equal(np.load(tmp_path / "labels.npy"), expected.labels)
    assert expected.labels.shape == (5, GRID, GRID)
    assert expected.labels.max() <= PARAMS.colours


@pytest.mark.parametrize("task_name", ["edit", "complete_single_view"])
def test_guidance_takes_a_second_half_of_the_batch(task_name: str) -> None:
    batches: list[int] = []
    hook = model(task_name).unet.register_forward_pre_hook(lambda _, given: batches.append(len(given[0])))
    plain = drawn(task_name, *inputs(task_name))
    stated = drawn(task_name, *inputs(task_name), guidance_scale=1.0)
    guided = drawn(task_name, *inputs(task_name), guidance_scale=3.0)
    hook.remove()
    views = 4 if TASKS[task_name].views == 1 else 1
    assert batches == [views] * 4 + [2 * views] * 2
    assert np.array_equal(plain, stated)
    assert not np.allclose(plain, guided, atol=1e-3)


def test_guidance_starts_from_no_conditions() -> None:
    one, other = (drawn("edit", *inputs("edit", seed), guidance_scale=0.0) for seed in range(2))
    np.testing.assert_allclose(one, other, atol=1e-5)
    null = drawn("text_to_mv", "a lamp", guidance_scale=0.0)
    np.testing.assert_allclose(null, drawn("text_to_mv", "", guidance_scale=1.0), atol=1e-4)


def test_sampling_starts_at_the_last_step_from_pure_noise() -> None:
    seen: list[tuple[Tensor, int]] = []
    hook = model("text_to_mv").unet.register_forward_pre_hook(
        lambda _, given: seen.append((given[0], int(given[1][0])))
    )
    images = {solver: drawn("text_to_mv", "a lamp", solver=solver, num_inference_steps=3) for solver in SOLVERS}
    hook.remove()
    noise = torch.randn((1, 4, 8, 8), generator=seeded(0))
    for sample, timestep in seen[::3]:
        assert timestep == 999
        torch.testing.assert_close(sample, noise)
    assert not np.allclose(images["ddim"], images["unipc"], atol=1e-4)
    assert np.array_equal(images["ddim"], drawn("text_to_mv", "a lamp", num_inference_steps=3))


class PointMass(nn.Module):
    """The optimal denoiser of data that is one point: the mean of the text tokens, in every pixel."""

    def __init__(self, alphas_cumprod: Tensor) -> None:
        super().__init__()
        self.alphas_cumprod = alphas_cumprod

    def forward(self, sample: Tensor, timesteps: Tensor, text: Tensor, added_cond_kwargs: object) -> SimpleNamespace:
        alpha, sigma = (value[timesteps].view(-1, 1, 1, 1).sqrt() for value in self._levels())
        point = text.mean(dim=(1, 2)).view(-1, 1, 1, 1)
        # v = alpha noise - sigma z_0, with noise = (z_t - alpha z_0) / sigma
        return SimpleNamespace(sample=alpha * (sample - alpha * point) / sigma - sigma * point)

    def _levels(self) -> tuple[Tensor, Tensor]:
        return self.alphas_cumprod, 1 - self.alphas_cumprod


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(("guidance", "expected"), [(1.0, 0.5), (3.0, 0.1 + 3 * 0.4)])
def test_the_optimal_denoiser_leads_to_the_data(solver: str, guidance: float, expected: float) -> None:
    schedule = training_schedule(PARAMS.schedule, TASKS["text_to_mv"])
    scheduler = sampler(schedule, solver)
    scheduler.set_timesteps(20)
    noise = torch.randn((2, 3, 4, 4), generator=seeded(0))
    conditions, null = Conditions(torch.full((2, 5, 6), 0.5)), Conditions(torch.full((1, 5, 6), 0.1))
    network: Any = PointMass(schedule.alphas_cumprod)
    latents = denoise(network, scheduler, noise, conditions, guidance, null)
    torch.testing.assert_close(latents, torch.full_like(latents, expected), atol=0.02, rtol=0)


@pytest.mark.parametrize("task_name", ["complete", "complete_single_view"])
def test_generators_of_their_own_make_samples_independent_of_the_batch(task_name: str) -> None:
    generators = [seeded(seed) for seed in range(4)]
    together = model(task_name)(picture(0), [mask(0), mask(1)], num_samples=2, generator=generators).images
    for place in range(4):
        alone = model(task_name)(picture(0), mask(place // 2), generator=[seeded(place)]).images
        np.testing.assert_allclose(together[place : place + 1], alone, atol=1e-4)


def test_parts_drawn_together_look_at_each_other_and_at_no_other_sample() -> None:
    joint, masks, generators = model("complete_joint"), [mask(0), mask(1), mask(2)], [seeded(seed) for seed in range(6)]
    both = joint(picture(0), masks, num_samples=2, generator=generators).images.reshape(3, 2, GRID, GRID, 3)
    for sample in range(2):
        of_sample = [seeded(2 * place + sample) for place in range(3)]
        np.testing.assert_allclose(joint(picture(0), masks, generator=of_sample).images, both[:, sample], atol=1e-4)
    order = [2, 0, 1]
    turned = joint(picture(0), [masks[place] for place in order], generator=[seeded(2 * place) for place in order])
    np.testing.assert_allclose(turned.images, both[order, 0], atol=1e-4)
    alone = joint(picture(0), masks[0], generator=[seeded(0)]).images
    assert np.abs(alone - both[0, 0]).max() > 1e-3
    guided = joint(picture(0), masks, generator=[seeded(2 * place) for place in range(3)], guidance_scale=2.0).images
    assert np.abs(guided - both[:, 0]).max() > 1e-3


@pytest.mark.parametrize("task_name", ["complete_no_context", "edit"])
def test_what_the_mask_leaves_out_is_not_seen(task_name: str) -> None:
    prompt = ["a lamp"] * (task_name == "edit")
    other = np.where(mask(0)[..., None], picture(0), picture(1))
    seen, changed = (drawn(task_name, grid, mask(0), *prompt) for grid in (picture(0), other))
    assert np.array_equal(seen, changed)
    assert np.array_equal(masked(other, mask(0))[~mask(0)], np.ones_like(other[~mask(0)]))


def test_without_context_the_mask_is_seen_by_networks_that_have_a_channel_for_it() -> None:
    white = np.ones((GRID, GRID, 3), np.float32)
    one, other = (drawn("complete_no_context", white, mask(seed)) for seed in (0, 1))
    assert not np.array_equal(one, other)
    shipped = CompletionPipeline.from_pretrained(WEIGHTS / "complete_no_context")
    shipped.set_progress_bar_config(disable=True)
    assert shipped.unet.config.in_channels == 2 * shipped.unet.config.out_channels
    white, masks = np.ones((128, 128, 3), np.float32), np.zeros((2, 128, 128), bool)
    masks[1, 20:60, 20:60] = True
    one, other = (shipped(white, each, generator=seeded(0), num_inference_steps=2).images for each in masks)
    assert np.array_equal(one, other)


def test_a_training_that_goes_on_from_weights_without_the_mask_has_none() -> None:
    task = TASKS["complete_no_context"]
    assert started_task(task, str(WEIGHTS)).stacked_mask is None
    assert started_task(task, "nowhere") == task
    assert started_task(TASKS["complete"], str(WEIGHTS)) == TASKS["complete"]


def test_a_single_view_network_sees_one_view_at_a_time() -> None:
    grid = picture(0)
    grid[VIEW:, :VIEW] = picture(1, VIEW)
    one, other = (drawn("complete_single_view", whole, mask(0)) for whole in (picture(0), grid))
    same = np.isclose(one[0], other[0], atol=1e-5).all(axis=-1)
    assert same[:VIEW].all()
    assert same[:, VIEW:].all()
    assert not same[VIEW:, :VIEW].all()


def test_a_part_out_of_sight_can_be_imagined() -> None:
    assert drawn("complete", picture(0), np.zeros((GRID, GRID), dtype=bool)).shape == (1, GRID, GRID, 3)


def test_prompts_views_and_edits_in_one_call() -> None:
    assert len(drawn("text_to_mv", ["a lamp", "a chair"], num_samples=2)) == 4
    assert len(drawn("image_to_mv", [picture(0, VIEW), picture(1, VIEW)])) == 2
    assert len(drawn("edit", picture(0), np.stack([mask(0), mask(1)]), ["a lamp", "a chair"])) == 2


def test_small_parts_become_background() -> None:
    every = model("segment")(picture(0), generator=seeded(0)).labels
    sizes = np.bincount(every.ravel(), minlength=PARAMS.colours + 1)
    threshold = int(sizes[1:].max())
    kept = model("segment")(picture(0), min_pixels=threshold, generator=seeded(0)).labels
    assert set(np.unique(kept)) - {0} == {int(sizes[1:].argmax()) + 1}


@pytest.mark.parametrize(
    "same",
    [
        lambda pixels: Image.fromarray(pixels),
        lambda pixels: pixels.astype(np.float32) / 255,
        lambda pixels: torch.from_numpy(pixels).permute(2, 0, 1),
        lambda pixels: np.dstack([pixels, np.full((GRID, GRID), 255, np.uint8)]),
        lambda pixels: np.dstack([pixels, np.full((GRID, GRID), 255, np.uint8)]).astype(np.float64) / 255,
    ],
)
def test_pictures_of_every_kind(same: Callable[[np.ndarray], Any]) -> None:
    pixels = (picture(0) * 255).astype(np.uint8)
    np.testing.assert_allclose(drawn("segment", same(pixels)), drawn("segment", pixels), atol=1e-5)


def test_transparent_is_white() -> None:
    transparent = Image.new("RGBA", (GRID, GRID))
    assert np.array_equal(drawn("segment", transparent), drawn("segment", np.ones((GRID, GRID, 3))))


WRONG: list[tuple[str, tuple[Any, ...], dict[str, Any], str]] = [
    ("segment", (picture(0, 64),), {}, "grid is 64 x 64 pixels; the model was trained for 32 x 32"),
    ("segment", (picture(0)[..., 0],), {}, "three colour channels"),
    ("segment", (picture(0) * 255,), {}, "give floats in"),
    ("segment", (picture(0) * np.nan,), {}, "values from nan"),
    ("image_to_mv", (picture(0),), {}, "view is 32 x 32 pixels; the model was trained for 16 x 16"),
    ("image_to_mv", (picture(0, VIEW)[:8],), {}, "16 x 8 pixels"),
    ("complete", (picture(0), mask(0)[:16]), {}, "mask is 32 x 16 pixels"),
    ("complete", (picture(0), mask(0).astype(np.uint8)), {}, "type uint8; give booleans"),
    ("complete", (picture(0), []), {}, "no mask in an empty list"),
    ("edit", (picture(0), mask(0), ["a", "b"]), {}, "1 masks and 2 prompts"),
    ("text_to_mv", ("word " * 20,), {}, "word word"),
    ("text_to_mv", ("a",), {"num_samples": 0}, "num_samples is 0"),
    ("text_to_mv", ("a",), {"num_inference_steps": 0}, "`steps` is 0"),
    ("text_to_mv", ("a",), {"num_inference_steps": 1001}, "1001 steps"),
    ("text_to_mv", ("a",), {"guidance_scale": -1.0}, "`guidance` is -1.0"),
    ("text_to_mv", ("a",), {"solver": "euler"}, "`solver` is 'euler'"),
    ("text_to_mv", ("a",), {"generator": [seeded(0)], "num_samples": 2}, "1 generators were given for 2 pictures"),
]


@pytest.mark.parametrize(("task_name", "arguments", "options", "message"), WRONG)
def test_mistakes_are_told(task_name: str, arguments: tuple[Any, ...], options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        model(task_name)(*arguments, **options)


def test_models_of_other_tasks_and_empty_folders(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no model"):
        SegmentationPipeline.from_pretrained(tmp_path)
    model("complete").save_pretrained(tmp_path)
    with pytest.raises(UserError, match="of the task `complete`, SegmentationPipeline samples segment"):
        SegmentationPipeline.from_pretrained(tmp_path)
    assert isinstance(CompletionPipeline.from_pretrained(tmp_path), CompletionPipeline)
    with pytest.raises(UserError, match="did you mean `segment`"):
        pipeline_class("segmet")


def test_the_measures_of_the_benchmark() -> None:
    truth = np.repeat(np.array([0, 1, 2, 3]), 4).reshape(4, 4)
    assert right_share(np.array([0, 3, 1, 2])[truth], truth) == (1.0, 1.0)
    # two parts drawn as one: the smaller half is wrong; the background may not be permuted
    assert right_share(np.array([0, 1, 1, 2])[truth], truth) == (0.75, 2 / 3)
    assert right_share(np.array([1, 0, 2, 3])[truth], truth) == (0.5, 2 / 3)
    part = np.zeros((4, 4, 4), np.uint8)
    part[0] = 255
    nearly = np.ones((4, 4, 3))
    nearly[0] = 0.9
    nearly[1] = 0
    assert foreground_psnr(nearly, part) == pytest.approx(20.0, abs=1e-4)
