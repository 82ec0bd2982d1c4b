"""The renderer's fast path against its plain autograd reference: seconds, and peak memory.

    python -m benchmarks.renderer [--volume 64] [--memory 8] [--rounds 3] [--threads 2]

A square picture of N = 1 and N = 4 parts is rendered, and backpropagated, with 128 samples a ray: at the largest size
at which the reference is expected to stay within `--memory` GiB. Then the fast path alone at 256 px with N = 10. Each
run is a process of its own, the two paths turn by turn, so that a busy machine slows both alike; medians are printed.
Where the package lightplane is installed, its plain PyTorch path renders the picture of N = 1, too.
Peak memory is what a forward and backward pass adds to the fields and rays, the volumes' gradients included.
"""

import argparse
import importlib.util
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import psutil
import torch

from pipeline.errors import UserError
from pipeline.reconstruction.field import Decoder, Field
from pipeline.reconstruction.lightplane import render_lightplane
from pipeline.reconstruction.rays import view_rays
from pipeline.reconstruction.renderer import Rendered, render, render_reference
from pipeline.views.cameras import Camera
from stages.entry import one_sentence_errors

SAMPLES, CHANNELS, WIDTH, LAYERS = 128, 32, 32, 3
PROBE_PX, STEP_PX = 48, 16
PATHS: dict[str, Callable[..., Rendered]] = {
    "fast": render,
    "reference": render_reference,
    "lightplane": partial(render_lightplane, plain=True),
}


class Measured(NamedTuple):
    """Of one process."""

    forward_s: float
    """Without gradients."""
    both_s: float
    """Forward and backward pass."""
    peak_mb: float


def measure(path: str, parts: int, pixels: int, volume: int, device: str) -> Measured:
    """Time one picture, in this process."""
    torch.manual_seed(0)
    decoder = Decoder(CHANNELS, WIDTH, LAYERS).to(device)
    fields = []
    for _ in range(parts):
        features = torch.randn(1, CHANNELS, volume, volume, volume, device=device)
        # Channels innermost, as the reconstruction model's splatter writes them.
        fields.append(Field(features.to(memory_format=torch.channels_last_3d)[0].requires_grad_(), decoder))
    leaves = [*(field.volume_CDHW for field in fields), *decoder.parameters()]

    def forward(size: int) -> Rendered:
        rays = view_rays(Camera(40.0, 3.1, size), 30.0, 20.0, device).flat()
        return PATHS[path](fields, rays, SAMPLES)

    def both(size: int) -> None:
        seen = forward(size)
        torch.autograd.grad(seen.colour.sum() + seen.alpha.sum(), leaves)

    both(STEP_PX)  # what is loaded and set up once
    with torch.no_grad():
        forward_s = _seconds(lambda: forward(pixels), device)
    before = _start_of_peak(device)
    both_s = _seconds(lambda: both(pixels), device)
    return Measured(forward_s, both_s, (_peak(device) - before) / 1e6)


def _seconds(action: Callable[[], object], device: str) -> float:
    started = time.perf_counter()
    action()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def _start_of_peak(device: str) -> int:
    """Bytes in use; the peak is counted from here."""
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    Path("/proc/self/clear_refs").write_text("5")  # sets Linux's high-water mark back to the present
    return psutil.Process().memory_info().rss


def _peak(device: str) -> int:
    if device != "cpu":
        return torch.cuda.max_memory_allocated()
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024


def measured(path: str, parts: int, pixels: int, arguments: argparse.Namespace) -> Measured:
    """`measure` in a process of its own."""
    values = [path, parts, pixels, arguments.volume, arguments.device, arguments.threads]
    command = [sys.executable, "-m", "benchmarks.renderer", "--one", json.dumps(values)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise UserError(
            f"{path} with {parts} parts at {pixels} px ended with status {done.returncode}; lower --memory."
        )
    return Measured(*json.loads(done.stdout.splitlines()[-1]))


def median(runs: list[Measured]) -> Measured:
    """Of each figure."""
    return Measured(*(statistics.median(values) for values in zip(*runs, strict=True)))


def largest(parts: int, arguments: argparse.Namespace) -> int:
    """Pixels a side at which the reference should stay within the memory given."""
    probe = measured("reference", parts, PROBE_PX, arguments)
    side = PROBE_PX * (arguments.memory * 2**30 / (probe.peak_mb * 1e6)) ** 0.5
    return max(PROBE_PX, int(side) // STEP_PX * STEP_PX)


def compare(parts: int, arguments: argparse.Namespace) -> None:
    """Both paths at the same size; one line a figure."""
    pixels = largest(parts, arguments)
    compared = ["fast", "reference"]
    if parts == 1 and importlib.util.find_spec("lightplane"):
        compared.append("lightplane")
    runs: dict[str, list[Measured]] = {path: [] for path in compared}
    for _ in range(arguments.rounds):
        for path in compared:
            runs[path].append(measured(path, parts, pixels, arguments))
    fast, reference = median(runs["fast"]), median(runs["reference"])
    print(f"N = {parts}, {pixels} px")
    print(f"  forward, s              {fast.forward_s:10.2f}{reference.forward_s:12.2f}", end="")
    print(f"   {fast.forward_s / reference.forward_s:.2f} of its time")
    print(f"  forward and backward, s {fast.both_s:10.2f}{reference.both_s:12.2f}", end="")
    print(f"   {fast.both_s / reference.both_s:.2f} of its time")
    print(f"  peak memory, MB         {fast.peak_mb:10.0f}{reference.peak_mb:12.0f}", end="")
    print(f"   {reference.peak_mb / fast.peak_mb:.0f} times smaller", flush=True)
    if "lightplane" in runs:
        plain = median(runs["lightplane"])
        print(f"  Lightplane's plain path: {plain.forward_s:.2f} s, {plain.both_s:.2f} s, {plain.peak_mb:.0f} MB")


def main() -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--volume", type=int, default=64, help="cells a side")
    parser.add_argument("--memory", type=float, help="GiB for the reference; half of what is free unless told")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        *values, threads = json.loads(arguments.one)
        torch.set_num_threads(threads)
        print(json.dumps(measure(*values)))
        return
    if arguments.memory is None:
        free = psutil.virtual_memory().available if arguments.device == "cpu" else torch.cuda.mem_get_info()[0]
        arguments.memory = free / 2 / 2**30
    print(f"volume {arguments.volume}^3 x {CHANNELS}, {SAMPLES} samples a ray, {LAYERS} layers of width {WIDTH}")
    print(f"{arguments.device}, {arguments.threads} threads, {arguments.memory:.1f} GiB for the reference")
    print(f"{'':26}{'fast':>10}{'reference':>12}")
    for parts in (1, 4):
        compare(parts, arguments)
    alone = measured("fast", 10, 256, arguments)
    print(
        f"N = 10, 256 px, fast path alone: forward {alone.forward_s:.1f} s, forward and backward {alone.both_s:.1f} s, "
    )
    print(f"  peak memory {alone.peak_mb:.0f} MB")


if __name__ == "__main__":
    with one_sentence_errors():
        main()
