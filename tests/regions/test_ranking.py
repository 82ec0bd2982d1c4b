"""Ranking, average precision and recall, against a plain reference and by their properties."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.evaluation.ranking import CONVENTIONS, automatic, average_precision, figures, recall, seed_point, seeded
from pipeline.regions.proposals import EPSILON, Proposals, intersections, iou
from pipeline.regions.ranking import Pool


@dataclass(frozen=True)
class Reference:
    """Supplement B, word by word, on lists of masks; with the corrections, and slow."""

    masks: list[np.ndarray]
    scores: list[float]

    @staticmethod
    def of_runs(maps: np.ndarray) -> "Reference":
        masks = [labels == value for labels in maps for value in range(1, int(maps.max()) + 1)]
        masks = [mask for mask in masks if mask.any()]
        return Reference(masks, [float(sum(overlap(mask, other) > 0.5 for other in masks)) for mask in masks])

    def ranked(self) -> list[np.ndarray]:
        order = sorted(range(len(self.masks)), key=lambda n: (-self.scores[n], -int(self.masks[n].sum()), n))
        kept: list[np.ndarray] = []
        for number in order:
            if all(overlap(self.masks[number], mask) <= 0.5 for mask in kept):
                kept.append(self.masks[number])
        return kept


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    return (int((one & other).sum()) + EPSILON) / (int((one | other).sum()) + EPSILON)


def reference_figures(ranked: list[np.ndarray], parts: list[np.ndarray]) -> dict[str, float]:
    values = {}
    for threshold in (0.5, 0.75):
        remaining, found = list(range(len(parts))), []
        for mask in ranked:
            best = max(remaining, key=lambda s: overlap(mask, parts[s]), default=None)
            hit = best is not None and overlap(mask, parts[best]) >= threshold
            found.append(int(hit))
            if best is not None and hit:
                remaining.remove(best)
        terms = [found[i] * found[k] / (k + 1) for k in range(len(found)) for i in range(k + 1)]
        values[f"ap{threshold * 100:.0f}"] = sum(terms) / len(parts)
        for k in (1, 3, 5, 10):
            recalled = [any(overlap(mask, part) > threshold for mask in ranked[:k]) for part in parts]
            values[f"recall{threshold * 100:.0f}_at_{k}"] = sum(recalled) / len(parts)
    return values


def label_maps(seed: int, runs: int, parts: int, side: int = 16) -> np.ndarray:
    """Runs that agree in part: coarse blocks with a few pixels of noise, in other numbers each."""
    draws = np.random.default_rng(seed)
    blocks = np.kron(draws.integers(0, parts + 1, (4, 4)), np.ones((side // 4, side // 4), dtype=int))
    maps = []
    for _ in range(runs):
        noise = draws.random((side, side)) < draws.uniform(0, 0.5)
        drawn = np.where(noise, draws.integers(0, parts + 1, (side, side)), blocks)
        maps.append(np.concatenate([[0], 1 + draws.permutation(parts)])[drawn])
    return np.stack(maps).astype(np.uint8)


some_maps = st.builds(label_maps, st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 5))


def truth_like(maps: np.ndarray) -> np.ndarray:
    """The first run's map without its noise; it has a part."""
    truth = np.kron(maps[0, ::4, ::4], np.ones((4, 4), dtype=np.uint8))
    truth[:2, :2] = 1
    return truth


@given(some_maps)
def test_ranking_and_figures_are_the_references(maps: np.ndarray) -> None:
    reference, pool = Reference.of_runs(maps), Pool.of_runs(maps)
    np.testing.assert_array_equal(pool.proposals.masks().reshape(-1, 16, 16), np.reshape(reference.masks, (-1, 16, 16)))
    assert pool.proposals.score_N.tolist() == reference.scores
    ranked, expected = pool.ranked(), reference.ranked()
    np.testing.assert_array_equal(ranked.masks().reshape(-1, 16, 16), np.reshape(expected, (-1, 16, 16)))
    truth = truth_like(maps)
    parts = [truth == part for part in np.unique(truth[truth > 0])]
    assert automatic(ranked, truth) == pytest.approx(reference_figures(expected, parts), abs=1e-12)


