"""Surfaces of fields: where they stand, that they are closed, their colours and their textures."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.spatial import cKDTree
from skimage.measure import marching_cubes
from torch import Tensor, nn
from trimesh import Trimesh
from trimesh.graph import connected_components
from trimesh.visual import ColorVisuals, TextureVisuals

from pipeline.errors import UserError
from pipeline.params.reconstruct import MeshParams
from pipeline.reconstruction.field import Decoder, Field
from pipeline.reconstruction.meshing import EmptyField, mesh_field
from pipeline.reconstruction.texture import surface_colours

GAIN = 20.0
STEEPNESS = 30.0
"""Logits of opacity over a unit of length."""
SURFACE = GAIN * math.log(2)
"""Opacity where its logit is 0."""


def params(**values: Any) -> MeshParams:
    chosen = {"resolution": 32, "level": SURFACE, "min_piece_share": 0.02, "max_triangles": 10**6, "texture_px": 0}
    return MeshParams(**{**chosen, **values})


def colours(mesh: Trimesh) -> np.ndarray:
    assert isinstance(mesh.visual, ColorVisuals)
    return np.asarray(mesh.visual.vertex_colors)


def texture(mesh: Trimesh) -> np.ndarray:
    assert isinstance(mesh.visual, TextureVisuals)
    return np.asarray(mesh.visual.material.baseColorTexture)


def decoder(ray_harmonics: int = 0) -> Decoder:
    """Channels are the logit of opacity and three of colour; each goes through the relu as relu(x) and relu(-x)."""
    read = Decoder(4, 8, 1, ray_harmonics, gain=GAIN, bias=0.0)
    pairs = torch.cat((torch.eye(4), -torch.eye(4)))
    for layers, weight in ((read.trunk, pairs), (read.opacity, pairs.t()[:1]), (read.colour, pairs.t()[1:])):
        first = layers[0]
        assert isinstance(first, nn.Linear)
        first.weight.data.copy_(weight)
    return read.requires_grad_(False)


def field(
    depth: Callable[[Tensor, Tensor, Tensor], Tensor],
    colour: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None,
    sides: tuple[int, int, int] = (16, 16, 16),
    **options: Any,
) -> Field:
    """Of a body that lies where `depth` of x, y, z, a length, is above 0; `sides` along z, y, x."""
    axes = [(torch.arange(side) + 0.5) * 2 / side - 1 for side in sides]
    z, y, x = torch.meshgrid(*axes, indexing="ij")
    volume = torch.zeros(4, *sides)
    volume[0] = STEEPNESS * depth(x, y, z)
    if colour is not None:
        volume[1:] = colour(x, y, z)
    return Field(volume, **{"decoder": decoder(), **options})


def ball(radius: float, centre: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Callable[..., Tensor]:
    a, b, c = centre
    return lambda x, y, z: radius - ((x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2).sqrt()


def box(low: tuple[float, float, float], high: tuple[float, float, float]) -> Callable[..., Tensor]:
    def depth(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        walls = [torch.minimum(at - one, other - at) for at, one, other in zip((x, y, z), low, high, strict=True)]
        return torch.stack(walls).amin(dim=0)

    return depth


def noise(sides: tuple[int, int, int], seed: int = 0) -> Field:
    generator = torch.Generator().manual_seed(seed)
    volume = torch.randn(4, *sides, generator=generator)
    return Field(5 * F.avg_pool3d(volume, 3, 1, 1), decoder())


def plain(one: Field, resolution: int) -> Trimesh:
    """The surface of all points of the cube, looked at one and all."""
    axis = (torch.arange(resolution) + 0.5) * 2 / resolution - 1
    points = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1).view(-1, 3)
    opacity = one.opacity(points).double()
    margins = torch.where(opacity > 0, torch.log(torch.expm1(opacity / GAIN)), -1.0).view((resolution,) * 3)
    padded = np.pad(margins.numpy().astype(np.float32), 1, constant_values=-1.0)
    vertices, faces, _, _ = marching_cubes(padded, 0.0, gradient_direction="ascent")
    return Trimesh(((vertices - 0.5) * 2 / resolution - 1).clip(-1, 1), faces)


def assert_closed(mesh: Trimesh) -> None:
    assert mesh.is_watertight
    assert mesh.is_winding_consistent
    assert mesh.volume > 0  # normals outwards


def assert_same_triangles(one: Trimesh, other: Trimesh) -> None:
    assert len(one.faces) == len(other.faces)
    distances, _ = cKDTree(one.triangles_center).query(other.triangles_center)
    assert distances.max() < 1e-5


def test_surface_stands_where_the_body_ends() -> None:
    centre = (0.2, -0.1, 0.3)
    mesh = mesh_field(field(ball(0.5, centre), sides=(12, 20, 16)), params(resolution=48))
    assert_closed(mesh)
    # Trilinear interpolation of a distance overestimates it between the cells' centres.
    assert np.abs(np.linalg.norm(mesh.vertices - centre, axis=1) - 0.5).max() < 0.012
    outwards = np.einsum("vc,vc->v", mesh.vertex_normals, (mesh.vertices - centre) / 0.5)
    assert outwards.min() > 0.9


@pytest.mark.parametrize("level", [1.0, SURFACE, 60.0])
def test_opacity_at_the_surface_is_the_level_per_unit_of_length(level: float) -> None:
    one = field(ball(0.5))
    mesh = mesh_field(one, params(level=level))
    opacity = one.opacity(torch.tensor(mesh.vertices, dtype=torch.float32))
    cell = 2 / 16
    assert (opacity / GAIN).expm1().log().sub(math.log(math.expm1(level / GAIN))).abs().max() < STEEPNESS * cell / 20


@pytest.mark.parametrize("sides", [(8, 8, 8), (5, 8, 6), (16, 16, 16)])
def test_looking_only_near_the_surface_finds_the_same_surface(sides: tuple[int, int, int]) -> None:
    one = noise(sides)
    for some in (one, one.supported(1.0)):
        mesh = mesh_field(some, params(min_piece_share=0), others=[Field.empty(one.decoder)])
        assert_same_triangles(mesh, plain(some, 32))
        assert_closed(mesh)


def test_a_sheet_of_one_cell_is_not_missed_between_coarse_points() -> None:
    one = field(box((-0.7, 0.02, -0.7), (0.7, 0.1, 0.7)))
    assert_same_triangles(mesh_field(one, params(resolution=64)), plain(one, 64))


@pytest.mark.parametrize("known", [False, True])
def test_empty_space_is_not_evaluated(known: bool) -> None:
    one = field(ball(0.4))
    one = one.supported(1.0) if known else one
    looked_at = {"opacity": 0, "colour": 0}

    def count(name: str) -> Callable[..., None]:
        return lambda module, inputs, output: looked_at.update({name: looked_at[name] + len(output)})

    for name in looked_at:
        getattr(one.decoder, name).register_forward_hook(count(name))
    mesh_field(one, params(resolution=64))
    # Colours are evaluated at the surface alone, and opacity with them.
    assert looked_at["opacity"] - looked_at["colour"] < 64**3 * (0.08 if known else 0.17)


def test_what_the_support_leaves_out_is_empty() -> None:
    support = torch.zeros(2, 1, 1, dtype=torch.bool)
    support[1] = True
    mesh = mesh_field(field(ball(0.5), support_DHW=support), params())
    assert_closed(mesh)
    assert mesh.bounds[0][2] == pytest.approx(0, abs=2 / 32)
    assert mesh.bounds[1][2] == pytest.approx(0.5, abs=0.02)


def test_closed_where_the_body_crosses_the_border_of_the_cube() -> None:
    mesh = mesh_field(field(ball(0.5, (0.8, 0.0, -0.9))), params())
    assert_closed(mesh)
    assert mesh.bounds[1][0] == 1
    assert mesh.bounds[0][2] == -1
    everywhere = mesh_field(field(lambda x, y, z: 0 * x + 1), params())
    assert_closed(everywhere)
    assert everywhere.volume == pytest.approx(8, rel=2e-3)


def test_specks_are_dropped_by_their_share_of_the_largest_piece() -> None:
    large, small = ball(0.5, (-0.3, 0.0, 0.0)), ball(0.2, (0.7, 0.0, 0.0))
    one = field(lambda x, y, z: torch.maximum(large(x, y, z), small(x, y, z)))
    share = (0.2 / 0.5) ** 3
    assert mesh_field(one, params(min_piece_share=share / 2)).body_count == 2
    kept = mesh_field(one, params(min_piece_share=share * 2))
    assert kept.body_count == 1
    assert kept.bounds[1][0] == pytest.approx(0.2, abs=0.02)


def test_a_cavity_is_filled_unless_another_part_has_it() -> None:
    shell = field(lambda x, y, z: torch.minimum(ball(0.7)(x, y, z), -ball(0.35)(x, y, z)))
    assert mesh_field(shell, params()).volume == pytest.approx(4 / 3 * math.pi * 0.7**3, rel=0.05)
    core = field(lambda x, y, z: 2 * ball(0.3)(x, y, z))
    assert mesh_field(shell, params(), [core]).body_count == 2


def test_decimation_keeps_the_bound_and_the_body() -> None:
    one = field(ball(0.6))
    fine, coarse = mesh_field(one, params()), mesh_field(one, params(max_triangles=300))
    assert len(fine.faces) > 1000
    assert len(coarse.faces) <= 300
    assert_closed(coarse)
    assert coarse.volume == pytest.approx(fine.volume, rel=0.03)


def test_decimation_opens_no_holes() -> None:
    mesh = mesh_field(noise((16, 16, 16)), params(max_triangles=2000))
    assert len(mesh.faces) <= 2000
    _, times = np.unique(mesh.edges_sorted, axis=0, return_counts=True)
    assert (times % 2 == 0).all()
    assert mesh.is_winding_consistent
    assert len(np.unique(np.sort(mesh.faces, axis=1), axis=0)) == len(mesh.faces)


def test_overlapping_boxes_are_divided_at_the_densest() -> None:
    one = field(box((-0.75, -0.5, -0.5), (0.25, 0.5, 0.5)))
    other = field(box((-0.25, -0.5, -0.5), (0.75, 0.5, 0.5)))
    alone, left, right = (
        mesh_field(*arguments) for arguments in ((one, params()), (one, params(), [other]), (other, params(), [one]))
    )
    assert alone.bounds[1][0] == pytest.approx(0.25, abs=0.01)
    for mesh in (left, right):
        assert_closed(mesh)
    # Near the walls y and z, which the two share, they are equally dense, and the place is nobody's.
    assert left.volume + right.volume < 1.5
    core = [mesh.vertices[np.abs(mesh.vertices[:, 1:]).max(axis=1) < 0.2] for mesh in (left, right)]
    assert core[0][:, 0].max() == pytest.approx(0, abs=1e-3)
    assert core[1][:, 0].min() == pytest.approx(0, abs=1e-3)


def test_a_part_of_another_scale_is_compared_in_the_unit_of_the_scene() -> None:
    one, other = field(ball(0.5)), field(ball(0.5))
    # Half as large, twice as opaque per unit of length.
    mesh = mesh_field(one, params(), [other.placed((0.0, 0.0, 0.0), 0.5)])
    assert mesh.body_count == 2
    cavity = min(mesh.split(only_watertight=False), key=lambda body: np.abs(body.bounds).max())
    # Equal where 1/2 - r = 2 (1/2 - 2 r).
    assert np.abs(cavity.bounds).max() == pytest.approx(1 / 6, abs=0.02)


def test_a_placed_field_has_the_same_mesh_elsewhere() -> None:
    one = field(ball(0.5), lambda x, y, z: torch.stack((3 * x, 3 * y, 3 * z)))
    home, away = mesh_field(one, params()), mesh_field(one.placed((3.0, -2.0, 0.5), 0.25), params())
    np.testing.assert_allclose(away.vertices, home.vertices * 0.25 + (3.0, -2.0, 0.5), atol=1e-5)
    np.testing.assert_array_equal(away.faces, home.faces)
    difference = colours(away).astype(int) - colours(home)
    assert np.abs(difference).max() <= 1


def test_an_empty_field_is_an_absence_and_a_thin_one_a_mistake() -> None:
    with pytest.raises(EmptyField, match="empty"):
        mesh_field(Field.empty(decoder()), params())
    one = field(ball(0.5))
    with pytest.raises(EmptyField, match="denser"):
        mesh_field(one, params(), [field(lambda x, y, z: 0 * x + 1)])
    with pytest.raises(UserError, match=r"level 900 .* 2\d\d;.*lower reconstruct\.mesh\.level") as caught:
        mesh_field(one, params(level=900.0))
    assert not isinstance(caught.value, EmptyField)


@pytest.mark.parametrize("which", ["field", "others"])
def test_features_that_are_not_finite_are_refused(which: str) -> None:
    good = field(ball(0.5))
    bad = replace(good, volume_CDHW=good.volume_CDHW.clone())
    bad.volume_CDHW[2, 3, 3, 3] = torch.nan
    with pytest.raises(UserError, match="not finite"):
        mesh_field(*((bad, params()) if which == "field" else (good, params(), [bad])))


def test_vertices_have_the_colours_of_the_field() -> None:
    one = field(ball(0.6), lambda x, y, z: torch.stack((4 * x, 4 * y, 4 * z)))
    mesh = mesh_field(one, params())
    expected = 1 / (1 + np.exp(-4 * mesh.vertices))
    assert np.abs(colours(mesh)[:, :3] / 255 - expected).mean() < 0.02
    assert (colours(mesh)[:, 3] == 255).all()


def test_colours_are_those_seen_against_the_normal() -> None:
    read = decoder(ray_harmonics=1)
    assert read.ray is not None
    read.ray.weight.zero_()
    read.ray.weight[1, -3] = 20.0  # red's logit rises with the direction's x
    one = field(ball(0.5), decoder=read)
    mesh = mesh_field(one, params())
    red = colours(mesh)[:, 0]
    assert red[mesh.vertices[:, 0] < -0.2].min() > 240  # seen along +x
    assert red[mesh.vertices[:, 0] > 0.2].max() < 135


def test_a_texture_has_the_colour_of_the_surface_at_every_point() -> None:
    one = field(ball(0.6), lambda x, y, z: torch.stack((4 * x, 4 * y, 4 * z)))
    mesh = mesh_field(one, params(max_triangles=600, texture_px=128))
    assert isinstance(mesh.visual, TextureVisuals)
    picture = np.asarray(mesh.visual.material.baseColorTexture)
    assert picture.shape == (128, 128, 3)
    uv = mesh.visual.uv[mesh.faces].mean(axis=1)
    assert ((uv > 0) & (uv < 1)).all()
    column, row = np.int64(uv[:, 0] * 128), np.int64((1 - uv[:, 1]) * 128)
    expected = surface_colours(one, mesh.triangles_center, mesh.face_normals)
    assert np.abs(picture[row, column] / 255 - expected).mean() < 0.015
    welded = Trimesh(mesh.vertices, mesh.faces)
    welded.merge_vertices()
    assert_closed(welded)


def test_a_rough_surface_has_few_charts() -> None:
    bumps = torch.randn(16, 16, 16, generator=torch.Generator().manual_seed(0))
    mesh = mesh_field(field(lambda x, y, z: ball(0.6)(x, y, z) + 0.05 * bumps), params(texture_px=64))
    plain_mesh = Trimesh(mesh.vertices, mesh.faces, process=False)
    charts = connected_components(plain_mesh.face_adjacency, nodes=np.arange(len(mesh.faces)))
    assert len(charts) < 20  # 57 of the surface with its ripples


def test_a_texture_does_not_depend_on_how_small_the_part_is_placed() -> None:
    one = field(ball(0.6), lambda x, y, z: torch.stack((4 * x, 4 * y, 4 * z)))
    pictures = [texture(mesh_field(some, params(texture_px=64))) for some in (one, one.placed((3.0, -2.0, 0.5), 2**-7))]
    values = [np.sort(picture.reshape(-1, 3), axis=0).astype(int) for picture in pictures]
    assert np.abs(values[0] - values[1]).mean() < 4


def test_a_texture_is_padded_beyond_the_seams() -> None:
    one = field(ball(0.6), lambda x, y, z: torch.stack((0 * x - 3, 0 * x + 1, 0 * x + 3)))
    picture = texture(mesh_field(one, params(texture_px=64, max_triangles=200)))
    assert np.abs(picture.astype(int) - picture[0, 0]).max() <= 1
