"""The applications of the command line, such as `partgen decompose`, and what is done with their results."""

from __future__ import annotations

import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from pipeline.errors import Invalid, NoSurface, NotFound, UserError
from pipeline.folders import file_name, next_free
from stages.answers import Document, document
from stages.batch import decompose_all
from stages.options import OF_CHOICE, OF_DRAWING, Options, command, numbers
from stages.reserve import reserved

if TYPE_CHECKING:
    from pipeline.applications.generators import OnSurface
    from pipeline.applications.partgen import PartGenPipeline
    from pipeline.applications.result import PartObject

applications = typer.Typer()
RESULTS = Path("results")
FORMATS = "a GLB, glTF, OBJ, PLY or STL file"

Out = Annotated[Path | None, typer.Option(help="New folder of the result; nothing is ever overwritten.")]
Up = Annotated[Literal["y", "z"], typer.Option("--up", help="The axis that points up in an OBJ, PLY or STL.")]
Frame = Annotated[
    Literal["unit", "file"],
    typer.Option("--frame", help="unit: the GLBs are 2 across at most; file: they lie over the file's own geometry."),
]
SurfaceKind = Annotated[
    Literal["original", "neural", "both"],
    typer.Option(
        "--surface",
        help="original: the file's own triangles and textures; neural: all from four views; both: the former, and its "
        "parts from four views as neural.glb.",
    ),
]
Parts = Annotated[int | None, typer.Option("--parts", min=1, help="Exactly so many parts of the original surface.")]
Close = Annotated[
    Literal["none", "cap", "complete"],
    typer.Option(
        "--close",
        help="Fill what the division opens in a part: cap, in the colours of the rim; complete, with what the networks "
        "think lies behind.",
    ),
]
PartsFrom = Annotated[
    Literal["model", "nodes", "materials", "pieces"],
    typer.Option("--parts-from", help="What its parts are: as the grouping model says, or as the file has them."),
]
Views = Annotated[
    tuple[Path, Path, Path, Path] | None,
    typer.Option("--views", metavar="FRONT RIGHT BACK LEFT", help="Four square pictures of the object, as rendered."),
]


@command(applications, "decompose")
def decompose(
    objects: Annotated[
        list[Path],
        typer.Argument(metavar="OBJECT", help="GLB, glTF, OBJ, PLY or STL, or folders: all that is below them."),
    ],
    out: Annotated[
        Path | None, typer.Option(help="New folder of the result; of several objects, the folder that theirs lie in.")
    ] = None,
    up: Up = "y",
    frame: Frame = "unit",
    surface: SurfaceKind = "original",
    parts: Parts = None,
    parts_from: PartsFrom = "model",
    close: Close = "none",
    *,
    options: Options,
) -> Document:
    """Take 3D objects apart.

    Of several, or of a folder, each result is a folder in --out, where results.csv lists them. One that fails is told
    there and does not end the others (exit status 1). Run again, it goes on where it was stopped.

    For example: partgen decompose chair.glb --parts 4, or partgen decompose models/*.glb more/ --out results/all
    """
    choice, formats = options.choice(), options.formats()
    if surface == "original" and options.texture is not None:
        raise Invalid(
            "--texture says how parts are made of four views, and the surface `original` has the file's own textures; "
            "leave it out, or add --surface neural or both."
        )
    if surface == "original" and close != "complete" and options.reconstructor is not None:
        raise Invalid(
            "--reconstructor says how parts are made of four views, and the surface `original` is the file's own; "
            "leave it out, or add --close complete, or --surface neural or both."
        )
    asked: dict[str, Any] = {
        "seed": options.seed, "reconstructor": options.reconstructor, "frame": frame, "up": up, "surface": surface,
        "parts": parts, "parts_from": parts_from, "close": close,
    }  # fmt: skip
    if len(objects) > 1 or objects[0].is_dir():
        return decompose_all(objects, out, choice, asked, options)
    (object_,) = objects
    _check_file(object_, "3D object", FORMATS)
    with _new_folder(out, object_.stem) as folder:
        pipeline = options.pipeline()
        made = pipeline.decompose(object_, choice, **asked)
        return finish(pipeline, made, folder, options.no_animation, formats, options.separate)


