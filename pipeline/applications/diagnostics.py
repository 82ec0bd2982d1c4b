"""What a user should look at in a finished object: figures for the failures of supplement D, and where they are bad.

The bounds are not published. They were set on true parts of objects that are not held out, so that these pass.

Shape suffixes: H W pixels of the 2x2 grid, R its rays, N parts.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_dilation

from pipeline.reconstruction.carving import BACKGROUND_GREY
from pipeline.reconstruction.field import Field
from pipeline.reconstruction.overlap import PartOverlap
from pipeline.reconstruction.renderer import Overlap
from pipeline.reconstruction.turntable import View, grid_view
from pipeline.views.cameras import Camera, tile, untile
from pipeline.views.psnr import psnr

LEAST_OUTLINE = 0.7
"""IoU of outlines. True parts, carved: 0.95 in the median of 32 objects, 0.75 at the least."""
LEAST_PSNR = 13.0
"""In dB, of the rendering. True parts, carved: 19.5 in the median; less than this of 2 objects of 32."""
LEAST_KEPT = 13.0
"""In dB, of a part's visible pixels. True parts: 24 in the median; less than this of 5 of 134, drawn without the shade
that the others cast on them."""
MOST_OUTSIDE = 0.1
"""Share of a part's picture. True parts: 0 in the median; more than this of 1 of 140, a wire."""
MOST_HIDDEN = 0.35
"""Share of the object's pixels. True parts, carved: 0.00 in the median, 0.30 at the most."""
MOST_CONTESTED = 0.5
"""Share of the object's volume. True parts, carved: 0.05 in the median; more than this of 1 object of 22."""


@dataclass(frozen=True)
class Diagnostic:
    """Something about an object that a user should look at."""

    kind: str
    """Of the whole: `outline`, `colour`, `merged`, `overlap`, and `input` of what it was made from; of a part: `empty`,
    `changed`, `outside`, `hides`."""
    part: int | None
    """The label of the part that it is about; None for the whole."""
    value: float
    """What was measured."""
    message: str
    """One sentence: what was found, and what can be done."""


@dataclass(frozen=True)
class Measures:
    """Figures of an object; by part, those that can be told of it."""

    psnr: float
    """Of the rendering against the grid, over the pixels that have a label; in dB."""
    outline: float
    """IoU of the rendering's outline with the labelled pixels, over the four views jointly."""
    kept: Mapping[int, float]
    """PSNR of a part's grid against the object's, over the pixels that have its label; in dB."""
    outside: Mapping[int, float]
    """Of what a part's grid shows, the share more than a pixel away from all that has a label."""
    hides: Mapping[int, float]
    """Of the pixels that have a label, the share that have another one where the rendering shows this part."""
    lost: Mapping[int, int]
    """Pixels that have the label of a part of which the rendering shows nothing."""


def diagnose(
    grid: np.ndarray,
    labels: np.ndarray,
    part_grids: Mapping[int, np.ndarray],
    fields: Mapping[int, Field],
    samples: int,
    camera: Camera,
    elevation_deg: float,
    merged: int,
    overlap: PartOverlap | None,
    rule: Overlap = "additive",
) -> list[Diagnostic]:
    """What is out of bounds: first of the object as a whole, then part by part; empty where all is well.

    `grid` (H, W, 3) float32 in [0, 1] over white and `labels` (H, W) uint8 are the object's four views and the parts in
    them; `part_grids` the completed parts by label, of the grid's form, without those that were placed elsewhere.
    `fields`, at least one, are rendered from `camera` at `elevation_deg` with `samples` a ray, and by `rule` where they
    overlap. `merged` counts the regions that joined another; `overlap` is that of the fields, None if not measured.
    """
    found = measure(grid, labels, part_grids, grid_view(fields, camera, elevation_deg, samples, rule))
    return [
        *_of_views(found),
        *_of_parts_together(merged, overlap),
        *(one for label, field in fields.items() for one in _of_part(label, field, found)),
    ]


