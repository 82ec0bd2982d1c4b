"""Confidence intervals."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.evaluation import bootstrap
from pipeline.evaluation.bootstrap import mean_interval, paired_difference

samples = st.lists(st.floats(-100, 100), min_size=1, max_size=30).map(np.array)


@given(samples, st.integers(0, 1000))
def test_intervals_hold_the_mean_and_repeat(values: np.ndarray, seed: int) -> None:
    interval = mean_interval(values, seed, resamples=200)
    assert values.min() - 1e-9 <= interval.low <= interval.high <= values.max() + 1e-9
    assert interval.mean == pytest.approx(values.mean())
    assert interval == mean_interval(values, seed, resamples=200)
    assert interval.count == len(values)


def test_width_is_that_of_the_normal_approximation() -> None:
    values = np.random.default_rng(0).normal(3.0, 2.0, 400)
    interval = mean_interval(values, seed=1)
    half = 1.96 * values.std() / 20
    assert interval.low == pytest.approx(values.mean() - half, abs=0.02)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.02)


def test_a_true_mean_is_missed_one_time_in_twenty() -> None:
    draws = np.random.default_rng(0)
    missed = 0
    for seed in range(300):
        interval = mean_interval(draws.normal(0.0, 1.0, 60), seed, resamples=500)
        missed += not interval.low <= 0 <= interval.high
    assert 5 <= missed <= 33


def test_pairing_takes_the_objects_difficulty_out() -> None:
    draws = np.random.default_rng(0)
    difficulty = draws.uniform(0, 10, 50)
    better, worse = difficulty + 0.5 + draws.normal(0, 0.1, 50), difficulty
    interval = paired_difference(better, worse, seed=0)
    assert 0.4 < interval.low < interval.mean < interval.high < 0.6
    assert mean_interval(better, 0).low < mean_interval(worse, 0).high


def test_pieces_give_what_one_piece_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.arange(7.0)
    whole = mean_interval(values, 0, resamples=100)
    monkeypatch.setattr(bootstrap, "VALUES_AT_ONCE", 7 * 9)
    assert mean_interval(values, 0, resamples=100) == whole


@pytest.mark.parametrize("values", [[], [1.0, np.inf], [np.nan], [[1.0, 2.0]]])
def test_values_without_a_mean_are_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="finite"):
        mean_interval(np.array(values), 0)


def test_unequal_numbers_cannot_be_paired() -> None:
    with pytest.raises(ValueError, match="paired"):
        paired_difference(np.zeros(3), np.zeros(1), 0)
