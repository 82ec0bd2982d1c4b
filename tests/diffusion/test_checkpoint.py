"""Stable-Diffusion-style checkpoints, as diffusers' own pipelines save them at a tiny size."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import load_file, save_file

from pipeline.diffusion.autoencoder import latent_channels, latent_factor, to_images, to_latents
from pipeline.diffusion.checkpoint import load_checkpoint
from pipeline.diffusion.denoiser import Conditions, predict, time_ids
from pipeline.diffusion.schedule import training_schedule
from pipeline.diffusion.tasks import TASKS
from pipeline.diffusion.unet import fine_tuned_from, load_unet
from pipeline.errors import UserError
from pipeline.params.base import load_group
from pipeline.params.diffusion import DiffusionParams
from tests import clip_files

torch.set_num_threads(1)  # with more, threads of a busy machine wait for one another

SD = load_group(DiffusionParams, path=Path("presets/sd.yaml"))
RESAMPLER = SD.image.model_copy(update={"queries": 3, "width": 12, "hidden": 16, "depth": 1, "heads": 2})
PARAMS = SD.model_copy(update={"image": RESAMPLER})
PROMPTS = ["a red chair", "", "a table"]


def autoencoder(channels: int = 4) -> AutoencoderKL:
    torch.manual_seed(3)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 16),
        norm_num_groups=4,
        latent_channels=channels,
    )


def unet(**config: object) -> UNet2DConditionModel:
    torch.manual_seed(4)
    return UNet2DConditionModel(
        sample_size=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(16, 32),
        layers_per_block=1,
        norm_num_groups=8,
        **config,
    )


def scheduler(prediction: str) -> DDIMScheduler:
    return DDIMScheduler(beta_schedule="scaled_linear", prediction_type=prediction, clip_sample=False, steps_offset=1)


def stable_diffusion(prediction: str, latents: int = 4, **config: object) -> StableDiffusionPipeline:
    return StableDiffusionPipeline(
        vae=autoencoder(latents),
        text_encoder=clip_files.text_model(32),
        tokenizer=clip_files.tokenizer(),
        unet=unet(cross_attention_dim=32, in_channels=latents, out_channels=latents, **config),
        scheduler=scheduler(prediction),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def sd15() -> StableDiffusionPipeline:
    return stable_diffusion("epsilon", attention_head_dim=4)


def sd2() -> StableDiffusionPipeline:
    return stable_diffusion("v_prediction", attention_head_dim=(2, 4), use_linear_projection=True)


def sdxl() -> StableDiffusionXLPipeline:
    return StableDiffusionXLPipeline(
        vae=autoencoder(),
        text_encoder=clip_files.text_model(16),
        text_encoder_2=clip_files.text_model_with_projection(32),
        tokenizer=clip_files.tokenizer(),
        tokenizer_2=clip_files.tokenizer(),
        unet=unet(
            cross_attention_dim=48,
            attention_head_dim=(2, 4),
            use_linear_projection=True,
            transformer_layers_per_block=(1, 2),
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=20 + 6 * 8,
        ),
        scheduler=scheduler("epsilon"),
    )


Layout = Callable[[], StableDiffusionPipeline | StableDiffusionXLPipeline]
LAYOUTS: dict[str, Layout] = {"1.5": sd15, "2.x": sd2, "xl": sdxl}
Saved = dict[str, tuple[Path, StableDiffusionPipeline | StableDiffusionXLPipeline]]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """A folder of each layout, and the pipeline that wrote it."""
    folders: Saved = {}
    for name, layout in LAYOUTS.items():
        folder = tmp_path_factory.mktemp("checkpoints") / name
        pipeline = layout()
        pipeline.set_progress_bar_config(disable=True)
        pipeline.save_pretrained(folder)
        folders[name] = (folder, pipeline)
    return folders


@pytest.fixture
def copy(saved: Saved, tmp_path: Path) -> Path:
    """A 1.5 checkpoint to spoil."""
    return Path(shutil.copytree(saved["1.5"][0], tmp_path / "copy"))


@pytest.mark.parametrize("name", LAYOUTS)
def test_networks_give_what_the_pipelines_own_give(saved: Saved, name: str) -> None:
    folder, pipeline = saved[name]
    loaded = load_checkpoint(str(folder))
    assert loaded.prediction == ("v_prediction" if name == "2.x" else "epsilon")
    encoded = pipeline.encode_prompt(
        prompt=PROMPTS, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False
    )
    text_BLD, pooled_BP = loaded.text.encode(PROMPTS)
    assert torch.equal(text_BLD, encoded[0])
    added = {}
    if name == "xl":
        assert pooled_BP is not None
        assert torch.equal(pooled_BP, encoded[2])
        sizes = pipeline._get_add_time_ids((64, 64), (0, 0), (64, 64), torch.float32, 20)
        added = {"text_embeds": pooled_BP, "time_ids": sizes.repeat(3, 1)}
    else:
        assert pooled_BP is None
    noised, timesteps = torch.randn(3, 4, 8, 8), torch.tensor([1, 500, 999])
    with torch.no_grad():
        expected = pipeline.unet(noised, timesteps, text_BLD, added_cond_kwargs=added).sample
        assert torch.equal(predict(loaded.unet.eval(), noised, timesteps, Conditions(text_BLD, pooled_BP)), expected)
    assert (latent_channels(loaded.autoencoder), latent_factor(loaded.autoencoder)) == (4, 2)


def test_sdxl_is_told_the_size_of_what_it_draws() -> None:
    assert time_ids(torch.zeros(2, 4, 8, 16)).tolist() == [[64, 128, 0, 0, 64, 128]] * 2


@pytest.mark.slow
@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("task", ["complete", "image_to_mv"])
def test_fine_tuning_starts_at_the_checkpoint_and_is_kept(saved: Saved, name: str, task: str, tmp_path: Path) -> None:
    base = load_checkpoint(str(saved[name][0]))
    unet = fine_tuned_from(base.unet, TASKS[task], PARAMS, embed_width=12).eval()
    text_BLD, pooled_BP = base.text.encode(["a chair"])
    plain = Conditions(text_BLD, pooled_BP)
    further = unet.config.in_channels - 4
    given = Conditions(
        text_BLD,
        pooled_BP,
        stacked_BKHW=torch.randn(1, further, 8, 8) if further else None,
        image_BNE=torch.randn(1, 5, 12) if task == "image_to_mv" else None,
    )
    noised, timesteps = torch.randn(1, 4, 8, 8), torch.tensor([999])
    with torch.no_grad():
        prediction = predict(unet, noised, timesteps, given)
        # Not bit for bit: with other channels, or weights elsewhere in memory, the kernels of some CPUs round otherwise
        torch.testing.assert_close(prediction, predict(base.unet.eval(), noised, timesteps, plain))
        unet.save_pretrained(tmp_path)
        kept = load_unet(tmp_path).eval()
        torch.testing.assert_close(predict(kept, noised, timesteps, given), prediction)
    torch.testing.assert_close(kept.state_dict(), unet.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize(("latents", "inputs"), [(4, (4, 8, 13, 9)), (8, (8, 16, 25, 17))])
def test_the_checkpoint_says_how_many_channels_latents_have(
    latents: int, inputs: tuple[int, ...], tmp_path: Path
) -> None:
    """One of eight gives the paper's networks (A.5, A.6), whatever `diffusion.autoencoder` says."""
    stable_diffusion("epsilon", latents, attention_head_dim=4).save_pretrained(tmp_path)
    base = load_checkpoint(str(tmp_path))
    assert latent_channels(base.autoencoder) == latents
    for name, channels in zip(("text_to_mv", "segment", "complete", "edit"), inputs, strict=True):
        unet = fine_tuned_from(base.unet, TASKS[name], PARAMS)
        assert (unet.config.in_channels, unet.config.out_channels) == (channels, latents)
        assert torch.equal(unet.conv_in.weight[:, :latents], base.unet.conv_in.weight)
        assert not unet.conv_in.weight[:, latents:].any()


