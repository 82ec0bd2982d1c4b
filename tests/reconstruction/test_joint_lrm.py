"""The joint reconstruction model: what it is without others, that order does not matter, and what it looks at."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pipeline.errors import UserError
from pipeline.params.base import load_group
from pipeline.params.reconstruct import ReconstructParams
from pipeline.params.reconstruction import ReconstructionParams
from pipeline.params.render import RenderParams
from pipeline.reconstruction.field import Decoder, Field
from pipeline.reconstruction.joint_lrm import OTHERS, JointLRM, joint_of, load_joint_lrm, others_opacity
from pipeline.reconstruction.joint_objective import overlap
from pipeline.reconstruction.lrm import LRM, build_lrm, load_lrm
from pipeline.reconstruction.reconstructor import LearnedTogether, find_reconstructor
from pipeline.views.cameras import CAMERA_KEYS

TINY = ReconstructionParams.model_validate(
    {
        "volume": 8, "channels": 8, "mlp_layers": 2, "mlp_width": 8, "ray_harmonics": 0, "gain": 2.0,
        "opacity_bias": 0.0, "stride": 2, "encoder": {"widths": [8, 8], "blocks": 1}, "prior": 4,
        "refinement": {"widths": [8, 8], "blocks": 1}, "refinement_stride": 2, "hull": True, "splat_samples": 8,
        "samples": 12, "crop": 8, "chunk_samples": 4000, "support_floor": 0.5,
    }
)  # fmt: skip
RENDER = load_group(RenderParams, path=Path("presets/nano.yaml")).model_copy(update={"view_size": 16})
PARTS = 4


def stirred(model: LRM) -> LRM:
    """With a refinement that does something, as after a training."""
    generator = torch.Generator().manual_seed(1)
    for weight in model.refinement.parameters():
        weight.data += 0.1 * torch.randn(weight.shape, generator=generator)
    return model.eval()


@pytest.fixture(scope="module")
def lrm() -> LRM:
    torch.manual_seed(0)
    return stirred(build_lrm(TINY, RENDER))


@pytest.fixture(scope="module")
def joint(lrm: LRM) -> JointLRM:
    """As after a training: its look at others is not zero."""
    model = joint_of(lrm)
    generator = torch.Generator().manual_seed(2)
    weight = model.state_dict()["refinement.context.weight"]
    weight += 0.1 * torch.randn(weight.shape, generator=generator)
    return model.eval()


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def drawn(seed: int, parts: int = PARTS) -> tuple[Tensor, Tensor]:
    """Grids of discs of chance, and that of a whole."""
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(*[torch.linspace(-1, 1, 16)] * 2, indexing="ij")
    grids = torch.ones(parts + 1, 3, 32, 32)
    for grid in grids:
        radius, colour = 0.3 + 0.4 * torch.rand(1, generator=generator), torch.rand(3, 1, 1, generator=generator)
        grid.copy_(torch.where((x**2 + y**2 < radius**2).tile(2, 2), colour, grid))
    return grids[:-1], grids[-1]


def test_it_starts_as_the_model_that_it_is_made_of(lrm: LRM) -> None:
    parts, whole = drawn(0)
    for given_whole in (None, whole):
        torch.testing.assert_close(joint_of(lrm).volumes(parts, given_whole), lrm.volumes(parts))


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=10, deadline=None)
def test_one_part_without_a_whole_is_the_old_model_exactly(lrm: LRM, joint: JointLRM, seed: int) -> None:
    parts, _ = drawn(seed, 1)
    assert torch.equal(joint.volumes(parts), lrm.volumes(parts))


@given(st.integers(0, 2**32 - 1), st.permutations(range(PARTS)), st.booleans())
@settings(max_examples=10, deadline=None)
def test_the_order_of_the_parts_does_not_matter(joint: JointLRM, seed: int, order: list[int], known: bool) -> None:
    parts, whole = drawn(seed)
    made = joint.volumes(parts, whole if known else None)
    torch.testing.assert_close(joint.volumes(parts[order], whole if known else None), made[order], rtol=1e-4, atol=1e-4)


def test_a_part_depends_on_all_others_and_on_the_whole(joint: JointLRM) -> None:
    parts, whole = drawn(3)
    made = joint.volumes(parts, whole)
    _, other_whole = drawn(4)
    for changed in range(PARTS):
        some = parts.clone()
        some[changed, :, 4:28, 4:28] = 0.5  # most of it is full
        moved = (joint.volumes(some, whole) - made).abs().amax(dim=(1, 2, 3, 4))
        assert (moved > 1e-4).all(), f"part {changed} matters to every part"
    moved = (joint.volumes(parts, other_whole) - made).abs().amax(dim=(1, 2, 3, 4))
    assert (moved > 1e-4).all()
    assert not torch.equal(joint.volumes(parts), made), "no whole is something else than this one"


@given(st.integers(1, 5), st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_the_opacity_of_the_others_is_what_a_loop_finds(parts: int, seed: int) -> None:
    torch.manual_seed(seed)
    decoder, volumes = Decoder(8, 8, 2, gain=5.0, bias=0.0), torch.randn(parts, 8, 3, 3, 3)
    found = others_opacity(volumes, decoder)
    assert found.shape == (parts, OTHERS, 3, 3, 3)
    for part in range(parts):
        others = [
            1 - torch.exp(-decoder.sigma(volume.flatten(1).t()).view(3, 3, 3) * 2 / 3)
            for number, volume in enumerate(volumes)
            if number != part
        ]
        stack = torch.stack(others) if others else torch.zeros(1, 3, 3, 3)
        torch.testing.assert_close(found[part, 0], stack.sum(dim=0))
        torch.testing.assert_close(found[part, 1], stack.amax(dim=0))


def test_it_survives_its_files_and_is_chosen_by_the_params(joint: JointLRM, lrm: LRM, tmp_path: Path) -> None:
    joint.save_pretrained(tmp_path / "lrm_joint")
    parts, whole = drawn(5)
    torch.testing.assert_close(
        load_joint_lrm(tmp_path / "lrm_joint").volumes(parts, whole), joint.volumes(parts, whole)
    )
    chosen = load_group(ReconstructParams, ["reconstruct.reconstructor=lrm_joint"], path=Path("presets/nano.yaml"))
    settings = {key: getattr(RENDER, key) for key in CAMERA_KEYS}
    found = find_reconstructor(chosen, TINY, tmp_path, settings)
    assert isinstance(found, LearnedTogether)
    made = found.fields(torch.cat((parts[:1], torch.ones_like(parts[:1]), parts[1:])), whole)
    assert [field.is_empty for field in made] == [False, True, False, False, False], "an empty grid is no part"
    expected = joint.volumes(parts, whole)
    for field, volume in zip([made[0], *made[2:]], expected, strict=True):
        torch.testing.assert_close(field.volume_CDHW, volume)
    with pytest.raises(
        UserError, match=r"nowhere/lrm_joint holds no reconstruction model; run the stage `train_lrm_joint`"
    ):
        find_reconstructor(chosen, TINY, tmp_path / "nowhere", settings)
    assert isinstance(load_lrm(tmp_path / "lrm_joint", JointLRM), JointLRM)


def test_the_overlap_is_the_share_that_two_parts_claim() -> None:
    decoder = Decoder(4, 8, 2, gain=1.0)

    def slab(first: int, end: int, sigma: float) -> Field:
        """Opaque between two planes of eight cells along x."""
        volume = torch.zeros(4, 8, 8, 8)
        volume[0, :, :, first:end] = sigma
        return Field(volume, decoder)

    decoder.sigma = lambda features_MC: features_MC[:, 0]  # type: ignore[method-assign]
    points = torch.stack(torch.meshgrid(*[(torch.arange(8) + 0.5) / 4 - 1] * 3, indexing="ij"), dim=-1).view(-1, 3)
    left, right, all_of_it = slab(0, 4, 1e3), slab(4, 8, 1e3), slab(0, 8, 1e3)
    assert float(overlap([left, right], points)) == 0
    assert float(overlap([left], points)) == 0
    assert float(overlap([left, left], points)) == pytest.approx(1 / 2, rel=1e-3)
    assert float(overlap([all_of_it, right], points)) == pytest.approx(1 / 4, rel=1e-3)
    assert float(overlap([slab(0, 8, 1e-3)] * 2, points)) < 1e-3, "haze is no claim"
    assert float(overlap([slab(0, 0, 0.0)] * 2, points)) == 0
