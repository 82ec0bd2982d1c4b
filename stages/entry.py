"""How every stage starts and ends: arguments, signals, and errors in one sentence."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from pipeline.errors import UserError
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
    """Print a UserError as one sentence and exit with status 2; let SIGTERM end workers like Ctrl-C does."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    except UserError as error:
        print(f"partgen: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("partgen: interrupted; finished objects are kept.", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