def test_eight_channels_beside_a_network_for_four_are_refused(saved: Saved, copy: Path) -> None:
    shutil.rmtree(copy / "vae")
    autoencoder(8).save_pretrained(copy / "vae")
    with pytest.raises(UserError, match=r"conv_out \(latent channels\) is made for 4, the other parts give 8"):
        load_checkpoint(str(copy))


def test_a_checkpoint_of_noise_prediction_is_trained_to_predict_v(saved: Saved) -> None:
    """A few steps of fine-tuning with our schedule bring the loss down."""
    base = load_checkpoint(str(saved["1.5"][0]))
    schedule = training_schedule(PARAMS.schedule, TASKS["text_to_mv"])
    with torch.no_grad():
        latents = to_latents(base.autoencoder, torch.rand(2, 3, 16, 16))
        assert to_images(base.autoencoder, latents).shape == (2, 3, 16, 16)
    given = Conditions(*base.text.encode(["a chair", "a table"]))
    noise, timesteps = torch.randn_like(latents), torch.tensor([999, 200])
    target = schedule.get_velocity(latents, noise, timesteps)
    optimiser = torch.optim.AdamW(base.unet.parameters(), lr=1e-3)
    losses = []
    for _ in range(12):
        loss = (predict(base.unet, schedule.add_noise(latents, noise, timesteps), timesteps, given) - target).square()
        optimiser.zero_grad()
        loss.mean().backward()
        optimiser.step()
        losses.append(loss.mean().item())
    assert losses[-1] < 0.8 * losses[0]


