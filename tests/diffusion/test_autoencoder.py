"""The autoencoder: closed form, standardised latents, round trips through files, and what it is trained on."""

from collections import Counter
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from pipeline.diffusion.autoencoder import (
    Autoencoder,
    PatchAutoencoder,
    build_autoencoder,
    closed_form_start,
    latent_channels,
    latent_factor,
    standardise,
    to_images,
    to_latents,
)
from pipeline.diffusion.autoencoder_objective import AutoencoderObjective, Pictures, round_trip_quality
from pipeline.diffusion.examples import Examples
from pipeline.diffusion.tasks import TASKS
from pipeline.errors import UserError
from pipeline.params.base import load_group
from pipeline.params.diffusion import AutoencoderParams, DiffusionParams
from pipeline.views.part_colours import decode_colours, reference_colours
from tests.toy_corpus import write_toy_corpus

COLOURS = 10


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toys") / "data"
    write_toy_corpus(folder, objects=8, view_size=32)
    return folder


@pytest.fixture(scope="module")
def params() -> DiffusionParams:
    return load_group(DiffusionParams, [f"diffusion.colours={COLOURS}"], Path("presets/nano.yaml"))


@pytest.fixture
def patch() -> PatchAutoencoder:
    torch.manual_seed(0)
    return PatchAutoencoder(factor=4, latent_channels=8, width=16, blocks=1)


def kl() -> AutoencoderKL:
    torch.manual_seed(0)
    built = build_autoencoder(AutoencoderParams(kind="kl", factor=2, channels=3, widths=[32, 32], blocks=1))
    assert isinstance(built, AutoencoderKL)
    return built


def smooth_pictures(count: int, side: int = 16, seed: int = 0) -> Tensor:
    """(count, 3, side, side) in [0, 1]."""
    coarse = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, side, mode="bilinear")


def objective_of(autoencoder: Autoencoder, data: Path, params: DiffusionParams) -> AutoencoderObjective:
    validation = Examples(data, TASKS["segment"], "val", params, 0, drop_condition=0.0, augment=False)
    return AutoencoderObjective(
        autoencoder, Pictures(data, "train", params, 0, augment=True), validation, COLOURS, seed=0
    )


def test_closed_form_is_the_principal_components_with_standardised_latents(patch: PatchAutoencoder) -> None:
    pictures = smooth_pictures(40)
    closed_form_start(patch, (pictures * 2 - 1).split(16))
    latents = to_latents(patch, pictures).transpose(0, 1).flatten(1)
    torch.testing.assert_close(latents @ latents.T / latents.shape[1], torch.eye(8), atol=1e-3, rtol=0)
    torch.testing.assert_close(latents.mean(dim=1), torch.zeros(8), atol=1e-3, rtol=0)
    # No linear code of single patches does better than the first components; that of 3 x 3 latents must.
    patches = torch.nn.functional.pixel_unshuffle(pictures, 4).movedim(1, -1).flatten(0, -2)
    centred = patches - patches.mean(dim=0)
    components = torch.linalg.svd(centred, full_matrices=False).Vh[:8]
    of_single = (centred - centred @ components.T @ components).square().mean()
    error = (to_images(patch, to_latents(patch, pictures)) - pictures).square().mean()
    assert error < of_single


def test_decoding_in_closed_form_allows_for_noise(patch: PatchAutoencoder) -> None:
    pictures = smooth_pictures(40)
    noise = 0.5 * torch.randn(40, 8, 4, 4, generator=torch.Generator().manual_seed(1))
    errors = []
    for expected in (0.0, 0.5):
        closed_form_start(patch, [pictures * 2 - 1], latent_noise=expected)
        decoded = patch.decode(to_latents(patch, pictures) + noise).sample / 2 + 0.5
        errors.append((decoded - pictures).square().mean().item())
    assert errors[1] < 0.9 * errors[0]


