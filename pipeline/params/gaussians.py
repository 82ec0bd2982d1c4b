"""Parameters of the gaussians' model, shared by its training and by `partgen plan`."""

from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from pipeline.params.base import StageGroup
from pipeline.params.reconstruction import UNetParams

Positive = Annotated[int, Field(gt=0)]


class GaussiansParams(StageGroup):
    """A model of our own that gives every pixel of the four views a gaussian, in the manner of LGM and GRM."""

    name: ClassVar[str] = "gaussians"

    stride: Positive
    """Pixels of a view, a side, for one pixel of the network; all of them get a gaussian."""
    unet: UNetParams
    """Network on the views; its channels at the finest resolution are those of a view over `stride`."""
    attention: list[bool]
    """Whether the pixels of all views attend to each other, for each resolution of `unet`, on both ways."""
    head_channels: Positive
    """Of an attention head."""
    hull: Annotated[int, Field(ge=0)]
    """Cells a side of the silhouettes' visual hull, on whose front the gaussians start and behind whose back they never
    lie, so that short trainings go far; 0 for the objects' bounding sphere alone, as in GRM."""
    least_scale: Annotated[float, Field(gt=0)]
    """Of a gaussian along its axes, in pixels of the view where it lies."""
    most_scale: Annotated[float, Field(gt=0)]
    """The same at most."""
    finer: Positive
    """Training draws so many times the views' pixels a side, and averages: splats are blurred by a pixel that is
    drawn."""

    @model_validator(mode="after")
    def fitting(self) -> Self:
        """Each resolution attends or not, in whole heads; scales have room between their bounds."""
        widths = self.unet.widths
        if len(self.attention) != len(widths):
            raise ValueError(f"attention has {len(self.attention)} values for the {len(widths)} resolutions of unet")
        attending = [width for width, attends in zip(widths, self.attention, strict=True) if attends]
        if uneven := [width for width in attending if width % self.head_channels]:
            raise ValueError(f"{uneven[0]} channels are no multiple of head_channels, {self.head_channels}")
        if self.least_scale >= self.most_scale:
            raise ValueError(f"least_scale {self.least_scale:g} is not below most_scale {self.most_scale:g}")
        return self
