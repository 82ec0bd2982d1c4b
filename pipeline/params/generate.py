"""Parameters of the stage `generate`, and of the program that the applications may use in place of its networks."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from pipeline.params.base import StageGroup
from pipeline.params.command import Command, with_places


class GenerateParams(StageGroup):
    """Objects drawn from four sides out of their caption and out of one view, and texts; for a user, also by another
    program."""

    name: ClassVar[str] = "generate"
    aside = frozenset({"split", "command", "command_timeout_s", "max_failed_share", "timeout_s"})

    split: Literal["train", "val", "test"]
    """Of the objects; `test` for tables that are published."""
    seed: int
    """Of the noise."""
    prompts: list[Annotated[str, Field(min_length=1)]]
    """Texts that are drawn as well, whatever the objects are, and shown in the report."""
    command: Annotated[Command, with_places(("prompt", "image", "out", "seed"), ("out",))] | None
    """What `from-image` and `from-text` have objects made by, a program and its arguments; null: the networks of the
    stage, which itself does not use it. {prompt} is the text, {image} a PNG of the picture, {seed} a number, {out} the
    folder into which it writes one mesh (GLB, glTF, OBJ, PLY, STL) or four views; docs/generators.md has examples."""
    command_timeout_s: Annotated[float, Field(gt=0)]
    """Seconds that program may take."""
    max_failed_share: Annotated[float, Field(ge=0, le=1)]
    """The stage fails when a larger share of the objects does."""
    timeout_s: Annotated[float, Field(gt=0)]
    """Seconds one object may take."""
