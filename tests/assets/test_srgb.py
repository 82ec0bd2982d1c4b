"""The display curve against its definition in IEC 61966-2-1."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.assets.srgb import display, linear

VALUES = st.floats(0, 1, width=64)


def to_display(light: float) -> float:
    """The standard's formula, one value at a time."""
    return 12.92 * light if light <= 0.0031308 else 1.055 * light ** (1 / 2.4) - 0.055


def to_light(shown: float) -> float:
    """Its inverse, as the standard prints it."""
    return shown / 12.92 if shown <= 0.04045 else ((shown + 0.055) / 1.055) ** 2.4


@given(st.lists(VALUES, min_size=1, max_size=20))
def test_both_ways_are_the_standards_formulas(values: list[float]) -> None:
    np.testing.assert_allclose(display(np.array(values)), [to_display(value) for value in values], rtol=1e-12)
    np.testing.assert_allclose(linear(np.array(values)), [to_light(value) for value in values], rtol=1e-12)


@given(VALUES)
def test_each_way_is_the_inverse_of_the_other(value: float) -> None:
    # The standard rounds the place where the straight line ends, so that there both ways differ by some 1e-8.
    assert display(linear(np.array([value])))[0] == pytest.approx(value, abs=1e-6)
    assert linear(display(np.array([value])))[0] == pytest.approx(value, abs=1e-6)


def test_the_ends_stay_and_half_the_light_is_188() -> None:
    ends = np.array([0.0, 1.0])
    np.testing.assert_allclose(linear(ends), ends)
    np.testing.assert_allclose(display(ends), ends)
    assert round(float(display(np.array(0.5))) * 255) == 188


def test_eight_bits_stay_apart_in_sixteen_bits_of_light() -> None:
    light = linear(np.linspace(0, 1, 256))
    assert (np.diff(np.rint(light * 65535)) > 0).all()
