"""Parameters of the stage `masks`."""

from typing import Annotated, ClassVar

from pydantic import Field

from pipeline.params.base import StageGroup


class MasksParams(StageGroup):
    """Label maps and their agreement with the renders."""

    name: ClassVar[str] = "masks"

    min_silhouette_iou: Annotated[float, Field(ge=0, le=1)]
    """An object whose label map and render agree less is a recorded failure. At 64 px the least that 117 objects agreed
    was .915, the median 1; cameras 5 degrees off, or pictures off by a pixel, failed more than a tenth of them."""
    max_failed_share: Annotated[float, Field(ge=0, le=1)]
    """The stage fails when a larger share of the objects does."""
    timeout_s: Annotated[float, Field(gt=0)]
    """Seconds one object may take."""
