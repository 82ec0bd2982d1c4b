"""LGM, InstantMesh and GRM: against what their authors' modules gave, their geometry without weights, bad files."""

import io
import math
import pickle
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import ViTConfig, ViTModel

from pipeline.errors import UserError
from pipeline.params.base import load_group
from pipeline.params.reconstruct import ReconstructParams
from pipeline.params.reconstruction import ReconstructionParams
from pipeline.plan.trace import inference_flops
from pipeline.reconstruction import grm, instantmesh, lgm
from pipeline.reconstruction.baking import cell_centres
from pipeline.reconstruction.gaussians import Gaussians
from pipeline.reconstruction.other_cameras import IMAGENET_MEAN, IMAGENET_STD, wider_views
from pipeline.reconstruction.reconstructor import find_reconstructor
from pipeline.reconstruction.splats import draw_views
from pipeline.views.cameras import GRID_AZIMUTHS, Camera, camera_to_world
from tests.reconstruction.rule_filled import GOLDEN, drawn, keys, rule_filled
from tests.reconstruction.test_carving import SETTINGS, ball_grid

CAMERA, ELEVATION_DEG = Camera(40.0, 3.1, 96), 20.0
BALLS = (
    ((0.4, 0.1, 0.2), 0.3, (0.9, 0.1, 0.1)),
    ((-0.3, 0.4, -0.1), 0.35, (0.1, 0.8, 0.1)),
    ((0.0, -0.4, 0.4), 0.25, (0.1, 0.2, 0.9)),
)
"""Centres, radii and colours, a scene without symmetry."""
TINY_LGM = lgm.Layout((32, 64, 64), (64, 64), 2)
TINY_INSTANT = instantmesh.Layout(
    width=64, encoder_layers=2, encoder_heads=4, positions=3,
    planes_width=64, layers=2, heads=4, side=4, features=8, hidden=16,
)  # fmt: skip
TINY_GRM = {
    "plain": grm.Layout(64, 16, 128, 2, None, 32, 1, False, "exp", -3.0, -2.0),
    "windows": grm.Layout(64, 8, 128, 2, 32, 64, 2, True, "sigmoid", 0, 0, 0.001, 0.3),
}
"""The sizes with which the files of GOLDEN were made."""


def test_lgm_is_what_its_authors_made() -> None:
    with torch.no_grad():
        found = rule_filled(lgm.LGM(TINY_LGM))(drawn(1, 1, 4, 9, 32, 32))
    torch.testing.assert_close(found[:, ::7], load_file(GOLDEN / "lgm.safetensors")["output"], rtol=1e-5, atol=2e-5)


