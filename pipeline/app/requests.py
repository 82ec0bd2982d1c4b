"""What clients send: the bodies of requests, with nothing in them that is not known."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Command = Literal["decompose", "from-image", "from-text", "edit", "add", "take-out", "choose", "animate"]
_OF_CHOICE = ("samples", "use", "runs", "max_parts", "min_part_pixels", "seed_point", "view")
_OF_DRAWING = ("seed", "reconstructor")
OPTIONS: dict[str, tuple[str, ...]] = {
    "decompose": ("parts", "parts_from", "close", "surface", "up", "frame", *_OF_DRAWING, *_OF_CHOICE),
    "from-image": (*_OF_DRAWING, *_OF_CHOICE),
    "from-text": (*_OF_DRAWING, *_OF_CHOICE),
    "edit": ("name", *_OF_DRAWING),
    "add": ("place", "scale", "turn", "up", "name", *_OF_DRAWING),
    "take-out": _OF_DRAWING,
    "choose": ("use",),
    "animate": (),
}
"""Of each command; they are those of the command line, and are judged where the work is done."""
ON_OBJECTS = ("edit", "add", "take-out", "choose", "animate")
Short = Annotated[str, Field(max_length=500)]
Id = Annotated[str, Field(max_length=64)]
Pixel = Annotated[int, Field(ge=0, le=1 << 16)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Options(_Strict):
    """Options of commands; what is left out is as on the command line."""

    parts: Annotated[int, Field(ge=1, le=255)] | None = None
    parts_from: Short | None = None
    max_parts: Annotated[int, Field(ge=1, le=255)] | None = None
    close: Short | None = None
    surface: Short | None = None
    up: Short | None = None
    frame: Short | None = None
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] | None = None
    reconstructor: Short | None = None
    samples: Annotated[int, Field(ge=1, le=100)] | None = None
    use: Annotated[int, Field(ge=1, le=100)] | None = None
    runs: Annotated[int, Field(ge=1, le=100)] | None = None
    min_part_pixels: Annotated[int, Field(ge=0)] | None = None
    seed_point: tuple[Pixel, Pixel] | None = None
    view: Annotated[int, Field(ge=0, le=3)] | None = None
    place: tuple[float, float, float] | None = None
    scale: float | None = None
    turn: tuple[float, float, float] | None = None
    name: Short | None = None

    def given(self) -> dict[str, Any]:
        """Those that were sent and are not null."""
        return {name: value for name, value in self.model_dump(exclude_unset=True).items() if value is not None}


class Point(_Strict):
    """A pixel of one of the four views."""

    x: Pixel
    y: Pixel
    view: Annotated[int, Field(ge=0, le=3)] = 0

    @property
    def values(self) -> list[int]:
        """As the applications take it."""
        return [self.x, self.y, self.view]


Points = Annotated[list[Point], Field(max_length=100_000)]


class JobRequest(_Strict):
    """A job that is wanted."""

    command: Command
    upload: Id | None = None
    sample: Short | None = None
    object: Id | None = None
    version: int | None = None
    prompt: Annotated[str, Field(max_length=4000)] | None = None
    part: Short | None = None
    points: Points = []
    key: Annotated[str, Field(max_length=200)] | None = None
    """The client's own name of this request: sent again, it begins nothing anew."""
    options: Options = Options()


class Change(_Strict):
    """The version that the client sees."""

    version: int


class Regroup(Change):
    """Another number of parts; null: as many as at first."""

    parts: Annotated[int, Field(ge=1, le=255)] | None = None


class Merge(Change):
    """Several parts, by names or numbers, as one."""

    parts: Annotated[list[int | Short], Field(max_length=255)]
    name: Short = ""


class Split(Change):
    """One part in two."""

    part: int | Short


class Rename(Change):
    """A part under another name."""

    part: int | Short
    name: Short


class Recolour(Change):
    """A part in another colour; null: its own."""

    part: int | Short
    colour: Short | None = None


class TakeOut(Change):
    """What is at some pixels, or some pieces of the surface, as a part of its own."""

    points: Points = []
    atoms: Annotated[list[int], Field(max_length=255)] = []
