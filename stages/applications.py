"""The applications of the command line: `partgen decompose`, `from-image`, `from-text`, `edit` and `add`."""

from __future__ import annotations

import inspect
import signal
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_type_hints

import typer

from pipeline.errors import Invalid, NotFound, UserError
from pipeline.folders import file_name, next_free
from pipeline.params.all import check_params
from pipeline.params.choice import Choice
from pipeline.project import default_params, find_models
from stages.reserve import reserved

if TYPE_CHECKING:
    from pipeline.applications.partgen import PartGenPipeline
    from pipeline.applications.result import PartObject

applications = typer.Typer()
NumberT = TypeVar("NumberT", int, float)
RESULTS = Path("results")
FORMATS = "a GLB, glTF, OBJ, PLY or STL file"

Out = Annotated[Path | None, typer.Option(help="New folder of the result; nothing is ever overwritten.")]
Up = Annotated[Literal["y", "z"], typer.Option("--up", help="The axis that points up in an OBJ, PLY or STL.")]
Frame = Annotated[
    Literal["unit", "file"],
    typer.Option("--frame", help="unit: the GLBs are 2 across at most; file: they lie over the file's own geometry."),
]
SurfaceKind = Annotated[
    Literal["original", "neural"],
    typer.Option("--surface", help="original: the file's own triangles and textures; neural: all from four views."),
]
Parts = Annotated[int | None, typer.Option("--parts", min=1, help="Exactly so many parts of the original surface.")]
PartsFrom = Annotated[
    Literal["model", "nodes", "materials", "pieces"],
    typer.Option("--parts-from", help="What its parts are: as the grouping model says, or as the file has them."),
]


@dataclass(frozen=True)
class Options:
    """The options that the applications share, in the order of their help."""

    models: Annotated[
        Path | None,
        typer.Option(help="Folder of the models; the project's data/models, or those that come with PartGen."),
    ] = None
    seed: Annotated[int, typer.Option(min=0, help="Another seed, another result.")] = 0
    steps: Annotated[int | None, typer.Option(help="Denoising steps; as the models were saved when not given.")] = None
    reconstructor: Annotated[
        str | None, typer.Option("--reconstructor", metavar="lrm|carve", help="How grids become 3D.")
    ] = None
    samples: Annotated[int, typer.Option(min=1, help="Segmentations to keep, the best first.")] = 1
    use: Annotated[int, typer.Option(min=1, help="Which of them is made 3D.")] = 1
    runs: Annotated[int | None, typer.Option(min=1, help="Segmentations to choose from.")] = None
    max_parts: Annotated[int | None, typer.Option(help="More parts than these are merged.")] = None
    min_part_pixels: Annotated[int | None, typer.Option("--min-part-pixels", help="Smaller parts are merged.")] = None
    seed_point: Annotated[
        str | None, typer.Option(metavar="X,Y", help="Take out the part at this pixel of a view alone.")
    ] = None
    view: Annotated[int, typer.Option(help="The view of the seed point: 0 front, 1 right, 2 back, 3 left.")] = 0
    texture: Annotated[
        int | None,
        typer.Option(
            "--texture", metavar="PX", min=0, help="Pixels a side of a part's texture; 0: colours at vertices."
        ),
    ] = None
    no_animation: Annotated[bool, typer.Option("--no-animation", help="Save no turntable.gif and no exploded.gif.")] = (
        False
    )
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="GROUP.KEY=VALUE", help="Override a parameter; may be repeated."),
    ] = None

    def choice(self) -> Choice:
        """Which parts are wanted; UserError when no object has them."""
        at = None
        if self.seed_point is not None:
            x, y = _numbers(self.seed_point, 2, int, "--seed-point", "20,31")
            at = (x, y)
        choice = Choice(self.samples, self.use, self.runs, self.max_parts, self.min_part_pixels, at, self.view)
        choice.check()
        return choice

    def pipeline(self) -> PartGenPipeline:
        """The models, with the parameters in force."""
        texture = [] if self.texture is None else [f"reconstruct.mesh.texture_px={self.texture}"]
        overrides = [*(self.set_ or ()), *texture]
        check_params(overrides, default_params())
        folder = find_models(self.models)
        if self.models is None:
            print(f"The models are those of {folder}.")
        from pipeline.applications.partgen import PartGenPipeline

        return PartGenPipeline.from_pretrained(folder, overrides=overrides, steps=self.steps)


OF_CHOICE = {"samples", "use", "runs", "max_parts", "min_part_pixels", "seed_point", "view"}
"""Options of the commands that choose an object's parts; the others work on a result."""


