"""How every stage starts and ends: arguments, signals, and errors in one sentence."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from pipeline.errors import UserError, refused, system_fault
from pipeline.params.base import StageGroup, load_group

GroupT = TypeVar("GroupT", bound=StageGroup)


def stage_main(group: type[GroupT], run: Callable[[GroupT], object]) -> None:
    """`python -m stages.NAME`: run a stage with its group of params.yaml in force."""
    if len(sys.argv) > 1:
        message = f"`{sys.argv[1]}`: a stage takes its parameters from params.yaml; see `partgen stage --help`."
        sys.exit(f"partgen: {message}")
    with one_sentence_errors():
        run(load_group(group))


@contextmanager
def one_sentence_errors() -> Iterator[None]:
    """Print a UserError, or what the system refused, as one sentence and exit with status 2.

    SIGTERM ends workers like Ctrl-C does.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    except UserError as error:
        # Of an error in a loader's process torch makes one whose message is the traceback, the sentence at its end.
        _, _, sentence = str(error).rpartition(f"{type(error).__name__}: ")
        print(f"partgen: {sentence.strip()}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("partgen: interrupted; finished objects are kept.", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    except Exception as error:
        fault = system_fault(error)
        if fault is None:
            raise
        print(f"partgen: {refused(fault)}.", file=sys.stderr)
        sys.exit(2)
