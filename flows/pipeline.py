"""The flow: one Prefect task a DVC stage, each a `dvc repro --single-item` of its own, in the order that DVC states."""

import re
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from prefect.runtime import flow_run
from prefect.states import Cancelled, Completed, Failed

from flows.graph import Stage, read_graph, with_needed
from flows.processes import Processes, Stopped
from flows.repro import Reader, environment, repro
from flows.results import Outcome, read_metrics, show_metrics, show_picture
from flows.watch import watched
from flows.workspace import find_project, workspace
from pipeline.errors import UserError

OBJECTS = 4
"""Whose pictures are shown."""


@dataclass(frozen=True)
class Run:
    """What the tasks of one flow run share."""

    folder: Path
    processes: Processes
    forced: frozenset[str]


@flow(name="partgen", persist_result=False, validate_parameters=True)
def partgen(overrides: tuple[str, ...] = (), stages: tuple[str, ...] = (), force: bool = False) -> State:
    """Make what the stages make, where it is not up to date.

    Args:
        overrides: Parameters other than those of params.yaml, each group.key=value, for instance render.samples=4.
            Such a run happens in a copy of the project, under .partgen/runs, and leaves the project as it is.
        stages: The stages wanted; what they need is made too. All of them when empty.
        force: Run the wanted stages although they are up to date.
    """
    root = find_project()
    try:
        graph = read_graph(root)
        chosen = with_needed(graph, stages)
        folder = workspace(root, _run_name(), overrides)
    except UserError as error:
        return Failed(message=str(error), data=[])
    get_run_logger().info("Running %s in %s", ", ".join(stage.name for stage in chosen), folder)
    forced = frozenset(stages or graph) if force else frozenset()
    run = Run(folder, Processes(environment(root)), forced)
    futures: dict[str, PrefectFuture[Any]] = {}
    with get_client(sync_client=True) as client:
        server = str(client.api_url)
    with watched(server, run.processes.stop):
        try:
            for stage in chosen:
                one = run_stage.with_options(name=stage.name, task_run_name=stage.name, tags={stage.device})
                needed = [futures[name] for name in stage.needs]
                futures[stage.name] = one.submit(stage, run, wait_for=needed, return_state=False)
            for future in futures.values():
                future.wait()
        finally:
            run.processes.stop()  # a cancelled run leaves no process behind
    states = {name: future.state for name, future in futures.items()}
    outcomes = [
        state.result() if state.is_completed() else Outcome(name, "failed" if state.is_failed() else "not started")
        for name, state in states.items()
    ]
    failed = [str(state.message) for state in states.values() if state.is_failed()]
    return Failed(message=" ".join(failed), data=outcomes) if failed else Completed(data=outcomes)


def _run_name() -> str:
    """A name for a folder: the run's, which a person may have typed, and enough of its id to be the only one."""
    return f"{re.sub('[^A-Za-z0-9_-]+', '-', str(flow_run.name))}-{str(flow_run.id)[-8:]}"


@task(cache_policy=NO_CACHE, persist_result=False)
def run_stage(stage: Stage, run: Run) -> State:
    """Bring one stage up to date, and show its metrics and pictures."""
    log = get_run_logger()
    reader = Reader(lambda line: log.info("%s", line))
    started = time.monotonic()
    try:
        status = run.processes.run(repro(stage.name, stage.name in run.forced), run.folder, reader.read)
        seconds = time.monotonic() - started
        if status != 0:
            return Failed(message=f"{stage.name}: {reader.error or f'exit status {status}; the logs say more.'}")
        metrics = read_metrics(run.folder, stage)
        show_metrics(stage.name, metrics)
        if reader.state != "unchanged":
            _show_pictures(stage, run)
    except Stopped:
        return Cancelled(message=f"{stage.name}: the run was cancelled; finished objects are kept.")
    outcome = Outcome(stage.name, reader.state, seconds, metrics)
    return Completed(name=outcome.state.capitalize(), message=f"{outcome.state} in {seconds:.1f} s", data=outcome)


def _show_pictures(stage: Stage, run: Run) -> None:
    """Pictures are an extra: where they cannot be made, the log says why, and the stage stands."""
    tables = [Path(out) for out in stage.outs if any((run.folder / out).glob("*/manifest.json"))]
    for picture in stage.pictures if not tables else ():  # contact sheets of tables show their stage's plot, too
        show_picture(stage.name, run.folder / picture)
    with tempfile.TemporaryDirectory() as folder:
        for out in tables:
            lines: list[str] = []
            command = [sys.executable, "-m", "stages.cli", "show", out.name, "--out", folder, "--limit", str(OBJECTS)]
            if run.processes.run(command, run.folder, lines.append) == 0:
                show_picture(stage.name, Path(folder) / f"{out.name}.png")
            else:
                get_run_logger().warning("No pictures of %s: %s", out, lines[-1] if lines else "no reason was given")
