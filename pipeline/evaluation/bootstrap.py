"""Confidence intervals of means over objects, by the percentile bootstrap."""

from dataclasses import dataclass

import numpy as np

RESAMPLES = 10_000
CONFIDENCE = 0.95
VALUES_AT_ONCE = 2**22


@dataclass(frozen=True)
class Interval:
    """A mean over objects, and between which values it lies with a confidence of CONFIDENCE."""

    mean: float
    low: float
    high: float
    count: int
    """Objects."""

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def mean_interval(values: np.ndarray, seed: int, resamples: int = RESAMPLES) -> Interval:
    """The mean of one value an object, (N,), and the percentile interval of means of N objects drawn with return.

    With one object the interval is that value. ValueError when there is none, or one is not finite: an infinite PSNR
    has to be left out, and said so, by the caller.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise ValueError("a mean needs one finite value an object, and at least one object")
    draws, means, count = np.random.default_rng(seed), [], len(values)
    for start in range(0, resamples, rows := max(1, VALUES_AT_ONCE // count)):
        drawn = draws.integers(count, size=(min(rows, resamples - start), count))
        means.append(values[drawn].mean(axis=1))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.concatenate(means), (tail, 1 - tail))
    return Interval(float(values.mean()), float(low), float(high), count)


def paired_difference(values: np.ndarray, others: np.ndarray, seed: int, resamples: int = RESAMPLES) -> Interval:
    """The mean of `values` - `others`, two methods on the same objects in the same order, (N,) each.

    An interval without 0 says that they differ. ValueError when the numbers of objects do.
    """
    if np.shape(values) != np.shape(others):
        raise ValueError(f"{np.shape(values)} values cannot be paired with {np.shape(others)}")
    return mean_interval(np.asarray(values, dtype=np.float64) - np.asarray(others, dtype=np.float64), seed, resamples)
