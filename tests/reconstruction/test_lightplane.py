"""The adapter to Lightplane: its packing against Lightplane's documented layout and formulas, and its errors.

`documented` states those in plain torch, after the docstrings and the plain path of lightplane 0.1: `mlp_params` holds
trunk, opacity and colour in this order; of each first the weights of all layers, (inputs, outputs) and row by row, then
the biases of all layers; a layer is x @ W + b, with relus between layers and after the trunk.
"""

import importlib.util
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.errors import UserError
from pipeline.reconstruction.field import Decoder, Field
from pipeline.reconstruction.lightplane import Packed, pack, padded, render_lightplane, rendered
from pipeline.reconstruction.rays import Rays, view_rays
from pipeline.reconstruction.renderer import Rendered, render_reference
from pipeline.views.cameras import Camera

SAMPLES, BACKGROUND = 12, 0.7
MOVED = ((0.3, -0.1, 0.2), 0.6)


def rays() -> Rays:
    """Of one view, in float64; those of the corners miss, and those of moved fields leave the cube."""
    return view_rays(Camera(fov_deg=40.0, distance=3.1, size=8), 30.0, 20.0).flat().to(torch.float64)


def make_field(
    layers: int = 2, harmonics: int = 0, channels: int = 6, width: int = 8, supported: bool = False, moved: bool = False
) -> Field:
    torch.manual_seed(layers)
    decoder = Decoder(channels, width, layers, harmonics, gain=8.0, bias=-1.0).double()
    for weight in decoder.parameters():  # biases as well, which begin as zeros
        torch.nn.init.normal_(weight, std=0.6)
    volume = torch.randn(channels, 4, 5, 3, dtype=torch.float64)
    support = torch.rand(4, 3, 5) > 0.4 if supported else None
    field = Field(volume.requires_grad_(), decoder, support)
    return field.placed(*MOVED) if moved else field


def unpacked(packed: Packed) -> dict[str, list[tuple[Tensor, Tensor]]]:
    """Weight and bias of each layer of each MLP."""
    rest: Tensor = packed.decoder_params["mlp_params"]
    mlps = {}
    for name in ("trunk", "opacity", "color"):
        shapes = list(pairwise(packed.decoder_params[f"n_hidden_{name}"].tolist()))
        weights, biases = [], []
        for inputs, outputs in shapes:
            weights.append(rest[: inputs * outputs].view(inputs, outputs))
            rest = rest[inputs * outputs :]
        for _, outputs in shapes:
            biases.append(rest[:outputs])
            rest = rest[outputs:]
        mlps[name] = list(zip(weights, biases, strict=True))
    assert not len(rest)
    return mlps


def run(x: Tensor, mlp: list[tuple[Tensor, Tensor]]) -> Tensor:
    for number, (weight, bias) in enumerate(mlp):
        x = (x.relu() if number else x) @ weight + bias
    return x


def documented(packed: Packed, samples: int, background: float) -> Rendered:
    """What Lightplane makes of its arguments."""
    near, far = packed.rays["near"][:, None], packed.rays["far"][:, None]
    lengths_RS = near + torch.linspace(0, 1, samples, dtype=near.dtype) * (far - near)
    points = packed.rays["origins"][:, None] + lengths_RS[:, :, None] * packed.rays["directions"][:, None]
    (grid,) = packed.grid
    features = F.grid_sample(grid.permute(0, 4, 1, 2, 3), points[None, None], align_corners=False)[0, :, 0]
    occupied = F.grid_sample(packed.scaffold_1DHW[None], points[None, None], "nearest", align_corners=False)[0, 0, 0]
    occupied = occupied * (points.abs() <= 1).all(dim=-1)

    mlps = unpacked(packed)
    trunk = run(features.permute(1, 2, 0), mlps["trunk"]).relu()
    sigma_RS = packed.gain * F.softplus(run(trunk, mlps["opacity"])[..., 0]) * occupied
    colour_RS3 = run(trunk + packed.rays["encoding"][:, None], mlps["color"]).sigmoid()
    colour_RS3 = colour_RS3[..., : packed.decoder_params["color_chn"]] * occupied[..., None]

    absorbed_RS = F.pad(sigma_RS * (far - near) / (samples - 1), (1, 0)).cumsum(dim=1)
    visible_RS = -torch.exp(-absorbed_RS).diff(dim=1)
    colour_R3 = (visible_RS[..., None] * colour_RS3).sum(dim=1)
    return rendered((visible_RS * lengths_RS).sum(dim=1), absorbed_RS[:, -1], colour_R3, background)


