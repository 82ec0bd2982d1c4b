"""What an object made of parts consists of: its parts, the segmentations that were kept, and its own surface.

Shape suffixes: H W pixels of the 2x2 grid.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np

from pipeline.assets.names import unique_names
from pipeline.folders import file_name
from pipeline.reconstruction.field import Field
from pipeline.surface.division import Division
from pipeline.surface.stored import restored


@dataclass(frozen=True, repr=False)
class Part:
    """One part of an object."""

    label: int
    """Its value in the label map, from 1; it stays the same through edits."""
    name: str
    """Unique within the object."""
    caption: str
    score: float | None
    """Share of the segmentation runs that have a region like it, in [0, 1]; None for a part that no runs have found:
    one of the surface, or one that was drawn anew."""
    grid: np.ndarray | None = None
    """(H, W, 3) uint8: the part alone, from which its field was made."""
    field: Field | None = None
    """Of every part but those of the object's own surface, which have one once something needs it."""
    glb: bytes | None = None
    """The part alone and in place; None when it has no surface."""
    triangles: int = 0
    absent: str = ""
    """Why it has no surface; empty when it has one."""
    original: bool = False
    """Whether its surface is that of the file it comes from, and not its field's; what closes it may be of that."""
    atoms: Sequence[int] = ()
    """Of such a part, what of the hierarchy it is made of."""
    models: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Digests of the models that made its surface, or what closes it, by their names; none where that is the file's."""
    colour: str = ""
    """What shows it in label maps, such as `#3cb44b`; empty: that of its label in `PART_COLOURS`."""

    @property
    def stem(self) -> str:
        """How its files are called."""
        return f"{self.label:02d}-{file_name(self.name)}"


@dataclass(frozen=True)
class Segmentation:
    """One way to see an object's parts."""

    labels: np.ndarray
    """(H, W) uint8: 1..S, the largest part first; 0 the background."""
    score: float
    """How much all runs agree with it, at most 1: a whole segmentation's `run_scores`, a seeded part's reliability."""
    run: int


@dataclass(frozen=True, repr=False)
class OwnSurface:
    """The surface that an object was made of, with all the ways to divide it."""

    files: Mapping[str, bytes]
    """As of `pipeline.surface.stored`."""
    atoms_HW: np.ndarray
    """(H, W) uint8, what of it each pixel of the grid shows, from 1; 0 is the background."""

    @classmethod
    def of(cls, files: Mapping[str, bytes], atoms_HW: np.ndarray, division: Division) -> Self:
        """With the division of which these are the files, which need not be read again."""
        surface = cls(files, atoms_HW)
        vars(surface)["division"] = division
        return surface

    @cached_property
    def division(self) -> Division:
        """All the ways to divide it; ValueError when the files are not of one."""
        return restored(self.files)


def free_name(name: str, others: Sequence[Part]) -> str:
    """The name, with a number where another part has it."""
    *_, free = unique_names([*(other.name for other in others), name])
    return free