@given(some_maps)
def test_seeded_figures_are_the_references(maps: np.ndarray) -> None:
    reference, truth = Reference.of_runs(maps), truth_like(maps)
    results = []
    for part in np.unique(truth[truth > 0]):
        y, x = seed_point(truth == part)
        inside = [n for n, mask in enumerate(reference.masks) if mask[y, x]]
        chosen = Reference([reference.masks[n] for n in inside], [reference.scores[n] for n in inside])
        results.append(reference_figures(chosen.ranked(), [truth == part]))
    expected = {name: float(np.mean([result[name] for result in results])) for name in results[0]}
    assert seeded(Pool.of_runs(maps).ranked_at, truth) == pytest.approx(expected, abs=1e-12)


@given(some_maps, st.integers(0, 10**6))
def test_intersections_are_counted_exactly(maps: np.ndarray, seed: int) -> None:
    masks = np.random.default_rng(seed).random((5, 16, 16)) < 0.4
    one, other = Proposals.of_maps(maps), Proposals.of_masks(masks, np.arange(5.0))
    for left, right in ((one, one), (one, other), (other, one), (other, other)):
        expected = np.einsum("nhw,mhw->nm", left.masks().astype(int), right.masks().astype(int))
        np.testing.assert_array_equal(intersections(left, right), expected)
    np.testing.assert_array_equal(one.area_N, one.masks().sum(axis=(1, 2)))


def test_many_runs_of_many_labels_are_counted_exactly() -> None:
    # More bits than one code of a column has, and labels above 255.
    maps = np.random.default_rng(0).integers(0, 400, (12, 8, 8)).astype(np.uint16)
    maps = np.kron(maps, np.ones((2, 2), dtype=np.uint16))
    one = Proposals.of_maps(maps)
    expected = np.einsum("nhw,mhw->nm", one.masks().astype(int), one.masks().astype(int))
    np.testing.assert_array_equal(intersections(one, one), expected)


@given(some_maps, st.randoms())
def test_the_order_of_runs_decides_ties_alone(maps: np.ndarray, random: object) -> None:
    order = np.random.default_rng(random.randint(0, 10**9)).permutation(len(maps))  # type: ignore[attr-defined]
    one, other = Pool.of_runs(maps), Pool.of_runs(maps[order])
    assert sorted(one.proposals.score_N) == sorted(other.proposals.score_N)
    keys = list(zip(one.proposals.score_N, one.proposals.area_N, strict=True))
    if len(set(keys)) == len(keys):
        np.testing.assert_array_equal(one.ranked().masks(), other.ranked().masks())


@given(some_maps)
def test_ranking_twice_is_ranking_once(maps: np.ndarray) -> None:
    ranked = Pool.of_runs(maps).ranked()
    assert (np.diff(ranked.score_N) <= 0).all()
    shared = iou(ranked, ranked)
    assert (shared[~np.eye(len(ranked), dtype=bool)] <= 0.5).all()
    again = Pool.of_scored(ranked).ranked()
    np.testing.assert_array_equal(again.masks(), ranked.masks())
    np.testing.assert_array_equal(again.score_N, ranked.score_N)


@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(1, 4))
def test_perfect_predictions_have_all_figures_but_short_recall_at_one(seed: int, parts: int, runs: int) -> None:
    truth = label_maps(seed, 1, parts)[0]
    truth[0, 0] = 1
    draws = np.random.default_rng(seed)
    names = [np.concatenate([[0], 1 + draws.permutation(parts)]) for _ in range(runs)]
    pool = Pool.of_runs(np.stack([name[truth] for name in names]).astype(np.uint8))
    count = len(np.unique(truth[truth > 0]))
    assert (pool.proposals.score_N == runs).all()
    result = automatic(pool.ranked(), truth)
    assert result == pytest.approx(
        {name: 1.0 if name.startswith("ap") else min(1.0, int(name.split("_")[-1]) / count) for name in result}
    )
    assert set(seeded(pool.ranked_at, truth).values()) == {1.0}


@given(some_maps)
def test_figures_are_shares_and_fall_with_the_threshold(maps: np.ndarray) -> None:
    result = automatic(Pool.of_runs(maps).ranked(), truth_like(maps))
    assert all(0 <= value <= 1 for value in result.values())
    assert result["ap75"] <= result["ap50"]
    for threshold in (50, 75):
        rising = [result[f"recall{threshold}_at_{k}"] for k in (1, 3, 5, 10)]
        assert rising == sorted(rising)


