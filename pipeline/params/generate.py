"""Parameters of the stage `generate`."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from pipeline.params.base import StageGroup


class GenerateParams(StageGroup):
    """Objects drawn from four sides out of their caption, and out of one view."""

    name: ClassVar[str] = "generate"
    aside = frozenset({"split", "max_failed_share", "timeout_s"})

    split: Literal["train", "val", "test"]
    """Of the objects; `test` for tables that are published."""
    seed: int
    """Of the noise."""
    max_failed_share: Annotated[float, Field(ge=0, le=1)]
    """The stage fails when a larger share of the objects does."""
    timeout_s: Annotated[float, Field(gt=0)]
    """Seconds one object may take."""
