"""The training loop that every network shares, on accelerate: one process or many, a CPU or GPUs.

    accelerate launch --multi_gpu --num_processes 8 -m stages.train ...

starts eight processes; on a machine without GPUs the same flags train on its CPU through gloo (`--cpu` would start one
process, however many are asked for). Samples are numbered: step s, from 0, trains on the numbers s * batch to
(s + 1) * batch - 1, of which process p of P takes every P-th, from the p-th on. A sample, its augmentation, its noise
and its timestep are functions of its number, so neither processes, accumulation nor loader workers change what is
trained on, and a killed training that goes on from its last checkpoint gives the weights of one that was not killed:
on a CPU bit for bit, on a GPU as far as its kernels repeat themselves.

Shape suffixes: B samples of a micro batch.
"""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from accelerate import Accelerator
from accelerate.utils import (
    DistributedType,
    broadcast_object_list,
    gather_object,
    send_to_device,
)
from torch import Tensor, nn
from torch.utils.data import DataLoader

from pipeline.errors import UserError
from pipeline.shards.progress import Progress
from pipeline.shards.scratch import only_writer
from pipeline.training.average import Average
from pipeline.training.checkpoints import Checkpoints, State, load_tensors
from pipeline.training.curve import Curve, Journal
from pipeline.training.malloc import keep_freed_memory
from pipeline.training.objective import Batch, Objective
from pipeline.training.start import start

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from pipeline.params.train import LoopParams, TaskParams

JOURNAL = "journal.csv"
LOG_EVERY_S = 30.0
SHOWN_IDS = 8


def train(
    objective: Objective,
    name: str,
    settings: LoopParams,
    schedule: TaskParams,
    folder: Path,
    curve: Path,
    force: bool = False,
    *,
    compiled: bool = False,
    until: float = math.inf,
    piece_bytes: int | None = None,
) -> bool:
    """Train `objective.module`, which holds the averaged weights at the end.

    `folder`, in scratch (`training_folder`), keeps checkpoints, TensorBoard log and journal: a killed training goes on
    from there and a finished one is loaded, unless `force`. `curve` becomes the loss curve as CSV. AdamW; the learning
    rate rises linearly over the warm-up, stays, and falls linearly over the cool-down. Only the main process writes,
    validates and draws.

    With `compiled` the network is compiled by torch.compile. A training that is not at its end at `until`, by
    `time.monotonic`, writes a checkpoint and ends: the result is whether it came to its end. Checkpoints are files of
    at most `piece_bytes`, see `Checkpoints`.

    Raises UserError when the batch cannot be split into micro batches, when one does not fit into the memory, when a
    checkpoint is damaged, and when a loss or the gradient is not finite; that step is not taken, and the last
    checkpoint stays.
    """
    accelerator = start(settings)
    main = accelerator.is_main_process
    keep_freed_memory()
    if schedule.steps == 0:
        if main:
            _say(f"{name}: steps is 0, so nothing is trained and the network stays as it is.")
            Curve(folder / JOURNAL, curve, done=0)
        return True
    with only_writer(folder) if main else nullcontext():
        if main and force:
            shutil.rmtree(folder, ignore_errors=True)
        accelerator.wait_for_everyone()
        checkpoints = Checkpoints(folder, piece_bytes)
        if main:
            checkpoints.clear()
        # The main process decides: all must go the same way.
        finished, done = broadcast_object_list([checkpoints.finished.exists(), checkpoints.latest()])
        if finished:
            objective.module.load_state_dict(load_tensors(checkpoints.finished))
            if main:
                _say(f"{name}: trained before; these are the weights of {checkpoints.finished}.")
                Curve(folder / JOURNAL, curve, schedule.steps)
            return True
        training = Training(objective, name, settings, schedule, curve, accelerator, checkpoints, compiled, until)
        try:
            return training.run(done)
        except torch.OutOfMemoryError:
            raise UserError(
                f"{name}: the memory is too small for micro_batch {schedule.micro_batch}; "
                f"halve it, which leaves the batch of {schedule.batch} as it is."
            ) from None


def rate_share(step: int, steps: int, settings: LoopParams) -> float:
    """The learning rate in step 1 to `steps`, as a share of the schedule's, above 0 and at most 1."""
    rising = step / max(1, settings.warmup_steps)
    falling = (steps + 1 - step) / max(1.0, settings.cooldown * steps)
    return min(1.0, rising, falling)


