"""The training loop that every network shares, on accelerate: one process or many, a CPU or GPUs.

    accelerate launch --multi_gpu --num_processes 8 -m stages.train ...

starts eight processes; on a machine without GPUs the same flags train on its CPU through gloo (`--cpu` would start one
process, however many are asked for). Samples are numbered: step s, from 0, trains on the numbers s * batch to
(s + 1) * batch - 1, of which process p of P takes every P-th, from the p-th on. A sample, its augmentation, its noise
and its timestep are functions of its number, so neither processes, accumulation nor loader workers change what is
trained on, and a killed training that goes on from its last checkpoint gives the weights of one that was not killed:
on a CPU bit for bit, on a GPU as far as its kernels repeat themselves.
"""

import hashlib
import math
import os
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import (
    DistributedDataParallelKwargs,
    DistributedType,
    InitProcessGroupKwargs,
    broadcast_object_list,
    gather_object,
    send_to_device,
)
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torch.utils.tensorboard import SummaryWriter

from pipeline.errors import UserError
from pipeline.params.train import LoopParams, TaskParams
from pipeline.shards.progress import Progress
from pipeline.shards.scratch import only_writer
from pipeline.training.average import Average
from pipeline.training.checkpoints import Checkpoints, State, load_tensors
from pipeline.training.curve import Curve

LOG_EVERY_S = 30.0
SHOWN_IDS = 8
Batch = dict[str, Any]


class Objective(Protocol):
    """What is trained, on what, and to what end."""

    @property
    def module(self) -> nn.Module:
        """The network; its parameters that require gradients are trained. The loop moves it to the device."""

    def examples(self) -> Dataset[dict[str, Any]]:
        """Samples by their number, without end: nothing but the number decides what a sample is."""

    def collate(self, items: list[dict[str, Any]]) -> Batch:
        """Samples as a batch; `object_id` is the list of their objects' ids."""

    def loss(self, module: nn.Module, batch: Batch) -> Tensor:
        """The loss of every sample of the batch, (B,), where the batch's tensors lie.

        `module` is the network as accelerate wraps it: it can be called, and has no other attributes. Several processes
        learn of each other's gradients only through that call.
        """

    def validation(self) -> dict[str, float]:
        """What is measured on validation objects, `loss` among it, with `self.module` in evaluation mode."""

    def pictures(self) -> dict[str, np.ndarray]:
        """Sample pictures by name, (H, W, 3) uint8, with `self.module` in evaluation mode."""


@dataclass
class Journal:
    """What the main process writes down: loss curve, TensorBoard log and progress."""

    curve: Curve
    board: SummaryWriter
    progress: Progress

    def __post_init__(self) -> None:
        self.losses: deque[float] = deque(maxlen=50)

    def add(self, step: int, loss: float, values: dict[str, float]) -> None:
        """A step is done."""
        self.curve.add(step, loss)
        self.losses.append(loss)
        for name, value in {"loss": loss, **values}.items():
            self.board.add_scalar(name, value, step)
        mean = sum(self.losses) / len(self.losses)
        self.progress.advance(note=f"{self.progress.rate:.3g} steps/s, loss {mean:.4g}")

    def measure(self, step: int, objective: Objective) -> None:
        """Measure on the validation objects."""
        values = objective.validation()
        self.curve.validation = values["loss"]
        for name, value in values.items():
            self.board.add_scalar(f"validation/{name}", value, step)

    def draw(self, step: int, objective: Objective) -> None:
        """Draw sample pictures."""
        for name, picture in objective.pictures().items():
            self.board.add_image(name, picture, step, dataformats="HWC")
        self.board.flush()


