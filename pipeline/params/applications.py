"""Parameters of the applications, which no stage reads."""

from typing import Annotated, ClassVar

from pydantic import Field

from pipeline.params.base import StageGroup


class ApplicationsParams(StageGroup):
    """What holds for every application alike."""

    name: ClassVar[str] = "applications"

    safety: Annotated[str, Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$")] | None
    """An installed module whose function `refuse` may refuse prompts, pictures and results, see
    `pipeline.applications.safety`; null: nothing is checked."""
