"""Visual hulls of bodies whose outlines are known, and both reconstructors by their one interface."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.errors import UserError
from pipeline.params.base import load_group
from pipeline.params.reconstruct import ReconstructParams
from pipeline.params.reconstruction import ReconstructionParams
from pipeline.params.render import RenderParams
from pipeline.reconstruction.carving import Carver, silhouettes
from pipeline.reconstruction.field import Field, load_field
from pipeline.reconstruction.joint_lrm import joint_of
from pipeline.reconstruction.lrm import build_lrm
from pipeline.reconstruction.rays import grid_rays, view_rays
from pipeline.reconstruction.reconstructor import Carving, Learned, Reconstructor, find_reconstructor
from pipeline.reconstruction.renderer import render
from pipeline.views.cameras import GRID_AZIMUTHS, Camera, camera_to_world, over_white, tile
from tests.toy_corpus import draw_boxes

CAMERA, ELEVATION_DEG, RESOLUTION = Camera(40.0, 3.1, 32), 20.0, 32
SETTINGS = {"view_size": 32, "fov_deg": 40.0, "distance": 3.1, "elevation_deg": ELEVATION_DEG}
RADIUS = 0.6
FINER = 4


@pytest.fixture(scope="module")
def carver() -> Carver:
    return Carver(CAMERA, ELEVATION_DEG, RESOLUTION)


def cell_centres() -> Tensor:
    """(D, H, W, 3): x, y, z."""
    axis = (torch.arange(RESOLUTION) + 0.5) * 2 / RESOLUTION - 1
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    return torch.stack((x, y, z), dim=-1)


def ball_grid() -> Tensor:
    """RGBA (4, 2H, 2W) of a ball at the origin, each pixel covered by its share; red where x > 0, else blue."""
    fine = grid_rays(Camera(40.0, 3.1, CAMERA.size * FINER), ELEVATION_DEG)
    middle = -(fine.origins * fine.directions).sum(-1)
    gap = RADIUS**2 - ((fine.origins + middle[..., None] * fine.directions).square().sum(-1))
    hits = fine.origins + (middle - gap.clamp(min=0).sqrt())[..., None] * fine.directions
    colour = torch.where(hits[..., :1] > 0, torch.tensor([0.9, 0.1, 0.1]), torch.tensor([0.1, 0.1, 0.9]))
    rgba = torch.cat((torch.where(gap[..., None] > 0, colour, 1.0), (gap[..., None] > 0).float()), dim=-1)
    views = torch.nn.functional.avg_pool2d(rgba.permute(0, 3, 1, 2), FINER)
    return torch.from_numpy(tile(views.permute(0, 2, 3, 1).numpy())).permute(2, 0, 1)


def box_grid(boxes: np.ndarray, colours: np.ndarray) -> Tensor:
    """RGBA (4, 2H, 2W) of boxes (S, 2, 3)."""
    rgba = tile(
        np.stack([draw_boxes(boxes, colours, (azimuth, ELEVATION_DEG), CAMERA.size) for azimuth in GRID_AZIMUTHS])
    )
    values = np.concatenate((over_white(rgba), rgba[..., 3:].astype(np.float32) / 255), axis=-1)
    return torch.from_numpy(values).permute(2, 0, 1)


def in_ball_hull(points_N3: Tensor, radius: float = RADIUS) -> Tensor:
    """Which points lie in the cones that the four cameras see a ball in."""
    inside_N = torch.ones(len(points_N3), dtype=torch.bool)
    for azimuth in GRID_AZIMUTHS:
        eye_3 = torch.from_numpy(camera_to_world(azimuth, ELEVATION_DEG, CAMERA.distance)[:3, 3]).float()
        towards_N3 = torch.nn.functional.normalize(points_N3 - eye_3, dim=1)
        off_N = torch.linalg.cross(towards_N3, eye_3.expand_as(towards_N3)).norm(dim=1)
        inside_N &= off_N < radius
    return inside_N


def iou(one: Tensor, other: Tensor) -> float:
    return float((one & other).sum() / (one | other).sum())


def opaque(field: Field) -> Tensor:
    """Which cells hide at least half of what is behind them, by themselves."""
    points = cell_centres().view(-1, 3)
    sigma, _ = field.evaluate(points, torch.tensor([[0.0, 0.0, 1.0]]).expand_as(points))
    return 1 - torch.exp(-sigma * 2 / RESOLUTION) > 0.5


def seen(field: Field, azimuth: float, elevation: float) -> tuple[np.ndarray, np.ndarray]:
    """A picture (H, W, 3) and its alpha."""
    rendered = render([field], view_rays(CAMERA, azimuth, elevation).flat(), 96)
    return rendered.colour.view(32, 32, 3).numpy(), rendered.alpha.view(32, 32).numpy()


def test_a_ball_is_carved_to_its_hull(carver: Carver) -> None:
    field = carver.fields(ball_grid()[None])[0]
    points = cell_centres().view(-1, 3)
    assert iou(opaque(field), in_ball_hull(points)) > 0.93
    assert iou(opaque(field), points.norm(dim=1) < RADIUS) > 0.8  # four views tell no more
    deep, far = points.norm(dim=1) < 0.4, ~in_ball_hull(points, RADIUS + 3 * 2 / RESOLUTION)
    sigma, _ = field.evaluate(points, torch.zeros_like(points))
    assert torch.exp(-sigma[deep] * 2 / RESOLUTION).max() < 0.05  # opaque within a cell
    assert far.any()
    assert not sigma[far].any()
    assert field.support_DHW is not None
    assert field.support_DHW.float().mean() < 0.5


def test_a_box_is_carved_to_its_extent(carver: Carver) -> None:
    box = np.array([[[-0.5, -0.3, -0.2], [0.4, 0.4, 0.5]]])
    field = carver.fields(box_grid(box, np.array([[200, 60, 60]]))[None])[0]
    points = cell_centres().view(-1, 3)
    low, high = torch.from_numpy(box[0]).float().unbind()
    truth = ((points > low) & (points < high)).all(dim=1)
    found = opaque(field)
    assert (found & truth).sum() / truth.sum() > 0.97  # a hull misses nothing but its rounded edges
    assert iou(found, truth) > 0.7
    for axis in (0, 2):  # across, where two views bound it; from below none does
        extent = points[found][:, axis]
        assert extent.min() == pytest.approx(float(low[axis]), abs=0.1)
        assert extent.max() == pytest.approx(float(high[axis]), abs=0.1)


def test_silhouettes_of_one_body_agree_and_others_less(carver: Carver) -> None:
    ball = ball_grid()
    assert carver.agreement(ball) > 0.9
    assert carver.agreement(ball[:3]) > 0.9  # without alpha
    moved, blank = ball.clone(), ball.clone()
    moved[:, :32, :32] = ball[:, :32, :32].roll(8, dims=1)
    blank[:, :32, :32] = 1.0
    blank[3, :32, :32] = 0.0
    assert carver.agreement(moved) < carver.agreement(ball) - 0.1
    assert carver.agreement(blank) == 0  # a view that shows nothing leaves no hull


def test_rays_meet_the_surface_of_the_hull(carver: Carver) -> None:
    outlines = torch.from_numpy(np.stack(np.split(ball_grid()[3].numpy(), 2))).unflatten(2, (2, -1))
    outlines = outlines.permute(0, 2, 1, 3).flatten(0, 1) > 1 / 2
    points = carver.surface(outlines.float())
    assert points.shape == (4, 32, 32, 3)
    met = points.isfinite().all(dim=-1)
    assert (met == outlines).float().mean() > 0.98
    rays = grid_rays(CAMERA, ELEVATION_DEG)
    distance = (points - rays.origins).norm(dim=-1)[met]
    assert (distance < 3.1 - 0.3).float().mean() > 0.9  # on the near side
    assert points[met].norm(dim=-1).median() == pytest.approx(RADIUS, abs=0.08)


def test_the_views_come_back(carver: Carver) -> None:
    grid = ball_grid()
    field = carver.fields(grid[None])[0]
    for number, azimuth in enumerate(GRID_AZIMUTHS):
        y, x = 32 * (number // 2), 32 * (number % 2)
        expected = grid[:, y : y + 32, x : x + 32].permute(1, 2, 0).numpy()
        colour, alpha = seen(field, azimuth, ELEVATION_DEG)
        assert np.abs(alpha - expected[..., 3]).mean() < 0.02
        assert np.abs(colour - expected[..., :3]).mean() < 0.03


def test_colours_land_on_the_side_that_shows_them(carver: Carver) -> None:
    field = carver.fields(ball_grid()[None])[0]
    for azimuth, strongest in ((90.0, 0), (270.0, 2)):
        colour, alpha = seen(field, azimuth, 0.0)
        mean = colour[alpha > 0.99].mean(axis=0)
        assert mean[strongest] > 0.8
        assert np.delete(mean, strongest).max() < 0.2
    below, alpha = seen(field, 90.0, -80.0)  # no view shows it: the nearest colours, and neither white nor grey
    assert ((below[alpha > 0.99].max(axis=1) > 0.7) & (below[alpha > 0.99].min(axis=1) < 0.2)).mean() > 0.8


def test_what_stands_before_is_not_painted_on_what_is_behind(carver: Carver) -> None:
    """A small green box hides a part of the red wall from the front; from the side the wall is red all over."""
    wall, before = [[-0.6, -0.5, -0.45], [0.6, 0.5, -0.35]], [[-0.2, -0.2, 0.35], [0.2, 0.2, 0.45]]
    grid = box_grid(np.array([wall, before]), np.array([[220, 30, 30], [30, 220, 30]]))
    field = carver.fields(grid[None])[0]
    points = torch.tensor([[x, y, -0.4] for x in (-0.1, 0.0, 0.1) for y in (-0.3, -0.2, -0.1, 0.0)])
    _, colour = field.evaluate(points, torch.zeros_like(points))
    assert (colour[:, 0] > 2 * colour[:, 1]).all()


def test_without_alpha_what_is_not_white_is_the_object(carver: Carver) -> None:
    with_alpha, without = carver.fields(ball_grid()[None])[0], carver.fields(ball_grid()[None, :3])[0]
    assert iou(opaque(with_alpha), opaque(without)) > 0.95


def test_a_soft_outline_a_thin_wire_and_glass() -> None:
    rgba = torch.ones(4, 4, 5, 8)
    rgba[:, 3] = 0
    rgba[0, 3, :, 4:], rgba[0, 3, :, 3] = 1.0, 0.4  # an edge
    rgba[1, 3, :, 4] = 0.2  # a wire that covers a fifth of its pixels
    rgba[2, 3, :, 2:6] = 0.3  # a pane
    rgba[3, 3, 2, 2] = 0.01  # nothing
    found = silhouettes(rgba)[:, 2]
    torch.testing.assert_close(found[0], torch.tensor([0, 0, 0, 0.4, 1, 1, 1, 1]))
    torch.testing.assert_close(found[1], torch.tensor([0.0, 0, 0, 0, 1, 0, 0, 0]))
    torch.testing.assert_close(found[2], torch.tensor([0.0, 0, 1, 1, 1, 1, 0, 0]))
    assert not found[3].any()


def test_a_carved_field_survives_its_file(carver: Carver, tmp_path: Path) -> None:
    field = carver.fields(ball_grid()[None])[0]
    field.save(tmp_path / "ball.safetensors")
    again = load_field(tmp_path / "ball.safetensors")
    np.testing.assert_array_equal(seen(again, 30.0, 10.0)[0], seen(field, 30.0, 10.0)[0])


TINY: dict[str, Any] = {
    "volume": 8, "channels": 4, "mlp_layers": 2, "mlp_width": 8, "ray_harmonics": 0, "gain": 1.0, "opacity_bias": 1.0,
    "stride": 2, "encoder": {"widths": [8], "blocks": 1}, "prior": 4, "refinement": {"widths": [8], "blocks": 1},
    "refinement_stride": 1, "hull": False, "splat_samples": 8, "samples": 12, "crop": 8, "chunk_samples": 4000,
    "support_floor": 0.5,
}  # fmt: skip


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of untrained reconstruction models for the small views."""
    folder = tmp_path_factory.mktemp("models")
    views = load_group(RenderParams, path=Path("presets/nano.yaml")).model_copy(update={"view_size": 32})
    torch.manual_seed(0)
    lrm = build_lrm(ReconstructionParams.model_validate(TINY), views)
    lrm.save_pretrained(folder / "lrm")
    joint_of(lrm).save_pretrained(folder / "lrm_joint")
    return folder