@command(applications, "regroup", without=OF_CHOICE | OF_DRAWING)
def regroup(
    result: Annotated[Path, typer.Argument(help="Folder of a result in parts of its own surface.")],
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


@command(applications, "merge", without=OF_CHOICE | OF_DRAWING)
def merge(
    result: Annotated[Path, typer.Argument(help="Folder of a result in parts of its own surface.")],
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


@command(applications, "split", without=OF_CHOICE | OF_DRAWING)
def split(
    result: Annotated[Path, typer.Argument(help="Folder of a result in parts of its own surface.")],
    part: Annotated[str, typer.Argument(help="Name or number of the part.")],
    out: Out = None,
    *,
    options: Options,
) -> Document:
    """Divide one part of a result in two, where its hierarchy divides it first; the result becomes a new folder.

    For example: partgen split results/chair seat
    """
    return _corrected(result, out, options, lambda pipeline, found: pipeline.split(found, part))


@command(applications, "take-out", without=OF_CHOICE - {"seed_point", "view"} | {"steps", "texture"})
def take_out(
    result: Annotated[Path, typer.Argument(help="Folder of a result.")],
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


@command(applications, "rename", without=OF_CHOICE | OF_DRAWING)
def rename(
    result: Annotated[Path, typer.Argument(help="Folder of a result.")],
    part: Annotated[str, typer.Argument(help="Name or number of the part.")],
    name: Annotated[str, typer.Argument(help="Its new name.")],
    out: Out = None,
    *,
    options: Options,
) -> Document:
    """Give a part of a result another name; the result becomes a new folder.

    For example: partgen rename results/chair 2 "left leg"
    """
    return _corrected(result, out, options, lambda pipeline, found: pipeline.rename(found, part, name))


@command(applications, "recolour", without=OF_CHOICE | OF_DRAWING)
def recolour(
    result: Annotated[Path, typer.Argument(help="Folder of a result.")],
    part: Annotated[str, typer.Argument(help="Name or number of the part.")],
    colour: Annotated[str, typer.Argument(help="Such as #3cb44b; empty: that of its number.")],
    out: Out = None,
    *,
    options: Options,
) -> Document:
    """Show a part of a result in another colour in its label map; the result becomes a new folder.

    For example: partgen recolour results/chair seat "#3cb44b"
    """
    return _corrected(result, out, options, lambda pipeline, found: pipeline.recolour(found, part, colour))


@command(applications, "from-image")
def from_image(
    image: Annotated[Path | None, typer.Argument(help="A picture of one object; its background is removed.")] = None,
    views: Views = None,
    out: Out = None,
    up: Up = "y",
    parts: Parts = None,
    parts_from: PartsFrom = "model",
    close: Close = "none",
    *,
    options: Options,
) -> Document:
    """Make a 3D object in parts out of a picture, or out of four views.

    Out of a picture, the models that come with PartGen draw views of 64 pixels: a demonstration. For objects of use,
    let a model of your choice make them (`generate.command`); the parts of its mesh are then found: docs/generators.md.

    For example: partgen from-image chair.jpg, or partgen from-image --views front.png right.png back.png left.png
    """
    if (image is None) == (views is None):
        raise Invalid("Give a picture or --views with four pictures of one object, one of both.")
    for path in [image] if image is not None else views or []:
        _check_file(path, "picture", "a PNG or JPEG file")
    choice, formats = options.choice(), options.formats()
    with _new_folder(out, "object" if image is None else image.stem) as folder:
        pipeline = options.pipeline()
        made = pipeline.from_image(
            image, choice, views=views, seed=options.seed, reconstructor=options.reconstructor,
            **on_surface(up, parts, parts_from, close),
        )  # fmt: skip
        return finish(pipeline, made, folder, options.no_animation, formats, options.separate)


@command(applications, "from-text")
def from_text(
    prompt: Annotated[str, typer.Argument(help="What to make, in a few words.")],
    views: Views = None,
    out: Out = None,
    up: Up = "y",
    parts: Parts = None,
    parts_from: PartsFrom = "model",
    close: Close = "none",
    *,
    options: Options,
) -> Document:
    """Make a 3D object in parts out of a text, or out of four views that it describes.

    Out of a text, the models that come with PartGen draw views of 64 pixels: a demonstration. For objects of use, let a
    model of your choice make them (`generate.command`); the parts of its mesh are then found: docs/generators.md.

    For example: partgen from-text "a wooden chair with a red cushion"
    """
    for path in views or []:
        _check_file(path, "picture", "a PNG or JPEG file")
    choice, formats = options.choice(), options.formats()
    with _new_folder(out, prompt) as folder:
        pipeline = options.pipeline()
        made = pipeline.from_text(
            prompt, choice, views=views, seed=options.seed, reconstructor=options.reconstructor,
            **on_surface(up, parts, parts_from, close),
        )  # fmt: skip
        return finish(pipeline, made, folder, options.no_animation, formats, options.separate)


@command(applications, "edit", without=OF_CHOICE)
def edit(
    result: Annotated[Path, typer.Argument(help="Folder of a result.")],
    part: Annotated[str, typer.Argument(help="Name or number of the part.")],
    prompt: Annotated[str, typer.Argument(help="What the part is to be.")],
    name: Annotated[str, typer.Option(help="The part's new name; the prompt if not given.")] = "",
    out: Out = None,
    *,
    options: Options,
) -> Document:
    """Draw one part of a result anew, after a text; the result becomes a new folder.

    For example: partgen edit results/chair seat "a red cushion"
    """
    found, formats = _result(result), options.formats()
    found.part(part)
    with _next_folder(out, result) as folder:
        pipeline = options.pipeline()
        made = pipeline.edit(found, part, prompt, name=name, seed=options.seed, reconstructor=options.reconstructor)
        return finish(pipeline, made, folder, options.no_animation, formats, options.separate)


@command(applications, "add", without=OF_CHOICE)
def add(
    result: Annotated[Path, typer.Argument(help="Folder of a result.")],
    text: Annotated[str | None, typer.Option(help="What to add; among the parts, if no place is given.")] = None,
    image: Annotated[Path | None, typer.Option(help="A picture of what to add.")] = None,
    object_: Annotated[Path | None, typer.Option("--object", help="A 3D object to add.")] = None,
    up: Up = "y",
    place: Annotated[str | None, typer.Option(metavar="X,Y,Z", help="Where its centre is; else beside.")] = None,
    scale: Annotated[float | None, typer.Option(help="Its size; 1 is the object's own, 0.5 if not given.")] = None,
    turn: Annotated[
        str | None, typer.Option(metavar="X,Y,Z", help="Turns it by so many degrees around its own axes.")
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the new part.")] = "",
    out: Out = None,
    *,
    options: Options,
) -> Document:
    """Add a part to a result, out of a text, a picture or a 3D object; the result becomes a new folder.

    For example: partgen add results/chair --object lamp.glb --place 0,0.6,0 --scale 0.4
    """
    at = None if place is None else numbers(place, 3, float, "--place", "0,0.6,0")
    turned = (0, 0, 0) if turn is None else tuple(numbers(turn, 3, float, "--turn", "0,90,0"))
    if object_ is not None:
        _check_file(object_, "3D object", FORMATS)
    if image is not None:
        _check_file(image, "picture", "a PNG or JPEG file")
    found, formats = _result(result), options.formats()
    with _next_folder(out, result) as folder:
        pipeline = options.pipeline()
        made = pipeline.add(
            found, text=text, image=image, object=object_, up=up, place=at, scale=scale, turn=turned, name=name,
            seed=options.seed, reconstructor=options.reconstructor,
        )  # fmt: skip
        return finish(pipeline, made, folder, options.no_animation, formats, options.separate)


def on_surface(up: str, parts: int | None, parts_from: str, close: str) -> OnSurface:
    """What of it is not as when it is not said, for a mesh; to say so without one is an error."""
    asked = {"up": (up, "y"), "parts": (parts, None), "parts_from": (parts_from, "model"), "close": (close, "none")}
    return cast("OnSurface", {name: value for name, (value, unsaid) in asked.items() if value != unsaid})


def _check_file(path: Path, what: str, formats: str) -> None:
    """UserError when there is no such file; said before the seconds that the models' libraries take."""
    if not path.exists():
        raise NotFound(f"There is no {what} {path}; give the path of {formats}.")


def _new_folder(out: Path | None, name: str) -> AbstractContextManager[Path]:
    """Where the result goes, held while it is made; UserError, before any work is done, when it cannot go there."""
    return reserved(out or RESULTS / file_name(name))


def _next_folder(out: Path | None, result: Path) -> AbstractContextManager[Path]:
    """The same for what becomes of a result."""
    return reserved(out or next_free(result))


def _corrected(
    result: Path, out: Path | None, options: Options, how: Callable[[PartGenPipeline, PartObject], PartObject]
) -> Document:
    """What becomes of a result is made and saved."""
    found, formats = _result(result), options.formats()
    with _next_folder(out, result) as folder:
        pipeline = options.pipeline()
        return finish(pipeline, how(pipeline, found), folder, options.no_animation, formats, options.separate)


def _result(folder: Path) -> PartObject:
    if not (folder / "result.json").exists():
        raise NotFound(f"{folder} holds no result (no result.json); `partgen decompose` makes one.")
    from pipeline.applications.result import PartObject

    return PartObject.load(folder)


def finish(
    pipeline: PartGenPipeline,
    result: PartObject,
    folder: Path,
    no_animation: bool,
    formats: Sequence[str] = (),
    separate: bool = False,
) -> Document:
    """Save, and say what is there and what to look at twice; then draw the animations, which can be interrupted.

    NoSurface, when all that is done, where other formats were wanted of an object without a surface.
    """
    from pipeline.applications.export import losses

    keep(result, folder, formats, separate)
    print(f"{folder}: {result.caption}")
    for part in result.parts:
        score = "" if part.score is None else f", score {part.score:.2f}"
        surface = f"{part.triangles} triangles" if part.glb is not None else "absent"
        print(f"  {part.label} {part.name}: {surface}{score}")
    if len(result.segmentations) > 1:
        scores = ", ".join(f"{one.score:.2f}" for one in result.segmentations)
        print(f"  {len(result.segmentations)} segmentations with the scores {scores}; --use takes another.")
    notes = losses(result, formats)
    for line in (*(f"Warning: {warning.message}" for warning in result.diagnostics), *notes):
        print(line)
    sys.stdout.flush()
    if not no_animation:
        try:
            pipeline.animated(result).save_animations(folder)
        except KeyboardInterrupt:
            print(f"partgen: interrupted; {folder} is whole but for its animations.", file=sys.stderr)
            sys.exit(128 + signal.SIGINT)
    if formats and result.glb is None:
        raise NoSurface(f"{folder} is there, but no part has a surface that could be written as {', '.join(formats)}.")
    return document(folder, result, notes)


def keep(result: PartObject, folder: Path, formats: Sequence[str] = (), separate: bool = False) -> None:
    """UserError where the folder can no longer be written; the result is then in the system's temporary folder."""
    try:
        result.save(folder, formats, separate)
    except (OSError, UserError) as error:
        kept = result.save(Path(tempfile.mkdtemp(prefix="partgen-")) / folder.name, formats, separate)
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UserError(
            f"{folder} cannot be written ({reason}); the result is {kept}: move it where it stays."
        ) from None
