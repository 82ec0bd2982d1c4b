"""Time and memory of taking a 3D object apart on its own surface, and of another number of parts.

    python -m benchmarks.surface [--triangles 10000 200000 2000000]

For each size `partgen decompose --no-animation` as a command (cold), the same in one process that has done it before
(warm), and `regroup` in it: up to 10,000 triangles of the sample antiqueChair, a modelled mesh; else of a skin, a bumpy
ball of so many triangles with colours at its vertices and forty studs on it. Prints seconds, the largest memory of a
process, and what share of the goal that is.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import trimesh

GOALS = {10_000: (12.0, 4.0), 200_000: (30.0, 20.0), 2_000_000: (120.0, 120.0)}
"""Seconds, cold and warm, of an object of at most so many triangles."""
REGROUP_GOAL, MEMORY_GOAL_GIB = 0.3, 4.0
STUDS = 40
SAMPLE, MODELLED = Path("data/samples/antiqueChair.glb"), 10_000


def bumpy(triangles: int) -> trimesh.Scene:
    """A ball with waves, of about so many triangles, and studs all over it."""
    side = int((triangles * 0.9 / 4) ** 0.5)  # a sphere has twice as many meridians
    ball = trimesh.creation.uv_sphere(count=[side, side])
    direction = ball.vertices.copy()
    ball.vertices *= (1 + 0.08 * np.sin(9 * direction).prod(axis=1))[:, None]
    ball.visual.vertex_colors = np.clip(np.c_[128 + 100 * direction, np.full(len(direction), 255)], 0, 255)
    scene = trimesh.Scene({"ball": ball})
    small = int((triangles * 0.1 / STUDS / 4) ** 0.5)
    for number, at in enumerate(trimesh.sample.sample_surface_even(trimesh.creation.icosphere(), STUDS, seed=0)[0]):
        stud = trimesh.creation.uv_sphere(radius=0.06, count=[max(small, 4)] * 2)
        scene.add_geometry(stud.apply_translation(at * 1.1), node_name=f"stud {number}")
    return scene


def timed(function: Callable[[], object]) -> float:
    """Its wall-clock seconds."""
    started = time.monotonic()
    function()
    return time.monotonic() - started


def measure(triangles: int, folder: Path) -> bool:
    """Print a line a measurement; whether all goals are met."""
    path = SAMPLE
    if triangles > MODELLED:
        path = folder / f"ball-{triangles}.glb"
        path.write_bytes(bumpy(triangles).export(file_type="glb"))
    command = [sys.executable, "-m", "stages.cli", "decompose", str(path), "--no-animation", "--out"]

    def once(name: str) -> None:
        subprocess.run([*command, str(folder / name)], check=True, capture_output=True)

    cold_goal, warm_goal = next(goal for most, goal in sorted(GOALS.items()) if triangles <= most)
    lines = [("cold", timed(lambda: once(f"cold-{triangles}")), cold_goal, "s")]
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    from partgen import PartGenPipeline

    partgen = PartGenPipeline.from_pretrained("weights/nano")
    made = partgen.decompose(path)
    lines.append(("warm", timed(lambda: partgen.decompose(path).save(folder / f"warm-{triangles}")), warm_goal, "s"))
    number = 2 if len(made.parts) != 2 else 3
    lines.append(("regroup", timed(lambda: partgen.regroup(made, number)), REGROUP_GOAL, "s"))
    lines.append(("memory", memory, MEMORY_GOAL_GIB, "GiB"))
    for name, found, goal, unit in lines:
        print(f"{triangles:>9,} triangles, {name:>7}: {found:6.2f} {unit}, {found / goal:4.2f} of the goal of {goal:g}")
    return all(found <= goal for _, found, goal, _ in lines)


def main() -> int:
    """Measure all sizes; exit status 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--triangles", type=int, nargs="+", default=list(GOALS))
    with tempfile.TemporaryDirectory() as folder:
        met = [measure(triangles, Path(folder)) for triangles in parser.parse_args().triangles]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
