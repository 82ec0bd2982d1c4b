"""A gaussian for each pixel: its geometry without a network, what the untrained network makes, and mistakes."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline.applications.models import Models
from pipeline.errors import UserError
from pipeline.params.base import load_group, validate
from pipeline.params.gaussians import GaussiansParams
from pipeline.params.reconstruct import ReconstructParams
from pipeline.params.reconstruction import ReconstructionParams
from pipeline.params.render import RenderParams
from pipeline.reconstruction.carving import Carver, silhouettes
from pipeline.reconstruction.gaussians import Gaussians
from pipeline.reconstruction.others import Splatted
from pipeline.reconstruction.pixel_gaussians import (
    VALUES,
    PixelGaussians,
    PixelSplats,
    build_gaussians,
    load_gaussians_model,
)
from pipeline.reconstruction.rays import split_views
from pipeline.reconstruction.reconstructor import Reconstructor, find_reconstructor
from pipeline.reconstruction.splats import draw_views
from pipeline.reconstruction.views_unet import ViewsAttention
from pipeline.views.cameras import GRID_AZIMUTHS, camera_to_world
from tests.reconstruction.test_carving import SETTINGS, ball_grid
from tests.reconstruction.test_others import CAMERA, ELEVATION_DEG, hits, middles, on_the_balls, scene_grid

NANO = Path(__file__).parents[2] / "presets/nano.yaml"
RENDER = load_group(RenderParams, path=NANO)
PARAMS = load_group(GaussiansParams, path=NANO)
OVERRIDES = ["reconstruct.reconstructor=gaussians", "reconstruct.bake_resolution=24"]
TINY: dict[str, Any] = {
    "stride": 2, "unet": {"widths": [8, 16], "blocks": 1}, "attention": [False, True], "head_channels": 8, "hull": 16,
}  # fmt: skip


def tiny(view_size: int = 32, **changes: Any) -> PixelGaussians:
    params = validate(GaussiansParams, {**PARAMS.model_dump(), **TINY, **changes}, "gaussians")
    torch.manual_seed(0)
    return build_gaussians(params, RENDER.model_copy(update={"view_size": view_size})).eval()


def true_gaussians(model: PixelGaussians, grid: Tensor) -> Gaussians:
    """Those of the true depths of the scene of `scene_grid`, in the colours of a grid."""
    points, _, _, which = hits(middles(CAMERA.size), CAMERA.fov_deg, CAMERA.distance)
    poses = [camera_to_world(azimuth, ELEVATION_DEG, CAMERA.distance) for azimuth in GRID_AZIMUTHS]
    eyes = torch.tensor([pose[:3, 3].tolist() for pose in poses])[:, None, None]
    shown = model.shown(grid[None])
    least, most, start = shown.ends_B3VHW[0]

    def logit(distance: Tensor) -> Tensor:
        return ((distance - least) / (most - least)).clamp(0.01, 0.99).logit()

    distances = (points - eyes).norm(dim=-1)
    inside = (distances >= least) & (distances <= most)
    assert inside[which >= 0].float().mean() > 0.99
    values = torch.zeros(1, 4, sum(VALUES.values()), CAMERA.size, CAMERA.size)
    values[0, :, 0] = logit(distances) - logit(start)
    return model.gaussians(values, shown)[0]


@pytest.mark.parametrize("hull", [0, 64])
def test_true_depths_come_back_where_they_were(hull: int) -> None:
    grid, model = scene_grid(), tiny(CAMERA.size, hull=hull)
    found = true_gaussians(model, grid)
    assert len(found) == (grid[3] > 0).sum()
    assert on_the_balls(found) > 0.95
    poses = [camera_to_world(azimuth, ELEVATION_DEG, CAMERA.distance) for azimuth in (*GRID_AZIMUTHS, 45.0)]
    *views, between = draw_views(found, poses, CAMERA.fov_deg, CAMERA.size, 2 * CAMERA.size)
    true = split_views(grid[None])[0]
    drawn = torch.stack([view.colour_HW3.movedim(-1, 0) for view in views])
    assert -10 * math.log10((drawn - true[:, :3]).square().mean()) > 18
    assert ((torch.stack([view.alpha_HW for view in views]) > 0.5) == (true[:, 3] > 0.5)).float().mean() > 0.96
    assert 0.05 < between.alpha_HW.mean() < 0.3
    half, swapped = CAMERA.size, grid.clone()
    swapped[:, :half, :half], swapped[:, :half, half:] = grid[:, :half, half:], grid[:, :half, :half]
    if not hull:  # that of silhouettes which do not belong together does not hold the true depths
        assert on_the_balls(true_gaussians(model, swapped)) < 0.8


def test_untrained_they_lie_on_the_front_of_the_hull_in_the_pixels_colours() -> None:
    model, grid = tiny(hull=32), ball_grid()
    found = PixelSplats(model).gaussians(grid)
    outlines = silhouettes(split_views(grid[None])[0])
    surface = model.carver.surface(outlines) if model.carver else outlines
    clear = outlines[outlines > 0] == 1
    front = surface[outlines > 0][clear]
    assert front.isfinite().all(), "rays well within the outlines meet the hull"
    assert (found.centres_N3[clear] - front).norm(dim=1).max() < 0.02
    colours = split_views(grid[None])[0, :, :3].movedim(1, -1)[outlines > 0]
    torch.testing.assert_close(found.colours_N3[clear], colours[clear], atol=0.003, rtol=0)
    assert (found.opacities_N[clear] > 0.9).all()
    assert found.centres_N3.isfinite().all(), "at the outlines, too, where rays miss the hull"
    pixel = 2 * math.tan(math.radians(20)) / 32 * 3.1
    assert 0.3 * pixel < found.scales_N3.min() < found.scales_N3.max() < pixel
    torch.testing.assert_close(found.rotations_N4.norm(dim=1), torch.ones(len(found)))


def test_bounds_hold_whatever_the_network_says() -> None:
    model, grid = tiny(hull=32), ball_grid()
    shown = model.shown(grid[None])
    generator = torch.Generator().manual_seed(1)
    values = 30 * torch.randn(1, 4, sum(VALUES.values()), 32, 32, generator=generator)
    (found,) = model.gaussians(values, shown)
    config: Any = model.config
    pixel = 2 * math.tan(math.radians(20)) / 32
    assert found.centres_N3.norm(dim=1).max() < 1.2
    assert (found.scales_N3 >= 0.9 * config.least_scale * 2 * pixel).all()
    assert (found.scales_N3 <= config.most_scale * 4.2 * pixel).all()
    for values_N in (found.opacities_N, found.colours_N3):
        assert ((values_N >= 0) & (values_N <= 1)).all()
    torch.testing.assert_close(found.rotations_N4.norm(dim=1), torch.ones(len(found)))


def test_the_hulls_span_begins_at_its_surface() -> None:
    carver, outlines = Carver(CAMERA, ELEVATION_DEG, 32), silhouettes(split_views(scene_grid()[None])[0])
    front, back = carver.span(outlines)
    surface = carver.surface(outlines)
    known = ~front.isnan()
    assert torch.equal(known, ~surface[..., 0].isnan() & (outlines > 0))
    eyes = carver.poses_V44[:, None, None, :3, 3]
    torch.testing.assert_close(front[known], (surface - eyes).norm(dim=-1)[known], atol=1e-4, rtol=0)
    assert (back[known] >= front[known]).all()
    assert back[known].max() < 3.1 + 1.01


def test_views_see_each_other_where_they_attend() -> None:
    attention = ViewsAttention(16, 8)
    values = torch.randn(8, 16, 4, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(attention(values), values), "it starts as the identity"
    torch.nn.init.normal_(attention.last.weight)
    other = values.clone()
    other[3] += torch.randn(16, 4, 4, generator=torch.Generator().manual_seed(1))
    changed = (attention(values) - attention(other)).abs().amax(dim=(1, 2, 3)) > 1e-4
    assert changed.tolist() == [True] * 4 + [False] * 4, "the views of one object, and no others"


def find(model: Path, settings: dict[str, Any], **changes: Any) -> Reconstructor:
    groups = load_group(ReconstructParams, OVERRIDES, NANO), load_group(ReconstructionParams, path=NANO)
    return find_reconstructor(*groups, model, {**settings, **changes})


def test_the_reconstructor_reads_what_was_saved(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"holds no model of gaussians; take that of weights/nano .*, or train one by `partgen stage"
    ):
        find(tmp_path, SETTINGS)
    model, grid = tiny(), ball_grid()
    torch.nn.init.normal_(model.network.last.weight, std=0.1)
    model.save_pretrained(tmp_path / "gaussians")
    found = find(tmp_path, SETTINGS)
    assert isinstance(found, Splatted)
    expected, again = PixelSplats(model).gaussians(grid), found.gaussians(grid)
    torch.testing.assert_close(again.centres_N3, expected.centres_N3)
    torch.testing.assert_close(again.colours_N3, expected.colours_N3)
    nothing, field = found.fields(torch.stack((torch.ones_like(grid[:3]), grid[:3])))
    assert nothing.is_empty
    assert field.gaussians is not None
    inside = field.opacity(torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.95, 0.0]]))
    assert len(field.cells()) > 100
    assert inside[1] < 1
    networks = Models(tmp_path, RENDER.model_copy(update={"view_size": 32}))  # as the applications find it
    params = load_group(ReconstructParams, OVERRIDES, NANO)
    of_applications = networks.reconstructor(params, load_group(ReconstructionParams, path=NANO))
    torch.testing.assert_close(of_applications.fields(grid[None, :3])[0].volume_CDHW, field.volume_CDHW)
    assert list(networks.reconstructing(params)) == ["gaussians"]
    with pytest.raises(UserError, match=r"was trained for fov_deg 40, but the grids have 30; .* `train_gaussians`"):
        find(tmp_path, SETTINGS, fov_deg=30.0)
    with pytest.raises(
        UserError, match=r"A grid is 3 x 32 x 32; this model reads 3 or 4 x 64 x 64: 2x2 views of 32 px"
    ):
        model.shown(torch.ones(1, 3, 32, 32))
    (tmp_path / "gaussians/config.json").write_text("{}")
    with pytest.raises(UserError, match="holds no model of gaussians that can be read"):
        load_gaussians_model(tmp_path / "gaussians")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"attention": [True]}, "attention has 1 values for the 2 resolutions of unet"),
        ({"head_channels": 12}, "16 channels are no multiple of head_channels, 12"),
        ({"least_scale": 4.0}, "least_scale 4 is not below most_scale 4"),
        ({"stride": 3}, r"view_size is 32; gaussians.stride and gaussians.unet need a multiple of 6"),
    ],
)
def test_mistakes_are_one_sentence(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        tiny(**changes)
