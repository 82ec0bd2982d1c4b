"""Damaged files are named, or made again: never another result, never a traceback."""

import pytest

from tests.faults.trials import Bench, corrupted

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("reader", "most"), [("read_table", 5), ("iter_rows", 4), ("table_rows", 4), ("result", 8), ("store", 2)]
)
def test_damage_is_noticed(bench: Bench, reader: str, most: int) -> None:
    outcomes = list(corrupted(bench, reader, most=most))
    assert outcomes
    assert [outcome for outcome in outcomes if outcome.failed] == []
