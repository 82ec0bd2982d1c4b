"""Parameters of the reconstruction model, shared by its training and by all that reconstruct with it."""

from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from pipeline.params.base import Group, StageGroup

Positive = Annotated[int, Field(gt=0)]


class UNetParams(Group):
    """A convolutional network from fine to coarse and back."""

    widths: list[Positive] = Field(min_length=1)
    """Channels of each resolution, the finest first; each next one has half the side."""
    blocks: Positive
    """Residual blocks of each resolution, on the way down and on the way up."""


class ReconstructionParams(StageGroup):
    """The reconstruction model after LightplaneLRM (supplement A.1): what A.1 does not say is not published."""

    name: ClassVar[str] = "reconstruction"
    aside = frozenset({"chunk_samples", "support_floor"})

    volume: Annotated[int, Field(ge=4)]
    """Cells a side of the feature volume; 128 in the paper."""
    channels: Positive
    """Features of a cell, of the prior's and of the encoder's pixels."""
    mlp_layers: Positive
    """Linear layers of each MLP: the splatter's, and the renderer's trunk, opacity and colour; 3 in the paper."""
    mlp_width: Positive
    """Of their hidden layers; 32 in the paper."""
    ray_harmonics: Annotated[int, Field(ge=0)]
    """Frequencies of the ray's direction in the colour MLP; 0 for colours that are the same from all sides."""
    gain: Annotated[float, Field(gt=0)]
    """Opacity is the softplus times this."""
    opacity_bias: float
    """First bias of the opacity MLP; low, so that space begins empty."""
    stride: Positive
    """Pixels of a view, a side, for one pixel of the encoder's features."""
    encoder: UNetParams
    """Network on each view; its channels at the finest resolution are those of a view over `stride`."""
    prior: Annotated[int, Field(ge=2)]
    """Cells a side of the learned volume that tells the splatter's MLP where it is."""
    refinement: UNetParams
    """Network on the lifted volume."""
    refinement_stride: Positive
    """Cells of the volume, a side, for one cell of the refinement; 1 for all of them, 2 for an eighth of the work."""
    hull: bool
    """Start as the coloured visual hull of the four silhouettes, so that short trainings go far; not in the paper.
    Wants a `gain` of about volume / 5 and no `opacity_bias`."""
    splat_samples: Annotated[int, Field(ge=2)]
    """Samples of a pixel's ray when features are lifted; a step should not exceed a cell."""
    samples: Annotated[int, Field(ge=2)]
    """Samples of a ray when fields are rendered."""
    crop: Positive
    """Pixels a side of the pieces of views that a training step renders of each object."""
    chunk_samples: Positive
    """Samples in memory at once: many suit a GPU, few a CPU's cache. It changes results by rounding alone."""
    support_floor: Annotated[float, Field(gt=0)]
    """A cell whose opacity (per unit of length; an object's radius is 1) stays below this is exactly empty."""

    @model_validator(mode="after")
    def halves(self) -> "ReconstructionParams":
        """The volume must be halved as often as the refinement has resolutions below the first."""
        resolutions = len(self.refinement.widths)
        least = self.refinement_stride * 2 ** (resolutions - 1)
        if self.volume % least:
            raise ValueError(
                f"volume {self.volume} is no multiple of {least}, which the {resolutions} resolutions of "
                f"refinement.widths need with a refinement_stride of {self.refinement_stride}"
            )
        if self.hull and (self.channels < 4 or self.mlp_width < 8):
            raise ValueError(f"hull needs 4 channels and an mlp_width of 8, not {self.channels} and {self.mlp_width}")
        return self
