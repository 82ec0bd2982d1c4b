"""The denoisers: their layout, what they start from, and how they are kept."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipeline.diffusion.denoiser import Conditions, predict
from pipeline.diffusion.tasks import TASKS, Task
from pipeline.diffusion.unet import MultiViewUNet, build_unet, cross_attentions, fine_tuned_from, load_unet
from pipeline.errors import UserError
from pipeline.params.base import load_group
from pipeline.params.diffusion import DiffusionParams

torch.set_num_threads(1)  # with more, threads of a busy machine wait for one another

NANO = load_group(DiffusionParams, path=Path("presets/nano.yaml"))
PAPER = load_group(DiffusionParams, path=Path("presets/paper.yaml"))
C, TEXT_WIDTH, EMBED_WIDTH = 4, 24, 20


def params(**changes: Any) -> DiffusionParams:
    unet = {
        "channels": [16, 32],
        "attention": [False, True],
        "head_channels": 8,
        "transformer_layers": [1, 1],
    } | changes
    image = {"queries": 3, "width": 12, "hidden": 16, "depth": 1, "heads": 2}
    return NANO.model_copy(
        update={"unet": NANO.unet.model_copy(update=unet), "image": NANO.image.model_copy(update=image)}
    )


def tiny(task: str = "text_to_mv", **changes: Any) -> MultiViewUNet:
    torch.manual_seed(0)
    return build_unet(params(**changes), TASKS[task], C, 8, TEXT_WIDTH, EMBED_WIDTH).eval()


def conditions(task: Task, seed: int = 0) -> Conditions:
    """Random ones for two samples."""
    generator = torch.Generator().manual_seed(seed)
    stacked = task.in_channels(C) - C
    return Conditions(
        torch.randn(2, 5, TEXT_WIDTH, generator=generator),
        stacked_BKHW=torch.randn(2, stacked, 8, 8, generator=generator) if stacked else None,
        beside_BCHW=torch.randn(2, C, 8, 4, generator=generator) if task.beside else None,
        image_BNE=torch.randn(2, 7, EMBED_WIDTH, generator=generator) if task.image_tokens else None,
        objects_B=torch.zeros(2, dtype=torch.long) if task.joint else None,
    )


NOISED = torch.randn(2, C, 8, 8, generator=torch.Generator().manual_seed(1))
TIMESTEPS = torch.tensor([3, 999])


def prediction(unet: MultiViewUNet, given: Conditions) -> Tensor:
    with torch.no_grad():
        return predict(unet, NOISED, TIMESTEPS, given)


@pytest.mark.parametrize("name", TASKS)
def test_every_tasks_network_predicts_the_targets_latents(name: str) -> None:
    unet = tiny(name)
    assert unet.config.in_channels == TASKS[name].in_channels(C)
    assert prediction(unet, conditions(TASKS[name])).shape == NOISED.shape


def test_heads_have_the_channels_that_the_params_say() -> None:
    with torch.device("meta"):
        unets = [(p, build_unet(p, TASKS["text_to_mv"], 8, 32, 64)) for p in (params(), NANO, PAPER)]
    for given, unet in unets:
        assert {attention.inner_dim // attention.heads for attention in cross_attentions(unet)} == {
            given.unet.head_channels
        }


def test_attention_is_where_the_params_say_and_in_the_middle() -> None:
    names = [name for name, _ in tiny().named_modules() if name.endswith("attn2")]
    assert {name.split(".attentions")[0] for name in names} == {"down_blocks.1", "mid_block", "up_blocks.0"}


@pytest.mark.parametrize("channels", [[16, 24, 40], [48, 96, 192]])
def test_any_channels_find_groups_for_their_norms(channels: list[int]) -> None:
    unet = tiny(channels=channels, attention=[False, False, True], transformer_layers=[1, 1, 1])
    assert 1 < unet.config.norm_num_groups <= 32
    assert prediction(unet, conditions(TASKS["text_to_mv"])).isfinite().all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": [16, 36]}, "36, no multiple of the 8"),
        ({"attention": [True]}, "attention has 1 values, diffusion.unet.channels 2"),
        ({"transformer_layers": [1, 1, 1]}, "transformer_layers has 3 values"),
    ],
)
def test_params_that_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        tiny(**changes)


@pytest.mark.parametrize("name", [name for name in TASKS if name != "text_to_mv"])
def test_fine_tuning_starts_at_the_base(name: str) -> None:
    base, task = tiny(), TASKS[name]
    unet = fine_tuned_from(base, task, params(), EMBED_WIDTH).eval()
    given = conditions(task)
    plain = Conditions(given.text_BLD, beside_BCHW=given.beside_BCHW)
    # whatever the new inputs are: the weights that read them are zero
    assert torch.equal(prediction(unet, given), prediction(base, plain))
    assert unet.config.in_channels == task.in_channels(C)
    assert (unet.config.image_tokens is not None) == (task.image_tokens is not None)


def test_a_base_with_other_inputs_leaves_them_behind() -> None:
    base = tiny("complete")
    with torch.no_grad():
        base.conv_in.weight[:, C:] += 1
    unet = fine_tuned_from(base, TASKS["edit"], params()).eval()
    assert torch.equal(unet.conv_in.weight[:, :C], base.conv_in.weight[:, :C])
    assert not unet.conv_in.weight[:, C:].any()


def test_the_image_branch_learns() -> None:
    task = TASKS["image_to_mv"]
    unet = fine_tuned_from(tiny(), task, params(), EMBED_WIDTH)
    optimiser = torch.optim.SGD(unet.parameters(), lr=0.1)
    branch = {name: value for name, value in unet.named_parameters() if ".processor." in name or "resampler" in name}
    blocks = len(cross_attentions(unet))
    assert sum(".to_v_ip." in name for name in branch) == blocks == 4
    gradients = []
    for _ in range(2):
        optimiser.zero_grad()
        predict(unet, NOISED, TIMESTEPS, conditions(task)).square().mean().backward()
        gradients.append({name for name, value in branch.items() if value.grad is not None and value.grad.any()})
        optimiser.step()
    # the values start at zero, so at first they alone feel the loss; then everything behind them
    assert gradients[0] == {name for name in branch if ".to_v_ip." in name}
    assert gradients[1] == set(branch)
    unet.eval()
    others = Conditions(conditions(task).text_BLD, None, None, conditions(task).beside_BCHW, torch.zeros(2, 7, 20))
    assert not torch.allclose(prediction(unet, conditions(task)), prediction(unet, others))


def test_gradient_checkpointing_gives_the_same_gradients() -> None:
    task = TASKS["image_to_mv"]
    gradients = []
    for checkpointing in (False, True):
        unet = tiny("image_to_mv").train()
        if checkpointing:
            unet.enable_gradient_checkpointing()
        predict(unet, NOISED, TIMESTEPS, conditions(task)).square().mean().backward()
        gradients.append(unet.image_resampler.proj_out.weight.grad)
        gradients.append(unet.conv_in.weight.grad)
    torch.testing.assert_close(gradients[:2], gradients[2:])


@pytest.mark.parametrize("name", ["complete", "image_to_mv"])
def test_saving_and_loading_change_nothing(name: str, tmp_path: Path) -> None:
    unet = tiny(name)
    for processor in unet.attn_processors.values():
        if hasattr(processor, "to_v_ip"):
            torch.nn.init.normal_(processor.to_v_ip[0].weight)  # what a training makes of the zeros
    unet.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "diffusion_pytorch_model.safetensors"}
    expected = prediction(unet, conditions(TASKS[name]))
    for loaded in (load_unet(tmp_path), MultiViewUNet.from_pretrained(tmp_path)):
        assert torch.equal(prediction(loaded.eval(), conditions(TASKS[name])), expected)
        assert loaded.config.image_tokens == unet.config.image_tokens


def test_a_plain_network_loads_as_ours(tmp_path: Path) -> None:
    config = {k: v for k, v in tiny().config.items() if k != "image_tokens" and not k.startswith("_")}
    plain = UNet2DConditionModel(**config).eval()
    plain.save_pretrained(tmp_path)
    given = conditions(TASKS["text_to_mv"])
    with torch.no_grad():
        expected = plain(NOISED, TIMESTEPS, given.text_BLD).sample
    loaded = load_unet(tmp_path)
    assert isinstance(loaded, MultiViewUNet)
    assert torch.equal(prediction(loaded.eval(), given), expected)


def test_a_layer_of_another_shape_is_named(tmp_path: Path) -> None:
    tiny().save_pretrained(tmp_path)
    with torch.device("meta"):
        wider = tiny(channels=[16, 48])
    with pytest.raises(UserError, match=r"layer down_blocks\.1\.\S+ is 32, expected was 48"):
        load_unet(tmp_path, wider)
    with pytest.raises(UserError, match=r"layer conv_in\.weight is 16 x 4 x 3 x 3, expected was 16 x 8 x 3 x 3"):
        load_unet(tmp_path, tiny("segment"))
    with pytest.raises(UserError, match=r"layer .*processor\.to_k_ip\.0\.weight is missing, expected was 32 x 12"):
        load_unet(tmp_path, tiny("image_to_mv"))


def test_weights_that_belie_their_config_are_refused(tmp_path: Path) -> None:
    tiny().save_pretrained(tmp_path)
    file = tmp_path / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    save_file(weights | {"conv_out.weight": torch.zeros(4, 16, 1, 1)}, file)
    with pytest.raises(UserError, match=r"layer conv_out\.weight is 4 x 16 x 1 x 1, expected was 4 x 16 x 3 x 3"):
        load_unet(tmp_path)
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(UserError, match="not a whole safetensors file"):
        load_unet(tmp_path)
    file.unlink()
    with pytest.raises(UserError, match=r"no diffusion_pytorch_model\.safetensors"):
        load_unet(tmp_path)
    with pytest.raises(UserError, match=r"no config\.json"):
        load_unet(tmp_path / "unet")


def test_the_config_is_readable(tmp_path: Path) -> None:
    tiny("image_to_mv").save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["_class_name"] == "MultiViewUNet"
    assert config["image_tokens"]["image_queries"] == 3
    assert config["image_tokens"]["image_embed_width"] == EMBED_WIDTH


def test_the_papers_network_has_emus_size() -> None:
    """Emu's UNet has 2.8 billion weights (Dai et al. 2023); without memory, in seconds."""
    with torch.device("meta"):
        unet = build_unet(PAPER, TASKS["image_to_mv"], 8, 128, 1024, 1280)
    branch = sum(value.numel() for name, value in unet.named_parameters() if "_ip." in name or "resampler" in name)
    assert sum(value.numel() for value in unet.parameters()) - branch == pytest.approx(2.8e9, rel=0.03)
    assert unet.config.image_tokens["image_queries"] == 157
    assert {value.device.type for value in unet.parameters()} == {"meta"}
