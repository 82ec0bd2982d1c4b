"""Progress with an estimate: a bar on a terminal, a line now and then in a log."""

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

LOG_EVERY_S = 5.0


class Progress:
    """Counts finished objects of a stage on stderr."""

    def __init__(self, description: str, total: int) -> None:
        self.description, self.total = description, total
        self.done = self.failed = 0
        self.started = self.logged = time.monotonic()
        self.bar: Bar | None = None
        if sys.stderr.isatty():
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[note]}"),
            )
            self.bar = Bar(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True))
            self.task = self.bar.add_task(description, total=total, note="")

    def __enter__(self) -> "Progress":
        if self.bar:
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar:
            self.bar.stop()

    def advance(self, failed: bool = False) -> None:
        """One more object is finished or has failed."""
        self.done += 1
        self.failed += failed
        note = f"{self.failed} failed" if self.failed else ""
        if self.bar:
            self.bar.update(self.task, completed=self.done, note=note)
            return
        now = time.monotonic()
        if self.done == self.total or now - self.logged >= LOG_EVERY_S:
            self.logged = now
            left = (now - self.started) / self.done * (self.total - self.done)
            text = f"{self.description}: {self.done} of {self.total}, about {left:.0f} s left"
            print(f"{text}, {note}" if note else text, file=sys.stderr, flush=True)
