"""What the denoiser is given: which latents, in which order, at which resolution."""

import pytest
import torch
from torch import Tensor

from pipeline.diffusion.autoencoder import PatchAutoencoder, build_autoencoder, to_latents
from pipeline.diffusion.conditioning import encode_conditions, rows_of, white_below
from pipeline.diffusion.denoiser import Conditions
from pipeline.diffusion.tasks import TASKS, Task
from pipeline.params.diffusion import AutoencoderParams

BATCH, GRID, FACTOR, CHANNELS = 2, 16, 4, 3
SIDE = GRID // FACTOR
TEXT = torch.arange(BATCH * 5 * 7.0).reshape(BATCH, 5, 7)


@pytest.fixture(scope="module")
def autoencoder() -> PatchAutoencoder:
    torch.manual_seed(0)
    params = AutoencoderParams(kind="patch", factor=FACTOR, channels=CHANNELS, widths=[8], blocks=1)
    built = build_autoencoder(params)
    assert isinstance(built, PatchAutoencoder)
    return built


def random_images(task: Task) -> dict[str, Tensor]:
    size = GRID // 2 if task.views == 1 else GRID
    generator = torch.Generator().manual_seed(1)
    sizes = {name: GRID // 2 if name == "view" else size for name in task.images}
    return {name: torch.rand((BATCH, 3, side, side), generator=generator) for name, side in sizes.items()}


def random_masks(images: dict[str, Tensor], task: Task) -> dict[str, Tensor]:
    names = [task.stacked_mask] if task.stacked_mask else []
    return {name: (images[task.target][:, :1] > 0.5).float() for name in names}


@pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
def test_channels_are_those_the_network_of_the_task_has(task: Task, autoencoder: PatchAutoencoder) -> None:
    images = random_images(task)
    tokens = torch.rand(BATCH, 9, 6) if task.image_tokens else None
    masks, objects = random_masks(images, task), torch.tensor([4, 4]) if task.joint else None
    conditions = encode_conditions(task, images, masks, autoencoder, (TEXT, None), tokens, objects)
    assert conditions.objects_B is objects
    noised = to_latents(autoencoder, images[task.target])
    stacked = 0 if conditions.stacked_BKHW is None else conditions.stacked_BKHW.shape[1]
    assert CHANNELS + stacked == task.in_channels(CHANNELS)
    if conditions.stacked_BKHW is not None:
        assert conditions.stacked_BKHW.shape[2:] == noised.shape[2:]
        for place, name in enumerate(task.stacked):
            expected = to_latents(autoencoder, images[name])
            found = conditions.stacked_BKHW[:, place * CHANNELS : (place + 1) * CHANNELS]
            assert torch.equal(found, expected), name
    assert (conditions.beside_BCHW is None) == (task.beside is None)
    if conditions.beside_BCHW is not None:
        assert conditions.beside_BCHW.shape == (BATCH, CHANNELS, SIDE, SIDE // 2)
    assert conditions.image_BNE is tokens
    assert conditions.text_BLD is TEXT


def test_a_mask_of_one_pixel_is_still_seen(autoencoder: PatchAutoencoder) -> None:
    task = TASKS["complete"]
    images = random_images(task)
    mask = torch.zeros(BATCH, 1, GRID, GRID)
    mask[1, 0, 5, 9] = 1
    stacked = encode_conditions(task, images, {"mask": mask}, autoencoder, (TEXT, None)).stacked_BKHW
    assert stacked is not None
    expected = torch.zeros(BATCH, SIDE, SIDE)
    expected[1, 1, 2] = 1 / FACTOR**2
    assert torch.equal(stacked[:, -1], expected)


def test_below_the_view_is_white(autoencoder: PatchAutoencoder) -> None:
    task = TASKS["image_to_mv"]
    images = random_images(task)
    padded = white_below(images["view"])
    assert torch.equal(padded[:, :, : GRID // 2], images["view"])
    assert padded.shape == (BATCH, 3, GRID, GRID // 2)
    assert bool((padded[:, :, GRID // 2 :] == 1).all())
    tokens = torch.rand(BATCH, 9, 6)
    beside = encode_conditions(task, images, {}, autoencoder, (TEXT, None), tokens).beside_BCHW
    assert beside is not None
    assert torch.equal(beside, to_latents(autoencoder, padded))
    assert not torch.allclose(beside[0], beside[1])


def test_nothing_of_it_is_trained(autoencoder: PatchAutoencoder) -> None:
    task = TASKS["segment"]
    stacked = encode_conditions(task, random_images(task), {}, autoencoder, (TEXT, None)).stacked_BKHW
    assert any(weight.requires_grad for weight in autoencoder.parameters())
    assert stacked is not None
    assert not stacked.requires_grad


@pytest.mark.parametrize(("name", "tokens"), [("segment", torch.rand(BATCH, 9, 6)), ("image_to_mv", None)])
def test_image_tokens_where_the_task_has_them_and_nowhere_else(
    name: str, tokens: Tensor | None, autoencoder: PatchAutoencoder
) -> None:
    with pytest.raises(ValueError, match=name):
        encode_conditions(TASKS[name], random_images(TASKS[name]), {}, autoencoder, (TEXT, None), tokens)


@pytest.mark.parametrize(("name", "objects"), [("complete", torch.zeros(BATCH)), ("complete_joint", None)])
def test_objects_where_their_parts_are_drawn_together_and_nowhere_else(
    name: str, objects: Tensor | None, autoencoder: PatchAutoencoder
) -> None:
    with pytest.raises(ValueError, match=name):
        encode_conditions(TASKS[name], random_images(TASKS[name]), {}, autoencoder, (TEXT, None), None, objects)


def test_rows_of_conditions() -> None:
    image_BNE = torch.rand(BATCH, 9, 6)
    rows = rows_of(Conditions(TEXT, image_BNE=image_BNE), torch.tensor([1, 0, 1]))
    assert torch.equal(rows.text_BLD, TEXT[[1, 0, 1]])
    assert rows.image_BNE is not None
    assert torch.equal(rows.image_BNE, image_BNE[[1, 0, 1]])
    assert rows.stacked_BKHW is None
