"""The data half of the DAG, timed: the samples, the whole corpus, one object more, and what an object costs.

    python -m benchmarks.data_half samples|corpus|incremental|repro
    python -m benchmarks.data_half costs --objects 10 [--preset sd] [--stages assets render masks]

Works in a copy of the project with an empty store of finished objects. For each stage: wall seconds, and the largest
resident memory of any one process. `costs` prints the lines of `pipeline.plan.data:COSTS`.
"""

import argparse
import os
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from flows.workspace import workspace
from pipeline.params.base import read_yaml
from pipeline.project import find_preset
from pipeline.shards.read import iter_rows
from pipeline.shards.scratch import scratch

ALL = ("assets", "render", "masks", "captions")
POLL_S = 0.25
SHARDS = 1
"""Files a table of `costs`, so that what each file holds beside its rows counts little."""
OUTS = {"render": "renders"}
"""Folders of stages that are not called like them."""


@dataclass
class Used:
    """What a command and the processes under it used, as seen every POLL_S."""

    seconds: float
    """By the clock."""
    peak: float
    """Largest resident GiB of any one process."""
    cpu: float
    """CPU seconds of all of them."""


def timed(command: list[str], folder: Path) -> Used:
    """Run a command, with its store of finished objects in `folder`."""
    started, peak, cpu = time.monotonic(), 0, dict[tuple[int, float], float]()
    environment = {**os.environ, "PARTGEN_SCRATCH": str(folder / ".partgen")}
    process = psutil.Popen(command, cwd=folder, env=environment)
    while process.poll() is None:
        for member in [process, *process.children(recursive=True)]:
            try:
                peak = max(peak, member.memory_info().rss)
                times = member.cpu_times()
                cpu[member.pid, member.create_time()] = times.user + times.system
            except psutil.NoSuchProcess:
                continue
        time.sleep(POLL_S)
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with status {process.returncode}")
    return Used(time.monotonic() - started, peak / 2**30, sum(cpu.values()))


def run_stages(folder: Path, stages: tuple[str, ...], overrides: tuple[str, ...] = ()) -> Used:
    """Run stages one after the other without DVC; prints a line each, returns what they used together."""
    total = Used(0, 0, 0)
    for stage in stages:
        options = [word for override in overrides for word in ("--set", override)]
        used = timed([sys.executable, "-m", "stages.cli", "stage", stage, *options], folder)
        total = Used(total.seconds + used.seconds, max(total.peak, used.peak), total.cpu + used.cpu)
        print(
            f"{stage:<10} {used.seconds:8.1f} s   {used.cpu:8.1f} CPU s   largest process {used.peak:5.2f} GiB",
            flush=True,
        )
    print(f"{'together':<10} {total.seconds:8.1f} s   {total.cpu:8.1f} CPU s", flush=True)
    return total


def fresh(name: str, overrides: list[str]) -> Path:
    """A new copy of the project with other params; of what is finished it has the captions' model alone."""
    shutil.rmtree(scratch() / "runs" / name, ignore_errors=True)
    folder = workspace(Path.cwd(), name, overrides)
    (folder / ".partgen").mkdir()
    (scratch() / "models").mkdir(exist_ok=True)
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
    whole = run_stages(folder, ALL).seconds
    nothing = run_stages(folder, ALL).seconds
    more = run_stages(folder, ALL, ("assets.sweethome3d.objects=201",)).seconds
    share = (more - nothing) / whole
    print(
        f"200 objects {whole:.1f} s, nothing new {nothing:.1f} s, one more {more:.1f} s: "
        f"{share:.1%} of the 200 above start-up"
    )


def costs(preset: str, objects: int, stages: tuple[str, ...]) -> None:
    """CPU seconds and bytes for each kept object of sweethome3d, above what starting the stages costs."""
    values = read_yaml(find_preset(preset))
    groups = ("assets", "render", "captions")
    overrides = [f"{group}.{key}={value}" for group in groups for key, value in _plain(values[group])]
    only = ["assets.samples.use=false", f"assets.sweethome3d.objects={objects}", f"assets.shards={SHARDS}"]
    folder = fresh("benchmark-costs", [*overrides, *only])
    used: dict[str, list[float]] = {}
    for _ in range(2):  # the second time nothing is computed
        for stage in stages:
            used.setdefault(stage, []).append(run_stages(folder, (stage,)).cpu)
    rows = list(iter_rows(folder / "data/assets/objects"))
    kept = sum(row["status"] == "ok" for row in rows)
    parts = sum(row["part_count"] for row in rows)
    print(f"{preset}: {len(rows)} objects, {kept} of them kept, {parts} parts")
    for stage, (first, again) in used.items():
        print(f"{stage}: {(first - again) / kept:.3g} CPU seconds an object, {again:.0f} to start it")
        for table in sorted(path for path in (folder / "data" / OUTS.get(stage, stage)).iterdir() if path.is_dir()):
            size = sum(file.stat().st_size for file in table.glob("*.parquet"))
            print(f"  {table.name}: {size / kept:,.0f} bytes an object")


def _plain(group: dict[str, object]) -> list[tuple[str, object]]:
    return [(key, value) for key, value in group.items() if isinstance(value, int | float | str)]


def repro() -> None:
    """`dvc repro` of the samples, and again with nothing to do."""
    folder = fresh("benchmark-repro", ["assets.sweethome3d.objects=0"])
    for label in ("first", "again"):
        used = timed([sys.executable, "-m", "dvc", "repro", "--quiet"], folder)
        print(f"dvc repro, {label}: {used.seconds:.2f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["samples", "corpus", "incremental", "repro", "costs"])
    parser.add_argument("--preset", default="nano", help="whose renders and captions `costs` makes")
    parser.add_argument("--objects", type=int, default=50, help="of sweethome3d, for `costs`")
    parser.add_argument("--stages", nargs="+", choices=ALL, default=ALL, help="of `costs`")
    arguments = parser.parse_args()
    if arguments.what == "costs":
        costs(arguments.preset, arguments.objects, tuple(arguments.stages))
    else:
        globals()[arguments.what]()
