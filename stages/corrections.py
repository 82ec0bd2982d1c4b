"""The corrections of a result on the command line, such as `partgen merge`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.errors import Invalid
from stages.answers import Document
from stages.options import OF_CHOICE, OF_DRAWING, Options, command, numbers
from stages.results import Out, Part, Result, finish, load_result, next_folder

if TYPE_CHECKING:
    from pipeline.applications.partgen import PartGenPipeline
    from pipeline.applications.result import PartObject

corrections = typer.Typer()

OwnSurfaceResult = Annotated[Path, typer.Argument(help="Folder of a result in parts of its own surface.")]


@command(corrections, "regroup", without=OF_CHOICE | OF_DRAWING)
def regroup(
    result: OwnSurfaceResult,
    parts: Annotated[
        int | None, typer.Option("--parts", min=1, help="Exactly so many parts; as many as at first when not given.")
    ] = None,
    out: Out = None,
    *,
    options: Options,
) -> Document:
    """Divide a result's own surface into another number of parts; the result becomes a new folder.

    All numbers are cuts of one hierarchy, which the result keeps, so that no model takes part; but what was completed
    or reconstructed is made anew.

    For example: partgen regroup results/chair --parts 9
    """
    return _corrected(result, out, options, lambda pipeline, found: pipeline.regroup(found, parts))


@command(corrections, "merge", without=OF_CHOICE | OF_DRAWING)
def merge(
    result: OwnSurfaceResult,
    parts: Annotated[list[str], typer.Argument(metavar="PART...", help="Names or numbers of two or more parts.")],
    name: Annotated[str, typer.Option(help="What they are called together; as the largest if not given.")] = "",
    out: Out = None,
    *,
    options: Options,
) -> Document:
    """Join several parts of a result to one; the result becomes a new folder.

    For example: partgen merge results/chair 2 3 --name legs
    """
    return _corrected(result, out, options, lambda pipeline, found: pipeline.merge(found, parts, name=name))


@command(corrections, "split", without=OF_CHOICE | OF_DRAWING)
def split(
    result: OwnSurfaceResult,
    part: Part,
    out: Out = None,
    *,
    options: Options,
) -> Document:
    """Divide one part of a result in two, where its hierarchy divides it first; the result becomes a new folder.

    For example: partgen split results/chair seat
    """
    return _corrected(result, out, options, lambda pipeline, found: pipeline.split(found, part))


@command(corrections, "take-out", without=OF_CHOICE - {"seed_point", "view"} | {"steps", "texture"})
def take_out(
    result: Result,
    atoms: Annotated[
        str | None, typer.Option(metavar="K,K,...", help="Instead of a seed point, pieces of the surface, from 0.")
    ] = None,
    out: Out = None,
    *,
    options: Options,
) -> Document:
    """Make a part of its own of what a pixel of a view shows; the result becomes a new folder.

    In a result of its own surface that is the piece of the hierarchy there, and the other parts stay as they are. Any
    other is segmented anew, and all the rest is one part.

    For example: partgen take-out results/chair --seed-point 30,20 --view 1
    """
    point, pieces = options.choice().seed_point, () if atoms is None else numbers(atoms, None, int, "--atoms", "3,4")
    if (point is None) == (atoms is None):
        raise Invalid("Give one of --seed-point and --atoms, which say what is taken out.")
    points = [] if point is None else [(*point, options.view)]
    return _corrected(
        result,
        out,
        options,
        lambda pipeline, found: pipeline.take_out(
            found, points, atoms=pieces, seed=options.seed, reconstructor=options.reconstructor
        ),
    )


@command(corrections, "rename", without=OF_CHOICE | OF_DRAWING)
def rename(
    result: Result,
    part: Part,
    name: Annotated[str, typer.Argument(help="Its new name.")],
    out: Out = None,
    *,
    options: Options,
) -> Document:
    """Give a part of a result another name; the result becomes a new folder.

    For example: partgen rename results/chair 2 "left leg"
    """
    return _corrected(result, out, options, lambda pipeline, found: pipeline.rename(found, part, name))


@command(corrections, "recolour", without=OF_CHOICE | OF_DRAWING)
def recolour(
    result: Result,
    part: Part,
    colour: Annotated[str, typer.Argument(help="Such as #3cb44b; empty: that of its number.")],
    out: Out = None,
    *,
    options: Options,
) -> Document:
    """Show a part of a result in another colour in its label map; the result becomes a new folder.

    For example: partgen recolour results/chair seat "#3cb44b"
    """
    return _corrected(result, out, options, lambda pipeline, found: pipeline.recolour(found, part, colour))


def _corrected(
    result: Path, out: Path | None, options: Options, how: Callable[[PartGenPipeline, PartObject], PartObject]
) -> Document:
    """What becomes of a result is made and saved."""
    found, formats = load_result(result), options.formats()
    with next_folder(out, result) as folder:
        pipeline = options.pipeline()
        return finish(pipeline, how(pipeline, found), folder, options.no_animation, formats, options.separate)