@pytest.mark.parametrize("kind", ["patch", "kl"])
def test_standardise_changes_latents_and_no_picture(kind: str, patch: PatchAutoencoder) -> None:
    autoencoder: Autoencoder = patch if kind == "patch" else kl()
    pictures = smooth_pictures(8)
    with torch.no_grad():
        for parameter in autoencoder.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        before = to_images(autoencoder, to_latents(autoencoder, pictures))
        standardise(autoencoder, pictures.split(4))
        latents = to_latents(autoencoder, pictures)
        after = to_images(autoencoder, latents)
    axes = (0, 2, 3) if kind == "patch" else (0, 1, 2, 3)
    torch.testing.assert_close(latents.mean(dim=axes), torch.zeros_like(latents.mean(dim=axes)), atol=1e-3, rtol=0)
    torch.testing.assert_close(latents.std(dim=axes), torch.ones_like(latents.std(dim=axes)), atol=1e-3, rtol=0)
    torch.testing.assert_close(before, after, atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", ["patch", "kl"])
def test_saved_and_loaded_it_is_the_same(kind: str, patch: PatchAutoencoder, tmp_path: Path) -> None:
    autoencoder: Autoencoder = patch if kind == "patch" else kl()
    pictures = smooth_pictures(4)
    standardise(autoencoder, [pictures])
    autoencoder.save_pretrained(tmp_path)
    loaded = type(autoencoder).from_pretrained(tmp_path)
    latents = to_latents(autoencoder, pictures)
    torch.testing.assert_close(to_latents(loaded, pictures), latents)
    torch.testing.assert_close(to_images(loaded, latents), to_images(autoencoder, latents))
    factor, channels = (4, 8) if kind == "patch" else (2, 3)
    assert (latent_factor(loaded), latent_channels(loaded)) == (factor, channels)
    assert latents.shape == (4, channels, 16 // factor, 16 // factor)


def test_pictures_in_and_out_are_in_0_to_1(patch: PatchAutoencoder) -> None:
    closed_form_start(patch, [smooth_pictures(16) * 2 - 1])
    white = torch.ones(1, 3, 16, 16)
    assert (to_images(patch, to_latents(patch, white)) - white).abs().mean() < 0.05
    wild = to_images(patch, 50 * torch.randn(1, 8, 4, 4))
    assert wild.min() == 0
    assert wild.max() == 1


@pytest.mark.parametrize(
    ("kind", "widths", "match"), [("kl", [8, 8], "3 resolutions|factor of 2"), ("patch", [8, 8], "one width")]
)
def test_widths_that_do_not_fit(kind: str, widths: list[int], match: str) -> None:
    values = {"kind": kind, "factor": 4, "channels": 8, "widths": widths, "blocks": 1}
    with pytest.raises(UserError, match=match):
        build_autoencoder(AutoencoderParams.model_validate(values))


def test_a_sample_is_a_function_of_its_number(data: Path, params: DiffusionParams) -> None:
    one, other = Pictures(data, "train", params, 0, augment=True), Pictures(data, "train", params, 0, augment=True)
    others = [other[number] for number in reversed(range(12))][::-1]
    for number in range(12):
        assert torch.equal(one[number]["picture"], others[number]["picture"])
        assert one[number]["object_id"] == others[number]["object_id"]
    assert any(
        not torch.equal(Pictures(data, "train", params, 1, augment=True)[number]["picture"], others[number]["picture"])
        for number in range(4)
    )


def test_half_of_the_pictures_are_colour_maps_and_crops_show_something(data: Path, params: DiffusionParams) -> None:
    pictures, colours = Pictures(data, "train", params, 0, augment=True), reference_colours(COLOURS)
    kinds: Counter[bool] = Counter()
    for number in range(40):
        item = pictures[number]
        picture = item["picture"]
        assert picture.shape == (3, 8 * params.autoencoder.factor, 8 * params.autoencoder.factor)
        pixels = picture.flatten(1).T
        distances = torch.cdist(pixels, colours, compute_mode="donot_use_mm_for_euclid_dist")  # the other is rough
        exact = distances.amin(dim=1).max() < 1e-6
        assert exact == item["coloured"]
        # An edge of a colour map, a pixel of an object
        assert len(decode_colours(picture, COLOURS).unique()) > 1 if exact else (picture < 1).any()
        kinds[item["coloured"]] += 1
    assert kinds == {True: 20, False: 20}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["patch", "kl"])
def test_loss_is_one_of_each_sample_and_does_not_hang_on_the_batch(
    kind: str, patch: PatchAutoencoder, data: Path, params: DiffusionParams
) -> None:
    objective = objective_of(patch if kind == "patch" else kl(), data, params)
    objective.closed_form_start()
    items = [objective.examples()[number] for number in range(4)]
    with torch.no_grad():
        together = objective.loss(objective.module, objective.collate(items))
        alone = torch.cat([objective.loss(objective.module, objective.collate([item])) for item in items])
    assert together.shape == (4,)
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_a_little_training_betters_the_closed_form(
    patch: PatchAutoencoder, data: Path, params: DiffusionParams
) -> None:
    objective = objective_of(patch, data, params)
    objective.closed_form_start()
    kept_back = objective.collate([objective.examples()[number] for number in range(10_000, 10_032)])
    before = objective.loss(objective.module, kept_back).mean().item()
    optimizer = torch.optim.AdamW(patch.parameters(), lr=1e-3)
    for step in range(80):
        batch = objective.collate([objective.examples()[8 * step + place] for place in range(8)])
        loss = objective.loss(objective.module, batch).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert objective.loss(objective.module, kept_back).mean().item() < 0.97 * before
    assert objective.pictures()["samples"].shape == (64, 4 * 64, 3)


class Lossless(PatchAutoencoder):
    """All values of a patch are latents."""

    def __init__(self) -> None:
        super().__init__(factor=2, latent_channels=12, width=4, blocks=1)
        with torch.no_grad():
            identity = torch.eye(12)
            self.encode_linear.weight.copy_(identity[:, :, None, None])
            self.decode_linear.weight.zero_()
            self.decode_linear.weight[:, :, 1, 1] = identity
            for linear in (self.encode_linear, self.decode_linear):
                assert linear.bias is not None
                linear.bias.zero_()


def test_quality_of_a_lossless_and_of_a_blind_autoencoder(data: Path, params: DiffusionParams) -> None:
    examples = Examples(data, TASKS["segment"], "val", params, 0, drop_condition=0.0, augment=False)
    lossless = Lossless()
    perfect = round_trip_quality(lossless, examples, COLOURS)
    assert perfect["psnr"] > 80
    assert perfect["pixels"] == perfect["part_pixels"] == 1
    noisy = round_trip_quality(lossless, examples, COLOURS, latent_noise=1.0)
    assert noisy["psnr"] < 20
    with torch.no_grad():
        assert lossless.decode_linear.bias is not None
        lossless.decode_linear.weight.zero_()
        lossless.decode_linear.bias.fill_(1)
    white = round_trip_quality(lossless, examples, COLOURS)
    background = (decode_colours(examples[0]["images"]["colours"], COLOURS) == 0).float().mean().item()
    assert white["part_pixels"] == 0
    assert white["pixels"] == pytest.approx(background)
    assert white["psnr"] == pytest.approx(-10 * torch.tensor(white["loss"]).log10().item(), abs=1e-3)
