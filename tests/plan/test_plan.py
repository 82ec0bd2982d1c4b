"""`partgen plan`: counts on the meta device against counts by hand and against real networks on the CPU."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from diffusers import AutoencoderKL, ConfigMixin, ModelMixin, UNet2DConditionModel
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from pipeline.diffusion.tasks import TASKS, TRAININGS, find_task
from pipeline.diffusion.unet import MultiViewUNet, build_unet
from pipeline.errors import UserError
from pipeline.params.base import load_group, read_yaml
from pipeline.params.diffusion import AutoencoderParams, DiffusionParams, UNetParams
from pipeline.params.gaussians import GaussiansParams
from pipeline.params.reconstruct import ReconstructParams
from pipeline.params.reconstruction import ReconstructionParams
from pipeline.params.reconstruction import UNetParams as ResidualParams
from pipeline.params.render import RenderParams
from pipeline.params.train import TrainParams
from pipeline.plan.estimate import USABLE, Costs, Estimate, count, estimate
from pipeline.plan.gpus import GPUS, find_gpu
from pipeline.plan.networks import Network, Preset
from pipeline.plan.reconstructors import inferences
from pipeline.plan.trace import Cost, SavedStorages, fused_attention, training_cost
from pipeline.reconstruction.pixel_gaussians import build_gaussians
from pipeline.surface.features import PAIRS
from pipeline.surface.superfaces import MOST
from pipeline.training.average import Average
from stages.plan import _from_nothing, plan

PROJECT = Path(__file__).parents[2]
NANO = PROJECT / "presets/nano.yaml"
RENDER = load_group(RenderParams, path=NANO).model_copy(update={"view_size": 32})
_TRAIN = load_group(TrainParams, path=NANO)
TRAIN = _TRAIN.model_copy(
    update={name: _TRAIN.schedule(name).model_copy(update={"batch": 8, "micro_batch": 2}) for name in TRAININGS}
)
DIFFUSION = load_group(DiffusionParams, path=NANO).model_copy(
    update={
        "autoencoder": AutoencoderParams(kind="patch", factor=4, channels=4, widths=[16], blocks=1),
        "unet": UNetParams(
            channels=[16, 32], attention=[False, True], layers=1, transformer_layers=[1, 1], head_channels=16
        ),
    }
)


LIVE = TRAIN.model_copy(update={"loop": TRAIN.loop.model_copy(update={"precompute": False})})
"""With text and image encoders beside the network."""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The real networks here are so small that threads only wait for one another."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


COSTS = {"fp32": Costs("fp32"), "bf16": Costs("bf16")}


@cache
def networks() -> dict[str, Network]:
    return {network.name: network for network in Preset(DIFFUSION, TRAIN, RENDER).networks()}


def planned(network: Network, gpu: str = "H100", **loop: object) -> Estimate:
    settings = TRAIN.loop.model_copy(update=loop)
    return estimate(network, COSTS[settings.precision].of(network), settings, find_gpu(gpu), 0.5)


def on_meta(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.device("meta"):
        return build()


@pytest.mark.parametrize("task", TASKS)
def test_networks_are_those_of_training(task: str) -> None:
    network = networks()[task]
    real = build_unet(DIFFUSION, find_task(task), latent_channels=4, sample_size=16, text_width=384)
    assert count(network.module.parameters()) == count(real.parameters())
    assert all(weight.is_meta for weight in network.module.parameters())


def test_inputs_follow_the_tasks() -> None:
    shapes = {network.name: network.shape for network in networks().values()}
    assert shapes == {
        "autoencoder": (3, 64, 64),
        "text_to_mv": (4, 16, 16),
        "image_to_mv": (4, 16, 24),
        "segment": (8, 16, 16),
        "complete": (13, 16, 16),
        "edit": (9, 16, 16),
        "complete_no_context": (9, 16, 16),
        "complete_single_view": (13, 8, 8),
        "complete_joint": (13, 16, 16),
        "grouping": (len(PAIRS), MOST, MOST),
    }


def test_flops_of_a_convolution() -> None:
    conv = on_meta(lambda: nn.Conv2d(3, 8, 3, padding=1))
    cost = training_cost(conv, lambda: conv(torch.empty(2, 3, 16, 20, device="meta")), "fp32")
    forward = 2 * (2 * 16 * 20) * 8 * (3 * 3 * 3)
    assert cost.flops == 2 * forward  # backward: the weights' gradient, and none of the picture


@pytest.mark.slow
def test_flops_are_pytorchs() -> None:
    network = networks()["image_to_mv"]
    ours = COSTS["fp32"].of(network).flops
    real = MultiViewUNet.from_config(network.module.config)
    batch = network.schedule.micro_batch
    with FlopCounterMode(display=False) as counter:
        inputs = (torch.zeros(batch, 4, 16, 24), torch.zeros(batch, dtype=torch.long), torch.zeros(batch, 48, 384))
        tokens = {"image_embeds": [torch.zeros(batch, 49, 1280)]}
        real(*inputs, added_cond_kwargs=tokens).sample[..., :16].square().mean().backward()
    # The CPU's kernel of attention has no formula in PyTorch's counter, so its share is left to the test below.
    attention = sum(attention_flops(batch, real, 16 * 24))
    assert counter.get_total_flops() + attention == ours


def attention_flops(batch: int, unet: MultiViewUNet, finest: int) -> list[int]:
    """Of a fused attention: 2 products forward; backward 5, as the scores are computed again."""
    found = []
    for name, module in unet.named_modules():
        if not name.endswith((".attn1", ".attn2")):
            continue
        places = finest // 4  # the coarser of the two resolutions attends
        keys = [places] if name.endswith(".attn1") else [48, 16]  # text and image tokens
        found += [7 * 2 * batch * places * key * module.inner_dim for key in keys]
    queries, hidden, depth = 16, 192, 2
    found += [7 * 2 * batch * queries * (queries + 49) * hidden] * depth
    return found


@pytest.mark.slow
@pytest.mark.parametrize("task", ["complete", "image_to_mv"])
def test_gradient_checkpointing_trades_memory_for_work(task: str) -> None:
    schedule = TRAIN.denoiser(task).model_copy(update={"gradient_checkpointing": True})
    network = Preset(DIFFUSION, TRAIN.model_copy(update={task: schedule}), RENDER).denoiser(find_task(task))
    for precision in ("fp32", "bf16"):
        whole, checkpointed = COSTS[precision].of(networks()[task]), Costs(precision).of(network)
        assert checkpointed.activation_bytes < 0.6 * whole.activation_bytes
        assert 1.1 * whole.flops < checkpointed.flops < 4 / 3 * whole.flops  # the image branch is not computed again
        assert checkpointed.weight_copy_bytes >= whole.weight_copy_bytes


def test_what_is_computed_again_is_what_pytorch_computes_again() -> None:
    convolutions = [on_meta(partial(nn.Conv2d, 4, 4, 3, padding=1)) for _ in range(3)]

    class Blocks(ModelMixin, ConfigMixin):
        _supports_gradient_checkpointing = True
        gradient_checkpointing = False

        def forward(self, values: Tensor) -> Tensor:
            for block in self.children():
                values = (
                    self._gradient_checkpointing_func(block, values) if self.gradient_checkpointing else block(values)
                )
            return values

    blocks = Blocks()
    for number, block in enumerate(convolutions):
        blocks.add_module(str(number), nn.Sequential(block, nn.SiLU(), nn.SiLU()))
    one = 2 * 4 * 16 * 16
    picture = torch.empty(2, 4, 16, 16, device="meta")
    plain = training_cost(blocks, lambda: blocks(picture), "fp32")
    blocks.enable_gradient_checkpointing()
    cost = training_cost(blocks, lambda: blocks(picture), "fp32")
    forward = 2 * one * 9 * 4
    assert plain.flops == 3 * forward + 5 * forward
    assert cost.flops == plain.flops + 3 * forward
    assert plain.activation_bytes == 4 * one * (1 + 3 * 3)  # each block's input and two layers' outputs; the loss's own
    assert cost.activation_bytes == 4 * one * (1 + 3 + 2)
    assert blocks.is_gradient_checkpointing


@pytest.mark.parametrize("task", ["complete", "image_to_mv"])
def test_activations_are_what_a_real_network_saves(task: str) -> None:
    network = networks()[task]
    estimated = COSTS["fp32"].of(network).activation_bytes
    real = MultiViewUNet.from_config(network.module.config)
    batch, (channels, height, width) = network.schedule.micro_batch, network.shape
    weights = {tensor.data_ptr() for tensor in (*real.parameters(), *real.buffers())}
    saved: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        saved.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        inputs = (torch.zeros(batch, channels, height, width), torch.zeros(batch), torch.zeros(batch, 48, 384))
        tokens = {"image_embeds": [torch.zeros(batch, 49, 1280)]} if task == "image_to_mv" else {}
        real(*inputs, added_cond_kwargs=tokens).sample[..., :height].square().mean()
    measured = sum(tensor.untyped_storage().nbytes() for place, tensor in saved.items() if place not in weights)
    # Kernels of a CPU and of a GPU keep slightly different statistics of the attention's scores.
    assert estimated == pytest.approx(measured, rel=0.01)


def test_bfloat16_keeps_what_cuda_autocast_would() -> None:
    block = on_meta(
        lambda: nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.SiLU(), nn.Conv2d(8, 4, 1))
    )
    cost = training_cost(block, lambda: block(torch.empty(2, 4, 16, 16, device="meta")), "bf16")
    values = 2 * 16 * 16
    to_conv = 2 * 4 * values
    to_norm = 4 * 8 * values + 2 * 4 * (2 * 2)  # float32, with mean and deviation of each group
    to_silu = 4 * 8 * values
    to_last = 2 * 8 * values
    to_loss = 4 * 4 * values
    assert cost.activation_bytes == to_conv + to_norm + to_silu + to_last + to_loss
    assert cost.weight_copy_bytes == 2 * (4 * 8 * 9 + 8 * 4)  # the backward pass needs no biases


def test_storages_are_counted_once() -> None:
    tensor = torch.zeros(100, requires_grad=True)
    with SavedStorages(without=()) as saved:
        squares = tensor.exp()
        (squares[:50] * squares[50:]).sum()
    assert saved.nbytes() == 400


def test_attention_keeps_no_scores() -> None:
    def cost(tokens: int) -> Cost:
        query, key, value = (torch.empty(1, 2, tokens, 32, device="meta", requires_grad=True) for _ in range(3))
        return training_cost(nn.Identity(), lambda: fused_attention(query, key, value), "fp32")

    short, long = cost(256), cost(512)
    assert long.activation_bytes == pytest.approx(2 * short.activation_bytes, rel=1e-3)
    assert long.flops == 4 * short.flops
    assert short.flops == 7 * 2 * 2 * 256 * 256 * 32


@pytest.mark.slow
def test_a_shared_body_costs_what_a_trace_of_its_own_says() -> None:
    costs = Costs("bf16")  # traces the body with the first of them
    for name in ("text_to_mv", "complete", "edit"):
        network = networks()[name]
        forward = partial(network.forward, network.schedule.micro_batch)
        assert costs.of(network) == training_cost(network.module, forward, "bf16"), name


def test_optimiser_and_average_are_those_of_the_loop() -> None:
    row = planned(networks()["complete_single_view"])
    real = build_unet(DIFFUSION, find_task("complete_single_view"), 4, 8, 384)
    optimiser = torch.optim.AdamW(real.parameters())
    for weight in real.parameters():
        weight.grad = torch.zeros_like(weight)
    optimiser.step()
    moments = [value for state in optimiser.state.values() for value in state.values() if value.ndim]
    assert row.optimiser == sum(moment.numel() * 4 for moment in moments)
    average = Average(list(real.parameters()), decay=0.99)
    assert row.gradients == row.ema == sum(value.nbytes for value in average.values)


def test_the_largest_micro_batch_is_the_last_that_fits() -> None:
    network = networks()["autoencoder"]
    row = planned(network)
    small = replace(
        GPUS["H100"], memory_gib=(row.memory - row.activations + 3.5 * row.activations / 2) / USABLE / 2**30
    )
    schedule = network.schedule

    def at(micro_batch: int) -> Estimate:
        changed = replace(network, schedule=schedule.model_copy(update={"micro_batch": micro_batch}))
        return estimate(changed, Costs("fp32").of(changed), TRAIN.loop, small, 0.5)

    assert at(schedule.micro_batch).largest_micro_batch == 3
    assert at(3).fits
    assert not at(4).fits


def test_hours_are_flops_over_speed() -> None:
    whole, half = planned(networks()["segment"]), planned(networks()["segment"], gpu="A100")
    assert whole.gpu_hours == pytest.approx(whole.steps * whole.flops / (66.9e12 * 0.5) / 3600)
    assert half.gpu_hours / whole.gpu_hours == pytest.approx(66.9 / 19.5)
    assert planned(networks()["segment"], precision="bf16").gpu_hours < whole.gpu_hours / 10


def test_frozen_encoders_count_where_they_run() -> None:
    precomputed = networks()["image_to_mv"]
    live = Preset(DIFFUSION, LIVE, RENDER).denoiser(find_task("image_to_mv"))
    frozen = planned(precomputed).frozen
    assert frozen == count(networks()["autoencoder"].module.parameters())
    assert 25e6 < planned(live).frozen - frozen < 28e6  # MiniLM, 22.6 million, and EfficientNet-Lite0, 4.7
    assert planned(live).flops > planned(precomputed).flops
    assert networks()["complete"].frozen_flops == 3 * networks()["text_to_mv"].frozen_flops


def test_checkpoints_are_read_from_their_folder(tmp_path: Path) -> None:
    unet = dict(
        in_channels=4, out_channels=4, block_out_channels=[16, 32], layers_per_block=1, norm_num_groups=8,
        down_block_types=["DownBlock2D", "CrossAttnDownBlock2D"], up_block_types=["CrossAttnUpBlock2D", "UpBlock2D"],
        attention_head_dim=[2, 4], cross_attention_dim=48, addition_embed_type="text_time",
        addition_time_embed_dim=8, projection_class_embeddings_input_dim=6 * 8 + 24,
    )  # fmt: skip
    UNet2DConditionModel(**unet).save_config(tmp_path / "unet")
    vae = dict(
        block_out_channels=[8, 8, 8], down_block_types=["DownEncoderBlock2D"] * 3, norm_num_groups=4,
        up_block_types=["UpDecoderBlock2D"] * 3, latent_channels=4,
    )  # fmt: skip
    AutoencoderKL(**vae).save_config(tmp_path / "vae")
    text: dict[str, Any] = dict(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, vocab_size=100
    )
    CLIPTextModel(CLIPTextConfig(**text)).save_pretrained(tmp_path / "text_encoder")
    second = CLIPTextConfig(**text | {"hidden_size": 32}, projection_dim=24)
    CLIPTextModelWithProjection(second).save_pretrained(tmp_path / "text_encoder_2")
    diffusion = DIFFUSION.model_copy(update={"checkpoint": str(tmp_path)})
    preset = Preset(diffusion, LIVE, RENDER)
    assert preset.assumed == ()
    complete = preset.denoiser(find_task("complete"))
    assert complete.shape == (13, 16, 16)
    extra = 9 * 16 * 3 * 3  # more input channels
    weights = count(UNet2DConditionModel(**unet).parameters())
    assert count(complete.module.parameters()) == weights + extra
    assert Costs("bf16").of(complete).flops > 0
    (tmp_path / "unet/config.json").write_text("{")
    with pytest.raises(UserError, match=r"unet/config\.json is missing or not JSON"):
        Preset(diffusion, TRAIN, RENDER)


def test_a_missing_checkpoint_is_assumed_and_said_so() -> None:
    diffusion = DIFFUSION.model_copy(update={"checkpoint": "models/none-such"})
    preset = Preset(diffusion, TRAIN, RENDER)
    assert "models/none-such is not on this machine" in preset.assumed[0]
    network = preset.denoiser(find_task("text_to_mv"))
    assert count(network.module.parameters()) == 865_910_724  # of Stable Diffusion 2.1


@pytest.mark.slow
def test_reconstruction_model_is_planned_too() -> None:
    params = ReconstructionParams(
        volume=8, channels=8, mlp_layers=3, mlp_width=8, ray_harmonics=0, gain=1.0, opacity_bias=-5.0, stride=4,
        encoder=ResidualParams(widths=[8], blocks=1), prior=4, refinement=ResidualParams(widths=[8], blocks=1),
        refinement_stride=1, hull=False, splat_samples=8, samples=8, crop=8, chunk_samples=64, support_floor=0.1,
    )  # fmt: skip

    def row(**schedule: int) -> Estimate:
        train = TRAIN.model_copy(update={"lrm": TRAIN.lrm.model_copy(update=schedule)})
        preset = Preset(DIFFUSION, train, RENDER, params)
        *_, network = preset.networks()
        assert network.name == preset.names[-1] == "lrm"
        return estimate(network, Costs("fp32").of(network), TRAIN.loop, find_gpu("H100"), 0.5)

    one = row(steps=10, batch=2, micro_batch=2, pieces=1)
    assert one.gpu_hours == pytest.approx(10 * one.flops / (66.9e12 * 0.5) / 3600)
    assert one.activations > 0
    two, three = (row(steps=10, batch=2, micro_batch=2, pieces=pieces).flops for pieces in (2, 3))
    assert three - two == two - one.flops > 0, "as many rays more"
    assert row(steps=20, batch=4, micro_batch=2, pieces=1).gpu_hours == pytest.approx(4 * one.gpu_hours)


@pytest.mark.slow
def test_the_joint_model_is_planned_too() -> None:
    params = ReconstructionParams(
        volume=8, channels=8, mlp_layers=3, mlp_width=8, ray_harmonics=0, gain=1.0, opacity_bias=-5.0, stride=4,
        encoder=ResidualParams(widths=[8], blocks=1), prior=4, refinement=ResidualParams(widths=[8], blocks=1),
        refinement_stride=1, hull=False, splat_samples=8, samples=8, crop=8, chunk_samples=64, support_floor=0.1,
    )  # fmt: skip

    def row(parts: int) -> Estimate:
        schedule = TRAIN.lrm_joint.model_copy(update={"parts": parts})
        preset = Preset(DIFFUSION, TRAIN.model_copy(update={"lrm_joint": schedule}), RENDER, params)
        networks = {network.name: network for network in preset.networks()}
        assert tuple(networks) == preset.names
        joint, lrm = (
            sum(weight.numel() for weight in networks[name].module.parameters()) for name in ("lrm_joint", "lrm")
        )
        assert joint - lrm == 8 * (8 + 2) * 27, "what looks at the others"
        network = networks["lrm_joint"]
        return estimate(network, Costs("fp32").of(network), TRAIN.loop, find_gpu("H100"), 0.5)

    two, three, four = (row(parts).flops for parts in (2, 3, 4))
    assert four - three == three - two > 0, "as much for each part"
    assert two > four - two, "and something for the whole"


def test_the_gaussians_model_is_planned_too() -> None:
    params = GaussiansParams(
        stride=2, unet=ResidualParams(widths=[8, 16], blocks=1), attention=[False, True], head_channels=8, hull=16,
        least_scale=0.2, most_scale=4.0, finer=2,
    )  # fmt: skip
    preset = Preset(DIFFUSION, TRAIN, RENDER, gaussians=params)
    *_, network = preset.networks()
    assert network.name == preset.names[-1] == "gaussians"
    assert count(network.module.parameters()) == count(build_gaussians(params, RENDER).parameters())
    planned_for = estimate(network, Costs("fp32").of(network), TRAIN.loop, find_gpu("H100"), 0.5)
    assert planned_for.shape == (4, 64, 64)
    assert planned_for.flops > 0 < planned_for.activations


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a preset of its own, `tiny`, in force."""
    values = read_yaml(NANO)
    values |= {group.name: group.model_dump() for group in (DIFFUSION, TRAIN, RENDER)}
    (tmp_path / "presets").mkdir()
    for name in ("presets/tiny.yaml", "params.yaml"):
        (tmp_path / name).write_text(yaml.safe_dump(values))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_the_tables_name_every_network(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan("tiny", "rtx-4090", gpus=3, objects=140_000)
    printed = " ".join(capsys.readouterr().out.split())
    assert all(printed.count(f" {name} ") >= 2 for name in ("autoencoder", *TASKS))
    assert "35% of the RTX 4090's 83 TFLOP/s in fp32" in printed
    assert "The batch is no multiple of micro batch x 3 GPUs" in printed
    assert "Data half, 140,000 objects" in printed
    assert "render: not measured with render.view_size=32" in printed


def test_mistakes_are_named(project: Path) -> None:
    with pytest.raises(UserError, match=r"no preset `tinny` \(did you mean `tiny`\?\)"):
        plan("tinny", "H100")
    with pytest.raises(UserError, match=r"no GPU `H1000` in the table.*A100, H100, H200, RTX 4090, L40S"):
        plan("tiny", "H1000")
    with pytest.raises(UserError, match="utilisation is 35"):
        plan("tiny", "H100", utilisation=35)
    (project / "params.yaml").unlink()  # so that it is no project any more
    with pytest.raises(UserError, match=r"no preset `tiny`; the presets are corpus, nano, paper, sd"):
        plan("tiny", "H100")


def test_presets_state_a_layout_that_can_be_planned() -> None:
    # The numbers of a full-size network, without its memory; the whole plan takes longer than a test may.
    path = PROJECT / "presets/paper.yaml"
    diffusion, render = load_group(DiffusionParams, path=path), load_group(RenderParams, path=path)
    preset = Preset(diffusion, load_group(TrainParams, path=path), render)
    segment = preset.denoiser(find_task("segment"))
    assert segment.shape == (16, 128, 128)
    assert count(segment.module.parameters()) > 2e9


@pytest.mark.parametrize(("preset", "said"), [("paper", True), ("sd", False), ("corpus", False), ("nano", False)])
def test_fine_tuning_of_random_weights_is_said(preset: str, said: bool) -> None:
    path = PROJECT / f"presets/{preset}.yaml"
    train = load_group(TrainParams, path=path)
    notes = _from_nothing(load_group(DiffusionParams, path=path), train)
    assert ["text_to_mv cannot be trained so:[/] it starts from random" in note for note in notes] == [True] * said
    assert not _from_nothing(load_group(DiffusionParams, ["diffusion.checkpoint=models/emu"], path), train)


def test_models_of_others_are_planned_where_they_are_named() -> None:
    assert not list(inferences(load_group(ReconstructParams, path=NANO)))
    named = ["reconstruct.lgm=a.safetensors", "reconstruct.instantmesh=b.ckpt"]
    lgm, instantmesh = inferences(load_group(ReconstructParams, named, NANO))
    assert (lgm.name, lgm.parameters, lgm.views) == ("lgm", 415_042_848, 256)
    assert lgm.flops == pytest.approx(1.78e12, rel=0.01)
    assert (instantmesh.parameters, instantmesh.weights) == (378_477_332, 4 * 378_477_332)
    with pytest.raises(UserError, match=r"reconstruct\.grm is nowhere\.pth, where there is no file"):
        list(inferences(load_group(ReconstructParams, ["reconstruct.grm=nowhere.pth"], NANO)))
