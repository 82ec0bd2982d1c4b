"""Parameters of the stage `render`."""

from typing import ClassVar

from pipeline.params.base import StageGroup


class RenderParams(StageGroup):
    """Cameras, lights and the engine."""

    name: ClassVar[str] = "render"

    view_size: int
    """Pixels a side of one view; a grid has twice as many."""
    fov_deg: float
    """Field of view of every camera, degrees. The paper does not publish it."""
    distance: float
    """Distance of every camera from the object's centre, in radii of its bounding sphere. Not published either."""
    elevation_deg: float
    """Elevation of the four grid views, degrees (paper: 20)."""
    samples: int
    """Cycles samples a pixel."""
    seed: int
    """Seed of the random directions and of Cycles."""
    max_failed_share: float
    """The stage fails when a larger share of the objects does."""
    timeout_s: float
    """Seconds one object may take."""
