"""Training samples a second: real examples out of the shards against one batch that is there already.

    python -m benchmarks.training_speed [--data data] [--tasks segment complete ...] [--rounds 5]

Each round times some steps (forward, backward, AdamW) on real examples, then as many on a synthetic batch of the same
shapes; medians over the rounds. For tasks with tokens of a frozen encoder also with these computed in every batch,
where real examples have them computed beforehand. PARTGEN_LOADER_WORKERS processes read ahead.
"""

import argparse
import os
import resource
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from pipeline.diffusion.examples import Examples
from pipeline.diffusion.frozen import image_outputs, text_outputs
from pipeline.diffusion.image import build_image_encoder
from pipeline.diffusion.models import start_autoencoder
from pipeline.diffusion.networks import Model
from pipeline.diffusion.objective import DiffusionObjective
from pipeline.diffusion.samples import collate
from pipeline.diffusion.schedule import training_schedule
from pipeline.diffusion.tasks import TASKS, Task
from pipeline.diffusion.text import build_text_encoder
from pipeline.diffusion.unet import build_unet
from pipeline.params.base import load_group
from pipeline.params.diffusion import DiffusionParams
from pipeline.params.train import TrainParams
from pipeline.shards.read import read_manifest
from pipeline.training.malloc import keep_freed_memory
from stages.entry import one_sentence_errors

STEPS = 4
"""Of a round."""


def batches(examples: Examples, size: int) -> Iterator[dict[str, Any]]:
    """Batches as the training loop reads them."""
    workers = int(os.environ.get("PARTGEN_LOADER_WORKERS", "0"))
    numbers = range(10**6)
    return iter(DataLoader(examples, batch_size=size, sampler=numbers, collate_fn=collate, num_workers=workers))


def seconds(objective: DiffusionObjective, optimizer: torch.optim.Optimizer, next_batch: Callable[[], Any]) -> float:
    """Of STEPS training steps."""
    started = time.perf_counter()
    for _ in range(STEPS):
        objective.loss(objective.module, next_batch()).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return time.perf_counter() - started


def measure(task: Task, diffusion: DiffusionParams, data: Path, size: int, rounds: int) -> None:
    """Print one line."""
    autoencoder, text = start_autoencoder(diffusion), build_text_encoder(diffusion.text)
    image = build_image_encoder(diffusion.image) if task.image_tokens else None
    side = 2 * read_manifest(data / "renders/grids").settings["view_size"] // diffusion.autoencoder.factor
    unet = build_unet(diffusion, task, diffusion.autoencoder.channels, side, text.width)
    examples = Examples(data, task, "train", diffusion, 0, drop_condition=0.1, augment=True)

    def objective(precompute: bool) -> DiffusionObjective:
        return DiffusionObjective(
            task,
            Model(unet, autoencoder, text, image),
            training_schedule(diffusion.schedule, task),
            diffusion.sampler.of(task.name),
            examples,
            None,
            0,
            text_outputs(data, text) if precompute and task.caption else None,
            image_outputs(data, image) if precompute and image is not None else None,
        )

    beforehand, every_batch = objective(True), objective(False)
    optimizer = torch.optim.AdamW(unet.parameters(), lr=1e-5, fused=True)
    real = batches(examples, size)
    same = next(real)
    ways: dict[str, Callable[[], float]] = {
        "real": lambda: seconds(beforehand, optimizer, lambda: next(real)),
        "synthetic": lambda: seconds(beforehand, optimizer, lambda: same),
    }
    if task.caption or task.image_tokens:
        ways["encoded"] = lambda: seconds(every_batch, optimizer, lambda: next(real))
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            spent = way()
            if number:  # the first round warms up
                times[name].append(spent)
    rate = {name: STEPS * size / statistics.median(values) for name, values in times.items()}
    encoded = f"; encoders in every batch {rate['encoded']:.1f}" if "encoded" in rate else ""
    share = rate["real"] / rate["synthetic"]
    print(
        f"{task.name:<21} real {rate['real']:6.1f} samples/s, synthetic {rate['synthetic']:6.1f}: {share:.1%}{encoded}",
        flush=True,
    )


def main() -> None:
    """Print one line a task, and the peak memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of renders, masks and captions")
    parser.add_argument("--tasks", nargs="*", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    diffusion, train = load_group(DiffusionParams), load_group(TrainParams)
    keep_freed_memory()
    for name in arguments.tasks:
        measure(TASKS[name], diffusion, arguments.data, train.schedule(name).micro_batch, arguments.rounds)
    print(f"peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB resident")


if __name__ == "__main__":
    with one_sentence_errors():
        main()
