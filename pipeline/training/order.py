"""The order of an epoch's samples, which is computed place by place and held nowhere."""

from collections.abc import Sequence

import numpy as np

ROUNDS = 8
"""Of the Feistel network that shuffles an epoch."""


def shuffled(position: int, count: int, key: Sequence[int]) -> int:
    """What stands at `position` of range(count) in the random order of `key`.

    A Feistel network permutes the next power of four; results outside the range are permuted again until they are in
    it. So no order is ever held, however large the corpus.
    """
    half = max(1, ((count - 1).bit_length() + 1) // 2)
    low = (1 << half) - 1
    round_keys = np.random.SeedSequence(key).generate_state(ROUNDS, np.uint64).tolist()
    while True:
        left, right = position >> half, position & low
        for round_key in round_keys:
            left, right = right, left ^ (_mixed(right ^ round_key) & low)
        position = left << half | right
        if position < count:
            return position


def _mixed(value: int) -> int:
    """The finaliser of splitmix64: every bit of the result hangs on every bit of `value`."""
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
    value = (value ^ value >> 27) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
    return value ^ value >> 31