def gradients(seen: Rendered, field: Field) -> tuple[Tensor, ...]:
    red, green, blue = seen.colour.unbind(dim=1)
    loss = (red + 2 * green + 3 * blue + 2 * seen.alpha + seen.depth.square()).sum()
    return torch.autograd.grad(loss, [field.volume_CDHW, *field.decoder.parameters()])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"layers": 1, "supported": True},
        {"layers": 3, "harmonics": 2},
        {"moved": True},
        {"layers": 3, "harmonics": 1, "channels": 17, "width": 16, "supported": True, "moved": True},
    ],
    ids=str,
)
def test_what_is_packed_makes_the_reference(options: dict[str, int]) -> None:
    field = make_field(**options)  # type: ignore[arg-type]
    expected = render_reference([field], rays(), SAMPLES, BACKGROUND)
    found = documented(pack(field, rays(), torch.float64), SAMPLES, BACKGROUND)
    assert expected.alpha.max() > 0.2
    for name in ("colour", "alpha", "depth", "shares"):
        # The renderer's shares of alpha are less by its EPSILON.
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=0, atol=1e-9)
    for ours, theirs in zip(gradients(found, field), gradients(expected, field), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-8)


def test_sizes_suit_the_kernels() -> None:
    packed = pack(make_field(layers=3, harmonics=1, channels=40, width=20), rays())
    sizes = {name: packed.decoder_params[f"n_hidden_{name}"].tolist() for name in ("trunk", "opacity", "color")}
    assert sizes == {"trunk": [64, 32, 32, 32], "opacity": [32, 32, 32, 1], "color": [32, 32, 32, 16]}
    assert packed.grid[0].shape == (1, 4, 5, 3, 64)
    assert packed.rays["encoding"].shape == (len(rays()), 32)
    tensors = [*packed.rays.values(), *packed.grid, packed.scaffold_1DHW, packed.decoder_params["mlp_params"]]
    assert {tensor.dtype for tensor in tensors} == {torch.float32, torch.int32}
    assert [padded(size) for size in (1, 3, 16, 17, 32, 33)] == [16, 16, 16, 32, 32, 64]


def test_an_empty_field_is_background() -> None:
    seen = render_lightplane([Field.empty(Decoder(4, 8, 1))], rays(), SAMPLES, BACKGROUND)
    torch.testing.assert_close(seen.colour, torch.full((len(rays()), 3), BACKGROUND))
    assert not any(values.any() for values in (seen.alpha, seen.depth, seen.shares))
    assert seen.shares.shape == (len(rays()), 1)


@pytest.mark.parametrize("count", [0, 2])
def test_one_field_alone(count: int) -> None:
    with pytest.raises(UserError, match=f"one field, not {count}; .*renderer"):
        render_lightplane([make_field()] * count, rays(), SAMPLES)


def test_the_kernels_need_a_cuda_device() -> None:
    with pytest.raises(UserError, match="CUDA device, and the field is on cpu; move"):
        render_lightplane([make_field()], rays(), SAMPLES)


@pytest.mark.skipif(importlib.util.find_spec("lightplane") is not None, reason="lightplane is installed")
def test_a_missing_package_is_named() -> None:
    with pytest.raises(UserError, match=r"lightplane cannot be imported \(No module.*; install it from https://"):
        render_lightplane([make_field()], rays(), SAMPLES, plain=True)


@pytest.mark.parametrize("plain", [True, False])
def test_lightplane_itself_agrees(plain: bool) -> None:
    pytest.importorskip("lightplane", reason="lightplane is not installed")
    if not (plain or torch.cuda.is_available()):
        pytest.skip("Lightplane's kernels need a CUDA device")
    device = "cpu" if plain else "cuda"
    made = make_field(layers=3, harmonics=1, supported=True, moved=True)
    volume = made.volume_CDHW.detach().to(device, torch.float32).requires_grad_()
    assert made.support_DHW is not None
    field = Field(volume, made.decoder.to(device, torch.float32), made.support_DHW.to(device)).placed(*MOVED)
    these = rays().to(device, torch.float32)
    expected = render_reference([field], these, SAMPLES, BACKGROUND)
    found = render_lightplane([field], these, SAMPLES, BACKGROUND, plain=plain)
    for name in ("colour", "alpha", "depth", "shares"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=1e-4, atol=1e-4)
    for ours, theirs in zip(gradients(found, field), gradients(expected, field), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-2, atol=1e-3)
