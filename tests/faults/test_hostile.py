"""Hostile files are refused in one sentence or read, in bounded time and memory, and open nothing elsewhere."""

import pytest

from tests.faults.trials import Bench, attacked

pytestmark = pytest.mark.slow

QUICK = (
    "a deep header",
    "two billion vertices",
    "nodes in a ring",
    "a PLY of 10^12 vertices",
    "an STL of 2^32 triangles",
    "an OBJ with 1 MB of spaces in mtllib",
    "a picture outside, escaped",
    "a picture by http:",
    "a picture that is a pointer of Git LFS",
    "a truncated picture",
    "a pipe",
    "a link to a device",
    "a link to itself",
    "picture: a bomb",
    "picture: a pipe",
    "library: a rotation of words",
    "result: deep JSON",
    "result: names that climb",
    "result: a name that is a number",
    "result: a pipe",
    "table: a deep manifest",
    "table: a shard outside",
)


@pytest.mark.parametrize("case", QUICK)
def test_harm_is_refused(bench: Bench, case: str) -> None:
    assert [outcome.failed for outcome in attacked(bench, case)] == [""]
