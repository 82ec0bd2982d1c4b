"""Parameters of the stage `evaluate`."""

from typing import Annotated, ClassVar

from pydantic import Field

from pipeline.params.base import StageGroup

Positive = Annotated[int, Field(gt=0)]
Weights = Annotated[str, Field(min_length=1)] | None


class EvaluateParams(StageGroup):
    """The paper's Tables 1 to 3 on the objects that were segmented; weights that are null leave their rows out."""

    name: ClassVar[str] = "evaluate"
    aside = frozenset({"part_objaverse_tiny", "max_failed_share", "timeout_s"})

    runs: list[Positive] = Field(min_length=1)
    """Table 1 has a row for the first n of an object's segmentations, for each of these n."""
    points: Positive
    """Drawn on each of two surfaces that are compared."""
    seed: int
    """Of these points, and of the bootstrap."""
    sam2: Weights
    """Folder with SAM2 in the layout of transformers."""
    sam2_mask_decoder: Weights
    """The same after its mask decoder was fine-tuned."""
    sam2_grid: Weights
    """The same after it was fine-tuned on the grid of four views."""
    sam2_queries: Positive
    """SAM2's query points lie on a grid of so many a side of a view. Not published."""
    clip: Weights
    """Folder with a CLIP in the layout of transformers, for the image score."""
    lpips: Weights
    """File of torchvision's AlexNet weights, for LPIPS."""
    part_objaverse_tiny: Weights
    """Folder in which PartObjaverse-Tiny was unpacked: its objects get a table of their own."""
    max_failed_share: Annotated[float, Field(ge=0, le=1)]
    """The stage fails when a larger share of the objects does."""
    timeout_s: Annotated[float, Field(gt=0)]
    """Seconds one object may take."""

    def weights(self) -> dict[str, str]:
        """The weights that are given, by the name of their key."""
        named = {
            "sam2": self.sam2,
            "sam2_mask_decoder": self.sam2_mask_decoder,
            "sam2_grid": self.sam2_grid,
            "clip": self.clip,
            "lpips": self.lpips,
        }
        return {name: path for name, path in named.items() if path is not None}
