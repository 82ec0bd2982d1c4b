"""What is added to an object stands where and as it is asked for."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from pipeline.applications.edit import turned
from pipeline.reconstruction.carving import hull_decoder
from pipeline.reconstruction.field import Field

CELLS = 32


def ball(centre_3: np.ndarray, supported: bool = True) -> Field:
    """A field whose features are largest at a point."""
    middles = (torch.arange(CELLS) + 0.5) * 2 / CELLS - 1
    z, y, x = torch.meshgrid(middles, middles, middles, indexing="ij")
    away_DHW = (torch.stack((x, y, z), dim=-1) - torch.from_numpy(centre_3).float()).norm(dim=-1)
    return Field((1 - away_DHW).expand(4, -1, -1, -1), hull_decoder(1.0, "cpu"), away_DHW < 0.2 if supported else None)


@given(st.tuples(*[st.floats(-360, 360)] * 3))
def test_a_field_is_turned_around_its_own_axes_one_after_another(degrees_3: tuple[float, float, float]) -> None:
    centre_3 = np.array([0.6, 0.1, -0.3])
    found = turned(ball(centre_3), degrees_3)
    expected_3 = Rotation.from_euler("XYZ", degrees_3, degrees=True).apply(centre_3)
    assert found.cells().mean(dim=0).numpy() == pytest.approx(expected_3, abs=1.5 / CELLS)
    peak = (found.volume_CDHW[0] == found.volume_CDHW[0].max()).nonzero()[0].flip(0)
    assert ((peak + 0.5) * 2 / CELLS - 1).numpy() == pytest.approx(expected_3, abs=3 / CELLS)


def test_quarters_are_exact_and_beyond_the_cube_is_nothing() -> None:
    field = ball(np.array([0.5, 0.0, 0.25]))
    again = turned(turned(field, (0, 90, 0)), (0, -90, 0))
    torch.testing.assert_close(again.volume_CDHW, field.volume_CDHW)
    assert again.support_DHW is not None
    assert field.support_DHW is not None
    assert torch.equal(again.support_DHW, field.support_DHW)
    corner = turned(ball(np.zeros(3), supported=False), (0, 0, 45))
    assert corner.support_DHW is not None
    assert not corner.support_DHW[CELLS // 2, 0, 0]
    assert corner.support_DHW[CELLS // 2, CELLS // 2, CELLS // 2]
