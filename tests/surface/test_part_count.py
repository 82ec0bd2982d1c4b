"""How many parts an object has, by the qualities of the groups of its hierarchy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.surface.hierarchy import cut, hierarchy
from pipeline.surface.part_count import FEATURES, best_cut, best_ious, members, node_features
from pipeline.surface.scores import overlaps


def probabilities(count: int, seed: int) -> np.ndarray:
    values = np.random.default_rng(seed).random((count, count))
    return (values + values.T) / 2


@given(st.integers(2, 25), st.integers(0, 1000), st.integers(1, 30))
def test_the_best_cut_is_the_best_of_all_cuts(count: int, seed: int, most: int) -> None:
    merges = hierarchy(probabilities(count, seed))
    quality_M = np.random.default_rng(seed).random(2 * count - 1)
    of_MN = members(merges)
    worth = []
    for parts in range(1, min(count, most) + 1):
        groups = [cut(merges, parts) == part for part in range(parts)]
        nodes = [next(node for node, atoms in enumerate(of_MN) if np.array_equal(atoms > 0, group)) for group in groups]
        worth.append(sum(quality_M[node] - 0.3 for node in nodes))
    assert worth[best_cut(merges, quality_M, most, 0.3) - 1] == pytest.approx(max(worth))


@given(st.integers(2, 25), st.integers(0, 1000))
def test_the_quality_of_a_group_is_its_iou_with_the_part_that_it_fits_best(count: int, seed: int) -> None:
    draws = np.random.default_rng(seed)
    truth_NS = draws.random((count, 4)) * (draws.random((count, 4)) < 0.5)
    truth_NS[0] += 0.1
    merges = hierarchy(probabilities(count, seed))
    found_M, of_MN = best_ious(truth_NS, merges), members(merges)
    for parts in (1, 2, count):
        part_N = cut(merges, parts)
        best_P = overlaps(truth_NS, part_N).max(axis=1)
        for part in range(parts):
            node = next(node for node, atoms in enumerate(of_MN) if np.array_equal(atoms > 0, part_N == part))
            assert found_M[node] == pytest.approx(best_P[part], abs=1e-6)


@given(st.integers(2, 25), st.integers(0, 1000))
def test_what_is_known_of_a_group_is_what_plain_counting_says(count: int, seed: int) -> None:
    same_NN, share_N = probabilities(count, seed), np.random.default_rng(seed).random(count)
    share_N /= share_N.sum()
    merges = hierarchy(same_NN)
    found_MF = node_features(same_NN, merges, share_N)
    assert found_MF.shape == (2 * count - 1, FEATURES)
    for features, atoms in zip(found_MF, members(merges) > 0, strict=True):
        pairs = [(one, other) for one in np.flatnonzero(atoms) for other in np.flatnonzero(atoms)]
        within = [same_NN[pair] for pair in pairs if pair[0] != pair[1]]
        weighted = [
            share_N[one] * share_N[other] * (same_NN[one, other] if one != other else 1) for one, other in pairs
        ]
        outside = same_NN[np.ix_(atoms, ~atoms)]
        assert features[0] == pytest.approx(share_N[atoms].sum() ** 0.5, abs=1e-5)
        assert features[7] == pytest.approx(np.mean(within) if within else 1, abs=1e-5)
        assert features[8] == pytest.approx(sum(weighted) / share_N[atoms].sum() ** 2, abs=1e-5)
        assert features[9] == pytest.approx(outside.mean() if outside.size else 0, abs=1e-5)
        assert features[10] == pytest.approx(outside.mean(axis=0).max() if outside.size else 0, abs=1e-5)
