"""One stage brought up to date by `dvc repro`: the command, its environment, and what its output says."""

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

from pipeline.shards.scratch import scratch

SAID_BY_DVC = {"didn't change, skipping": "unchanged", "is cached - skipping run": "restored"}
"""How `dvc repro` says that a stage did not have to run."""


def environment(root: Path) -> dict[str, str]:
    """What the subprocesses of a run are told."""
    return {
        # `python` in dvc.yaml is the one that runs this.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "PYTHONUNBUFFERED": "1",  # logs as they come
        "PARTGEN_SCRATCH": str(root / scratch()),  # finished objects are shared by all runs
        "DVC_NO_ANALYTICS": "1",
    }


def repro(stage: str, force: bool = False) -> list[str]:
    """The command that brings this one stage up to date; with `force`, also when it is."""
    command = [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "--single-item", stage]
    return [*command, "--force"] if force else command


class Reader:
    """Hands on what `dvc repro` and its stage print, and learns from it how the stage went."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self.state = "made"
        self.error = ""

    def read(self, line: str) -> None:
        """Take in one line."""
        self.say(line)
        for words, state in SAID_BY_DVC.items():
            if words in line:
                self.state = state
        if not self.error and (match := re.match(r"(partgen|ERROR): (.*)", line)):
            self.error = match[2]  # the stage speaks first and says why; DVC only adds that it failed
