"""Pictures of parts together: colours, part ids, exploded views and their framing, GIF files."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from pipeline.errors import UserError
from pipeline.reconstruction.field import Decoder, Field
from pipeline.reconstruction.turntable import exploded, gif, part_picture, turntable, view
from pipeline.views.cameras import Camera

CAMERA = Camera(fov_deg=40.0, distance=3.1, size=32)
RED, GREEN = (0.9, 0.1, 0.1), (0.1, 0.8, 0.2)


def box(low: tuple[float, float, float], high: tuple[float, float, float], colour: tuple[float, float, float]) -> Field:
    """A solid between corners (x, y, z) that are multiples of 1/4."""
    decoder = Decoder(channels=1, width=2, layers=1, bias=60.0)
    with torch.no_grad():
        last = decoder.colour[-1]
        assert isinstance(last, nn.Linear)
        last.bias.copy_(torch.tensor(colour).logit())
    support_DHW = torch.zeros(8, 8, 8, dtype=torch.bool)
    x, y, z = (slice(round((a + 1) * 4), round((b + 1) * 4)) for a, b in zip(low, high, strict=True))
    support_DHW[z, y, x] = True
    return Field(torch.zeros(1, 1, 1, 1), decoder, support_DHW)


LEFT = box((-0.5, -0.5, -0.5), (0.0, 0.5, 0.5), RED)
RIGHT = box((0.0, -0.5, -0.5), (0.5, 0.5, 0.5), GREEN)


def test_parts_are_seen_in_their_colours_and_by_their_numbers() -> None:
    seen = view([LEFT, Field.empty(LEFT.decoder), RIGHT], CAMERA, 0.0, 0.0, samples=48)
    assert seen.picture_HW3.shape == (32, 32, 3)
    assert seen.picture_HW3.dtype == seen.labels_HW.dtype == np.uint8
    np.testing.assert_allclose(seen.picture_HW3[16, 12], np.array(RED) * 255, atol=1)
    np.testing.assert_allclose(seen.picture_HW3[16, 20], np.array(GREEN) * 255, atol=1)
    assert (seen.picture_HW3[0, 0] == 255).all()
    assert (seen.labels_HW[16, 12], seen.labels_HW[16, 20], seen.labels_HW[0, 0]) == (1, 3, 0)
    behind = view([LEFT, RIGHT], CAMERA, 90.0, 0.0, samples=48)  # from +X: the right part hides the left one
    assert set(np.unique(behind.labels_HW)) == {0, 2}


def test_of_two_parts_in_one_place_the_denser_is_seen_on_request() -> None:
    thick = replace(LEFT, decoder=Decoder(1, 2, 1, bias=90.0))
    both = view([LEFT, thick], CAMERA, 0.0, 0.0, 48).picture_HW3[16, 12]
    densest = view([LEFT, thick], CAMERA, 0.0, 0.0, 48, "densest").picture_HW3[16, 12]
    np.testing.assert_array_equal(densest, view([thick], CAMERA, 0.0, 0.0, 48).picture_HW3[16, 12])
    assert (both != densest).any()


def test_exploded_parts_move_away_by_a_multiple_of_their_centres() -> None:
    left, right, none = exploded([LEFT, RIGHT.moved((0, 1, 0)), Field.empty(LEFT.decoder)], 2.0)
    assert left.offset_3 == (-0.5, 0.0, 0.0)
    assert right.offset_3 == (0.5, 3.0, 0.0)
    assert none.is_empty
    assert exploded([LEFT], 0.0)[0].offset_3 == (0.0, 0.0, 0.0)


def test_a_part_without_support_is_given_one_that_its_centre_is_sought_in() -> None:
    volume = torch.zeros(1, 8, 8, 8)
    volume[0, 3:5, 3:5, 4] = 1.0
    decoder = Decoder(1, 2, 1, bias=-5.0)
    with torch.no_grad():
        for layer, weight in ((decoder.trunk[0], 1.0), (decoder.opacity[0], 40.0)):
            assert isinstance(layer, nn.Linear)
            layer.weight.fill_(weight)
    (part,) = exploded([Field(volume, decoder)], 1.0)
    assert part.support_DHW is not None
    assert part.offset_3 == pytest.approx((0.125, 0.0, 0.0))


def test_the_camera_steps_back_for_parts_that_moved_so_that_nothing_is_cut() -> None:
    parts = [
        LEFT,
        RIGHT,
        box((-0.5, 0.5, -0.5), (0.5, 0.75, 0.5), RED),
        box((-0.25, -0.75, -0.25), (0.25, -0.5, 0.25), GREEN),
    ]
    for explode in (0.0, 0.5, 3.0):
        seen = turntable(exploded(parts, explode), CAMERA, 20.0, frames=3, samples=32)
        drawn = seen.labels_FHW > 0
        assert not drawn[:, [0, -1]].any()
        assert not drawn[:, :, [0, -1]].any()
        assert all(set(np.unique(frame)) >= {1, 2, 3} for frame in seen.labels_FHW)
    # no farther than needed: the corner that sticks out most is near the border of one of the views
    rows, columns = drawn.any(axis=(0, 2)), drawn.any(axis=(0, 1))
    assert max(np.ptp(np.flatnonzero(rows)), np.ptp(np.flatnonzero(columns))) > 0.6 * CAMERA.size


def test_distance_and_samples_grow_with_the_scene() -> None:
    """A scene that is twice as large as another looks the same."""
    parts = [LEFT.moved((-1, 0, 0)), RIGHT.moved((1, 0.5, 0))]
    twice = [part.placed([2 * x for x in part.offset_3], 2.0) for part in parts]
    one, other = (view(some, CAMERA, 25.0, 10.0, 32) for some in (parts, twice))
    assert np.abs(one.picture_HW3.astype(int) - other.picture_HW3).mean() < 2
    assert (one.labels_HW != other.labels_HW).mean() < 0.01


def test_a_turn_counts_azimuths_as_cameras_do() -> None:
    seen = turntable([LEFT, RIGHT], CAMERA, 10.0, frames=4, samples=24)
    for frame, azimuth in enumerate((0.0, 90.0, 180.0, 270.0)):
        np.testing.assert_array_equal(
            seen.pictures_FHW3[frame], view([LEFT, RIGHT], CAMERA, azimuth, 10.0, 24).picture_HW3
        )


def test_part_ids_as_colours() -> None:
    coloured = part_picture(np.array([[[0, 1], [2, 0]]], np.uint8), count=2)
    assert coloured.tolist() == [[[[255, 255, 255], [96, 0, 112]], [[48, 255, 48], [255, 255, 255]]]]
    with pytest.raises(UserError, match="part colours"):
        part_picture(np.zeros((2, 2), np.uint8), count=50)


def decoded(file: bytes) -> tuple[np.ndarray, dict[str, object]]:
    with Image.open(io.BytesIO(file)) as animation:
        frames = []
        for number in range(animation.n_frames):  # type: ignore[attr-defined]
            animation.seek(number)
            frames.append(np.asarray(animation.convert("RGB")))
        return np.stack(frames), {str(key): value for key, value in animation.info.items()}


def test_a_gif_keeps_up_to_256_colours_and_runs_for_ever() -> None:
    generator = np.random.default_rng(0)
    colours = generator.integers(0, 256, (200, 3), dtype=np.uint8)
    frames = colours[generator.integers(0, 200, (5, 32, 24))]
    found, info = decoded(gif(frames, turn_s=1.0))
    np.testing.assert_array_equal(found, frames)
    assert (info["loop"], info["duration"]) == (0, 200)


def test_what_does_not_change_does_not_flicker() -> None:
    generator = np.random.default_rng(0)
    frames = generator.integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)  # many more colours than a palette has
    frames[:, :16] = generator.integers(0, 256, (16, 32, 3), dtype=np.uint8)
    found, _ = decoded(gif(frames))
    assert (found[:, :16] == found[0, :16]).all()
    assert np.abs(found.astype(int) - frames).mean() < 20


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(UserError, match="at least one part"):
        view([], CAMERA, 0.0, 0.0, 8)
    broken = replace(LEFT, volume_CDHW=torch.full((1, 1, 1, 1), float("nan")))
    with pytest.raises(UserError, match=r"Part 2 .* not finite"):
        turntable([LEFT, broken], CAMERA, 0.0, 1, 8)
