"""What is printed when Ctrl-C comes while modules are still being imported."""

import sys
from types import TracebackType


def last_word(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """An excepthook: an interrupt as `stages.entry` tells it, all else as Python does."""
    if issubclass(kind, KeyboardInterrupt):
        print("partgen: interrupted; finished objects are kept.", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)
