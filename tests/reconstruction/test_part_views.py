"""Pictures of parts, each alone and all together, against the renderer's own."""

import pytest
import torch
from torch import Tensor

from pipeline.reconstruction.field import Field
from pipeline.reconstruction.part_views import render_parts
from pipeline.reconstruction.renderer import Overlap, render_reference
from tests.reconstruction.test_renderer import decoder, field, rays

SAMPLES = 11


def support(seed: int) -> Tensor:
    return torch.rand(4, 4, 4, generator=torch.Generator().manual_seed(seed)) < 0.3


@pytest.mark.parametrize("overlap", ["additive", "densest"])
def test_pictures_are_the_renderers(overlap: Overlap) -> None:
    shared, other = decoder(ray_harmonics=2), decoder(channels=4, seed=1, gain=3.0)
    parts = [
        field(shared, seed=0, support=support(0)),
        Field.empty(shared),
        field(other, sides=(3, 5, 4), seed=1),  # without a support
        field(shared, seed=2, support=support(2)).placed((0.3, -0.2, 0.1), scale=0.7),
    ]
    alone_NR3, joint_R3 = render_parts(parts, rays(), SAMPLES, overlap)
    for part, alone_R3 in zip(parts, alone_NR3, strict=True):
        torch.testing.assert_close(alone_R3, render_reference([part], rays(), SAMPLES).colour, rtol=0, atol=1e-9)
    expected = render_reference(parts, rays(), SAMPLES, overlap=overlap).colour
    torch.testing.assert_close(joint_R3, expected, rtol=0, atol=1e-9)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [field(decoder(), seed=seed, support=support(seed)) for seed in range(2)]
    expected = render_parts(parts, rays(), SAMPLES)
    monkeypatch.setattr("pipeline.reconstruction.part_views.CHUNK_SAMPLES", 5 * SAMPLES)
    for found, wanted in zip(render_parts(parts, rays(), SAMPLES), expected, strict=True):
        torch.testing.assert_close(found, wanted)


def test_without_a_part_all_is_white() -> None:
    alone_NR3, joint_R3 = render_parts([], rays(), SAMPLES)
    assert alone_NR3.shape == (0, 81, 3)
    assert (joint_R3 == 1).all()
    assert (render_parts([Field.empty(decoder())], rays(), SAMPLES)[0] == 1).all()
