"""What the readers of all formats share while they read one object."""

from pipeline.assets.bundle import Bundle
from pipeline.assets.reasons import ObjectDropped
from pipeline.assets.textures import Textures


class Reading:
    """One object while it is read."""

    def __init__(self, bundle: Bundle, texture_px: int, min_opacity: float, max_triangles: int) -> None:
        self.bundle, self.min_opacity, self.max_triangles = bundle, min_opacity, max_triangles
        self.warnings: list[str] = []
        """What was left out or could not be read."""
        self.textures = Textures(texture_px, self.warnings)
        self.triangles = 0

    @property
    def contents(self) -> bytes:
        """Of the main file."""
        return self.bundle.files[self.bundle.main]

    def warn(self, sentence: str) -> None:
        """Say what was left out; said once, however often it comes."""
        if len(self.warnings) < 10_000:
            self.warnings.append(sentence)

    def count(self, triangles: int) -> None:
        """Triangles to come; ObjectDropped, before they take memory, when they are too many."""
        self.triangles += triangles
        if self.triangles > self.max_triangles:
            raise ObjectDropped("more triangles than assets.max_triangles")
