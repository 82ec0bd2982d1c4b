"""What a user asks of an object's parts, beyond the group `segment` of the parameters."""

from dataclasses import dataclass

from pipeline.errors import Invalid
from pipeline.params.base import validate
from pipeline.params.segment import SegmentParams


@dataclass(frozen=True)
class Choice:
    """What a user wants of the parts; what is None is as the group `segment` of the parameters says."""

    samples: int = 1
    """Segmentations to keep, the best first; with a seed point, different parts that contain it."""
    use: int = 1
    """Which of them is made 3D."""
    runs: int | None = None
    """Segmentations to choose from; at least as many as are kept."""
    max_parts: int | None = None
    min_part_pixels: int | None = None
    seed_point: tuple[int, int] | None = None
    """Pixels from the left and from the top of a view: only the part there is taken out, the rest stays one part."""
    view: int = 0
    """Of the seed point: 0 to 3, in the order of the grid."""

    def check(self, view_size: int | None = None) -> None:
        """UserError when it cannot be had of any object, or of one with views of that many pixels a side."""
        if not 1 <= self.use <= self.samples:
            raise Invalid(f"Segmentation {self.use} of {self.samples} cannot be used; keep more with --samples.")
        if self.runs is not None and self.runs < self.samples:
            raise Invalid(f"{self.runs} runs do not give {self.samples} segmentations; raise --runs.")
        if self.seed_point is not None:
            if not 0 <= self.view < 4:
                raise Invalid(f"There is no view {self.view}; the views of a grid are 0, 1, 2 and 3.")
            x, y = self.seed_point
            if view_size is not None and not all(0 <= value < view_size for value in (x, y)):
                raise Invalid(f"The seed point {x},{y} is outside the view; x and y go from 0 to {view_size - 1}.")

    def params(self, group: SegmentParams) -> SegmentParams:
        """The parameters in force; UserError for values that are none."""
        named = ("runs", "max_parts", "min_part_pixels")
        given = {name: getattr(self, name) for name in named if getattr(self, name) is not None}
        values = {**group.model_dump(), **given}
        return validate(SegmentParams, {**values, "runs": max(values["runs"], self.samples)}, "segment")

    def grid_pixel(self, view_size: int) -> tuple[int, int] | None:
        """The row and column of the seed point in the grid."""
        if self.seed_point is None:
            return None
        x, y = self.seed_point
        return y + self.view // 2 * view_size, x + self.view % 2 * view_size
