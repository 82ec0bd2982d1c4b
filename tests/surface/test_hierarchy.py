"""The hierarchy of atoms and its cuts."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.cluster.hierarchy import fcluster

from pipeline.surface.hierarchy import cut, hierarchy


def probabilities(count: int, seed: int) -> np.ndarray:
    values = np.random.default_rng(seed).random((count, count))
    return (values + values.T) / 2


@given(st.integers(2, 40), st.integers(0, 1000))
def test_cuts_are_nested_and_have_as_many_parts_as_wanted(count: int, seed: int) -> None:
    merges = hierarchy(probabilities(count, seed))
    finer = cut(merges, count)
    assert sorted(finer) == list(range(count))
    for parts in range(count - 1, 0, -1):
        coarser = cut(merges, parts)
        assert set(coarser) == set(range(parts))
        assert all(len(set(coarser[finer == part])) == 1 for part in range(parts + 1))
        finer = coarser


@given(st.integers(2, 30), st.integers(0, 1000), st.floats(0.05, 0.95))
def test_a_level_gives_what_scipy_says(count: int, seed: int, level: float) -> None:
    merges = hierarchy(probabilities(count, seed))
    parts = count - int(np.sum(merges[:, 2] < level))
    theirs = fcluster(merges, np.nextafter(level, 0), "distance")
    assert len(set(theirs)) == parts
    ours = cut(merges, parts)
    np.testing.assert_array_equal(ours[:, None] == ours[None], theirs[:, None] == theirs[None])
