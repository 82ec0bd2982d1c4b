"""The reconstruction model: sizes, files, full size without memory, and that it learns."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.errors import UserError
from pipeline.params.base import load_group
from pipeline.params.reconstruction import ReconstructionParams
from pipeline.params.render import RenderParams
from pipeline.reconstruction.carving import Carver
from pipeline.reconstruction.lrm import LRM, build_lrm, example_inputs
from pipeline.reconstruction.rays import split_views, stacked, view_rays
from pipeline.views.cameras import Camera, untile

TINY: dict[str, Any] = {
    "volume": 8,
    "channels": 8,
    "mlp_layers": 2,
    "mlp_width": 8,
    "ray_harmonics": 1,
    "gain": 1.0,
    "opacity_bias": -3.0,
    "stride": 2,
    "encoder": {"widths": [8, 8], "blocks": 1},
    "prior": 4,
    "refinement": {"widths": [8, 8], "blocks": 1},
    "refinement_stride": 1,
    "hull": False,
    "splat_samples": 8,
    "samples": 12,
    "crop": 8,
    "chunk_samples": 4000,
    "support_floor": 0.5,
}
PAPER = TINY | {
    "volume": 128,
    "channels": 32,
    "mlp_layers": 3,
    "mlp_width": 32,
    "stride": 4,
    "encoder": {"widths": [64, 128], "blocks": 1},
    "refinement": {"widths": [32, 64], "blocks": 1},
    "splat_samples": 128,
    "samples": 128,
    "crop": 128,
    "chunk_samples": 2**21,
}


def params(values: dict[str, Any], preset: str = "nano", **render: Any) -> tuple[ReconstructionParams, RenderParams]:
    views = load_group(RenderParams, path=Path(f"presets/{preset}.yaml"))
    return ReconstructionParams.model_validate(values), views.model_copy(update=render)


@pytest.fixture
def tiny() -> LRM:
    torch.manual_seed(0)
    return build_lrm(*params(TINY, view_size=16))


def test_views_are_split_as_everywhere() -> None:
    grid = np.random.default_rng(0).random((6, 8, 3))
    views = split_views(torch.from_numpy(grid).permute(2, 0, 1)[None])
    np.testing.assert_array_equal(views[0].permute(0, 2, 3, 1), untile(grid))


def test_a_step_reaches_every_weight_and_every_pixel(tiny: LRM) -> None:
    for weight in (tiny.refinement.last.weight, tiny.decoder.ray.weight):  # type: ignore[union-attr]
        torch.nn.init.normal_(weight, std=0.1)  # the first starts at zero and holds back what is below it
    inputs = example_inputs(*params(TINY, view_size=16), batch=2, device="cpu")
    grids = inputs["grids_B3HW"].mul_(0.5).requires_grad_()
    seen = tiny(**inputs)
    assert seen.colour.shape == (2, 64, 3)
    assert seen.shares.shape == (2, 64, 1)
    (seen.colour.square().sum() + seen.depth.sum()).backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in tiny.parameters())
    assert grids.grad is not None
    assert all(view.any() for view in split_views(grids.grad)[0])


def test_a_grid_of_another_size_is_refused(tiny: LRM) -> None:
    with pytest.raises(UserError, match="3 x 64 x 64; this model reads 3 x 32 x 32"):
        tiny.fields(torch.ones(1, 3, 64, 64))


def test_sizes_that_do_not_halve_are_refused() -> None:
    with pytest.raises(UserError, match="multiple of 4"):
        build_lrm(*params(TINY, view_size=18))
    with pytest.raises(ValueError, match="volume 7 is no multiple of 2"):
        ReconstructionParams.model_validate(TINY | {"volume": 7})
    with pytest.raises(ValueError, match="volume 10 is no multiple of 4"):
        ReconstructionParams.model_validate(TINY | {"volume": 10, "refinement_stride": 2})
    with pytest.raises(ValueError, match="hull needs 4 channels and an mlp_width of 8, not 8 and 4"):
        ReconstructionParams.model_validate(TINY | {"hull": True, "mlp_width": 4})


def test_the_model_survives_its_files(tiny: LRM, tmp_path: Path) -> None:
    tiny.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "diffusion_pytorch_model.safetensors"}
    grids = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(LRM.from_pretrained(tmp_path).volumes(grids), tiny.volumes(grids))


def test_untrained_it_is_the_visual_hull(tiny: LRM) -> None:
    """Values and opacity are those of carving at the volume's resolution; its random weights take no part."""
    torch.manual_seed(0)
    lrm = build_lrm(*params(TINY | {"hull": True, "gain": 2.0, "opacity_bias": 0.0}, view_size=16))
    ball = torch.from_numpy(np.add.outer(*[np.linspace(-1, 1, 16) ** 2] * 2) < 0.3)
    view = torch.where(ball, torch.tensor([1.0, 0.1, 0.1])[:, None, None], 1.0)
    grids = view.tile(1, 2, 2)[None]
    (carved,) = Carver(Camera(40.0, 3.1, 16), 20.0, 8, gain=2.0).fields(grids)
    (made,) = lrm.fields(grids)
    points = torch.rand(500, 3) * 2 - 1
    directions = torch.nn.functional.normalize(torch.randn(500, 3), dim=1)
    sigma, colour = made.evaluate(points, directions)
    expected_sigma, expected_colour = replace(carved, support_DHW=None).evaluate(points, directions)
    assert expected_sigma.max() > 10
    torch.testing.assert_close(sigma, expected_sigma)
    torch.testing.assert_close(colour, expected_colour)
    (colour.sum() + sigma.sum()).backward()
    assert lrm.refinement.last.weight.grad.any()  # type: ignore[union-attr]


def test_full_size_runs_without_data() -> None:
    with torch.device("meta"):
        lrm = build_lrm(*params(PAPER, "paper"))
    inputs = example_inputs(*params(PAPER, "paper"), batch=1, device="meta")
    assert lrm.volumes(inputs["grids_B3HW"]).shape == (1, 32, 128, 128, 128)
    seen = lrm(**inputs)
    assert seen.colour.shape == (1, 128 * 128, 3)
    seen.colour.sum().backward()
    assert all(weight.grad is not None and weight.grad.is_meta for weight in lrm.parameters())


@pytest.mark.slow
def test_it_learns_to_tell_two_objects_apart(tiny: LRM) -> None:
    """A red and a blue ball, told from their grids, seen from a view between those of the grid."""
    camera = Camera(40.0, 3.1, 16)
    nearest = np.linspace(-1, 1, 16) ** 2
    ball = torch.from_numpy(np.add.outer(nearest, nearest) < 0.3)
    colours = torch.tensor([[1.0, 0.1, 0.1], [0.1, 0.1, 1.0]])
    views = torch.where(ball, colours[:, :, None, None], 1.0)
    rays = stacked([view_rays(camera, 45.0, 20.0).flat()] * 2)
    expected = views.flatten(2).transpose(1, 2)
    optimiser = torch.optim.Adam(tiny.parameters(), lr=0.02)
    losses = []
    for _ in range(45):
        loss = (tiny(views.tile(2, 2), rays).colour - expected).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    blind = (expected.mean(dim=0) - expected).square().mean().item()  # what the grids' mean alone would reach
    assert losses[-1] < 0.25 * blind
