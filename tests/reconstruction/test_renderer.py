"""Fields, rays and the renderer of N parts: the formula, and the fast path against it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.errors import UserError
from pipeline.reconstruction import trilinear
from pipeline.reconstruction.field import Decoder, Field, load_field
from pipeline.reconstruction.rays import Rays, grid_rays, view_rays
from pipeline.reconstruction.renderer import Overlap, Rendered, composite, render, render_reference
from pipeline.views.cameras import GRID_AZIMUTHS, Camera, camera_to_world

CAMERA = Camera(fov_deg=40.0, distance=3.1, size=9)
OUTPUTS = ("colour", "alpha", "depth", "shares")


def rays(count: int = 81) -> Rays:
    """Of one view, in float64; those of the corners miss."""
    return view_rays(CAMERA, 30.0, 20.0).flat().to(torch.float64)[:count]


def decoder(channels: int = 6, layers: int = 2, seed: int = 0, **options: float) -> Decoder:
    torch.manual_seed(seed)
    return Decoder(channels, 8, layers, int(options.pop("ray_harmonics", 0)), **{"bias": 0.0, **options}).double()


def field(read: Decoder, sides: Sequence[int] = (4, 4, 4), seed: int = 0, support: Tensor | None = None) -> Field:
    generator = torch.Generator().manual_seed(seed)
    volume = torch.randn(int(read.config["channels"]), *sides, generator=generator, dtype=torch.float64)
    return Field(volume.requires_grad_(), read, support)


def gradients(rendered: Rendered, fields: Sequence[Field]) -> list[Tensor]:
    """Of a sum of all outputs with fixed random weights, for every volume and weight."""
    generator = torch.Generator().manual_seed(9)
    values = (getattr(rendered, name) for name in OUTPUTS)
    loss = sum((value * torch.randn(value.shape, generator=generator, dtype=value.dtype)).sum() for value in values)
    weights = {id(weight): weight for one in fields for weight in one.decoder.parameters()}
    return list(torch.autograd.grad(loss, [one.volume_CDHW for one in fields] + list(weights.values())))


def linear(layers: nn.Sequential) -> nn.Linear:
    """The first of the layers."""
    first = layers[0]
    assert isinstance(first, nn.Linear)
    return first


def assert_same(one: Rendered, other: Rendered, atol: float = 1e-12) -> None:
    for name in OUTPUTS:
        torch.testing.assert_close(getattr(one, name), getattr(other, name), rtol=0, atol=atol)


def assert_paths_agree(fields: Sequence[Field], samples: int, overlap: Overlap, chunks: Sequence[int]) -> Rendered:
    """Values and gradients of the fast path against the reference's, which are returned."""
    expected = render_reference(fields, rays(), samples, overlap=overlap)
    expected_gradients = gradients(expected, fields)
    for chunk in chunks:
        found = render(fields, rays(), samples, overlap=overlap, chunk_samples=chunk)
        assert_same(found, expected)
        for ours, theirs in zip(gradients(found, fields), expected_gradients, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
    return expected


def cells(sides: Sequence[int], seed: int = 0) -> Tensor:
    """A random support, about half of the cells."""
    return torch.rand(*sides, generator=torch.Generator().manual_seed(seed)) > 0.5


def nowhere(sides: Sequence[int]) -> Tensor:
    return torch.zeros(*sides, dtype=torch.bool)


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("samples", [2, 13])
@pytest.mark.parametrize("parts", [1, 2, 5])
def test_fast_path_and_reference_give_the_same_values_and_gradients(parts: int, samples: int, layers: int) -> None:
    shared, own = decoder(layers=layers, ray_harmonics=2), decoder(4, layers, seed=1)
    fields = [
        field(shared),
        field(shared, (3, 5, 4), 1, cells((3, 3, 3))),
        field(own, (5, 5, 5), 2),
        field(shared, (4, 4, 4), 3, nowhere((4, 4, 4))),
        field(own, (2, 2, 2), 4),
    ][:parts]
    assert_paths_agree(fields, samples, "additive", (60, 300, 10**6))


@pytest.mark.parametrize("overlap", ["additive", "densest"])
def test_paths_agree_on_parts_of_different_resolutions_and_places(overlap: Overlap) -> None:
    shared, own = decoder(ray_harmonics=2), decoder(4, 3, seed=1)
    fields = [
        field(shared).placed((0.3, -0.2, 0.1), 0.7),
        field(shared, (3, 6, 4), 1, cells((3, 3, 3))).moved((-0.5, 0.25, 0.0)),
        field(own, (7, 7, 7), 2),
        field(decoder(seed=2), (4, 4, 4), 3, nowhere((2, 2, 2))),  # its decoder reads nothing
        field(own, (2, 2, 2), 4).placed((0.0, 0.1, 0.2), 1.8),
        field(shared, (4, 4, 4), 5).placed((0.3, -0.2, 0.1), 0.7),
    ]
    assert_paths_agree(fields, 13, overlap, (200, 10**6))


@pytest.mark.parametrize("chunk", [1, 40, 10**6])
def test_paths_agree_where_all_parts_have_a_support(chunk: int) -> None:
    one = torch.zeros(4, 4, 4, dtype=torch.bool)
    one[1, 2, 3] = True  # most rays miss it
    fields = [
        field(decoder(), support=one),
        field(decoder(ray_harmonics=1), (3, 3, 3), 1, one.roll(1)).moved((0, 0, 1)),
    ]
    expected = assert_paths_agree(fields, 13, "additive", [chunk])
    assert 0 < (expected.alpha > 0).sum() < 40
    assert not assert_paths_agree([fields[0].moved((9, 9, 9))], 5, "additive", [chunk]).alpha.any()


def test_a_part_that_moved_is_seen_as_from_a_camera_that_moved() -> None:
    one = field(decoder(ray_harmonics=1), support=cells((4, 4, 4)))
    offset, scale = (0.5, -1.0, 0.25), 1.5
    camera = rays()
    elsewhere = Rays(
        camera.origins * scale + torch.tensor(offset), camera.directions, camera.near * scale, camera.far * scale
    )
    here, there = render([one], camera, 11), render([one.placed(offset, scale)], elsewhere, 11)
    assert_same(replace(there, depth=there.depth / scale), here, atol=1e-9)
    assert (here.alpha > 0.5).any()


def test_moving_adds_up_and_places_that_are_none_are_refused() -> None:
    one = field(decoder()).placed((1, 2, 3), 0.5).moved((0, 0, -3))
    assert (one.offset_3, one.scale) == ((1.0, 2.0, 0.0), 0.5)
    assert (one.placed((0, 0, 1)).offset_3, one.placed((0, 0, 1)).scale) == ((0.0, 0.0, 1.0), 1.0)
    for offset, scale in (((0, 0, 0), 0.0), ((0, 0, 0), -1.0), ((math.nan, 0, 0), 1.0), ((0, 0, 0), math.inf)):
        with pytest.raises(UserError, match="cannot stand at"):
            one.placed(offset, scale)


def test_of_parts_that_overlap_the_densest_alone_is_seen() -> None:
    thin, dense = field(decoder(bias=1.0)), field(decoder(bias=9.0, seed=1))
    for path in (render, render_reference):
        found = path([thin, dense], rays(), 9, overlap="densest")
        alone = path([dense], rays(), 9)
        assert_same(replace(found, shares=found.shares[:, 1:]), alone)
        assert not found.shares[:, 0].any()
        assert path([thin, dense], rays(), 9).shares[:, 0].any()
    copies = render([thin, thin, thin], rays(), 9, overlap="densest")
    assert_same(replace(copies, shares=copies.shares[:, :1]), render([thin], rays(), 9))


def test_an_empty_field_is_nothing_and_costs_nothing() -> None:
    one, none = field(decoder()), Field.empty(decoder(seed=1))
    assert none.is_empty
    assert not one.is_empty
    assert not none.opacity(torch.zeros(1, 3, dtype=torch.float64)).any()
    for overlap in ("additive", "densest"):
        found, alone = render([none, one, none], rays(), 9, overlap=overlap), render([one], rays(), 9)
        assert_same(replace(found, shares=found.shares[:, 1:2]), alone, atol=0)
        assert not found.shares[:, [0, 2]].any()
    assert not render([none], rays(), 9).alpha.any()
    calls: list[object] = []
    none.decoder.register_forward_hook(lambda *call: calls.append(call))
    render([none] * 10, rays(), 9)
    render([none, one], rays(), 9)
    assert not calls


def test_opacity_is_evaluated_where_something_may_be() -> None:
    one = field(decoder(), support=cells((3, 3, 3))).placed((0.2, 0.0, 0.0), 0.8)
    points = rays().points(5).view(-1, 3)
    expected, _ = one.evaluate(points, torch.ones_like(points))
    torch.testing.assert_close(one.opacity(points), expected)
    read: list[Tensor] = []
    one.decoder.trunk.register_forward_hook(lambda module, inputs, output: read.append(inputs[0]))
    one.opacity(points)
    assert [len(features) for features in read] == [int(one.occupied(points).sum())]
    assert 0 < len(read[0]) < len(points)


def test_formula_of_the_supplement_sample_by_sample() -> None:
    generator = torch.Generator().manual_seed(0)
    sigma = torch.rand(4, 5, 3, generator=generator, dtype=torch.float64) * 4
    sigma[1, 2] = 0.0  # empty space, where the weights are 0/0
    colour = torch.rand(4, 5, 3, 3, generator=generator, dtype=torch.float64)
    some = rays()[38:42]
    found = composite(sigma, colour, some, background=0.25)
    for r in range(4):
        step = float(some.far[r] - some.near[r]) / 4
        transmittance, seen, depth, shares = 1.0, np.zeros(3), 0.0, np.zeros(3)
        for j in range(5):
            total = float(sigma[r, j].sum())
            after = transmittance * math.exp(-step * total)
            for h in range(3):
                weight = (transmittance - after) * float(sigma[r, j, h]) / total if total else 0.0
                seen += weight * colour[r, j, h].numpy()
                shares[h] += weight
            depth += (transmittance - after) * (float(some.near[r]) + j * step)
            transmittance = after
        np.testing.assert_allclose(found.colour[r], seen + transmittance * 0.25, atol=1e-9)
        np.testing.assert_allclose(found.alpha[r], 1 - transmittance, atol=1e-12)
        np.testing.assert_allclose(found.depth[r], depth, atol=1e-9)
        np.testing.assert_allclose(found.shares[r], shares, atol=1e-9)


@pytest.mark.parametrize("path", [render_reference, render])
def test_one_part_is_the_plain_renderer(path: Callable[..., Rendered]) -> None:
    one, some = field(decoder()), rays()
    sigma, colour = one.evaluate(some.points(7).view(-1, 3), some.directions.repeat_interleave(7, 0))
    absorbed = sigma.view(-1, 7) * some.steps(7)[:, None]
    passed = F.pad(torch.exp(-absorbed.cumsum(1)), (1, 0), value=1.0)
    visible = passed[:, :-1] - passed[:, 1:]
    found = path([one], some, 7)
    expected = (visible[..., None] * colour.view(-1, 7, 3)).sum(1) + passed[:, -1:]
    torch.testing.assert_close(found.colour, expected, rtol=0, atol=1e-9)
    torch.testing.assert_close(found.alpha, 1 - passed[:, -1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("path", [render_reference, render])
def test_copies_that_share_the_opacity_are_one_part(path: Callable[..., Rendered]) -> None:
    one = field(decoder())
    thin = decoder(gain=0.25)
    assert_same(
        replace(path([Field(one.volume_CDHW, thin)] * 4, rays(), 9), shares=torch.empty(0)),
        replace(path([one], rays(), 9), shares=torch.empty(0)),
        atol=1e-9,
    )


def test_the_first_sample_emits() -> None:
    sigma, colour = torch.zeros(1, 3, 1), torch.zeros(1, 3, 1, 3)
    sigma[0, 0], colour[0, 0] = 1e4, torch.tensor([0.9, 0.5, 0.1])
    middle = rays()[40:41].to(torch.float32)
    found = composite(sigma, colour, middle, background=1.0)
    torch.testing.assert_close(found.colour, torch.tensor([[0.9, 0.5, 0.1]]))
    torch.testing.assert_close(found.depth, middle.near)


def test_rays_that_miss_and_parts_that_are_empty_show_the_background() -> None:
    empty = field(decoder(), support=torch.zeros(4, 4, 4, dtype=torch.bool))
    for fields, some in (([empty, empty], rays()), ([field(decoder())], rays()[:1])):
        found = render(fields, some, 5, background=0.5)
        assert (found.colour == 0.5).all()
        assert not found.alpha.any()
        assert not any(gradient.any() for gradient in gradients(found, fields))


def test_shares_add_up_to_alpha_and_name_the_part_in_sight() -> None:
    halves = torch.zeros(2, 4, 4, 4, dtype=torch.bool)
    halves[0, :, :, :2], halves[1, :, :, 2:] = True, True  # left and right of x = 0
    dense = decoder(bias=6.0)
    found = render(
        [field(dense, support=half) for half in halves], view_rays(CAMERA, 0.0, 0.0).flat().to(torch.float64), 40
    )
    torch.testing.assert_close(found.shares.sum(dim=1), found.alpha)
    picture = found.shares.view(9, 9, 2)
    assert (picture[4, 1:4].argmax(dim=-1) == 0).all()
    assert (picture[4, 5:8].argmax(dim=-1) == 1).all()


def test_no_memory_of_a_sample_is_kept_for_the_backward_pass() -> None:
    fields = [field(decoder()), field(decoder(seed=1))]

    def saved(path: Callable[..., Rendered], samples: int) -> int:
        sizes: dict[int, int] = {}
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor: sizes.setdefault(tensor.data_ptr(), tensor.numel()) and tensor, lambda tensor: tensor
        ):
            path(fields, rays(), samples)
        return sum(sizes.values())

    assert saved(render, 30) == saved(render, 3)
    assert saved(render_reference, 30) > 8 * saved(render_reference, 3)  # what the measure is good for


def test_weights_changed_before_the_backward_pass_are_noticed() -> None:
    one = field(decoder())
    found = render([one], rays(), 4)
    with torch.no_grad():
        linear(one.decoder.trunk).weight.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        found.colour.sum().backward()


def test_haze_adds_up_over_parts_and_a_support_ends_it() -> None:
    hazy = decoder(gain=1.0, bias=-5.0)
    for weight in hazy.opacity[-1].parameters():  # the same faint opacity everywhere
        weight.data.mul_(1.0 if weight.ndim == 1 else 0.0)
    parts = [field(hazy, seed=seed) for seed in range(10)]
    middle = rays()[40:41]
    assert render(parts[:1], middle, 64).alpha.item() == pytest.approx(0.013, abs=1e-3)
    assert render(parts, middle, 64).alpha.item() == pytest.approx(0.126, abs=2e-3)
    assert render([part.supported(0.5) for part in parts], middle, 64).alpha.item() == 0.0


def test_support_covers_what_is_dense_and_little_else() -> None:
    read = decoder(channels=1, layers=1)
    with torch.no_grad():  # opacity follows the only feature
        linear(read.trunk).weight.fill_(1.0)
        linear(read.opacity).weight.fill_(1.0)
        linear(read.opacity).bias.fill_(-20.0)
    volume = torch.zeros(1, 8, 8, 8, dtype=torch.float64)
    volume[0, 1, 4, 5] = 10.0
    volume[0, 7, 7, 7] = 10.0  # beyond the sphere that rays are bounded by
    supported = Field(volume, read).supported(floor=0.1).support_DHW
    assert supported is not None
    expected = torch.zeros(8, 8, 8, dtype=torch.bool)
    expected[0:4, 2:7, 3:7] = True  # where the feature fades out, and a cell around that
    assert supported[0:3, 3:6, 4:7].all()
    assert not supported[~torch.nn.functional.max_pool3d(expected[None].double(), 3, 1, 1)[0].bool()].any()
    restricted = Field(volume, read, torch.zeros(2, 2, 2, dtype=torch.bool)).supported(0.1).support_DHW
    assert restricted is not None
    assert not restricted.any()


def test_a_field_survives_its_file(tmp_path: Path) -> None:
    read = decoder(ray_harmonics=2, gain=3.0)
    one = field(read, (3, 4, 5), support=torch.rand(3, 4, 5) > 0.3).placed((0.1, 0.2, -0.3), 1.25)
    for number, some in enumerate((one, Field.empty(read))):
        some.save(tmp_path / f"{number}.safetensors")
        some.save(tmp_path / "again.safetensors")
        found = load_field(tmp_path / f"{number}.safetensors")
        assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / f"{number}.safetensors").read_bytes()
        assert_same(render([found], rays(), 8), render([some], rays(), 8), atol=0)
        assert (found.offset_3, found.scale) == (some.offset_3, some.scale)


def test_files_that_hold_no_field_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no field at"):
        load_field(tmp_path / "none.safetensors")
    (tmp_path / "text").write_text("not a tensor")
    with pytest.raises(UserError, match="is no field"):
        load_field(tmp_path / "text")
    broken = field(decoder())
    broken.volume_CDHW.data[0, 0, 0, 0] = float("nan")
    broken.save(tmp_path / "nan.safetensors")
    with pytest.raises(UserError, match="not finite"):
        load_field(tmp_path / "nan.safetensors")
    with pytest.raises(UserError, match="at least one part"):
        render([], rays(), 4)


def test_a_ray_goes_through_its_pixel() -> None:
    camera = Camera(50.0, 3.1, 6)
    for view, azimuth in enumerate(GRID_AZIMUTHS):
        seen = grid_rays(camera, 20.0)[view]
        into = np.linalg.inv(camera_to_world(azimuth, 20.0, camera.distance))
        points = seen.points(3).numpy().reshape(-1, 3) @ into[:3, :3].T + into[:3, 3]
        focal = camera.size / 2 / math.tan(math.radians(25.0))
        column = camera.size / 2 + focal * points[:, 0] / -points[:, 2]
        row = camera.size / 2 - focal * points[:, 1] / -points[:, 2]
        expected_row, expected_column = np.mgrid[:6, :6].reshape(2, -1, 1) + 0.5
        np.testing.assert_allclose(column.reshape(36, 3), expected_column.repeat(3, 1), atol=1e-4)
        np.testing.assert_allclose(row.reshape(36, 3), expected_row.repeat(3, 1), atol=1e-4)


def test_rays_are_bounded_by_the_unit_sphere() -> None:
    seen = rays()
    hit = seen.far > seen.near
    ends = seen.points(2)
    torch.testing.assert_close(
        ends[hit].norm(dim=-1), torch.ones(int(hit.sum()), 2, dtype=torch.float64), atol=1e-5, rtol=0
    )
    assert (ends[~hit].norm(dim=-1) >= 1).all()
    assert hit[40]
    assert not hit[0]
    moved = seen.jittered(5, torch.Generator().manual_seed(0))
    assert ((moved.near - seen.near).abs() <= seen.steps(5) / 2).all()
    assert not torch.equal(moved.near, seen.near)


def test_gathering_is_grid_sample_and_scattering_its_transpose() -> None:
    generator = torch.Generator().manual_seed(0)
    volume = torch.randn(3, 4, 5, 6, generator=generator, dtype=torch.float64)
    points = torch.rand(200, 3, generator=generator, dtype=torch.float64) * 2.8 - 1.4
    points[0], points[1] = 1.0, -1.0
    at = trilinear.corners(points, volume.shape[1:])
    gathered = trilinear.gather(trilinear.table(volume), at)
    torch.testing.assert_close(gathered, Field(volume, decoder(3)).features(points), atol=1e-12, rtol=0)
    values = torch.randn(200, 3, generator=generator, dtype=torch.float64)
    into = torch.zeros(120, 3, dtype=torch.float64)
    trilinear.scatter(into, at, values)
    torch.testing.assert_close((gathered * values).sum(), (trilinear.table(volume) * into).sum())
    torch.testing.assert_close(trilinear.volume(trilinear.table(volume), volume.shape[1:]), volume)


def test_fast_path_runs_without_data() -> None:
    with torch.device("meta"):
        one = Field(torch.empty(6, 4, 4, 4, requires_grad=True), Decoder(6, 8, 2))
    found = render([one, one], view_rays(CAMERA, 0.0, 0.0, "meta").flat(), 16, chunk_samples=1000)
    found.colour.sum().backward()
    assert one.volume_CDHW.grad is not None
    assert one.volume_CDHW.grad.shape == one.volume_CDHW.shape
