"""Parameters of the stage `reconstruct`: from the grids of parts to fields, meshes and pictures."""

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from pipeline.params.base import Group, StageGroup
from pipeline.params.command import Command, with_places

Positive = Annotated[int, Field(gt=0)]
Weights = Annotated[str, Field(min_length=1)] | None
PLACES = ("views", "out")
"""In a command: the folder that it reads, and the one that it writes to."""
TRAINED = ("lrm", "lrm_joint", "gaussians")
"""Reconstructors that are trained here."""
OF_OTHERS = ("lgm", "instantmesh", "grm")
"""Reconstructors whose weights are their authors', at a path that the user gives under the same key."""


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

    reconstructor: Literal["lrm", "lrm_joint", "carve", "gaussians", "command", "lgm", "instantmesh", "grm"]
    """lrm: the trained reconstruction model (supplement A.1). lrm_joint: the same, told of the object's other parts and
    of the whole. carve: the visual hull of the four silhouettes.
    gaussians: one for each pixel, by a trained model of our own. command: any program. lgm, instantmesh, grm: those
    models, by their authors' weights (supplement E)."""
    carve_resolution: Annotated[int, Field(ge=8)]
    """Cells a side of a carved field; finer than the grids' pixels gains nothing."""
    bake_resolution: Annotated[int, Field(ge=8)]
    """Cells a side of the fields that are made of gaussians, triplanes and meshes."""
    command: Annotated[Command, with_places(PLACES, PLACES)] | None
    """A program and its arguments; `{views}` in them is the folder with the views, `{out}` the one for the result."""
    command_timeout_s: Annotated[float, Field(gt=0)]
    """Seconds that the program may take for one grid."""
    lgm: Weights
    """File with the weights of LGM: model_fp16_fixrot.safetensors."""
    instantmesh: Weights
    """File with the weights of InstantMesh: instant_nerf_large.ckpt, or another of the four."""
    grm: Weights
    """File with the weights of GRM: grm_u.pth."""
    overlap: Literal["additive", "densest"]
    """Where parts overlap: all of them, as in the paper (A.7), or only the densest one."""
    mesh: MeshParams
    turntable: TurntableParams
    max_failed_share: Annotated[float, Field(ge=0, le=1)]
    """The stage fails when a larger share of the objects does."""
    timeout_s: Annotated[float, Field(gt=0)]
    """Seconds one object may take."""

    @model_validator(mode="after")
    def complete(self) -> Self:
        """What the reconstructor needs must be there."""
        if self.reconstructor == "command" and not self.command:
            raise ValueError("the reconstructor `command` needs reconstruct.command, a program and its arguments")
        if self.reconstructor in OF_OTHERS and self.weights is None:
            raise ValueError(
                f"the reconstructor `{self.reconstructor}` needs its authors' weights; name the file in "
                f"reconstruct.{self.reconstructor} (docs/reconstructors.md says where it is had)"
            )
        return self

    @property
    def weights(self) -> str | None:
        """The file with the authors' weights of the reconstructor; None for all that have none."""
        path: str | None = getattr(self, self.reconstructor) if self.reconstructor in OF_OTHERS else None
        return path

    def files(self, models: Path) -> dict[str, Path]:
        """The files of the model that reconstructs, by its name; `models` is the folder of trained ones."""
        if self.weights is not None:
            return {self.reconstructor: Path(self.weights)}
        return {self.reconstructor: models / self.reconstructor} if self.reconstructor in TRAINED else {}

    def deciding(self, *others: str) -> dict[str, Any]:
        """As of all groups, without what other reconstructors need; of weights, the digest decides and not the path."""
        unused = {*OF_OTHERS}
        if self.reconstructor in ("lrm", "lrm_joint", "carve"):
            unused.add("bake_resolution")
        if self.reconstructor != "command":
            unused |= {"command", "command_timeout_s"}
        return super().deciding(*others, *unused)
