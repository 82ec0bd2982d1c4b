"""The paper's numbers of Tables 1 to 3, by the names that the stage `evaluate` gives to methods.

The paper's 100 test objects, its CLIP and its LPIPS are not published, so its numbers show an order of methods and do
not compare with ours one by one.
"""

from collections.abc import Mapping
from dataclasses import dataclass

NOTE = (
    "The paper's numbers are of its own 100 test objects, with a CLIP and an LPIPS that are not published: "
    "they do not compare with ours one by one, only the order of the methods does."
)


@dataclass(frozen=True)
class Precision:
    """A cell of Table 1, percent."""

    map50: float
    map75: float

    def __str__(self) -> str:
        return f"{self.map50:.1f} / {self.map75:.1f}"


@dataclass(frozen=True)
class Likeness:
    """A cell of Tables 2 and 3."""

    clip: float
    """1 for equal pictures."""
    lpips: float
    """0 for equal pictures."""
    psnr: float
    """Of foreground pixels, dB; infinite for equal pictures."""

    def __str__(self) -> str:
        return f"{self.clip:.3f} / {self.lpips:.3f} / {self.psnr:.2f}"


SEGMENTATION: Mapping[str, Mapping[str, Precision]] = {
    "part123": {"automatic": Precision(11.5, 7.4), "seeded": Precision(10.3, 6.5)},
    "sam2-grid": {"automatic": Precision(20.3, 11.8), "seeded": Precision(24.6, 13.1)},
    "sam2-mask-decoder": {"automatic": Precision(37.4, 27.0), "seeded": Precision(44.2, 30.1)},
    "sam2": {"automatic": Precision(35.3, 23.4), "seeded": Precision(41.4, 27.4)},
    "partgen 1": {"automatic": Precision(45.2, 32.9), "seeded": Precision(44.9, 33.5)},
    "partgen 5": {"automatic": Precision(54.2, 33.9), "seeded": Precision(51.3, 32.9)},
    "partgen 10": {"automatic": Precision(59.3, 38.5), "seeded": Precision(53.7, 35.4)},
}
"""Table 1, in its order."""

COMPLETION: Mapping[str, Mapping[str, Likeness]] = {
    "oracle": {"views": Likeness(1.0, 0.0, float("inf")), "3d": Likeness(0.957, 0.027, 18.91)},
    "complete": {"views": Likeness(0.974, 0.015, 21.38), "3d": Likeness(0.936, 0.039, 17.16)},
    "complete_no_context": {"views": Likeness(0.951, 0.028, 16.80), "3d": Likeness(0.923, 0.046, 14.83)},
    "complete_single_view": {"views": Likeness(0.944, 0.031, 15.92), "3d": Likeness(0.922, 0.051, 13.25)},
    "none": {"views": Likeness(0.932, 0.039, 13.24), "3d": Likeness(0.913, 0.059, 12.32)},
}
"""Table 2, in its order."""

REASSEMBLY: Mapping[str, Likeness] = {
    "predicted parts": Likeness(0.952, 0.065, 20.33),
    "whole": Likeness(0.955, 0.064, 20.47),
}
"""Table 3."""
