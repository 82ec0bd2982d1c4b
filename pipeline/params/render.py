"""Parameters of the stage `render`."""

import math
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from pipeline.params.base import Group, StageGroup

Elevation = Annotated[float, Field(gt=-90, lt=90)]
Positive = Annotated[float, Field(gt=0)]


class Bounces(Group):
    """How often light may bounce; 0 glossy or transmission bounces would turn metal or glass black."""

    diffuse: int = Field(ge=0)
    """Off dull surfaces."""
    glossy: int = Field(ge=1)
    """Off metal and varnish."""
    transmission: int = Field(ge=1)
    """Through refracting glass."""
    transparent: int = Field(ge=1)
    """Straight through surfaces with alpha, one each."""


class Sun(Group):
    """A distant light."""

    azimuth_deg: float
    """Where it stands, as for cameras: 0 in front of the object, 90 at its +X side."""
    elevation_deg: float = Field(ge=-90, le=90)
    """Height above the horizon."""
    strength: float = Field(ge=0)
    """Watts a square metre: a white surface that faces it returns strength / pi of full white."""
    angle_deg: float = Field(ge=0, le=180)
    """Angular diameter; larger is softer."""


class Lights(Group):
    """Lights fixed to the object's frame, so that all views of it agree.

    Nothing should exceed full white: for every direction, sky or ground plus the suns' share stays below 1.
    """

    sky: float = Field(ge=0)
    """Radiance from straight above, in units of full white; it fades into `ground`."""
    ground: float = Field(ge=0)
    """Radiance from straight below."""
    suns: list[Sun]
    """They give shape; unequal ones tell the sides of a box apart."""


class RenderParams(StageGroup):
    """Cameras, lights and the engine."""

    name: ClassVar[str] = "render"
    aside = frozenset({"objects_per_worker", "max_failed_share", "timeout_s"})

    view_size: int = Field(ge=8, le=4096)
    """Pixels a side of one view; a grid has twice as many."""
    fov_deg: float = Field(gt=0, lt=180)
    """Field of view of every camera, degrees. The paper does not publish it."""
    distance: float = Field(gt=1)
    """Distance of every camera from the object's centre, in radii of its bounding sphere. Not published either."""
    elevation_deg: Elevation
    """Elevation of the four grid views, degrees (paper: 20)."""
    conditioning_views: int = Field(ge=1)
    """Single views of the whole object from random directions, the inputs of image to multi-view (supplement, A.4)."""
    random_elevation_deg: list[Elevation] = Field(min_length=2, max_length=2)
    """Range of the elevations of conditioning and novel views, degrees; uniform on the sphere between them."""
    engine: Literal["cycles", "eevee"]
    """Blender's engine; EEVEE takes minutes an object without a GPU."""
    samples: int = Field(ge=1)
    """Samples a pixel."""
    denoiser: Literal["none", "intel", "optix"]
    """Takes out noise, many times slower on a CPU; `optix` needs an NVIDIA GPU."""
    seed: int = Field(ge=0)
    """Seed of the random directions and of Cycles."""
    bounces: Bounces
    lights: Lights
    objects_per_worker: int = Field(ge=1)
    """A Blender process is replaced after so many objects, since its memory grows."""
    max_failed_share: float = Field(ge=0, le=1)
    """The stage fails when a larger share of the objects does."""
    timeout_s: Positive
    """Seconds one object may take."""

    @model_validator(mode="after")
    def _unit_sphere_fits(self) -> "RenderParams":
        if self.distance * math.sin(math.radians(self.fov_deg / 2)) < 1:
            least = 1 / math.sin(math.radians(self.fov_deg / 2))
            raise ValueError(
                f"a camera at distance {self.distance:g} with fov_deg {self.fov_deg:g} cuts the object's bounding "
                f"sphere off; set distance to {math.ceil(100 * least) / 100:g} or more"
            )
        if self.random_elevation_deg[0] > self.random_elevation_deg[1]:
            raise ValueError(f"random_elevation_deg {self.random_elevation_deg} must be [lowest, highest]")
        return self
