"""The applications of the command line that make objects of parts, and parts, such as `partgen decompose`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from pipeline.errors import Invalid, NotFound
from stages.answers import Document
from stages.batch import decompose_all
from stages.options import OF_CHOICE, Options, command, numbers
from stages.results import Out, Part, Result, finish, load_result, new_folder, next_folder

if TYPE_CHECKING:
    from pipeline.applications.generators import OnSurface

applications = typer.Typer()
FORMATS = "a GLB, glTF, OBJ, PLY or STL file"

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
    with new_folder(out, object_.stem) as folder:
        pipeline = options.pipeline()
        made = pipeline.decompose(object_, choice, **asked)
        return finish(pipeline, made, folder, options.no_animation, formats, options.separate)


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
    with new_folder(out, "object" if image is None else image.stem) as folder:
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
    with new_folder(out, prompt) as folder:
        pipeline = options.pipeline()
        made = pipeline.from_text(
            prompt, choice, views=views, seed=options.seed, reconstructor=options.reconstructor,
            **on_surface(up, parts, parts_from, close),
        )  # fmt: skip
        return finish(pipeline, made, folder, options.no_animation, formats, options.separate)


@command(applications, "edit", without=OF_CHOICE)
def edit(
    result: Result,
    part: Part,
    prompt: Annotated[str, typer.Argument(help="What the part is to be.")],
    name: Annotated[str, typer.Option(help="The part's new name; the prompt if not given.")] = "",
    out: Out = None,
    *,
    options: Options,
) -> Document:
    """Draw one part of a result anew, after a text; the result becomes a new folder.

    For example: partgen edit results/chair seat "a red cushion"
    """
    found, formats = load_result(result), options.formats()
    found.part(part)
    with next_folder(out, result) as folder:
        pipeline = options.pipeline()
        made = pipeline.edit(found, part, prompt, name=name, seed=options.seed, reconstructor=options.reconstructor)
        return finish(pipeline, made, folder, options.no_animation, formats, options.separate)


@command(applications, "add", without=OF_CHOICE)
def add(
    result: Result,
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
    found, formats = load_result(result), options.formats()
    with next_folder(out, result) as folder:
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
