"""Long-lived Blender workers against one Blender process an object, as most public rendering scripts do it.

    python benchmarks/render_workers.py [--objects 10]

Same objects (data/assets), same settings (params.yaml), same number of processes; prints objects a minute and the ratio.
The long-lived workers' time counts their start as a share of the objects that they live for.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from pipeline.params.base import load_group
from pipeline.params.render import RenderParams
from pipeline.shards.execution import Execution
from pipeline.views import renders
from pipeline.views.renders import RenderJob, render_object
from stages.render import jobs

GOAL = 5.0


def draw(job: RenderJob) -> None:
    """Draw with this process's long-lived Blender."""
    render_object(job)


def draw_in_own_process(job: RenderJob) -> None:
    """Draw with a Blender that is started for this object alone."""
    render_object(job)
    if renders._blender is not None:
        renders._blender.close()
        renders._blender = None


def seconds(pool: ProcessPoolExecutor, function: object, work: Sequence[RenderJob]) -> float:
    """Wall-clock time to draw all of `work`."""
    started = time.monotonic()
    for _ in pool.map(function, work):  # type: ignore[arg-type]
        pass
    return time.monotonic() - started


def main() -> int:
    """Measure both ways; exit status 1 when the goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=10)
    count = parser.parse_args().objects
