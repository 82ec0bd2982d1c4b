"""Attention among the parts of one object: what it starts from, and what it knows of whom."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from pipeline.diffusion.conditioning import rows_of
from pipeline.diffusion.denoiser import Conditions, predict
from pipeline.diffusion.models import start_model, started_from
from pipeline.diffusion.part_attention import PartAttention
from pipeline.diffusion.tasks import TASKS
from pipeline.diffusion.unet import MultiViewUNet, fine_tuned_from, load_unet
from tests.diffusion.test_unet import NANO, TEXT_WIDTH, C, params, tiny

PARTS = 7
WEIGHTS = Path(__file__).parents[2] / "weights/nano"


def inputs(channels: int = C, width: int = TEXT_WIDTH, side: int = 8) -> tuple[Tensor, Tensor, Conditions]:
    """Noised latents, timesteps and conditions of `complete` for PARTS samples, of no object."""
    generator = torch.Generator().manual_seed(0)
    text_BLD = torch.randn(1, 5, width, generator=generator).expand(PARTS, -1, -1)
    stacked_BKHW = torch.randn(PARTS, 2 * channels + 1, side, side, generator=generator)
    noised_BCHW = torch.randn(PARTS, channels, side, side, generator=generator)
    return noised_BCHW, torch.full((PARTS,), 500), Conditions(text_BLD, stacked_BKHW=stacked_BKHW)


def of(conditions: Conditions, objects: list[int]) -> Conditions:
    return replace(conditions, objects_B=torch.tensor(objects))


def trained(unet: MultiViewUNet) -> MultiViewUNet:
    """With weights in the place of the zeros, as after a training."""
    for module in unet.modules():
        if isinstance(module, PartAttention):
            nn.init.normal_(module.to_out.weight, std=0.5)
    return unet.eval()


@torch.no_grad()
def prediction(unet: MultiViewUNet, conditions: Conditions, rows: Tensor | None = None) -> Tensor:
    noised_BCHW, timesteps_B, _ = inputs()
    rows = torch.arange(PARTS) if rows is None else rows
    return predict(unet, noised_BCHW[rows], timesteps_B[rows], rows_of(conditions, rows))


def test_it_starts_as_complete() -> None:
    base, (*_, conditions) = tiny("complete"), inputs()
    joint = fine_tuned_from(base, TASKS["complete_joint"], params()).eval()
    assert torch.equal(prediction(joint, of(conditions, [0] * PARTS)), prediction(base, conditions))
    assert len([module for module in joint.modules() if isinstance(module, PartAttention)]) == 4


def test_a_part_alone_is_as_complete_draws_it_whatever_the_weights() -> None:
    base, (*_, conditions) = tiny("complete"), inputs()
    joint = trained(fine_tuned_from(base, TASKS["complete_joint"], params()))
    assert torch.equal(prediction(joint, of(conditions, list(range(PARTS)))), prediction(base, conditions))
    together = prediction(joint, of(conditions, [3, 3, 3, 1, 2, 2, 2]))
    changed = (together - prediction(base, conditions)).abs().amax(dim=(1, 2, 3))
    assert changed[3] == 0
    assert (changed[[0, 1, 2, 4, 5, 6]] > 1e-3).all()


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(PARTS)), st.lists(st.integers(0, 3), min_size=PARTS, max_size=PARTS))
def test_the_order_of_the_parts_is_of_no_account(order: list[int], objects: list[int]) -> None:
    joint, rows = trained(tiny("complete_joint")), torch.tensor(order)
    conditions = of(inputs()[2], objects)
    torch.testing.assert_close(
        prediction(joint, conditions, rows), prediction(joint, conditions)[rows], atol=1e-4, rtol=1e-4
    )


def test_objects_know_nothing_of_each_other() -> None:
    joint, conditions = trained(tiny("complete_joint")), of(inputs()[2], [0, 0, 0, 1, 1, 1, 1])
    both = prediction(joint, conditions)
    for rows in (torch.arange(3), torch.arange(3, PARTS)):
        torch.testing.assert_close(prediction(joint, conditions, rows), both[rows], atol=1e-4, rtol=1e-4)
    fewer = prediction(joint, conditions, torch.arange(2))
    assert (fewer - both[:2]).abs().max() > 1e-3


def test_guidance_keeps_both_halves_apart() -> None:
    *_, conditions = inputs()
    null = Conditions(conditions.text_BLD[:1])
    some = of(conditions, [0, 0, 0, 1, 1, 2, 0])
    both = some.dropped(torch.ones(PARTS, dtype=torch.bool), null).joined(some).objects_B
    assert both is not None
    assert not set(both[:PARTS].tolist()) & set(both[PARTS:].tolist())
    assert torch.equal(both[:PARTS, None] == both[:PARTS], both[PARTS:, None] == both[PARTS:])


def test_it_learns() -> None:
    joint, (noised_BCHW, timesteps_B, conditions) = tiny("complete_joint").train(), inputs()
    added = {name: value for name, value in joint.named_parameters() if ".processor." in name}
    assert {name.rpartition(".processor.")[2] for name in added} == {
        f"to_{name}.weight" for name in ("q", "k", "v", "out")
    }
    optimiser = torch.optim.SGD(joint.parameters(), lr=0.1)
    gradients = []
    for _ in range(2):
        optimiser.zero_grad()
        predict(joint, noised_BCHW, timesteps_B, of(conditions, [0] * PARTS)).square().mean().backward()
        gradients.append({name for name, value in added.items() if value.grad is not None and value.grad.any()})
        optimiser.step()
    assert gradients == [{name for name in added if "to_out" in name}, set(added)]


def test_saving_and_loading_change_nothing(tmp_path: Path) -> None:
    joint, conditions = trained(tiny("complete_joint")), of(inputs()[2], [0] * PARTS)
    joint.save_pretrained(tmp_path)
    loaded = load_unet(tmp_path).eval()
    assert loaded.config.part_attention
    assert "part_attention" not in tiny("complete").config
    assert torch.equal(prediction(loaded, conditions), prediction(joint, conditions))


def test_objects_must_be_said() -> None:
    with pytest.raises(ValueError, match="needs `objects`"):
        prediction(tiny("complete_joint"), inputs()[2])


def test_the_shipped_complete_is_where_it_starts(tmp_path: Path) -> None:
    task = TASKS["complete_joint"]
    (tmp_path / "complete").symlink_to(WEIGHTS / "complete")
    assert started_from(task, str(tmp_path)) == tmp_path / "complete"
    assert started_from(TASKS["edit"], str(tmp_path)) == tmp_path / "edit"
    model = start_model(task, NANO, WEIGHTS, 128, str(tmp_path))
    base = load_unet(WEIGHTS / "complete/unet").eval()
    noised_BCHW, timesteps_B, conditions = inputs(8, base.config.cross_attention_dim, 32)
    with torch.no_grad():
        alone = predict(base, noised_BCHW, timesteps_B, conditions)
        joint = predict(model.unet.eval(), noised_BCHW, timesteps_B, of(conditions, [0] * PARTS))
    assert torch.equal(joint, alone)
    (tmp_path / "complete_joint").mkdir()
    assert started_from(task, str(tmp_path)) == tmp_path / "complete_joint"
