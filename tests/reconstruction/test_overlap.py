"""The overlap of parts, on boxes whose volumes are known."""

import pytest
import torch

from pipeline.errors import UserError
from pipeline.reconstruction.field import Decoder, Field
from pipeline.reconstruction.overlap import part_overlap

OPACITY = 9.0


def box(low: float, high: float, opacity: float = OPACITY) -> Field:
    """From `low` to `high` along x, multiples of 1/4; from -1/2 to 1/2 along y and z."""
    decoder = Decoder(channels=1, width=2, layers=1, bias=opacity)  # softplus(9) is 9, but for 1e-4
    support_DHW = torch.zeros(8, 8, 8, dtype=torch.bool)
    support_DHW[2:6, 2:6, round((low + 1) * 4) : round((high + 1) * 4)] = True
    return Field(torch.zeros(1, 1, 1, 1), decoder, support_DHW)


@pytest.mark.parametrize("resolution", [16, 40])
def test_boxes_of_known_overlap(resolution: int) -> None:
    parts = [box(-1.0, 0.0), box(-0.5, 0.5), box(0.5, 1.0), Field.empty(Decoder(1, 2, 1))]
    found = part_overlap(parts, resolution, level=5.0)
    expected = torch.eye(4, dtype=torch.float64)
    expected[0, 1] = expected[1, 0] = 0.5 / 1.5
    expected[3, 3] = 0.0
    torch.testing.assert_close(found.iou_NN, expected)
    assert found.contested == pytest.approx(0.5 / 2.0)


def test_three_claimants_of_a_point_count_it_once() -> None:
    assert part_overlap([box(-0.5, 0.5)] * 3, 16, level=5.0).contested == 1.0


def test_only_what_reaches_the_level_is_claimed() -> None:
    parts = [box(-1.0, 0.0), box(-0.5, 0.5, opacity=3.0)]
    assert part_overlap(parts, 16, level=2.5).contested == pytest.approx(1 / 3)
    found = part_overlap(parts, 16, level=5.0)
    assert found.contested == 0.0
    assert found.iou_NN.tolist() == [[1.0, 0.0], [0.0, 0.0]]
    assert part_overlap(parts, 16, level=50.0).contested == 0.0


def test_places_count_and_the_lattice_grows_with_them() -> None:
    one = box(-1.0, 1.0)
    apart, half = one.placed((5.0, 0.0, 0.0)), one.placed((1.0, 0.0, 0.0))
    assert part_overlap([one, apart], 16, level=5.0).iou_NN.tolist() == [[1.0, 0.0], [0.0, 1.0]]
    torch.testing.assert_close(part_overlap([one, half], 16, level=5.0).iou_NN[0, 1].item(), 1 / 3)
    small = one.placed((0.0, 0.0, 0.0), scale=0.5)  # opacity is twice as high there, its own is the same
    assert part_overlap([one, small], 16, level=5.0).iou_NN[0, 1].item() == pytest.approx(1 / 8)
    assert part_overlap([one, small], 16, level=12.0).iou_NN[1, 1].item() == 0.0


def test_empty_space_is_not_evaluated() -> None:
    part, read = box(-0.5, 0.5), []
    part.decoder.trunk.register_forward_hook(lambda module, inputs, output: read.append(len(inputs[0])))
    part_overlap([part], 16, level=5.0)
    assert sum(read) == 8**3
    assert all(count == 8**2 for count in read)  # nor is a layer looked at that holds nothing


def test_no_part_and_values_that_are_none_are_refused() -> None:
    with pytest.raises(UserError, match="at least one part"):
        part_overlap([], 16, level=5.0)
    broken = box(-0.5, 0.5)
    broken.volume_CDHW[0] = float("nan")
    with pytest.raises(UserError, match=r"Part 2 .* not finite"):
        part_overlap([box(0.0, 1.0), broken], 16, level=5.0)
