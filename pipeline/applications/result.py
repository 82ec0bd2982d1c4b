"""An object made of parts, as the applications return it; `result_folder` says how it is kept.

Shape suffixes: H W pixels of the 2x2 grid.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from pipeline.applications.diagnostics import Diagnostic
from pipeline.applications.export import beside, check_formats, export
from pipeline.applications.part import OwnSurface, Part, Segmentation
from pipeline.applications.result_folder import KIND, read_result, write_result
from pipeline.errors import NotFound, nearest
from pipeline.folders import check_free, whole_folder, write_sums, written


@dataclass(frozen=True, repr=False)
class PartObject:
    """What the applications make: parts in 3D, and how they came about."""

    name: str
    caption: str
    """The text that it was made from, if it was; else one sentence by the captions' backend."""
    grid: np.ndarray
    """(H, W, 4) uint8, the object's 2x2 grid with straight alpha."""
    labels: np.ndarray
    """(H, W) uint8, the labels of the parts in sight."""
    parts: Sequence[Part]
    """In the order of their labels."""
    segmentations: Sequence[Segmentation]
    """Those that were kept, the best first; of the object before it was edited. None of one that keeps its surface."""
    merged: int
    """Regions of the one that was used that joined another, for their size or since there were too many."""
    glb: bytes | None
    """All parts; None when no part has a surface."""
    overlap: Mapping[str, float]
    """How far parts claim the same space: `mean_iou` and `max_iou` of pairs, and the share `contested` of the union."""
    diagnostics: Sequence[Diagnostic]
    notice: str
    """Whose work it is made from; the copyright of its GLBs."""
    origin: Mapping[str, Any]
    """`kind`: object, image or text, and which; of an object `from_file`, the (4, 4) matrix from its frame to this."""
    seed: int
    models: Mapping[str, str]
    """Digests of the models that took part, by their names."""
    settings: Mapping[str, Any]
    """`cameras`, which view the grid shows, and the parameters in force."""
    history: Sequence[Mapping[str, Any]]
    """What was done to it, the first thing first."""
    picture: np.ndarray | None = None
    """(S, S, 4) uint8 with straight alpha, what was cut out of the picture that it was made from, if it was."""
    surface: OwnSurface | None = None
    """Of an object in parts of its own surface, until it is edited."""
    neural: bytes | None = None
    """Of such an object a GLB of the same parts made of their fields, where it was asked for."""
    animations: Mapping[str, bytes] = field(default_factory=dict)
    """GIFs by the names of their files, `ANIMATIONS`: from all around, as it is and with its parts pulled apart; empty
    until `PartGenPipeline.animated` draws them."""

    def part(self, name: str) -> Part:
        """The part of that name or number; UserError that lists the parts when there is none."""
        for part in self.parts:
            if name.casefold() == part.name.casefold() or name == str(part.label):
                return part
        known = ", ".join(f"{part.label} {part.name}" for part in self.parts)
        near = nearest(name, [part.name for part in self.parts])
        raise NotFound(f"There is no part `{name}`{near} in {self.name}; its parts are {known}.")

    def save(self, folder: str | Path, formats: Sequence[str] = (), separate: bool = False) -> Path:
        """Write everything into a new folder, whole or not at all; UserError when there is something already.

        With `formats`, such as `obj`, also object.obj and what it refers to, and with `separate` the same of every part
        beside its GLB; none of these when no part has a surface.
        """
        out = Path(folder)
        check_free(out)
        with whole_folder(out, KIND) as partial:
            write_result(self, partial)
            for file, content in beside(self, check_formats(formats), separate):
                (partial / file).write_bytes(content)
            check_free(out)
        return out

    def export(self, path: str | Path, format: str | None = None, separate: bool = False) -> list[Path]:
        """Write all parts as one file, of the format that its suffix or `format` names: glb, obj, stl, ply or 3mf.

        An OBJ gets its library of materials and its textures beside it. With `separate` the `path` is a folder, in
        which every part gets a file of its own, NN-NAME. OBJ and 3MF keep names, textures, materials and colours, PLY
        colours at vertices, STL geometry alone. Returns the files; UserError when one is there already, for an unknown
        format, and when no part has a surface.
        """
        return export(self, Path(path), format, separate)

    def save_animations(self, folder: str | Path) -> None:
        """Add the animations to the folder that this result was saved in before they were drawn."""
        out = Path(folder)
        for name, content in self.animations.items():
            with written(out / name) as partial:
                partial.write_bytes(content)
        write_sums(out, KIND)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """What `save` wrote; UserError when it is something else, of another version, not whole, or damaged."""
        return cls(**read_result(Path(folder)))
