"""Parameters of the stage `atoms`."""

from typing import Annotated, ClassVar

from pydantic import Field

from pipeline.params.base import StageGroup


class AtomsParams(StageGroup):
    """What the grouping model is trained and measured on."""

    name: ClassVar[str] = "atoms"

    max_failed_share: Annotated[float, Field(ge=0, le=1)]
    """The stage fails when a larger share of the objects does."""
    timeout_s: Annotated[float, Field(gt=0)]
    """Seconds one object may take."""
