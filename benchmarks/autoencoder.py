"""The autoencoder of `nano` at 4 x 4 and at 8 x 8 pixels a latent, trained for equal time.

    python -m benchmarks.autoencoder [--data data] [--minutes 5] [--factors 4 8] [--splits val] [--width 64 --blocks 3]

For each: what the closed form gives and what training makes of it, on held-out objects: dB of renders, and the shares
of all pixels and of part pixels whose colour still decodes to their own after a round trip of a colour map; then the
same with noise on the latents. Time is the process's own, on all its threads, divided by their number: what training
would take on an idle machine.
"""

import argparse
import time
from pathlib import Path

import torch
from torch import nn

from pipeline.diffusion.autoencoder import build_autoencoder
from pipeline.diffusion.autoencoder_objective import LATENT_NOISE, AutoencoderObjective, Pictures, round_trip_quality
from pipeline.diffusion.examples import Examples
from pipeline.diffusion.tasks import TASKS
from pipeline.params.base import load_group
from pipeline.params.diffusion import DiffusionParams
from pipeline.params.train import TrainParams
from pipeline.training.average import Average
from pipeline.training.loop import rate_share
from stages.entry import one_sentence_errors


def measured(objective: AutoencoderObjective, held_out: dict[str, Examples]) -> str:
    """A line of numbers for each split, without and with noise."""
    lines = []
    for split, examples in held_out.items():
        for noise in (0.0, LATENT_NOISE):
            found = round_trip_quality(objective.autoencoder, examples, objective.colours, noise)
            lines.append(
                f"    {split:<5} latent noise {noise:.1f}   {found['psnr']:5.2f} dB   "
                f"pixels {found['pixels']:.2%}   part pixels {found['part_pixels']:.2%}"
            )
    return "\n".join(lines)


def trained(objective: AutoencoderObjective, train: TrainParams, minutes: float) -> tuple[int, float]:
    """Train for so long, as the stage does; gives steps and seconds."""
    schedule, settings, module = train.autoencoder, train.loop, objective.module
    parameters = list(module.parameters())
    optimizer = torch.optim.AdamW(parameters, weight_decay=settings.weight_decay, fused=True)
    average, examples = Average(parameters, settings.ema_decay), objective.examples()
    started, step, seconds = time.process_time(), 0, 0.0
    while seconds < 60 * minutes:
        numbers = range(step * schedule.batch, (step + 1) * schedule.batch)
        step += 1
        steps = round(step * 60 * minutes / seconds) if seconds else step * 1000  # as many as there will be
        for group in optimizer.param_groups:
            group["lr"] = schedule.learning_rate * rate_share(step, max(step, steps), settings)
        batch = objective.collate([examples[number] for number in numbers])
        objective.loss(module, batch).mean().backward()
        nn.utils.clip_grad_norm_(parameters, settings.clip_norm)
        optimizer.step()
        optimizer.zero_grad()
        average.update(step)
        seconds = (time.process_time() - started) / torch.get_num_threads()
    average.exchange()
    objective.standardise()
    return step, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--factors", type=int, nargs="+", default=[4, 8])
    parser.add_argument("--splits", nargs="+", choices=["val", "test"], default=["val"])
    parser.add_argument("--width", type=int, help="instead of that in params.yaml")
    parser.add_argument("--blocks", type=int, help="instead of those in params.yaml")
    arguments = parser.parse_args()
    params, train = load_group(DiffusionParams), load_group(TrainParams)
    for factor in arguments.factors:
        torch.manual_seed(train.loop.seed)
        changes = {"kind": "patch", "factor": factor}
        if arguments.width:
            changes["widths"] = [arguments.width]
        if arguments.blocks:
            changes["blocks"] = arguments.blocks
        kind = params.autoencoder.model_copy(update=changes)
        chosen = params.model_copy(update={"autoencoder": kind, "palette": "random"})
        pictures = Pictures(arguments.data, "train", chosen, train.loop.seed, augment=True)
        held_out = {
            split: Examples(arguments.data, TASKS["segment"], split, chosen, 0, drop_condition=0.0, augment=False)
            for split in arguments.splits
        }
        objective = AutoencoderObjective(build_autoencoder(kind), pictures, None, chosen.colours, train.loop.seed)
        started = time.process_time()
        objective.closed_form_start()
        seconds = (time.process_time() - started) / torch.get_num_threads()
        weights = sum(parameter.numel() for parameter in objective.module.parameters())
        print(f"/{factor}, {kind.channels} channels, {weights / 1e6:.2f} M weights")
        with torch.no_grad():
            print(f"  closed form, {seconds:.0f} s\n{measured(objective, held_out)}", flush=True)
        steps, seconds = trained(objective, train, arguments.minutes)
        with torch.no_grad():
            print(f"  trained, {steps} steps, {seconds:.0f} s\n{measured(objective, held_out)}", flush=True)


if __name__ == "__main__":
    with one_sentence_errors():
        main()
