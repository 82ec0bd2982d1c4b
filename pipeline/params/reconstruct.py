"""Parameters of the stage `reconstruct`: from the grids of parts to fields, meshes and pictures."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from pipeline.params.base import Group, StageGroup

Positive = Annotated[int, Field(gt=0)]


class MeshParams(Group):
    """The surfaces that are taken out of fields."""

    resolution: Annotated[int, Field(ge=8)]
    """Cells a side of the cube [-1, 1]^3 in which the surface is sought."""
    level: Annotated[float, Field(gt=0)]
    """Opacity, per unit of length, at the surface; an object's radius is 1. Not published."""
    min_piece_share: Annotated[float, Field(ge=0, lt=1)]
    """Loose pieces of less than this share of the largest one's volume are dropped."""
    max_triangles: Annotated[int, Field(ge=4)]
    """Of a part; more are merged."""
    texture_px: Annotated[int, Field(ge=0, le=8192)]
    """Pixels a side of a part's baked texture, and some seconds a part; 0 for colours at the vertices."""


class TurntableParams(Group):
    """Animations around the object, assembled and exploded."""

    frames: Annotated[int, Field(gt=0, le=1000)]
    """Of one turn."""
    size: Annotated[int, Field(ge=8, le=4096)]
    """Pixels a side."""
    elevation_deg: Annotated[float, Field(gt=-90, lt=90)]
    """Of the camera."""
    explode: Annotated[float, Field(ge=0)]
    """Each part is moved away from the centre by this times its own centre."""


class ReconstructParams(StageGroup):
    """How grids become 3D, and what is written of it."""

    name: ClassVar[str] = "reconstruct"
    aside = frozenset({"max_failed_share", "timeout_s"})

    reconstructor: Literal["lrm", "carve"]
    """lrm: the trained reconstruction model (supplement A.1). carve: the visual hull of the four silhouettes."""
    carve_resolution: Annotated[int, Field(ge=8)]
    """Cells a side of a carved field; finer than the grids' pixels gains nothing."""
    overlap: Literal["additive", "densest"]
    """Where parts overlap: all of them, as in the paper (A.7), or only the densest one."""
    mesh: MeshParams
    turntable: TurntableParams
    max_failed_share: Annotated[float, Field(ge=0, le=1)]
    """The stage fails when a larger share of the objects does."""
    timeout_s: Annotated[float, Field(gt=0)]
    """Seconds one object may take."""