def train(
    objective: Objective, name: str, settings: LoopParams, schedule: TaskParams, folder: Path, curve: Path
) -> None:
    """Train `objective.module`, which holds the averaged weights at the end.

    `folder`, in scratch (`training_folder`), keeps checkpoints, TensorBoard log and journal: a killed training goes on
    from there, a finished one is loaded. `curve` becomes the loss curve as CSV. AdamW; the learning rate rises linearly
    over the warm-up and then stays. Only the main process writes.

    Raises UserError when the batch cannot be split into micro batches, when one does not fit into the memory, and when
    a loss or the gradient is not finite; the step is then not taken, and the last checkpoint stays.
    """
    # Others wait while the main process validates and draws, which takes long with a large network.
    timeout = InitProcessGroupKwargs(timeout=timedelta(hours=2))
    buckets = DistributedDataParallelKwargs(gradient_as_bucket_view=True)  # no second copy of the gradients
    accelerator = Accelerator(
        mixed_precision="bf16" if settings.precision == "bf16" else "no", kwargs_handlers=[timeout, buckets]
    )
    main = accelerator.is_main_process
    if schedule.steps == 0:
        if main:
            _say(f"{name}: steps is 0, so the network stays as it is.")
            Curve(folder / "journal.csv", curve, 0)
        return
    accumulated = _accumulated(name, schedule, accelerator)
    with only_writer(folder) if main else nullcontext():
        accelerator.wait_for_everyone()
        checkpoints = Checkpoints(folder)
        # The main process decides, so that all agree where the folder is not the same for all.
        finished, done = broadcast_object_list([checkpoints.finished.exists(), checkpoints.latest()])
        if finished:
            objective.module.load_state_dict(load_tensors(checkpoints.finished))
            if main:
                _say(f"{name}: already trained; the weights are those of {checkpoints.finished}.")
                Curve(folder / "journal.csv", curve, schedule.steps)
            return
        try:
            _train(objective, name, settings, schedule, accumulated, accelerator, checkpoints, done, curve)
        except torch.OutOfMemoryError:
            raise UserError(
                f"{name}: the memory is too small for micro_batch {schedule.micro_batch}; "
                f"halve it, which leaves the batch of {schedule.batch} and what is learned as they are."
            ) from None


def _train(
    objective: Objective,
    name: str,
    settings: LoopParams,
    schedule: TaskParams,
    accumulated: int,
    accelerator: Accelerator,
    checkpoints: Checkpoints,
    done: int,
    curve: Path,
) -> None:
    objective.module.train()
    module = accelerator.prepare(objective.module)
    parameters = [parameter for parameter in objective.module.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=schedule.learning_rate, weight_decay=settings.weight_decay)
    average = Average(parameters, settings.ema_decay)
    state = State(objective.module, optimizer, average)
    if done:
        state.load(load_tensors(checkpoints.path(done)))
    batches = _batches(objective, schedule, done, accelerator)

    with ExitStack() as stack:
        journal = None
        if accelerator.is_main_process:
            journal = _journal(stack, name, schedule, checkpoints, done, curve)
            if not done:
                with _evaluation(objective.module, average, accelerator):
                    journal.measure(0, objective)

        for step in range(done, schedule.steps):
            _seed(settings.seed, step, accelerator.process_index)
            rate = schedule.learning_rate * min(1.0, (step + 1) / max(1, settings.warmup_steps))
            for group in optimizer.param_groups:
                group["lr"] = rate

            losses, ids = [], []
            for part in range(accumulated):
                batch = send_to_device(next(batches), accelerator.device, non_blocking=True)
                last = part == accumulated - 1
                with nullcontext() if last else accelerator.no_sync(module):  # gradients travel once a step
                    loss_B = objective.loss(module, batch)
                    accelerator.backward(loss_B.mean() / accumulated)
                losses.append(loss_B.detach())
                ids += batch["object_id"]
            norm = float(nn.utils.clip_grad_norm_(parameters, settings.clip_norm))
            loss = _checked(name, step + 1, torch.cat(losses), ids, norm, accelerator, checkpoints)

            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            average.update(step + 1)
            done = step + 1
            at_end = done == schedule.steps

            if journal:
                measures = at_end or done % settings.validate_every == 0
                draws = at_end or done % settings.pictures_every == 0
                if measures or draws:
                    with _evaluation(objective.module, average, accelerator):
                        if measures:
                            journal.measure(done, objective)
                        if draws:
                            journal.draw(done, objective)
                journal.add(done, loss, {"gradient_norm": norm, "learning_rate": rate})
                if done % settings.checkpoint_every == 0 and not at_end:
                    checkpoints.write(done, state)

    average.exchange()
    accelerator.unwrap_model(module, keep_fp32_wrapper=False)
    if accelerator.is_main_process:
        checkpoints.finish(objective.module)
    accelerator.wait_for_everyone()