def command(name: str, chooses: bool = True) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A command of that name whose parameter `options` stands for the options of `Options`, after its own."""

    def decorated(function: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(function, eval_str=True)
        own = [parameter for parameter in signature.parameters.values() if parameter.name != "options"]
        hints = get_type_hints(Options, include_extras=True)
        shared = [
            inspect.Parameter(one.name, inspect.Parameter.KEYWORD_ONLY, default=one.default, annotation=hints[one.name])
            for one in fields(Options)
            if chooses or one.name not in OF_CHOICE
        ]

        def run(**values: Any) -> None:
            mine = {parameter.name: values.pop(parameter.name) for parameter in own}
            function(**mine, options=Options(**values))

        run.__doc__ = function.__doc__
        run.__signature__ = signature.replace(parameters=[*own, *shared])  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in (*own, *shared)}
        applications.command(name)(run)
        return function

    return decorated


@command("decompose")
def decompose(
    object_: Annotated[Path, typer.Argument(metavar="OBJECT", help="GLB, glTF, OBJ, PLY or STL.")],
    out: Out = None,
    up: Up = "y",
    frame: Frame = "unit",
    surface: SurfaceKind = "original",
    parts: Parts = None,
    parts_from: PartsFrom = "model",
    *,
    options: Options,
) -> None:
    """Take a 3D object apart.

    For example: partgen decompose chair.glb --parts 4, or partgen decompose chair.glb --surface neural --samples 3
    """
    _check_file(object_, "3D object", FORMATS)
    choice = options.choice()
    with _new_folder(out, object_.stem) as folder:
        pipeline = options.pipeline()
        made = pipeline.decompose(
            object_, choice, seed=options.seed, reconstructor=options.reconstructor, frame=frame, up=up,
            surface=surface, parts=parts, parts_from=parts_from,
        )  # fmt: skip
        finish(pipeline, made, folder, options.no_animation)


@applications.command("regroup")
def regroup(
    result: Annotated[Path, typer.Argument(help="Folder of a result in parts of its own surface.")],
    parts: Annotated[
        int | None, typer.Option("--parts", min=1, help="Exactly so many parts; as many as at first when not given.")
    ] = None,
    out: Out = None,
    no_animation: Annotated[bool, typer.Option("--no-animation", help="Save no turntable.gif and no exploded.gif.")] = (
        False
    ),
) -> None:
    """Divide a result's own surface into another number of parts; the result becomes a new folder.

    All numbers are cuts of one hierarchy, which the result keeps, so that this takes no time and no model.

    For example: partgen regroup results/chair --parts 9
    """
    found = _result(result)
    with _next_folder(out, result) as folder:
        pipeline = Options().pipeline()
        finish(pipeline, pipeline.regroup(found, parts), folder, no_animation)


@command("from-image")
def from_image(
    image: Annotated[Path, typer.Argument(help="A picture of one object; its background is removed.")],
    out: Out = None,
    *,
    options: Options,
) -> None:
    """Make a 3D object in parts out of a picture.

    For example: partgen from-image chair.jpg
    """
    _check_file(image, "picture", "a PNG or JPEG file")
    choice = options.choice()
    with _new_folder(out, image.stem) as folder:
        pipeline = options.pipeline()
        made = pipeline.from_image(image, choice, seed=options.seed, reconstructor=options.reconstructor)
        finish(pipeline, made, folder, options.no_animation)


@command("from-text")
def from_text(
    prompt: Annotated[str, typer.Argument(help="What to make, in a few words.")], out: Out = None, *, options: Options
) -> None:
    """Make a 3D object in parts out of a text.

    For example: partgen from-text "a wooden chair with a red cushion"
    """
    choice = options.choice()
    with _new_folder(out, prompt) as folder:
        pipeline = options.pipeline()
        made = pipeline.from_text(prompt, choice, seed=options.seed, reconstructor=options.reconstructor)
        finish(pipeline, made, folder, options.no_animation)


@command("edit", chooses=False)
def edit(
    result: Annotated[Path, typer.Argument(help="Folder of a result.")],
    part: Annotated[str, typer.Argument(help="Name or number of the part.")],
    prompt: Annotated[str, typer.Argument(help="What the part is to be.")],
    name: Annotated[str, typer.Option(help="The part's new name; the prompt if not given.")] = "",
    out: Out = None,
    *,
    options: Options,
) -> None:
    """Draw one part of a result anew, after a text; the result becomes a new folder.

    For example: partgen edit results/chair seat "a red cushion"
    """
    found = _result(result)
    found.part(part)
    with _next_folder(out, result) as folder:
        pipeline = options.pipeline()
        made = pipeline.edit(found, part, prompt, name=name, seed=options.seed, reconstructor=options.reconstructor)
        finish(pipeline, made, folder, options.no_animation)


@command("add", chooses=False)
def add(
    result: Annotated[Path, typer.Argument(help="Folder of a result.")],
    text: Annotated[str | None, typer.Option(help="What to add; among the parts, if no place is given.")] = None,
    image: Annotated[Path | None, typer.Option(help="A picture of what to add.")] = None,
    object_: Annotated[Path | None, typer.Option("--object", help="A 3D object to add.")] = None,
    up: Up = "y",
    place: Annotated[str | None, typer.Option(metavar="X,Y,Z", help="Where its centre is; else beside.")] = None,
    scale: Annotated[float | None, typer.Option(help="Its size; 1 is the object's own, 0.5 if not given.")] = None,
    name: Annotated[str, typer.Option(help="Name of the new part.")] = "",
    out: Out = None,
    *,
    options: Options,
) -> None:
    """Add a part to a result, out of a text, a picture or a 3D object; the result becomes a new folder.

    For example: partgen add results/chair --object lamp.glb --place 0,0.6,0 --scale 0.4
    """
    at = None if place is None else _numbers(place, 3, float, "--place", "0,0.6,0")
    if object_ is not None:
        _check_file(object_, "3D object", FORMATS)
    if image is not None:
        _check_file(image, "picture", "a PNG or JPEG file")
    found = _result(result)
    with _next_folder(out, result) as folder:
        pipeline = options.pipeline()
        made = pipeline.add(
            found, text=text, image=image, object=object_, up=up, place=at, scale=scale, name=name, seed=options.seed,
            reconstructor=options.reconstructor,
        )  # fmt: skip
        finish(pipeline, made, folder, options.no_animation)


def _check_file(path: Path, what: str, formats: str) -> None:
    """UserError when there is no such file; said before the seconds that the models' libraries take."""
    if not path.exists():
        raise NotFound(f"There is no {what} {path}; give the path of {formats}.")


