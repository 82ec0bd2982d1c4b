"""The Prefect server of a run, watched: when it is gone, so is the run, which else would ask for it for minutes."""

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx

EVERY_S = 3.0
MISSES = 4
"""Refused connections in a row after which a server counts as dead. One that is slow to answer does not."""


@contextmanager
def watched(url: str, end_stages: Callable[[], None]) -> Iterator[None]:
    """While inside, see that something listens at `url`; else end the stages, and this process with status 2."""
    done = threading.Event()

    def watch() -> None:
        missed = 0
        while not done.wait(EVERY_S):
            missed = missed + 1 if _refused(url) else 0
            if missed == MISSES:
                end_stages()
                sentence = f"The Prefect server at {url} is gone, and so the run ends; finished objects are kept."
                print(f"partgen: {sentence}", file=sys.stderr, flush=True)
                os._exit(2)  # Prefect's own threads would go on asking

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        done.set()


def _refused(url: str) -> bool:
    try:
        httpx.get(f"{url}/health", timeout=EVERY_S)
    except httpx.ConnectError:
        return True
    except httpx.HTTPError:
        pass  # it is there, and busy
    return False
