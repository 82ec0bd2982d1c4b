"""Gaussians: their files, their pictures by both paths, and what a baked field hides."""

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.spatial.transform import Rotation
from torch import Tensor

from pipeline.errors import UserError
from pipeline.reconstruction.baking import bake_gaussians
from pipeline.reconstruction.gaussians import (
    COLUMNS,
    Gaussians,
    is_gaussians,
    quaternion,
    read_gaussians,
    rotation_matrices,
)
from pipeline.reconstruction.rays import view_rays
from pipeline.reconstruction.renderer import render
from pipeline.reconstruction.splats import BLUR, MOST_ALPHA, Drawn, draw, draw_reference, draw_views
from pipeline.views.cameras import Camera, camera_to_world

FOV, SIZE, DISTANCE = 40.0, 24, 3.1
POSE = camera_to_world(30.0, 20.0, DISTANCE)


def some(count: int, seed: int = 0, size: float = 0.1, dtype: torch.dtype = torch.float32) -> Gaussians:
    draws = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=draws, dtype=dtype)

    rotations = F.normalize(torch.randn(count, 4, generator=draws, dtype=dtype), dim=1)
    return Gaussians(
        uniform(count, 3) * 1.2 - 0.6, uniform(count), size * (0.2 + uniform(count, 3)), rotations, uniform(count, 3)
    )


