"""How far an application has come: a line a step, with its seconds."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def step(what: str) -> Iterator[None]:
    """Say on stderr what begins, and how long it took when it has ended."""
    print(f"{what} ... ", end="", file=sys.stderr, flush=True)
    started, how = time.monotonic(), "stopped after "
    try:
        yield
        how = ""
    finally:
        print(f"{how}{time.monotonic() - started:.1f} s", file=sys.stderr, flush=True)
