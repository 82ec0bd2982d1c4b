"""Parameters of the stage `masks`."""

from typing import ClassVar

from pipeline.params.base import StageGroup


class MasksParams(StageGroup):
    """Label maps and their agreement with the renders."""

    name: ClassVar[str] = "masks"

    min_silhouette_iou: float
    """An object whose label map and render agree less is a recorded failure."""
    max_failed_share: float
    """The stage fails when a larger share of the objects does."""
    timeout_s: float
    """Seconds one object may take."""