def _numbers(text: str, count: int, kind: type[NumberT], option: str, example: str) -> list[NumberT]:
    try:
        numbers = [kind(word) for word in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != count:
        raise Invalid(f"{option} is {text!r}; give {count} numbers with commas between them, such as {example}.")
    return numbers


def _new_folder(out: Path | None, name: str) -> AbstractContextManager[Path]:
    """Where the result goes, held while it is made; UserError, before any work is done, when it cannot go there."""
    return reserved(out or RESULTS / file_name(name))


def _next_folder(out: Path | None, result: Path) -> AbstractContextManager[Path]:
    """The same for what becomes of a result."""
    return reserved(out or next_free(result))


def _result(folder: Path) -> PartObject:
    if not (folder / "result.json").exists():
        raise NotFound(f"{folder} holds no result (no result.json); `partgen decompose` makes one.")
    from pipeline.applications.result import PartObject

    return PartObject.load(folder)


def finish(pipeline: PartGenPipeline, result: PartObject, folder: Path, no_animation: bool) -> None:
    """Save, and say what is there and what to look at twice; then draw the animations, which can be interrupted."""
    keep(result, folder)
    print(f"{folder}: {result.caption}")
    for part in result.parts:
        score = "" if part.score is None else f", score {part.score:.2f}"
        surface = f"{part.triangles} triangles" if part.glb is not None else "absent"
        print(f"  {part.label} {part.name}: {surface}{score}")
    if len(result.segmentations) > 1:
        scores = ", ".join(f"{one.score:.2f}" for one in result.segmentations)
        print(f"  {len(result.segmentations)} segmentations with the scores {scores}; --use takes another.")
    for warning in result.diagnostics:
        print(f"Warning: {warning.message}")
    sys.stdout.flush()
    if no_animation:
        return
    try:
        pipeline.animated(result).save_animations(folder)
    except KeyboardInterrupt:
        print(f"partgen: interrupted; {folder} is whole but for its animations.", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)


def keep(result: PartObject, folder: Path) -> None:
    """UserError where the folder can no longer be written; the result is then in the system's temporary folder."""
    try:
        result.save(folder)
    except (OSError, UserError) as error:
        kept = result.save(Path(tempfile.mkdtemp(prefix="partgen-")) / folder.name)
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UserError(
            f"{folder} cannot be written ({reason}); the result is {kept}: move it where it stays."
        ) from None
