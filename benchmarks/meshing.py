"""Meshing of one part against evaluating its whole cube plainly: seconds, and peak memory.

    python -m benchmarks.meshing [--resolution 128] [--rounds 3] [--threads 2]

Fields with a volume of 32^3 cells and MLPs of 3 layers and width 32, as the reconstruction model makes them: a ball,
with its support and without, and three objects carved from the views of the data at hand, where there are any. The
plain way evaluates every point of the cube and takes the surface of that, without colours; `mesh_field` does all: it
looks for the surface, cleans, decimates and colours. Each run is a process of its own, the ways turn by turn, so that a
busy machine slows both alike; medians are printed. Peak memory is what a run adds to the field.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
import torch
from skimage.measure import marching_cubes

from pipeline.errors import UserError
from pipeline.params.reconstruct import MeshParams
from pipeline.reconstruction.carving import Carver
from pipeline.reconstruction.field import Decoder, Field
from pipeline.reconstruction.meshing import CHUNK, mesh_field
from pipeline.shards.read import iter_rows, read_manifest
from pipeline.shards.table import decode_png
from pipeline.views.cameras import Camera
from stages.entry import one_sentence_errors

VOLUME, CHANNELS, WIDTH, LAYERS = 32, 32, 32, 3
GRIDS = Path("data/renders/grids")
RADIUS = 0.5
SHARPNESS = 40.0
"""Logits of opacity over a unit of length."""
LEVEL = 10.0


class Measured(NamedTuple):
    """Of one process."""

    seconds: float
    peak_mb: float
    triangles: float


def ball() -> Field:
    """A ball as a field with MLPs of full depth, whose first units pass the opacity's logit through."""
    decoder = Decoder(CHANNELS, WIDTH, LAYERS, gain=LEVEL / math.log(2), bias=0.0)
    torch.manual_seed(0)
    first, *inner = (weight for weight in decoder.trunk.parameters() if weight.dim() == 2)
    *more, last = (weight for weight in decoder.opacity.parameters() if weight.dim() == 2)
    with torch.no_grad():
        for weight in (first, *inner, *more, last):
            weight[:2] = 0  # the logit x as relu(x) and relu(-x)
            weight[:, :2] = 0
        for weight in (*inner, *more):
            weight[:2, :2] = torch.eye(2)
        first[:2, 0] = torch.tensor([1.0, -1.0])
        last[0, :2] = torch.tensor([1.0, -1.0])
    axis = (torch.arange(VOLUME) + 0.5) * 2 / VOLUME - 1
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    volume = torch.randn(CHANNELS, VOLUME, VOLUME, VOLUME)
    volume[0] = SHARPNESS * (RADIUS - (x**2 + y**2 + z**2).sqrt())
    return Field(volume, decoder.requires_grad_(False))


def carved(number: int) -> Field:
    """A whole object of the data at hand, by its number in the order of the table."""
    settings = read_manifest(GRIDS).settings
    camera = Camera(settings["fov_deg"], settings["distance"], settings["view_size"])
    wholes = (row["image"] for row in iter_rows(GRIDS, ["part_id", "image"]) if row["part_id"] == 0)
    pixels = next(image for place, image in enumerate(wholes) if place == number)["bytes"]
    rgba = torch.from_numpy(decode_png(pixels).astype(np.float32) / 255).permute(2, 0, 1)
    over_white = torch.cat((rgba[:3] * rgba[3:] + 1 - rgba[3:], rgba[3:]))
    return Carver(camera, settings["elevation_deg"], 2 * VOLUME).fields(over_white[None])[0]


SUBJECTS: dict[str, Callable[[], Field]] = {
    "ball": ball,
    "ball with support": lambda: ball().supported(LEVEL / 10),
    **{f"carved object {number}": partial(carved, number) for number in (0, 10, 20)},
}


def plainly(field: Field, resolution: int) -> int:
    """Evaluate all points of the cube, then take the surface; the number of its triangles."""
    axis = (torch.arange(resolution) + 0.5) * 2 / resolution - 1
    still = torch.tensor([[0.0, 0.0, -1.0]])
    layers = []
    for x in axis:
        y, z = torch.meshgrid(axis, axis, indexing="ij")
        points = torch.stack((x.expand_as(y), y, z), dim=-1).view(-1, 3)
        with torch.no_grad():
            sigma = [field.evaluate(some, still.expand(len(some), 3))[0] for some in points.split(CHUNK)]
        layers.append(torch.cat(sigma).view(resolution, resolution))
    return len(marching_cubes(np.pad(torch.stack(layers).numpy(), 1), LEVEL)[1])


def measure(way: str, subject: str, resolution: int) -> Measured:
    """Mesh one field, in this process."""
    params = MeshParams(resolution=resolution, level=LEVEL, min_piece_share=0.02, max_triangles=20000, texture_px=0)
    field = SUBJECTS[subject]()

    def mesh(resolution: int) -> int:
        if way == "plain":
            return plainly(field, resolution)
        return len(mesh_field(field, params.model_copy(update={"resolution": resolution})).faces)

    mesh(16)  # what is loaded and set up once
    Path("/proc/self/clear_refs").write_text("5")  # sets Linux's high-water mark back to the present
    before, started = psutil.Process().memory_info().rss, time.perf_counter()
    triangles = mesh(resolution)
    seconds = time.perf_counter() - started
    lines = Path("/proc/self/status").read_text().splitlines()
    peak = int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024
    return Measured(seconds, (peak - before) / 1e6, triangles)


def measured(way: str, subject: str, arguments: argparse.Namespace) -> Measured:
    """`measure` in a process of its own."""
    values = [way, subject, arguments.resolution, arguments.threads]
    command = [sys.executable, "-m", "benchmarks.meshing", "--one", json.dumps(values)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise UserError(f"{way} of {subject} ended with status {done.returncode}; lower --resolution.")
    return Measured(*json.loads(done.stdout.splitlines()[-1]))


def compare(subject: str, arguments: argparse.Namespace) -> None:
    """Both ways on one field; a line of medians."""
    runs: dict[str, list[Measured]] = {"mesh_field": [], "plain": []}
    for _ in range(arguments.rounds):
        for way, found in runs.items():
            found.append(measured(way, subject, arguments))
    ours, plain = (Measured(*map(statistics.median, zip(*found, strict=True))) for found in runs.values())
    print(f"{subject:20}{ours.seconds:9.2f}{plain.seconds:9.2f}{ours.seconds / plain.seconds:9.2f}", end="")
    print(f"{ours.peak_mb:11.0f}{plain.peak_mb:9.0f}{ours.triangles:11.0f}{plain.triangles:9.0f}", flush=True)


def main() -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--resolution", type=int, default=128, help="cells a side of the cube")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        *values, threads = json.loads(arguments.one)
        torch.set_num_threads(threads)
        print(json.dumps(measure(*values)))
        return
    print(f"{arguments.resolution}^3, {arguments.threads} threads, medians of {arguments.rounds} runs")
    print(f"{'':20}{'seconds':>9}{'plain':>9}{'ratio':>9}{'peak, MB':>11}{'plain':>9}{'triangles':>11}{'plain':>9}")
    for subject in SUBJECTS:
        if subject.startswith("carved") and not GRIDS.exists():
            print(f"{subject:20} left out, there is no {GRIDS}")
            continue
        compare(subject, arguments)


if __name__ == "__main__":
    with one_sentence_errors():
        main()
