"""How the stages start that train one model each."""

import sys
from collections.abc import Callable, Sequence

from pipeline.params.base import StageGroup, load_group
from pipeline.training.launch import launched
from stages.entry import one_sentence_errors


def launch_training(
    module: str, run: Callable[..., None], groups: Sequence[type[StageGroup]], overrides: Sequence[str], force: bool
) -> None:
    """Call `run` of a stage's `module` with its groups of params.yaml and `overrides`.

    On as many processes as the machine has GPUs.
    """
    if not launched(module, [*overrides, *(["--force"] if force else [])]):
        run(*(load_group(group, overrides) for group in groups), force=force)


def training_main(launch: Callable[[Sequence[str], bool], None]) -> None:
    """`python -m stages.NAME [GROUP.KEY=VALUE ...] [--force]`."""
    with one_sentence_errors():
        launch([argument for argument in sys.argv[1:] if argument != "--force"], "--force" in sys.argv)
