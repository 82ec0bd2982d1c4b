"""Parameters of the stage `segment`."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from pipeline.params.base import StageGroup

Positive = Annotated[int, Field(gt=0)]


class SegmentParams(StageGroup):
    """Segmentations of held-out objects, several each, ranked as in supplement B."""

    name: ClassVar[str] = "segment"
    aside = frozenset({"split", "max_failed_share", "timeout_s"})

    split: Literal["train", "val", "test"]
    """Whose objects; choices are made on `val`, tables on `test`."""
    runs: Positive
    """Segmentations of each object; up to 10 in the paper."""
    seed: int
    """Of the runs' noise."""
    recolour: bool
    """Whether all runs but the first are shown the grid in other hues and depths of colour; else they differ in their
    noise alone, as in the paper."""
    min_patch_pixels: Annotated[int, Field(ge=0)]
    """Pixels of one colour that hang together in a view and are fewer take the part that is nearest there, and so do
    the object's pixels without a part. 0 leaves both as they are, as in the paper."""
    vote_radius: Annotated[float, Field(ge=0)]
    """Labels are voted on by pixels whose surface points lie about so near to each other, in units of the bounding
    sphere's radius, whichever view they are in. 0 for no vote, as in the paper."""
    vote_colour: Annotated[float, Field(gt=0)]
    """And whose colours differ by about so much, from 0 to 1."""
    min_pixels: Annotated[int, Field(ge=0)]
    """A region of fewer pixels over the four views is no proposal ("only a few pixels", Sec. 3.2). Not published."""
    max_parts: Annotated[int, Field(ge=1, le=254)]
    """Parts of the segmentation that is assembled; the smallest ones beyond are merged into what they touch."""
    min_part_pixels: Annotated[int, Field(ge=0)]
    """A part of it with fewer pixels is merged likewise."""
    max_failed_share: Annotated[float, Field(ge=0, le=1)]
    """The stage fails when a larger share of the objects does."""
    timeout_s: Annotated[float, Field(gt=0)]
    """Seconds one object may take."""
