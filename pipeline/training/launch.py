"""On how many processes of this machine a training runs: one a GPU, or as many as PARTGEN_PROCESSES says."""

import os
import subprocess
import sys
from collections.abc import Sequence

import torch

from pipeline.errors import UserError

LAUNCH = ("--multi_gpu", "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no")
"""Several processes on this machine, also on its CPU; the loop itself sees to the precision."""


def launched(module: str, arguments: Sequence[str] = ()) -> bool:
    """Whether `python -m module arguments` has run, to its end, in several processes; False when this one is to train.

    A failure of theirs, which they have reported, ends this process. UserError when PARTGEN_PROCESSES is no number.
    """
    processes = os.environ.get("PARTGEN_PROCESSES") or str(max(1, torch.cuda.device_count()))
    if not processes.isdecimal() or int(processes) < 1:
        raise UserError(f"PARTGEN_PROCESSES is {processes!r}; give a whole number of processes.")
    if int(processes) == 1 or "RANK" in os.environ:  # which accelerate sets for the processes that it starts
        return False
    accelerate = [sys.executable, "-m", "accelerate.commands.launch", *LAUNCH, "--num_processes", processes]
    status = subprocess.run([*accelerate, "-m", module, *arguments]).returncode
    if status:
        sys.exit(status)
    return True