def test_a_layer_of_another_shape_is_named(copy: Path) -> None:
    file = copy / "unet/diffusion_pytorch_model.safetensors"
    save_file(load_file(file) | {"conv_in.weight": torch.zeros(16, 9, 3, 3)}, file)
    with pytest.raises(UserError, match=r"layer conv_in\.weight is 16 x 9 x 3 x 3, expected was 16 x 4 x 3 x 3"):
        load_checkpoint(str(copy))


def test_networks_that_do_not_fit_one_another_are_refused(saved: Saved, copy: Path) -> None:
    shutil.rmtree(copy / "unet")
    shutil.copytree(saved["xl"][0] / "unet", copy / "unet")
    with pytest.raises(UserError, match=r"attn2\.to_k .* is made for 48, the other parts give 32"):
        load_checkpoint(str(copy))


def test_a_missing_layer_of_the_autoencoder_is_named(copy: Path) -> None:
    file = copy / "vae/diffusion_pytorch_model.safetensors"
    save_file({name: value for name, value in load_file(file).items() if name != "quant_conv.bias"}, file)
    with pytest.raises(UserError, match=r"quant_conv\.bias"):
        load_checkpoint(str(copy))


def test_a_missing_layer_of_the_text_encoder_is_named(copy: Path) -> None:
    file = copy / "text_encoder/model.safetensors"
    weights = load_file(file)
    dropped = next(name for name in weights if name.endswith("final_layer_norm.bias"))
    save_file({name: value for name, value in weights.items() if name != dropped}, file, metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"final_layer_norm\.bias is missing"):
        load_checkpoint(str(copy))


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "tokenizer"])
def test_a_missing_part_is_named(copy: Path, part: str) -> None:
    shutil.rmtree(copy / part)
    with pytest.raises(UserError, match=rf"has no folder `{part}`"):
        load_checkpoint(str(copy))


def test_what_is_no_checkpoint_is_refused(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is no folder here and cannot be downloaded"):
        load_checkpoint(str(tmp_path / "none"))
    with pytest.raises(UserError, match=r"holds no model_index\.json"):
        load_checkpoint(str(copy / "unet"))
    with pytest.raises(UserError, match=r"holds no model_index\.json"):
        load_checkpoint(str(copy / "unet/config.json"))


def test_text_encoders_as_older_versions_saved_them_load(saved: Saved, copy: Path) -> None:
    """Published checkpoints name the layers `text_model.*`, with the positions beside them."""
    file = copy / "text_encoder/model.safetensors"
    weights = {f"text_model.{name.removeprefix('text_model.')}": value for name, value in load_file(file).items()}
    weights["text_model.embeddings.position_ids"] = torch.arange(clip_files.MAX_TOKENS)[None]
    save_file(weights, file, metadata={"format": "pt"})
    config = json.loads((copy / "text_encoder/config.json").read_text())
    assert config["architectures"] == ["CLIPTextModel"]
    one, other = (load_checkpoint(str(path)).text.encode(PROMPTS)[0] for path in (copy, saved["1.5"][0]))
    assert torch.equal(one, other)