def one(alpha: float, scale: float, centre: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Gaussians:
    values: list[Any] = [[list(centre)], [alpha], [[scale] * 3], [[1.0, 0, 0, 0]], [[0.9, 0.2, 0.1]]]
    return Gaussians(*map(torch.tensor, values))


def close(first: Drawn, second: Drawn, within: float = 1e-5) -> None:
    torch.testing.assert_close(first.colour_HW3, second.colour_HW3, rtol=0, atol=within)
    torch.testing.assert_close(first.alpha_HW, second.alpha_HW, rtol=0, atol=within)


@pytest.mark.parametrize("size", [0.03, 0.3])
def test_the_fast_path_is_the_reference(size: float) -> None:
    gaussians = some(200, size=size)
    close(draw(gaussians, POSE, FOV, SIZE), draw_reference(gaussians, POSE, FOV, SIZE))


def test_gradients_are_those_of_the_reference() -> None:
    leaves = [value.requires_grad_() for value in vars(some(60, dtype=torch.float64)).values()]
    weight = torch.rand(SIZE, SIZE, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = []
    for path in (draw, draw_reference):
        seen = path(Gaussians(*leaves), POSE, FOV, SIZE)
        loss = (seen.colour_HW3 * weight).sum() + seen.alpha_HW.square().sum()
        found.append(torch.autograd.grad(loss, leaves))
    for fast, plain in zip(*found, strict=True):
        torch.testing.assert_close(fast, plain, rtol=1e-6, atol=1e-8)
        assert fast.abs().max() > 0


def test_gradients_are_those_of_differences() -> None:
    leaves = tuple(value.requires_grad_() for value in vars(some(3, seed=4, size=0.4, dtype=torch.float64)).values())
    weight = torch.rand(6, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)

    def loss(*values: Tensor) -> Tensor:
        return (draw(Gaussians(*values), POSE, FOV, 6).colour_HW3.sum(dim=2) * weight).sum()

    assert torch.autograd.gradcheck(loss, leaves, eps=1e-6, atol=1e-5)


def test_a_lone_gaussian_is_the_closed_form() -> None:
    pose, scale, alpha = camera_to_world(0.0, 0.0, DISTANCE), 0.2, 0.7
    seen = draw(one(alpha, scale), pose, FOV, SIZE)
    focal = SIZE / (2 * math.tan(math.radians(FOV) / 2))
    variance = (scale * focal / DISTANCE) ** 2 + BLUR
    away = np.arange(SIZE) + 0.5 - SIZE / 2
    expected = alpha * np.exp(-(away[:, None] ** 2 + away**2) / (2 * variance))
    expected[expected < 1 / 255] = 0
    np.testing.assert_allclose(seen.alpha_HW, expected, atol=1e-6)
    right = draw(one(alpha, scale, (0.3, 0.0, 0.0)), pose, FOV, SIZE).alpha_HW
    assert right.sum(dim=0).argmax() > SIZE // 2  # +X is on the right from the front, +Y above
    up = draw(one(alpha, scale, (0.0, 0.3, 0.0)), pose, FOV, SIZE).alpha_HW
    assert up.sum(dim=1).argmax() < SIZE // 2


def test_what_is_opaque_ends_a_pixel() -> None:
    pose = camera_to_world(0.0, 0.0, DISTANCE)
    wall = [one(1.0, 0.8, (0.0, 0.0, z)) for z in (0.4, 0.2, 0.0)]
    stacked = Gaussians(*(torch.cat([getattr(each, name) for each in wall]) for name in vars(wall[0])))
    middle = draw(stacked, pose, FOV, SIZE).alpha_HW.max()
    # The second one would leave 1e-4 of the light, and rounds below; the third adds nothing.
    assert MOST_ALPHA <= middle <= 1 - 1e-4 + 1e-6


def test_scene_and_camera_move_together() -> None:
    gaussians, scale = some(80), 1.7
    turn = Rotation.random(rng=3).as_matrix()
    pose = POSE.copy()
    pose[:3, :3], pose[:3, 3] = turn @ POSE[:3, :3], scale * turn @ POSE[:3, 3]
    moved = gaussians.turned(torch.from_numpy(turn).float(), scale)
    close(draw(moved, pose, FOV, SIZE), draw(gaussians, POSE, FOV, SIZE))
    for matrix in Rotation.random(20, rng=0).as_matrix():
        again = rotation_matrices(quaternion(torch.from_numpy(matrix))[None])[0]
        np.testing.assert_allclose(again, matrix, atol=1e-9)


def test_a_file_holds_them_and_rubbish_is_one_sentence() -> None:
    gaussians = some(50)
    content = gaussians.encoded()
    assert is_gaussians(content)
    assert content.split(b"end_header\n")[1].__len__() == 50 * 4 * len(COLUMNS)
    close(draw(read_gaussians(content, "a.ply"), POSE, FOV, SIZE), draw(gaussians, POSE, FOV, SIZE))
    nan = Gaussians(*vars(some(2)).values())
    nan.centres_N3[0, 0] = math.nan
    for broken, sentence in (
        (content[:-9], "truncated"),
        (content.replace(b"rot_3", b"rot_4"), "no 'rot_3'"),
        (b"solid", "no header"),
        (nan.encoded(), "not finite"),
        (some(0).encoded(), "no gaussians"),
    ):
        with pytest.raises(UserError, match=rf"^a\.ply .*{sentence}"):
            read_gaussians(broken, "a.ply")


def test_a_baked_gaussian_hides_as_much_as_its_splat() -> None:
    camera, alpha = Camera(FOV, DISTANCE, 65), 0.8
    field = bake_gaussians(one(alpha, 0.15), 64)
    seen = render([field], view_rays(camera, 0.0, 0.0)[32:33, 32:33].flat(), 200)
    assert seen.alpha.item() == pytest.approx(alpha, abs=0.02)
    assert seen.colour[0].tolist() == pytest.approx([1 - alpha * (1 - c) for c in (0.9, 0.2, 0.1)], abs=0.02)


def test_a_baked_wall_of_thin_splats_is_drawn_as_they_are() -> None:
    axis = torch.linspace(-0.5, 0.5, 21)
    x, y = (value.flatten() for value in torch.meshgrid(axis, axis, indexing="ij"))
    count = len(x)
    wall = Gaussians(
        torch.stack((x, y, 0.2 * x), dim=1), torch.full((count,), 0.6), torch.tensor([[0.04, 0.04, 1e-4]] * count),
        torch.tensor([[1.0, 0, 0, 0]] * count), torch.stack((x + 0.5, y + 0.5, 0 * x), dim=1),
    )  # fmt: skip
    field, camera = bake_gaussians(wall, 64), Camera(FOV, DISTANCE, 32)
    baked = render([field], view_rays(camera, 30.0, 20.0).flat(), 96).colour.view(32, 32, 3)
    (splats,) = draw_views(wall, [POSE], FOV, 32, 256)
    assert -10 * math.log10((baked - splats.colour_HW3).square().mean()) > 24
    assert bake_gaussians(one(0.5, 0.1, (5.0, 0.0, 0.0)), 16).is_empty