def test_instantmesh_is_what_its_authors_made() -> None:
    golden, network = load_file(GOLDEN / "instantmesh.safetensors"), rule_filled(instantmesh.InstantMesh(TINY_INSTANT))
    points = torch.rand(50, 3, generator=torch.Generator().manual_seed(3)) * 2.2 - 1.1
    with torch.no_grad():
        planes = network.planes(drawn(1, 1, 4, 3, 64, 64), drawn(2, 1, 4, 16))
        sigma, colour = network.evaluate(planes[0], points)
    torch.testing.assert_close(planes, golden["planes"], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(sigma, golden["sigma"], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(colour, golden["colour"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", TINY_GRM)
def test_grm_is_what_its_authors_made(name: str) -> None:
    layout, golden = TINY_GRM[name], load_file(GOLDEN / "grm.safetensors")
    network = rule_filled(grm.GRM(layout))
    splats = grm.GrmSplats(network, layout, CAMERA, ELEVATION_DEG)
    views = torch.rand(1, 4, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.no_grad():
        maps = network(views, splats.rays_V6HW[None])
    made = grm.gaussians_of({key: value[0] for key, value in maps.items()}, splats.poses_V44, layout)
    for ours, theirs in (
        (made.centres_N3, "xyz"), (made.opacities_N, "opacity"), (made.scales_N3, "scales"),
        (made.rotations_N4, "rotation"), (made.colours_N3, "colour"),
    ):  # fmt: skip
        torch.testing.assert_close(ours[::13][::9], golden[f"{name}.{theirs}"], rtol=1e-4, atol=3e-5)


def test_its_vision_transformer_is_that_of_transformers() -> None:
    size, ours = 48, rule_filled(instantmesh.InstantMesh(TINY_INSTANT)).encoder
    config = ViTConfig(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=256, image_size=size, patch_size=16,
    )  # fmt: skip
    theirs, state = ViTModel(config, add_pooling_layer=False).eval(), ours.model.state_dict()
    renamed = {
        "encoder.layer": "layers", "attention.attention.query": "attention.q_proj",
        "attention.attention.key": "attention.k_proj", "attention.attention.value": "attention.v_proj",
        "attention.output.dense": "attention.o_proj",
        "intermediate.dense": "mlp.fc1", "output.dense": "mlp.fc2",
    }  # fmt: skip
    plain = {}
    for key, value in state.items():
        if "adaLN" in key:
            value.zero_()
            continue
        for old, new in renamed.items():
            key = key.replace(old, new)
        plain[key] = value
    theirs.load_state_dict(plain)
    pixels = drawn(4, 2, 3, size, size)
    with torch.no_grad():
        expected = theirs(pixel_values=pixels).last_hidden_state
        torch.testing.assert_close(ours(pixels, drawn(5, 2, 16)), expected, rtol=1e-5, atol=1e-5)


def test_the_whole_networks_have_the_keys_and_the_work_of_the_published_ones() -> None:
    with torch.device("meta"):
        big, large = lgm.LGM(), instantmesh.InstantMesh(instantmesh.Layout())
        small, base = lgm.LGM(lgm.SMALL), instantmesh.InstantMesh(instantmesh.Layout(**instantmesh.BASE))
        flops = inference_flops(lambda: big(torch.empty(1, 4, 9, 256, 256)))
        more = inference_flops(lambda: large.planes(torch.empty(1, 4, 3, 320, 320), torch.empty(1, 4, 16)))
    for network, name, count in ((big, "lgm", 376), (large, "instantmesh", 495)):
        assert keys(network) == (GOLDEN / f"{name}.keys").read_text().splitlines()
        assert len(keys(network)) == count
    assert (len(keys(small)), len(keys(base))) == (344, 431)
    sizes = [sum(weight.numel() for weight in network.parameters()) for network in (big, small, large, base)]
    assert sizes == [415_042_848, 412_958_240, 378_477_332, 313_249_004]
    assert (flops / 1e12, more / 1e12) == (pytest.approx(1.78, abs=0.005), pytest.approx(2.77, abs=0.005))


def test_variants_of_instantmesh_are_told_apart_by_their_keys() -> None:
    for mesh in (False, True):
        for sizes in ({}, instantmesh.BASE):
            layout = instantmesh.Layout(mesh=mesh, **sizes)
            with torch.device("meta"):
                assert instantmesh.layout_of(list(instantmesh.InstantMesh(layout).state_dict())) == layout


def test_a_wider_view_shows_the_same_smaller_and_white_around_it() -> None:
    grid = scene_grid()[:3]
    wide = wider_views(grid[None], CAMERA, lgm.FOV_DEG, lgm.SIZE)[0]
    _, _, _, which = hits(middles(lgm.SIZE), lgm.FOV_DEG, CAMERA.distance)
    true = torch.tensor([colour for *_, colour in BALLS] + [(1.0, 1.0, 1.0)])[which].movedim(-1, 1)
    assert -10 * math.log10((wide - true).square().mean()) > 24
    assert (wide[:, :, :20] == 1).all()


def hits(share: np.ndarray, fov_deg: float, distance: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of the scene's rays at these places of four views in our frame: points, depths along the views' axes, from the
    rays' nearest point to the centre, and which ball (-1: none); each (4, H, W, ...).
    """
    found = []
    for azimuth in GRID_AZIMUTHS:
        pose = camera_to_world(azimuth, ELEVATION_DEG, distance)
        slope = 2 * share * math.tan(math.radians(fov_deg) / 2)
        right, down = np.meshgrid(slope, slope)
        local = np.stack((right, -down, -np.ones_like(right)), axis=-1)
        rays = local / np.linalg.norm(local, axis=-1, keepdims=True) @ pose[:3, :3].T
        nearest, which = np.full(right.shape, np.inf), np.full(right.shape, -1)
        for number, (centre, radius, _) in enumerate(BALLS):
            away = pose[:3, 3] - np.array(centre)
            middle = -(rays @ away)
            gap = radius**2 - (away @ away) + middle**2
            length = np.where(gap > 0, middle - np.sqrt(np.maximum(gap, 0)), np.inf)
            which, nearest = np.where(length < nearest, number, which), np.minimum(nearest, length)
        nearest = np.where(which < 0, distance, nearest)
        points = pose[:3, 3] + nearest[..., None] * rays
        along = (points - pose[:3, 3]) @ -pose[:3, 2]
        found.append((points, along, nearest + rays @ pose[:3, 3], which))
    points, along, beyond, shown = (torch.from_numpy(np.stack(each)) for each in zip(*found, strict=True))
    return points.float(), along.float(), beyond.float(), shown


def middles(size: int) -> np.ndarray:
    return (np.arange(size) + 0.5) / size - 0.5


def scene_grid() -> Tensor:
    """(4, 2H, 2W) of CAMERA."""
    _, _, _, which = hits(middles(CAMERA.size), CAMERA.fov_deg, CAMERA.distance)
    colours = torch.tensor([colour for *_, colour in BALLS] + [(1.0, 1.0, 1.0)])[which]
    rgba = torch.cat((colours, (which >= 0)[..., None].float()), dim=-1)
    rows = [torch.cat(list(rgba[start : start + 2]), dim=1) for start in (0, 2)]
    return torch.cat(rows).permute(2, 0, 1)


class TrueLgm(nn.Module):
    """In the place of LGM: where each ray of its inputs meets the scene, in the colours of its inputs."""

    def forward(self, inputs: Tensor) -> Tensor:
        scale = lgm.DISTANCE / CAMERA.distance
        views, moments, directions = inputs[0].movedim(1, -1).split(3, dim=-1)
        _, _, beyond, which = hits(middles(lgm.SIZE), lgm.FOV_DEG, CAMERA.distance)
        # m = o x d, so d x m is the ray's point nearest to the centre.
        centres = torch.linalg.cross(directions, moments) + scale * beyond[..., None] * directions
        colours = views * torch.tensor(IMAGENET_STD) + torch.tensor(IMAGENET_MEAN)
        raw = (2 * colours - 1).clamp(-0.999, 0.999).atanh()
        opacity = torch.where(which >= 0, 6.0, -9.0)[..., None]
        scales = torch.full_like(centres, math.log(math.expm1(0.1 * 0.4)))
        turn = torch.tensor([1.0, 0, 0, 0]).expand(*which.shape, 4)
        return torch.cat((centres, opacity, scales, turn, raw), dim=-1).flatten(0, 2)[None]


class TrueGrm(nn.Module):
    """In the place of GRM: each pixel's true depth, in the colours of its inputs."""

    layout = grm.Layout(128, 16, 64, 1, activation="exp", offset=0.0, most=0.0)

    def forward(self, views: Tensor, rays: Tensor) -> dict[str, Tensor]:
        scale = grm.DISTANCE / CAMERA.distance
        _, along, _, which = hits(np.linspace(-0.5, 0.5, self.layout.size), grm.FOV_DEG, CAMERA.distance)
        shown = (which >= 0)[None, ..., None]
        like = torch.ones_like(along)[None, ..., None]
        return {
            "depth": scale * along[None, ..., None] - grm.DISTANCE,
            "feature": ((views.movedim(2, -1) + 1) / 2).clamp(1e-3, 1 - 1e-3).logit(),
            "opacity": torch.where(shown, 8.0, -9.0),
            "scaling": math.log(0.008) * torch.cat((like, like, like), dim=-1),
            "rotation": torch.tensor([1.0, 0, 0, 0]).expand(1, *which.shape, 4),
        }


def on_the_balls(gaussians: Gaussians) -> float:
    """The share of gaussians that lie on a ball of their own colour."""
    centres, radii, colours = (torch.tensor(values) for values in zip(*BALLS, strict=True))
    away = (torch.cdist(gaussians.centres_N3, centres) - radii).abs()
    least, which = away.min(dim=1)
    right = (gaussians.colours_N3 - colours[which]).abs().amax(dim=1) < 0.1
    return float(((least < 0.015) & right).float().mean())


@pytest.mark.parametrize(
    "made",
    [
        lambda: lgm.LgmSplats(TrueLgm(), CAMERA, ELEVATION_DEG),
        lambda: grm.GrmSplats(TrueGrm(), TrueGrm.layout, CAMERA, ELEVATION_DEG),
    ],
    ids=["lgm", "grm"],
)
def test_true_depths_come_back_where_they_were(made: Callable[[], Any]) -> None:
    grid = scene_grid()
    found = made().gaussians(grid[:3])
    found = found[found.opacities_N > 0.5]
    assert len(found) > 2000
    assert on_the_balls(found) > 0.9
    poses = [camera_to_world(azimuth, ELEVATION_DEG, CAMERA.distance) for azimuth in GRID_AZIMUTHS]
    views = [view.colour_HW3 for view in draw_views(found, poses, CAMERA.fov_deg, CAMERA.size, 192)]
    drawn_grid = torch.cat([torch.cat(views[start : start + 2], dim=1) for start in (0, 2)]).permute(2, 0, 1)
    assert -10 * math.log10((drawn_grid - grid[:3]).square().mean()) > 19
    swapped = grid.clone()
    half = CAMERA.size
    swapped[:, :half, :half], swapped[:, :half, half:] = grid[:, :half, half:], grid[:, :half, :half]
    wrong = made().gaussians(swapped[:3])
    assert on_the_balls(wrong[wrong.opacities_N > 0.5]) < 0.8


class TruePlanes:
    """In the place of InstantMesh: a ball, by what the planes say of the coordinates."""

    centre, radius = torch.tensor([0.4, -0.3, 0.2]), 0.4

    def evaluate(self, planes: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        x, y, again_x, z, again_z, again_y = instantmesh.plane_features(planes, points).unbind(dim=1)
        inner = (points.abs() < 0.9).all(dim=1)
        for one, same in ((x, again_x), (y, again_y), (z, again_z)):
            torch.testing.assert_close(one[inner], same[inner], atol=1e-5, rtol=0)
        places = torch.stack((x, y, z), dim=1)
        return 40.0 * ((places - self.centre).norm(dim=1) < self.radius), (places + 1) / 2


def test_planes_come_back_in_our_frame() -> None:
    axis = (torch.arange(64) + 0.5) / 32 - 1
    rows, columns = torch.meshgrid(axis, axis, indexing="ij")
    planes = torch.stack((columns, rows)).expand(3, 2, 64, 64)
    network: Any = TruePlanes()
    maker = instantmesh.InstantMeshFields(network, CAMERA, ELEVATION_DEG, 48)
    field, points = maker.baked(planes), cell_centres(48).view(-1, 3)
    theirs = points[:, [2, 0, 1]]  # ours are (y, z, x) of theirs
    away = (theirs - TruePlanes.centre).norm(dim=1)
    sigma, colours = field.evaluate(points, torch.zeros_like(points))
    inner = (away < TruePlanes.radius - 0.05) & (points.norm(dim=1) < 0.95)
    assert (sigma[inner] - 40).abs().max() < 0.5
    assert sigma[away > TruePlanes.radius + 0.1].max() < 1e-3
    torch.testing.assert_close(colours[inner], (theirs[inner] + 1) / 2, atol=0.01, rtol=0)
    first = maker.cameras_VD[0]
    rise, run = math.sin(math.radians(20)) * 3.1, math.cos(math.radians(20)) * 3.1
    assert first[:12].view(3, 4)[:, 3].tolist() == pytest.approx(
        [run, 0.0, rise], abs=1e-5
    )  # azimuth 0 is on +X, +Z up
    assert first[12:].tolist() == pytest.approx([1.3737, 1.3737, 0.5, 0.5], abs=1e-4)


def reconstructed(name: str, path: Path, monkeypatch: pytest.MonkeyPatch | None = None) -> Any:
    overrides = [f"reconstruct.reconstructor={name}", f"reconstruct.{name}={path}", "reconstruct.bake_resolution=16"]
    groups = load_group(ReconstructParams, overrides), load_group(ReconstructionParams)
    return find_reconstructor(*groups, Path("nowhere"), SETTINGS)


def easydict_saved(content: dict[str, Any], path: Path) -> None:
    """Saved by torch with a class of the name easydict.EasyDict, which is then not there any more."""
    module = types.ModuleType("easydict")

    class EasyDict(dict[str, Any]):
        def __init__(self, values: dict[str, Any]) -> None:
            for key, value in values.items():
                kept = EasyDict(value) if isinstance(value, dict) else value
                self[key] = kept
                setattr(self, key, kept)

    EasyDict.__module__, EasyDict.__qualname__ = "easydict", "EasyDict"
    module.EasyDict = EasyDict  # type: ignore[attr-defined]
    sys.modules["easydict"] = module
    try:
        torch.save({**content, "config": EasyDict(content["config"])}, path)
    finally:
        del sys.modules["easydict"]


def test_grm_from_its_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    visual = {
        "input_res": 64, "patch_size": 16, "layers": 2, "width": 128, "decoder_ratio": 1, "window_size": 32,
        "bwindow_size": None, "scaling_activation_type": "exp", "scale_offset": -3, "scale_max": -2,
    }  # fmt: skip
    config: dict[str, Any] = {"model_config": {"visual": {"params": visual}, "render": {"params": {"sh_degree": 0}}}}
    network = rule_filled(grm.GRM(TINY_GRM["plain"]))
    weights = {f"module.{key}": value for key, value in network.state_dict().items()}
    easydict_saved({"model": weights, "config": config}, tmp_path / "grm.pth")
    found = reconstructed("grm", tmp_path / "grm.pth")
    assert "views of 32 px are enlarged" in capsys.readouterr().err
    empty = torch.ones(3, 64, 64)
    nothing, field = found.fields(torch.stack((empty, ball_grid()[:3])))
    assert nothing.is_empty
    assert field.volume_CDHW.shape == (4, 16, 16, 16)
    assert len(found.gaussians(ball_grid())) > 0
    config["model_config"]["visual"]["params"]["width"] = 64
    easydict_saved({"model": weights, "config": config}, tmp_path / "thin.pth")
    with pytest.raises(UserError, match="is no GRM: `visual_encoder"):
        reconstructed("grm", tmp_path / "thin.pth")


class Evil:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("run",)


def test_files_that_are_not_theirs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(name: str, file: str, sentence: str) -> None:
        with pytest.raises(UserError, match=sentence) as error:
            reconstructed(name, tmp_path / file)
        assert str(error.value).endswith(".")
        assert "\n" not in str(error.value)

    refused("lgm", "nowhere.safetensors", r"reconstruct\.lgm is .*, where there is no file")
    (tmp_path / "model_fp16.safetensors").write_bytes(b"")
    refused("lgm", "model_fp16.safetensors", r"draw wrong shapes; take model_fp16_fixrot\.safetensors")
    (tmp_path / "torn.safetensors").write_bytes(b"torn")
    refused("lgm", "torn.safetensors", "cannot be read as weights")
    save_file({"unet.conv_in.weight": torch.zeros(64, 9, 3, 3)}, tmp_path / "few.safetensors")
    refused("lgm", "few.safetensors", "343 of its keys are missing, the first `conv.bias`")
    (tmp_path / "evil.pth").write_bytes(_saved(Evil()))
    for name in ("grm", "instantmesh"):
        refused(name, "evil.pth", "it wants code to be run")
    assert "run\n" not in capsys.readouterr().out
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Evil()))
    refused("grm", "plain.pth", "is not opened|cannot be read")
    torch.save({"state_dict": {"lrm_generator.other": torch.zeros(1)}}, tmp_path / "other.ckpt")
    refused("instantmesh", "other.ckpt", "430 of its keys are missing|431 of its keys are missing")
    torch.save({"model": {}}, tmp_path / "bare.pth")
    refused("grm", "bare.pth", "its settings cannot be read")


def _saved(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()