def found(name: str, models: Path, **settings: float) -> Reconstructor:
    params = load_group(ReconstructParams, [f"reconstruct.reconstructor={name}", "reconstruct.carve_resolution=32"])
    return find_reconstructor(params, ReconstructionParams.model_validate(TINY), models, SETTINGS | settings)


def test_params_choose_the_reconstructor(models: Path, tmp_path: Path) -> None:
    carving, learned = found("carve", tmp_path), found("lrm", models)
    assert isinstance(carving, Carving)
    assert isinstance(learned, Learned)
    assert (carving.samples, learned.samples) == (48, 12)


@pytest.mark.parametrize("name", ["carve", "lrm", "lrm_joint"])
def test_all_take_grids_with_and_without_alpha_and_empty_ones(name: str, models: Path) -> None:
    reconstructor = found(name, models)
    for channels in (3, 4):
        empty = torch.ones(4, 64, 64)
        empty[3] = 0
        fields = reconstructor.fields(torch.stack((empty, ball_grid(), empty))[:, :channels])
        rays = view_rays(CAMERA, 30.0, 20.0).flat()
        hidden = [render([field], rays, reconstructor.samples).alpha.max().item() for field in fields]
        assert hidden[0] == hidden[2] == 0
        assert hidden[1] > 0.1
        assert [field.is_empty for field in fields] == [True, False, True]


@pytest.mark.parametrize("name", ["carve", "lrm", "lrm_joint"])
def test_all_refuse_grids_that_they_cannot_read(name: str, models: Path) -> None:
    reconstructor = found(name, models)
    for shape, sentence in (((3, 32, 32), "3 x 32 x 32; give 3 or 4 x 64 x 64"), ((1, 64, 64), "1 x 64 x 64")):
        with pytest.raises(UserError, match=sentence):
            reconstructor.fields(torch.ones(1, *shape))
    broken = ball_grid()
    broken[0, 5, 5] = math.nan
    with pytest.raises(UserError, match="not finite"):
        reconstructor.fields(broken[None])


def test_a_model_that_is_missing_broken_or_of_other_cameras(models: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no reconstruction model; run the stage `train_lrm`"):
        found("lrm", tmp_path)
    with pytest.raises(UserError, match=r"trained for distance 3\.1, but the grids have 4;"):
        found("lrm", models, distance=4.0)
    (tmp_path / "lrm").mkdir()
    (tmp_path / "lrm/config.json").write_text("{}")
    with pytest.raises(UserError, match="that can be read"):
        found("lrm", tmp_path)
