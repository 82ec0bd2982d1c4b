"""A command alone, and beside other work: how much longer it takes when busy processes keep all cores.

    python -m benchmarks.threads [--rounds 3] [COMMAND ...]

The command is `partgen decompose` of a sample with weights/nano unless another is given. Prints the medians of its
wall-clock and CPU seconds, and the ratio: as many busy processes as there are cores leave it half of them, so 2 is its
fair share. With `OMP_NUM_THREADS=2` it shows what threads that wait by spinning do to it.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

GOAL = 3.0
BUSY = "while True: pass"
SAMPLE = Path("data/samples/showerDoor.glb")


def seconds(command: list[str]) -> tuple[float, float]:
    """Wall-clock and CPU seconds of a command that succeeds."""
    before, started = os.times(), time.monotonic()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return time.monotonic() - started, cpu


def decompose() -> tuple[float, float]:
    """Those of taking a sample apart into a new folder."""
    with tempfile.TemporaryDirectory() as folder:
        options = ["--models", "weights/nano", "--out", f"{folder}/result"]
        return seconds([sys.executable, "-m", "stages.cli", "decompose", str(SAMPLE), *options])


def main() -> int:
    """Measure both; exit status 1 when the goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("command", nargs="*")
    arguments = parser.parse_args()
    taken: dict[str, list[tuple[float, float]]] = {"alone": [], "beside": []}
    for _ in range(arguments.rounds):
        for name, found in taken.items():
            with ExitStack() as stack:
                for _ in range((os.cpu_count() or 1) * (name == "beside")):
                    busy = stack.enter_context(subprocess.Popen([sys.executable, "-c", BUSY]))
                    stack.callback(busy.kill)
                found.append(seconds(arguments.command) if arguments.command else decompose())
    medians = {
        name: [statistics.median(values) for values in zip(*found, strict=True)] for name, found in taken.items()
    }
    for name, (wall, cpu) in medians.items():
        print(f"{name:>6}: {wall:.1f} s, of the CPU {cpu:.1f} s")
    ratio = medians["beside"][0] / medians["alone"][0]
    print(f"ratio {ratio:.2f}, goal {GOAL:g}: {'reached' if ratio <= GOAL else 'MISSED'}")
    return 0 if ratio <= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
