"""The commands that run stages: one alone, all of dvc.yaml as a flow, and the trainings one after the other."""

import importlib
import json
import os
import sys
from typing import Annotated, NoReturn

import typer

from pipeline.diffusion.tasks import BESIDE, TRAININGS
from pipeline.errors import UserError, nearest
from pipeline.params.all import GROUPS, check_params
from pipeline.params.base import load_group
from stages.options import Overrides

runs = typer.Typer()

OF_SAM2 = ("sam2_mask_decoder", "sam2_grid")
"""Trainings that are no stages of dvc.yaml, since they need the user's weights."""
STAGES = (
    "assets",
    "render",
    "masks",
    "atoms",
    "captions",
    *(f"train@{name}" for name in (*TRAININGS, *BESIDE, *OF_SAM2)),
    "train_lrm",
    "train_lrm_joint",
    "train_gaussians",
    "train_grouping",
    "generate",
    "segment",
    "complete",
    "reconstruct",
    "evaluate",
    "report",
)


@runs.command()
def stage(
    name: Annotated[str, typer.Argument(help=f"One of: {', '.join(STAGES)}")],
    set_: Overrides = None,
    force: Annotated[bool, typer.Option("--force", help="Compute every object anew, also finished ones.")] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Local processes; all cores when not given. Not of trainings.")
    ] = None,
    ray: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Run on this Ray cluster (`auto` or host:port).")
    ] = None,
) -> None:
    """Run one stage here, without DVC, on what the stages before it made.

    Finished objects are reused; a stage that was killed goes on where it was.
    For example: partgen stage render --set render.samples=4, or partgen stage train@segment
    """
    if name not in STAGES:
        raise UserError(f"There is no stage `{name}`{nearest(name, STAGES)}; the stages are {', '.join(STAGES)}.")
    check_params(set_ or ())
    if workers:
        os.environ["PARTGEN_WORKERS"] = str(workers)
    if ray:
        os.environ["PARTGEN_RAY_ADDRESS"] = ray
    module, _, training = name.partition("@")
    if training in OF_SAM2:
        module = "train_sam2"
    if module.startswith("train"):
        launch = importlib.import_module(f"stages.{module}").launch
        launch(*([training] if training else []), set_ or (), force=force)
        return
    groups = [name, "reconstruction"] if name == "reconstruct" else [name]
    params = [load_group(GROUPS[group], set_ or ()) for group in groups]
    importlib.import_module(f"stages.{name}").run(*params, force=force)


@runs.command()
def run(
    set_: Overrides = None,
    stages: Annotated[
        list[str] | None, typer.Argument(help="Only these stages and what they need; all when none.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Run stages that are up to date, too.")] = False,
) -> None:
    """Run the DAG of dvc.yaml as a Prefect flow, with an embedded server.

    With --set the run works in a copy of the project under .partgen/runs and leaves this folder as it is.
    """
    check_params(set_ or ())
    _become_flow("flows.local", "run", json.dumps({"overrides": set_ or [], "stages": stages or [], "force": force}))


@runs.command()
def serve() -> None:
    """Register the flow with the Prefect server at PREFECT_API_URL, so that runs start from its UI."""
    _become_flow("flows.local", "serve")


@runs.command("train-all")
def train_all(
    stages: Annotated[
        list[str] | None, typer.Argument(help="Only these and what they need, in this order: train@segment ...")
    ] = None,
    preset_: Annotated[
        str | None,
        typer.Option("--preset", metavar="NAME", help="Train with this preset, in a copy of the project."),
    ] = None,
    background: Annotated[bool, typer.Option("--background", help="Return at once; the trainings go on.")] = False,
    status: Annotated[bool, typer.Option("--status", help="Say how far the trainings are.")] = False,
    stop: Annotated[bool, typer.Option("--stop", help="End the trainings that run.")] = False,
) -> None:
    """Bring all trainings and the stages they need up to date, one after the other, at the lowest priority.

    After a kill or a reboot the same command goes on: finished stages are kept, a training goes on from its checkpoint.
    With --preset it works in a copy of the project under .partgen/runs, made when it is first started: what is changed
    in the project meanwhile changes nothing there. For example: partgen train-all --preset corpus --background
    """
    if status + stop + (background or preset_ is not None or bool(stages)) > 1:
        raise UserError("Give --status or --stop alone; they are of the trainings that were started last.")
    command = "status" if status else "stop" if stop else "start"
    values = {"preset": preset_, "background": background, "stages": stages or []} if command == "start" else {}
    _become_flow("flows.trainings", command, json.dumps(values))


def _become_flow(module: str, *arguments: str) -> NoReturn:
    """Go on as `python -m module`, in the place of this process: signals and its exit status are its own."""
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])
