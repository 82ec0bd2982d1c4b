"""The options that the applications of the command line share, and how their commands are declared."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_type_hints

import typer

from pipeline.errors import Invalid
from pipeline.params.all import check_params
from pipeline.params.choice import Choice
from pipeline.project import default_params, find_models
from stages.answers import Document, answered

if TYPE_CHECKING:
    from pipeline.applications.partgen import PartGenPipeline

NumberT = TypeVar("NumberT", int, float)
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="GROUP.KEY=VALUE", help="Override a parameter; may be repeated.")
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
        str | None,
        typer.Option(
            "--reconstructor",
            metavar="NAME",
            help="How grids become 3D: lrm, carve, or another of docs/reconstructors.md.",
        ),
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
    format_: Annotated[
        list[str] | None,
        typer.Option(
            "--format", metavar="glb|obj|stl|ply|3mf", help="Also write these; several with commas. GLBs always are."
        ),
    ] = None
    separate: Annotated[
        bool, typer.Option("--separate", help="Write each part in these formats, too, beside its GLB.")
    ] = False
    json_: Annotated[
        bool, typer.Option("--json", help="Print one JSON document on stdout, and all else on stderr.")
    ] = False
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="GROUP.KEY=VALUE", help="Override a parameter; may be repeated."),
    ] = None

    def choice(self) -> Choice:
        """Which parts are wanted; UserError when no object has them."""
        at = None
        if self.seed_point is not None:
            x, y = numbers(self.seed_point, 2, int, "--seed-point", "20,31")
            at = (x, y)
        choice = Choice(self.samples, self.use, self.runs, self.max_parts, self.min_part_pixels, at, self.view)
        choice.check()
        return choice

    def formats(self) -> tuple[str, ...]:
        """In which formats the result is wanted; UserError for one that is not known."""
        if not self.format_:
            return ()
        from pipeline.applications.export import check_formats

        return check_formats([one for words in self.format_ for one in words.split(",")])

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


OF_CHOICE = frozenset({"samples", "use", "runs", "max_parts", "min_part_pixels", "seed_point", "view"})
"""Options of the commands that choose an object's parts; the others work on a result."""
OF_DRAWING = frozenset({"seed", "steps", "reconstructor", "texture"})
"""Options of the commands that draw or reconstruct something."""


def command(
    app: typer.Typer, name: str, without: frozenset[str] = frozenset()
) -> Callable[[Callable[..., Document]], Callable[..., Document]]:
    """A command of that name whose parameter `options` stands for the options of `Options`, after its own.

    Those `without` are left out.

    What it returns is printed with --json. Exit status 1 when something in it failed.
    """

    def decorated(function: Callable[..., Document]) -> Callable[..., Document]:
        signature = inspect.signature(function, eval_str=True)
        own = [parameter for parameter in signature.parameters.values() if parameter.name != "options"]
        hints = get_type_hints(Options, include_extras=True)
        shared = [
            inspect.Parameter(one.name, inspect.Parameter.KEYWORD_ONLY, default=one.default, annotation=hints[one.name])
            for one in fields(Options)
            if one.name not in without
        ]

        def run(**values: Any) -> None:
            mine = {parameter.name: values.pop(parameter.name) for parameter in own}
            options = Options(**values)
            with answered(options.json_) as answer:
                answer.document = function(**mine, options=options)
            if answer.failed:
                raise typer.Exit(1)

        run.__doc__ = function.__doc__
        run.__signature__ = signature.replace(parameters=[*own, *shared])  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in (*own, *shared)}
        app.command(name)(run)
        return function

    return decorated


def numbers(text: str, count: int | None, kind: type[NumberT], option: str, example: str) -> list[NumberT]:
    """So many numbers out of the text of an option, None: one or more; UserError that shows the example."""
    try:
        numbers = [kind(word) for word in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or len(numbers) != (count or len(numbers)):
        raise Invalid(
            f"{option} is {text!r}; give {count or 'one or more'} numbers with commas between them, such as {example}."
        )
    return numbers
