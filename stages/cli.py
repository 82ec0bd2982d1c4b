"""The command line `partgen`."""

import importlib
import importlib.metadata
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from pipeline.diffusion.tasks import TASKS, TRAININGS
from pipeline.errors import UserError, nearest
from pipeline.folders import written
from pipeline.params.all import GROUPS, check_params, check_values
from pipeline.params.base import PARAMS_FILE, load_group, read_yaml
from pipeline.project import find_models, find_preset
from stages.app import application
from stages.applications import applications
from stages.corrections import corrections
from stages.entry import one_sentence_errors

app = typer.Typer(
    name="partgen",
    help="Part-level 3D generation and reconstruction: from 3D objects to multi-view shards and diffusion models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
assets_app = typer.Typer(help="Fetch sources of 3D objects.", no_args_is_help=True)
app.add_typer(assets_app, name="assets")
for commands in (applications, corrections, application):
    app.add_typer(commands)

OF_SAM2 = ("sam2_mask_decoder", "sam2_grid")
"""Trainings that are no stages of dvc.yaml, since they need the user's weights."""
STAGES = (
    "assets",
    "render",
    "masks",
    "atoms",
    "captions",
    *(f"train@{name}" for name in (*TRAININGS, *OF_SAM2)),
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

Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="GROUP.KEY=VALUE", help="Override a parameter; may be repeated.")
]


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"partgen {importlib.metadata.version('partgen')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """What goes before a command."""


@app.command()
def doctor() -> None:
    """Check this machine: each line says ok or what to do; exit status 1 when the main job cannot run."""
    from stages.doctor import examine

    raise typer.Exit(0 if examine() else 1)


@app.command()
def preset(name: Annotated[str, typer.Argument(help="nano, corpus, sd or paper")]) -> None:
    """Write params.yaml from presets/NAME.yaml; the file it replaces is kept as params.yaml.bak."""
    source = find_preset(name)
    check_values(read_yaml(source), str(source))
    if PARAMS_FILE.exists() and PARAMS_FILE.read_bytes() != source.read_bytes():
        with written(PARAMS_FILE.with_suffix(".yaml.bak")) as partial:
            shutil.copyfile(PARAMS_FILE, partial)
    with written(PARAMS_FILE) as partial:
        shutil.copyfile(source, partial)
    print(f"params.yaml is now the preset {name}.")


@app.command()
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
    if name.removeprefix("train@") in OF_SAM2:
        from stages.train_sam2 import launch as launch_sam2

        launch_sam2(name.removeprefix("train@"), set_ or (), force=force)
        return
    if name.startswith("train@"):
        from stages.train import launch

        launch(name.removeprefix("train@"), set_ or (), force=force)
        return
    if name == "train_lrm":
        from stages.train_lrm import launch as launch_lrm

        launch_lrm(set_ or (), force=force)
        return
    if name == "train_lrm_joint":
        from stages.train_lrm_joint import launch as launch_joint

        launch_joint(set_ or (), force=force)
        return
    if name == "train_gaussians":
        from stages.train_gaussians import launch as launch_gaussians

        launch_gaussians(set_ or (), force=force)
        return
    if name == "train_grouping":
        from stages.train_grouping import launch as launch_grouping

        launch_grouping(set_ or (), force=force)
        return
    groups = [name, "reconstruction"] if name == "reconstruct" else [name]
    params = [load_group(GROUPS[group], set_ or ()) for group in groups]
    importlib.import_module(f"stages.{name}").run(*params, force=force)


@app.command()
def plan(
    preset_: Annotated[
        str | None,
        typer.Option("--preset", metavar="NAME", help="nano, corpus, sd, paper; else the project's params.yaml."),
    ] = None,
    gpu: Annotated[str, typer.Option(help="A100, H100, H200, L40S or RTX 4090.")] = "H100",
    gpus: Annotated[int, typer.Option(min=1, help="GPUs that train side by side.")] = 1,
    utilisation: Annotated[float, typer.Option(help="Share of the GPU's peak that is assumed.")] = 0.35,
    objects: Annotated[
        int | None, typer.Option(min=1, help="Also CPU-hours, storage and shards of so many objects.")
    ] = None,
) -> None:
    """Print what training takes: parameters, memory, FLOPs and GPU-hours of every network.

    Every network is built and traced at full size without memory for its weights; nothing is trained.
    For example: partgen plan --preset paper --gpu H100 --gpus 64 --objects 140000
    """
    from stages.plan import plan as print_plan

    print_plan(preset_, gpu, gpus, utilisation, objects)


@app.command()
def show(
    tables: Annotated[
        list[str], typer.Argument(help="A stage or one of its tables, e.g. renders, masks, captions/views")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the pages.")] = Path(".partgen/show"),
    limit: Annotated[int, typer.Option(min=1, help="Objects at most.")] = 12,
    split: Annotated[str | None, typer.Option(help="Only train, val or test.")] = None,
) -> None:
    """Write contact sheets (PNG, and HTML that opens from disk) of what stages made."""
    from stages.show import show as show_table

    for table in tables:
        for path in show_table(table, out=out, limit=limit, split=split):
            print(path)


@app.command()
def tables() -> None:
    """Print the tables of the stage evaluate beside the paper's numbers, and where the report is."""
    from stages.evaluate import show as show_tables

    show_tables()


@app.command()
def export(out: Annotated[Path, typer.Argument(help="Folder of the exported models.")]) -> None:
    """Export the trained models of data/models to give away: half precision, with a model card.

    The card holds the data with authors and licences, the settings, loss curves, tables and limits; so the stage
    evaluate must have run. For example: partgen export weights/mine
    """
    from pipeline.report.export import export_models

    print(export_models(out, Path("data"), Path()))


@app.command()
def pack(
    out: Annotated[Path, typer.Argument(help="Folder of the pack; an older pack there is replaced.")],
    trainings: Annotated[
        str, typer.Option(metavar="NAME,...", help="Diffusion tasks, of which the pack has the samples.")
    ] = ",".join(TASKS),
    models: Annotated[
        Path | None, typer.Option(help="Models with the autoencoder; data/models, else weights/nano, when not given.")
    ] = None,
    set_: Overrides = None,
) -> None:
    """Write decoded training samples for a machine with a GPU and little else.

    `python -m pipeline.packs.train TASK --pack OUT ...` trains there; it needs the folder `pipeline`, torch,
    diffusers, accelerate, safetensors and numpy. For example: partgen pack packs/parts --trainings segment,complete
    """
    from stages.pack import pack as write

    check_params(set_ or ())
    write(out, trainings.split(","), find_models(models), set_ or ())


@app.command()
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


@app.command()
def serve() -> None:
    """Register the flow with the Prefect server at PREFECT_API_URL, so that runs start from its UI."""
    _become_flow("flows.local", "serve")


@app.command("train-all")
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


@assets_app.command()
def fetch(source: Annotated[str, typer.Argument(help="sweethome3d")]) -> None:
    """Fetch a corpus of 3D objects into data/sources, checked against its checksum."""
    if source != "sweethome3d":
        raise UserError(f"There is no source `{source}` to fetch; the only one is sweethome3d.")
    from pipeline.assets.sweethome3d import fetch_sweethome3d

    for path in fetch_sweethome3d(Path("data/sources/sweethome3d")):
        print(path)


def main() -> None:
    """Entry point: errors of the user in one sentence."""
    with one_sentence_errors():
        app()


if __name__ == "__main__":
    main()