def measure(grid_HW3: np.ndarray, labels_HW: np.ndarray, part_grids: Mapping[int, np.ndarray], seen: View) -> Measures:
    """Figures of an object from its grid, label map and parts' grids, as of `diagnose`."""
    shown_HW, drawn_HW = labels_HW > 0, seen.labels_HW > 0
    # Label maps have hard edges, so a picture's soft ones lie up to a pixel outside.
    around_HW = tile(np.stack([binary_dilation(view, np.ones((3, 3))) for view in untile(shown_HW)]))
    kept, outside, hides, lost = {}, {}, {}, {}
    for label, picture_HW3 in part_grids.items():
        mask_HW, content_HW = labels_HW == label, 1 - picture_HW3.min(axis=-1) > BACKGROUND_GREY
        if mask_HW.any():
            kept[label] = float(psnr(picture_HW3, grid_HW3, mask_HW))
        if content_HW.any():
            outside[label] = float((content_HW & ~around_HW).sum() / content_HW.sum())
    for label in np.unique(np.concatenate([labels_HW[shown_HW], seen.labels_HW[drawn_HW]])).tolist():
        here_HW = seen.labels_HW == label
        hides[label] = float((here_HW & shown_HW & (labels_HW != label)).sum() / shown_HW.sum())
        if not here_HW.any():
            lost[label] = int((labels_HW == label).sum())
    return Measures(
        float(psnr(seen.colour_HW3, grid_HW3, shown_HW)),
        float((shown_HW & drawn_HW).sum() / max((shown_HW | drawn_HW).sum(), 1)),
        kept,
        outside,
        hides,
        lost,
    )


def _of_views(found: Measures) -> Iterator[Diagnostic]:
    advice = "compare the grid with the turntable, and try another seed if the views contradict one another."
    if found.outline < LEAST_OUTLINE:
        yield Diagnostic(
            "outline",
            None,
            found.outline,
            "Rendered back to the four views, the parts have other outlines than the grid "
            f"(IoU {found.outline:.2f}, usually above {LEAST_OUTLINE:g}); {advice}",
        )
    if found.psnr < LEAST_PSNR:
        yield Diagnostic(
            "colour",
            None,
            found.psnr,
            "Rendered back to the four views, the parts look different from the grid "
            f"({found.psnr:.1f} dB, usually above {LEAST_PSNR:g}); {advice}",
        )


def _of_parts_together(merged: int, overlap: PartOverlap | None) -> Iterator[Diagnostic]:
    if merged:
        yield Diagnostic(
            "merged",
            None,
            float(merged),
            f"{merged} small or surplus region{'s were' if merged > 1 else ' was'} merged into other parts, so a part "
            "may hold several things; look at the label map, and raise --max-parts or lower --min-part-pixels to keep "
            "them apart.",
        )
    if overlap is not None and overlap.contested > MOST_CONTESTED:
        yield Diagnostic(
            "overlap",
            None,
            overlap.contested,
            f"{overlap.contested:.0%} of the object's volume belongs to more than one part, since each was completed "
            "alone; set reconstruct.overlap=densest, or try another seed.",
        )


def _of_part(label: int, field: Field, found: Measures) -> Iterator[Diagnostic]:
    if field.is_empty or label in found.lost:
        pixels = found.lost.get(label, 0)
        where = f"the grid shows {pixels} pixels of it" if pixels else "and the grid shows nothing of it"
        what = "is empty" if field.is_empty else "cannot be seen in the reconstruction"
        yield Diagnostic(
            "empty",
            label,
            float(pixels),
            f"Part {label} {what}, {'although ' if pixels else ''}{where}; edit it, or try another seed.",
        )
    if found.kept.get(label, math.inf) < LEAST_KEPT:
        yield Diagnostic(
            "changed",
            label,
            found.kept[label],
            f"Completion repainted what the grid shows of part {label} ({found.kept[label]:.1f} dB, usually above "
            f"{LEAST_KEPT:g}); compare it with the grid, and try another seed.",
        )
    if found.outside.get(label, 0.0) > MOST_OUTSIDE:
        yield Diagnostic(
            "outside",
            label,
            found.outside[label],
            f"{found.outside[label]:.0%} of what was drawn of part {label} lies outside the object's outline; it may "
            "be too large or hold something else, so try another seed or edit it.",
        )
    if found.hides.get(label, 0.0) > MOST_HIDDEN:
        yield Diagnostic(
            "hides",
            label,
            found.hides[label],
            f"Part {label} covers {found.hides[label]:.0%} of the object where the grid shows other parts; it may have "
            "been completed too large, so try another seed or edit it.",
        )
