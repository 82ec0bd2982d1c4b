"""The data half of the DAG, timed: the samples, the whole corpus, and one object more.

    python -m benchmarks.data_half samples|corpus|incremental|repro

Works in a copy of the project with an empty store of finished objects. For each stage: wall seconds, and the largest
resident memory of any one process.
"""

import argparse
import os
import shutil
import sys
import time
from pathlib import Path

import psutil

from flows.workspace import workspace
from pipeline.shards.scratch import scratch

ALL = ("assets", "render", "masks", "captions")
POLL_S = 0.25


def timed(command: list[str], folder: Path) -> tuple[float, float]:
    """Wall seconds of a command, and the largest resident GiB of any one process under it."""
    started, peak = time.monotonic(), 0
    environment = {**os.environ, "PARTGEN_SCRATCH": str(folder / ".partgen")}
    process = psutil.Popen(command, cwd=folder, env=environment)
    while process.poll() is None:
        for member in [process, *process.children(recursive=True)]:
            try:
                peak = max(peak, member.memory_info().rss)
            except psutil.NoSuchProcess:
                continue
        time.sleep(POLL_S)
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with status {process.returncode}")
    return time.monotonic() - started, peak / 2**30


def run_stages(folder: Path, stages: tuple[str, ...], overrides: tuple[str, ...] = ()) -> float:
    """Run stages one after the other without DVC; prints a line each, returns their seconds together."""
    total = 0.0
    for stage in stages:
        options = [word for override in overrides for word in ("--set", override)]
        seconds, peak = timed([sys.executable, "-m", "stages.cli", "stage", stage, *options], folder)
        total += seconds
        print(f"{stage:<10} {seconds:8.1f} s   largest process {peak:5.2f} GiB", flush=True)
    print(f"{'together':<10} {total:8.1f} s", flush=True)
    return total


def fresh(name: str, overrides: list[str]) -> Path:
    """A new copy of the project with other params; of what is finished it has the captions' model alone."""
    shutil.rmtree(scratch() / "runs" / name, ignore_errors=True)
    folder = workspace(Path.cwd(), name, overrides)
    (folder / ".partgen").mkdir()
    (folder / ".partgen/models").symlink_to((scratch() / "models").resolve())
    return folder


def samples() -> None:
    """The ten samples through all four stages."""
    run_stages(fresh("benchmark-samples", ["assets.sweethome3d.objects=0"]), ALL)


def corpus() -> None:
    """All of sweethome3d through assets, render and masks."""
    run_stages(fresh("benchmark-corpus", ["assets.sweethome3d.objects=820"]), ALL[:3])


def incremental() -> None:
    """200 objects, then nothing new (what starting the processes costs), then one object more."""
    only = ("assets.samples.use=false",)
    folder = fresh("benchmark-incremental", ["assets.sweethome3d.objects=200", *only])
    whole = run_stages(folder, ALL)
    nothing = run_stages(folder, ALL)
    more = run_stages(folder, ALL, ("assets.sweethome3d.objects=201",))
    share = (more - nothing) / whole
    print(
        f"200 objects {whole:.1f} s, nothing new {nothing:.1f} s, one more {more:.1f} s: "
        f"{share:.1%} of the 200 above start-up"
    )


def repro() -> None:
    """`dvc repro` of the samples, and again with nothing to do."""
    folder = fresh("benchmark-repro", ["assets.sweethome3d.objects=0"])
    for label in ("first", "again"):
        seconds, _ = timed([sys.executable, "-m", "dvc", "repro", "--quiet"], folder)
        print(f"dvc repro, {label}: {seconds:.2f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["samples", "corpus", "incremental", "repro"])
    globals()[parser.parse_args().what]()