@dataclass(frozen=True)
class Training:
    """One training under way."""

    objective: Objective
    name: str
    settings: LoopParams
    schedule: TaskParams
    curve: Path
    accelerator: Accelerator
    checkpoints: Checkpoints
    compiled: bool
    until: float

    def run(self, done: int) -> bool:
        """Train on, after `done` steps; whether it came to the end."""
        objective, settings, steps = self.objective, self.settings, self.schedule.steps
        accumulated = self.accumulated()
        objective.module.train()
        prepared = self.accelerator.prepare(objective.module)
        module = torch.compile(prepared) if self.compiled else prepared
        parameters = [parameter for parameter in objective.module.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(parameters, weight_decay=settings.weight_decay, fused=True)
        average = Average(parameters, settings.ema_decay)
        state = State(objective.module, optimizer, average)
        if done:
            state.load(self.checkpoints.read(done))
        batches = self.batches(done)

        with ExitStack() as stack:
            journal = self.journal(stack, done) if self.accelerator.is_main_process else None
            if journal and not done:
                with self.evaluation(average):
                    journal.measured(0, objective.validation())

            for step in range(done + 1, steps + 1):
                _seed(settings.seed, step, self.accelerator.process_index)
                rate = self.schedule.learning_rate * rate_share(step, steps, settings)
                for group in optimizer.param_groups:
                    group["lr"] = rate

                losses, ids = [], []
                for part in range(accumulated):
                    batch = send_to_device(next(batches), self.accelerator.device, non_blocking=True)
                    last = part == accumulated - 1
                    with nullcontext() if last else self.accelerator.no_sync(prepared):  # gradients travel once a step
                        loss_B = objective.loss(module, batch)
                        (loss_B.mean() / accumulated).backward()
                    losses.append(loss_B.detach())
                    ids += batch["object_id"]
                norm = float(nn.utils.clip_grad_norm_(parameters, settings.clip_norm))
                loss = self.checked_loss(step, torch.cat(losses), ids, norm)

                optimizer.step()
                optimizer.zero_grad()
                average.update(step)

                if journal:
                    if step == steps or step % settings.validate_every == 0:
                        with self.evaluation(average):
                            journal.measured(step, objective.validation())
                    if step == steps or step % settings.pictures_every == 0:
                        with self.evaluation(average):
                            journal.drawn(step, objective.pictures())
                    journal.add(step, loss, {"gradient_norm": norm, "learning_rate": rate})
                late = step < steps and time.monotonic() > self.until
                if journal and step < steps and (late or step % settings.checkpoint_every == 0):
                    self.checkpoints.write(step, state)
                if late:
                    self.accelerator.unwrap_model(prepared, keep_fp32_wrapper=False)
                    return False

        average.exchange()
        self.accelerator.unwrap_model(prepared, keep_fp32_wrapper=False)
        if self.accelerator.is_main_process:
            self.checkpoints.finish(objective.module)
        self.accelerator.wait_for_everyone()
        return True

    def accumulated(self) -> int:
        """How many micro batches a process takes through the network for one step."""
        mode, processes = self.accelerator.distributed_type, self.accelerator.num_processes
        if mode in (DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM):
            raise UserError(
                f"{self.name}: accelerate is set to {mode.value}, and every process needs the whole network; "
                "use `accelerate launch --multi_gpu`."
            )
        batch, micro_batch = self.schedule.batch, self.schedule.micro_batch
        if batch % (processes * micro_batch):
            raise UserError(
                f"{self.name}: a batch of {batch} cannot be split into micro batches of {micro_batch} on {processes} "
                f"process{'es' * (processes > 1)}; choose a multiple of {processes * micro_batch}, "
                "or another micro_batch."
            )
        return batch // (processes * micro_batch)

    def batches(self, done: int) -> Iterator[Batch]:
        """The micro batches of this process, after the first `done` steps."""
        text = os.environ.get("PARTGEN_LOADER_WORKERS", "0")
        if not text.isdecimal():
            raise UserError(f"PARTGEN_LOADER_WORKERS is {text!r}; give a whole number of processes, 0 for none.")
        first, end = done * self.schedule.batch, self.schedule.steps * self.schedule.batch
        loader = DataLoader(
            self.objective.examples(),
            batch_size=self.schedule.micro_batch,
            sampler=range(first + self.accelerator.process_index, end, self.accelerator.num_processes),
            collate_fn=self.objective.collate,
            num_workers=int(text),
            pin_memory=self.accelerator.device.type == "cuda",
        )
        return iter(loader)

    def journal(self, stack: ExitStack, done: int) -> Journal:
        """What is written down, of the steps after the first `done`; closed by the stack."""
        folder, steps = self.checkpoints.folder, self.schedule.steps
        if done:
            _say(f"{self.name}: going on after step {done} of {steps}.")
        board = _board(folder / "tensorboard", purge_step=done + 1 if done else 0)
        return Journal(
            Curve(folder / JOURNAL, self.curve, done),
            stack.enter_context(board) if board else None,
            stack.enter_context(Progress(self.name, steps, done, LOG_EVERY_S)),
        )

    @contextmanager
    def evaluation(self, average: Average) -> Iterator[None]:
        """Averaged weights, evaluation mode, no gradients."""
        module = self.objective.module
        with torch.no_grad(), average.in_place():
            module.eval()
            try:
                yield
            finally:
                module.train()

    def checked_loss(self, step: int, losses: Tensor, ids: list[str], norm: float) -> float:
        """The mean loss over the samples of all processes; UserError when one, or the gradient, is not finite."""
        everyone = self.accelerator.gather(losses)
        loss = float(everyone.mean())
        if math.isfinite(loss) and math.isfinite(norm):
            return loss
        bad = [object_id for object_id, good in zip(ids, losses.isfinite().tolist(), strict=True) if not good]
        objects = sorted(set(gather_object(bad) or gather_object(ids)))
        shown = ", ".join(objects[:SHOWN_IDS]) + ", ..." * (len(objects) > SHOWN_IDS)
        what = f"the gradient's norm is {norm}" if math.isfinite(loss) else f"the loss is {loss}"
        kept = self.checkpoints.latest()
        where = f"checkpoint {self.checkpoints.path(kept)} is kept" if kept else "no checkpoint was due before it"
        raise UserError(
            f"{self.name}: {what} at step {step}, with the objects {shown}; the step was not taken and {where}; "
            "look at these objects, or lower the learning_rate."
        )


def _seed(seed: int, step: int, process: int) -> None:
    """Seed torch for a step, for dropout inside the network.

    So there is no state of a generator to be kept, and what validation draws does not change the training.
    """
    digest = hashlib.sha256(f"{seed} {step} {process}".encode()).digest()
    torch.manual_seed(int.from_bytes(digest[:8]))


def _board(folder: Path, purge_step: int) -> SummaryWriter | None:
    """A TensorBoard log; None, said aloud, where that is not installed, as on a machine that only trains."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ModuleNotFoundError:
        _say("There is no TensorBoard here, and so no log for it; the loss curve is written.")
        return None
    return SummaryWriter(str(folder), purge_step=purge_step)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