def _accumulated(name: str, schedule: TaskParams, accelerator: Accelerator) -> int:
    """How many micro batches a process takes through the network for one step."""
    if accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM):
        raise UserError(
            f"{name}: accelerate is set to {accelerator.distributed_type.value}, and every process needs the whole "
            "network; use `accelerate launch --multi_gpu`."
        )
    at_once = accelerator.num_processes * schedule.micro_batch
    if schedule.batch % at_once:
        raise UserError(
            f"{name}: a batch of {schedule.batch} cannot be made of {accelerator.num_processes} process(es) x micro_batch "
            f"{schedule.micro_batch}; choose a batch that is a multiple of {at_once}, or a smaller micro_batch."
        )
    return schedule.batch // at_once


def _batches(objective: Objective, schedule: TaskParams, done: int, accelerator: Accelerator) -> Iterator[Batch]:
    """The micro batches of this process, after the first `done` steps."""
    text = os.environ.get("PARTGEN_LOADER_WORKERS", "0")
    if not text.isdigit():
        raise UserError(f"PARTGEN_LOADER_WORKERS is {text!r}; give a whole number of processes, 0 for none.")
    first = done * schedule.batch + accelerator.process_index
    loader = DataLoader(
        objective.examples(),
        batch_size=schedule.micro_batch,
        sampler=range(first, schedule.steps * schedule.batch, accelerator.num_processes),
        collate_fn=objective.collate,
        num_workers=int(text),
        pin_memory=accelerator.device.type == "cuda",
    )
    return iter(loader)


def _journal(
    stack: ExitStack, name: str, schedule: TaskParams, checkpoints: Checkpoints, done: int, curve: Path
) -> Journal:
    if done:
        _say(f"{name}: going on after step {done} of {schedule.steps}.")
    folder = checkpoints.folder
    return Journal(
        Curve(folder / "journal.csv", curve, done),
        stack.enter_context(SummaryWriter(str(folder / "tensorboard"), purge_step=done + 1)),
        stack.enter_context(Progress(name, schedule.steps, done, LOG_EVERY_S)),
    )


def _evaluation(module: nn.Module, average: Average, accelerator: Accelerator) -> ExitStack:
    """Averaged weights, evaluation mode and no gradients; random numbers drawn inside leave those of training alone."""
    stack = ExitStack()
    cuda = [accelerator.device] if accelerator.device.type == "cuda" else []
    stack.enter_context(torch.random.fork_rng(cuda))
    stack.enter_context(torch.no_grad())
    stack.enter_context(average.in_place())
    stack.callback(module.train)
    module.eval()
    return stack


def _seed(seed: int, step: int, process: int) -> None:
    """Seed torch for one step, for dropout inside the network: so that there is no state to be kept."""
    digest = hashlib.sha256(f"{seed} {step} {process}".encode()).digest()
    torch.manual_seed(int.from_bytes(digest[:8]))


def _checked(
    name: str,
    step: int,
    losses: Tensor,
    ids: list[str],
    norm: float,
    accelerator: Accelerator,
    checkpoints: Checkpoints,
) -> float:
    """The mean loss over the samples of all processes; UserError when one, or the gradient, is not finite."""
    everyone = accelerator.gather(losses)
    loss = float(everyone.mean())
    if math.isfinite(norm) and bool(everyone.isfinite().all()):
        return loss
    wrong = losses.isfinite().logical_not().tolist()
    mine = [object_id for object_id, bad in zip(ids, wrong, strict=True) if bad]
    bad_ids = sorted(set(gather_object(mine))) or sorted(set(gather_object(ids)))
    shown = ", ".join(bad_ids[:SHOWN_IDS]) + (", ..." if len(bad_ids) > SHOWN_IDS else "")
    what = f"the loss is {loss}" if not math.isfinite(loss) else f"the gradient's norm is {norm}"
    kept = checkpoints.latest()
    where = (
        f"the checkpoint after step {kept} is kept as {checkpoints.path(kept)}" if kept else "no checkpoint was due yet"
    )
    raise UserError(
        f"{name}: {what} at step {step} with the objects {shown}; the step was not taken and {where}. "
        "Look at these objects, or lower learning_rate."
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
