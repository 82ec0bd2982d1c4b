"""The processes of a training find their places, and the right to write what they train."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs

from pipeline.errors import UserError
from pipeline.folders import check_replaceable
from pipeline.shards.scratch import only_writer

if TYPE_CHECKING:
    from diffusers.models.modeling_utils import ModelMixin

    from pipeline.params.train import LoopParams


def start(settings: LoopParams) -> Accelerator:
    """This process's place among all that train: `device`, `is_main_process`. May be asked for more than once."""
    # The others wait while the main process validates and draws, which takes long with a large network.
    timeout = InitProcessGroupKwargs(timeout=timedelta(hours=2))
    buckets = DistributedDataParallelKwargs(gradient_as_bucket_view=True)  # no second copy of the gradients
    return Accelerator(
        mixed_precision="bf16" if settings.precision == "bf16" else "no",
        cpu=not torch.accelerator.is_available(),  # otherwise processes on CPUs do not know of each other
        kwargs_handlers=[timeout, buckets],
    )


def go_on_from(model: ModelMixin, found: ModelMixin, folder: Path, aside: Collection[str] = ()) -> None:
    """Give a network the weights of the one that was read from a folder.

    UserError when that one was made with other params, but for those `aside`, which decide nothing.
    """
    for key, value in model.config.items():
        if not key.startswith("_") and key not in aside and found.config[key] != value:
            raise UserError(
                f"{folder} has {key}={found.config[key]}, and the params ask for {value}; "
                "give both the same, or set train.init_from= to start anew."
            )
    model.load_state_dict(found.state_dict())


@contextmanager
def only_training(settings: LoopParams, out: Path) -> Iterator[bool]:
    """The right of this training to write `out`, whichever of its processes asks; waits while another one holds it.

    Yields whether this is the main process, which does the writing. UserError when `out` may not be replaced.
    """
    check_replaceable(out)
    accelerator = start(settings)
    with only_writer(out) if accelerator.is_main_process else nullcontext():
        accelerator.wait_for_everyone()
        yield accelerator.is_main_process