def test_two_halves_of_a_part_do_not_give_an_ap_of_two() -> None:
    # Each half has an IoU of 1/2, and counts as found: the second has no part left.
    assert average_precision(np.array([[0.5], [0.5]]), 0.5) == 1.0
    # The second proposal overlaps the part that is gone most, and finds the other.
    assert average_precision(np.array([[0.9, 0.0], [0.8, 0.6]]), 0.5) == 1.0
    # A proposal below the threshold takes no part away.
    assert average_precision(np.array([[0.4, 0.0], [0.9, 0.0]]), 0.5) == pytest.approx(0.25)


def test_ap_is_that_of_the_ranks_of_the_hits() -> None:
    shares = np.array([[0.1, 0.0, 0.0], [0.8, 0.0, 0.0], [0.0, 0.1, 0.0], [0.0, 0.9, 0.0]])
    assert average_precision(shares, 0.5) == pytest.approx((1 / 2 + 2 / 4) / 3)
    assert average_precision(np.array([[0.2], [0.3], [0.8]]), 0.75) == pytest.approx(1 / 3)


def test_ap_compares_with_at_least_and_recall_with_more_than_the_threshold() -> None:
    exactly = np.array([[0.75]])
    assert average_precision(exactly, 0.75) == 1.0
    assert recall(exactly, 0.75, 1) == 0.0


def test_recall_clamps_k_and_knows_no_proposals() -> None:
    shares = np.array([[0.8, 0.0], [0.0, 0.6]])
    assert [recall(shares, 0.5, k) for k in (1, 3, 10)] == [0.5, 1.0, 1.0]
    assert set(figures(np.zeros((0, 3))).values()) == {0.0}


def test_one_run_is_ranked_by_area_then_label() -> None:
    labels = np.array([[3, 3, 3, 0], [1, 1, 2, 2]], dtype=np.uint8)
    assert Pool.of_runs(labels[None]).ranked().label_N.tolist() == [3, 1, 2]


def test_overlap_is_smoothed_in_pixels() -> None:
    # 1 of 3 pixels: smoothing of shares of the area instead would give .72 on a large grid.
    masks = np.zeros((2, 1024, 1024), dtype=bool)
    masks[0, 0, :2], masks[1, 0, 1:3] = True, True
    pair = Proposals.of_masks(masks, [1.0, 1.0])
    assert iou(pair, pair)[0, 1] == pytest.approx(1 / 3, abs=1e-4)


def test_empty_proposals_are_dropped_and_parts_out_of_sight_not_sought() -> None:
    masks = np.zeros((3, 4, 4), dtype=bool)
    masks[1, :2] = True
    proposals = Proposals.of_masks(masks, [0.9, 0.2, 0.8])
    assert proposals.run_N.tolist() == [1]
    assert proposals.score_N.tolist() == [0.2]
    truth = np.zeros((4, 4), dtype=np.uint8)
    truth[:2] = 7  # the parts 1 to 6 are out of sight
    assert automatic(Pool.of_scored(proposals).ranked(), truth)["ap75"] == 1.0
    for measure in (lambda: automatic(proposals, truth * 0), lambda: seeded(lambda y, x: proposals, truth * 0)):
        with pytest.raises(ValueError, match="no part"):
            measure()


@given(st.integers(0, 10**6))
def test_the_seed_lies_in_its_part_as_deep_as_can_be(seed: int) -> None:
    draws = np.random.default_rng(seed)
    mask = draws.random((12, 12)) < 0.6
    mask[5, 5] = True
    y, x = seed_point(mask)
    assert mask[y, x]

    def depth(row: int, column: int) -> float:
        """To the nearest pixel that is not the part's, in this view; beyond the view there is none."""
        top, left = row // 6 * 6, column // 6 * 6
        padded = np.pad(mask[top : top + 6, left : left + 6], 1)
        outside = np.argwhere(~padded) - 1 + (top, left)
        return float(np.hypot(*(outside - (row, column)).T).min())

    depths = [depth(*place) for place in np.argwhere(mask)]
    assert depth(y, x) == pytest.approx(max(depths))


@settings(max_examples=20)
@given(some_maps)
def test_compact_proposals_are_the_same(maps: np.ndarray) -> None:
    proposals = Pool.of_runs(maps).proposals
    some = proposals.take(np.arange(0, len(proposals), 3))
    np.testing.assert_array_equal(some.compact().masks(), some.masks())
    assert len(some.compact().maps_RHW) == len(np.unique(some.run_N))


def test_conventions_are_sentences() -> None:
    assert {"overlap", "order", "match", "seed"} <= CONVENTIONS.keys()
    assert all(isinstance(value, str) and value for value in CONVENTIONS.values())
