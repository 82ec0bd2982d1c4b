"""Progress of many items, a bar on a terminal or a line now and then in a log, and the time that a step took."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

LOG_EVERY_S = 5.0


@dataclass(frozen=True)
class Event:
    """A step that begins, goes on or has ended."""

    what: str
    seconds: float | None = None
    """How long it took; None until it has ended."""
    done: int = 0
    total: int = 0
    """Of its items, where it counts any."""


_listeners: list[Callable[[Event], object]] = []


@contextmanager
def listening(listener: Callable[[Event], object]) -> Iterator[None]:
    """Within, every `step` and `Progress` of this process is also told to `listener`."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def _tell(event: Event) -> None:
    for listener in _listeners:
        listener(event)


class Progress:
    """Counts finished objects of a stage, or steps of a training, on stderr.

    `done` of them were finished before; in a log a line is written every `log_every_s` seconds.
    """

    def __init__(self, description: str, total: int, done: int = 0, log_every_s: float = LOG_EVERY_S) -> None:
        self.description, self.total, self.log_every_s = description, total, log_every_s
        self.done = self.before = done
        self.failed = 0
        self.started = self.logged = time.monotonic()
        self.bar = _bar() if sys.stderr.isatty() else None
        if self.bar:
            self.task = self.bar.add_task(description, total=total, completed=done, note="")

    def __enter__(self) -> Progress:
        _tell(Event(self.description, None, self.done, self.total))
        if self.bar:
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _tell(Event(self.description, time.monotonic() - self.started, self.done, self.total))
        if self.bar:
            self.bar.stop()

    @property
    def rate(self) -> float:
        """How many were finished in a second, since this run began."""
        return (self.done - self.before) / max(time.monotonic() - self.started, 1e-9)

    def advance(self, failed: bool = False, note: str = "") -> None:
        """One more object is finished or has failed; `note` says what else is of interest."""
        self.done += 1
        self.failed += failed
        _tell(Event(self.description, None, self.done, self.total))
        note = ", ".join(filter(None, (note, f"{self.failed} failed" if self.failed else "")))
        if self.bar:
            self.bar.update(self.task, completed=self.done, note=note)
            return
        now = time.monotonic()
        if self.done == self.total or now - self.logged >= self.log_every_s:
            self.logged = now
            left = (self.total - self.done) / self.rate
            text = f"{self.description}: {self.done} of {self.total}, about {_duration(left)} left"
            print(f"{text}, {note}" if note else text, file=sys.stderr, flush=True)


@contextmanager
def step(what: str) -> Iterator[None]:
    """Say on stderr what begins, and how long it took when it has ended."""
    print(f"{what} ... ", end="", file=sys.stderr, flush=True)
    _tell(Event(what))
    started, how = time.monotonic(), "stopped after "
    try:
        yield
        how = ""
    finally:
        _tell(Event(what, time.monotonic() - started))
        print(f"{how}{time.monotonic() - started:.1f} s", file=sys.stderr, flush=True)


def _bar() -> Bar | None:
    """A bar on the terminal; None where rich is not installed, as on a machine that only trains."""
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar
    except ModuleNotFoundError:
        return None
    words = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"))
    return Bar(*words, TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True))


def _duration(seconds: float) -> str:
    if seconds < 600:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
