"""Long-lived Blender workers against one Blender process an object, as most public rendering scripts do it.

    python -m benchmarks.render_workers [--objects 10]

Same objects (the first of data/assets), same settings (params.yaml), same number of processes (PARTGEN_WORKERS); prints
objects a minute and the ratio. A long-lived worker is measured with its start, over at most LIFE objects of its life,
for which the same objects are drawn again and again.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import cycle, islice
from multiprocessing import get_context
from pathlib import Path

from pipeline.params.base import load_group
from pipeline.params.render import RenderParams
from pipeline.shards.execution import Execution
from pipeline.views import renders
from pipeline.views.renders import RenderJob, render_object
from stages.render import items

GOAL = 5.0
LIFE = 60


def draw_with_living_blender(job: RenderJob) -> None:
    """Draw with this process's Blender, as the stage does."""
    render_object(job)


def draw_with_new_blender(job: RenderJob) -> None:
    """Start a Blender for this object alone."""
    render_object(job)
    if renders._blender is not None:
        renders._blender.close()
        renders._blender = None


def objects_a_minute(function: Callable[[RenderJob], None], jobs: Sequence[RenderJob], workers: int) -> float:
    """Draw `jobs` in processes that are up and have this project imported."""
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        list(pool.map(time.sleep, [0.5] * workers))
        started = time.monotonic()
        list(pool.map(function, jobs))
        return 60 * len(jobs) / (time.monotonic() - started)


def main() -> int:
    """Measure both; exit status 1 when the goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=10, help="objects that are drawn")
    params = load_group(RenderParams)
    workers = Execution.from_environment().workers
    jobs = [item.load() for item in islice(items(Path("data"), params), parser.parse_args().objects)]
    one_each = objects_a_minute(draw_with_new_blender, jobs, workers)
    print(f"one Blender an object: {one_each:.1f} objects a minute", flush=True)
    lives = list(islice(cycle(jobs), workers * min(LIFE, params.objects_per_worker)))
    long_lived = objects_a_minute(draw_with_living_blender, lives, workers)
    print(f"long-lived workers:    {long_lived:.1f} objects a minute")
    ratio = long_lived / one_each
    print(f"ratio {ratio:.1f}, goal {GOAL:.0f}: {'reached' if ratio >= GOAL else 'MISSED'}")
    return 0 if ratio >= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
