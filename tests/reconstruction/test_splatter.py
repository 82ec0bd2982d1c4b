"""The splatter: the fast path against the reference, and what it must do by its definition."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pipeline.reconstruction.field import mlp
from pipeline.reconstruction.rays import Rays, grid_rays
from pipeline.reconstruction.splatter import splat, splat_reference
from pipeline.views.cameras import Camera

ALL = grid_rays(Camera(fov_deg=40.0, distance=3.1, size=5), 20.0).flat().to(torch.float64)
RAYS = ALL[ALL.far > ALL.near]


def features(batch: int, channels: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, len(RAYS), channels, generator=generator, dtype=torch.float64).requires_grad_()


def priors(batch: int, channels: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, channels, 3, 4, 6, generator=generator, dtype=torch.float64).requires_grad_()


def net(layers: int, channels: int, outputs: int) -> nn.Module:
    torch.manual_seed(2)
    return mlp(channels, 9, outputs, layers).double()


def gradients(volume: Tensor, of: list[Tensor]) -> tuple[Tensor, ...]:
    weights = torch.randn(volume.shape, generator=torch.Generator().manual_seed(3), dtype=volume.dtype)
    return torch.autograd.grad((volume * weights).sum(), of)


@pytest.mark.parametrize("layers", [0, 1, 3])
@pytest.mark.parametrize("samples", [2, 9])
@pytest.mark.parametrize("batch", [1, 3])
def test_fast_path_and_reference_give_the_same_values_and_gradients(batch: int, samples: int, layers: int) -> None:
    pixels = features(batch, 4)
    leaves: list[Tensor] = [pixels]
    with_mlp: dict[str, Any] = {}
    if layers:
        with_mlp = {"net": net(layers, 4, 6), "prior": priors(batch, 4)}
        leaves += [with_mlp["prior"], *with_mlp["net"].parameters()]
    expected = splat_reference(pixels, RAYS, samples, 6, **with_mlp)
    expected_gradients = gradients(expected, leaves)
    for chunk in (40, 300, 10**6):
        found = splat(pixels, RAYS, samples, 6, **with_mlp, chunk_samples=chunk)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
        for ours, theirs in zip(gradients(found, leaves), expected_gradients, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("path", [splat_reference, splat])
def test_weights_are_divided_out_and_cells_without_a_ray_stay_zero(path: Callable[..., Tensor]) -> None:
    volume = path(torch.full((1, len(RAYS), 1), 7.0, dtype=torch.float64), RAYS, 12, 6)[0, 0]
    touched = volume != 0
    torch.testing.assert_close(volume[touched], torch.full_like(volume[touched], 7.0))
    assert touched[2:4, 2:4, 2:4].all()  # the middle is seen by all
    assert not touched[0, 0, 0]  # a corner of the cube lies outside the sphere


@pytest.mark.parametrize("path", [splat_reference, splat])
def test_one_ray_by_hand(path: Callable[..., Tensor]) -> None:
    """Along +X through the centres of the cells y = z = 1/2, from the centre of the first to that of the last."""
    line = [torch.tensor(value, dtype=torch.float64) for value in ([[-2, 0.5, 0.5]], [[1, 0, 0]], [1.5], [2.5])]
    volume = path(torch.tensor([[[3.0, -1.0]]], dtype=torch.float64), Rays(*line), 2, 2)[0]
    expected = torch.zeros(2, 2, 2, 2, dtype=torch.float64)
    expected[:, 1, 1, :] = torch.tensor([3.0, -1.0]).view(2, 1)  # z, y, then x
    torch.testing.assert_close(volume, expected)


def test_each_object_of_a_batch_is_on_its_own() -> None:
    pixels, prior, layers = features(3, 4), priors(3, 4), net(2, 4, 4)
    together = splat(pixels, RAYS, 5, 6, layers, prior)
    alone = [splat(pixels[number, None], RAYS, 5, 6, layers, prior[number, None]) for number in range(3)]
    torch.testing.assert_close(together, torch.cat(alone))


def test_no_memory_of_a_sample_is_kept_for_the_backward_pass() -> None:
    pixels, prior, layers = features(1, 4), priors(1, 4), net(3, 4, 4)

    def saved(path: Callable[..., Tensor], samples: int) -> int:
        sizes: dict[int, int] = {}
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor: sizes.setdefault(tensor.data_ptr(), tensor.numel()) and tensor, lambda tensor: tensor
        ):
            path(pixels, RAYS, samples, 6, layers, prior)
        return sum(sizes.values())

    assert saved(splat, 30) == saved(splat, 3)
    assert saved(splat_reference, 30) > 5 * saved(splat_reference, 3)  # what the measure is good for
