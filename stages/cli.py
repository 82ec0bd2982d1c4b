"""The command line `partgen`."""

import importlib.metadata
import shutil
from pathlib import Path
from typing import Annotated

import typer

from pipeline.diffusion.tasks import TASKS
from pipeline.errors import UserError
from pipeline.folders import written
from pipeline.params.all import check_params, check_values
from pipeline.params.base import PARAMS_FILE, read_yaml
from pipeline.project import find_models, find_preset
from stages.app import application
from stages.applications import applications
from stages.corrections import corrections
from stages.entry import one_sentence_errors
from stages.options import Overrides
from stages.runs import runs

app = typer.Typer(
    name="partgen",
    help="Part-level 3D generation and reconstruction: from 3D objects to multi-view shards and diffusion models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
assets_app = typer.Typer(help="Fetch sources of 3D objects.", no_args_is_help=True)
app.add_typer(assets_app, name="assets")
for commands in (runs, applications, corrections, application):
    app.add_typer(commands)


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
