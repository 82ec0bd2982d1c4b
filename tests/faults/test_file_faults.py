"""What writes is killed, or runs out of space, at a few of its operations: nothing is lost, and it goes on.

The trials of all targets at every operation are run by hand: `python -m tests.faults`.
"""

from pathlib import Path

import pytest

from tests.faults.injector import KINDS
from tests.faults.trials import Bench, disturbed

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("target", "kinds"),
    [("preset", KINDS), ("metrics", KINDS), ("save", KINDS), ("stage:squares", ("kill", "space"))],
)
def test_nothing_is_lost(injector: Path, bench: Bench, target: str, kinds: tuple[str, ...]) -> None:
    outcomes = list(disturbed(bench, target, kinds, every=1, most=2 if kinds == KINDS else 1))
    assert len(outcomes) >= len(kinds)
    assert [outcome for outcome in outcomes if outcome.failed] == []
