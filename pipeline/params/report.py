"""Parameters of the stage `report`."""

from typing import Annotated, ClassVar

from pydantic import Field

from pipeline.params.base import StageGroup


class ReportParams(StageGroup):
    """One page of everything that the stages before made of the held-out objects."""

    name: ClassVar[str] = "report"

    objects: Annotated[int, Field(gt=0)]
    """Most objects that are shown one by one, in the order of their ids; the tables are of all."""
