"""Augmentation of training samples that keeps them true: what is changed is changed in all pictures of a sample alike.

Turning the object about its vertical axis by a quarter moves every view of the grid one place on (`roll`). Its mirror
image shows each view flipped, and those at azimuth 90 and 270 change places (`mirror`). Its colours may be others
(`jitter`), and those of every part in its own way (`recolour`), as long as the background stays white; label maps stay
what they are.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

MAX_HUE_DEG, MAX_BRIGHTNESS, MAX_CONTRAST = 30.0, 0.1, 0.2
"""Colours turn about the grey axis by up to this angle either way, are shifted by up to this share of full white, and
are moved away from or towards middle grey by up to this share. Pictures are the paper's; their augmentation is not."""
RECOLOURED = 0.5
"""Share of the samples in which every part gets a colour shift of its own."""
PART_BRIGHTNESS, PART_CONTRAST, PART_TINT = 0.25, 0.3, 0.2
"""The most that such a shift changes; its hue is any. The tint is added to each channel, since greys have no hue."""
MOST_PARTS = 20
"""Shifts drawn for a sample; no object has more parts than there are reference colours."""

MIRRORED_VIEWS = (0, 3, 2, 1)
"""Where the views of a mirrored object come from: azimuth a shows what -a showed."""


@dataclass(frozen=True)
class ColourShift:
    """An affine map of colours: `matrix` (3, 3) and `offset` (3, 1), both float32; results are cut to [0, 1]."""

    matrix: Tensor
    offset: Tensor

    @classmethod
    def of(
        cls, hue_deg: float, brightness: float, contrast: float, tint: Sequence[float] = (0.0, 0.0, 0.0)
    ) -> "ColourShift":
        """Turn the hue, then contrast * (colour - 1/2) + 1/2 + brightness + tint, the last for each channel.

        Without a tint greys stay grey: they have no hue.
        """
        cos, sin = np.cos(np.radians(hue_deg)), np.sin(np.radians(hue_deg))
        # Rodrigues' rotation about (1, 1, 1) / sqrt(3)
        cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)
        rotation = cos * np.eye(3) + sin * cross + (1 - cos) / 3
        offset = 0.5 - 0.5 * contrast + brightness + np.array(tint)[:, None]
        return cls(torch.tensor(contrast * rotation, dtype=torch.float32), torch.tensor(offset, dtype=torch.float32))


@dataclass(frozen=True)
class Augmentation:
    """What happens to one sample; as it stands, nothing."""

    quarter_turns: int = 0
    mirrored: bool = False
    colours: ColourShift | None = None
    part_colours: tuple[ColourShift, ...] = ()
    """Of part k at k - 1, before `colours`; empty for none."""

    @classmethod
    def drawn(cls, generator: np.random.Generator, allowed: Collection[str]) -> "Augmentation":
        """At random; `allowed` out of `roll`, `mirror`, `jitter` and `recolour`."""
        turns, flip = int(generator.integers(4)), bool(generator.random() < 0.5)
        hue, brightness, contrast = generator.uniform(-1, 1, 3) * (MAX_HUE_DEG, MAX_BRIGHTNESS, MAX_CONTRAST)
        shift = ColourShift.of(hue, brightness, 1 + contrast) if "jitter" in allowed else None
        parts: tuple[ColourShift, ...] = ()
        if "recolour" in allowed and generator.random() < RECOLOURED:
            most = (180.0, PART_BRIGHTNESS, PART_CONTRAST, *[PART_TINT] * 3)
            drawn = (generator.uniform(-1, 1, (MOST_PARTS, len(most))) * most).tolist()
            parts = tuple(ColourShift.of(hue, light, 1 + contrast, tint) for hue, light, contrast, *tint in drawn)
        return cls(turns if "roll" in allowed else 0, flip and "mirror" in allowed, shift, parts)

    def grid(self, grid: Tensor) -> Tensor:
        """A picture, label map or mask of the 2x2 grid, (..., H, W) of any type, as the changed object shows it."""
        changed = grid.new_empty(grid.shape)
        for view in range(4):
            view_of(changed, view).copy_(self.view_of(grid, view))
        return changed

    def view_of(self, grid: Tensor, view: int) -> Tensor:
        """One view (..., H/2, W/2) of the changed object, out of the grid (..., H, W) of the object as it is."""
        shown = MIRRORED_VIEWS[view] if self.mirrored else view
        return self.view(view_of(grid, (shown + self.quarter_turns) % 4))

    def view(self, view: Tensor) -> Tensor:
        """A single picture (..., H, W) from elsewhere, as it shows the mirrored object."""
        return view.flip(-1) if self.mirrored else view

    def over_white(self, rgba: Tensor, labels: Tensor | None = None) -> Tensor:
        """Stored pixels (4, H, W), uint8 with straight alpha, over white: float32 (3, H, W) in [0, 1].

        The colours change before they are laid over the white, so that soft edges fade into it as they did. `labels`
        (H, W), of parts from 1, has to be given where parts are recoloured.
        """
        values = rgba.float().div_(255)
        colour, alpha = values[:3], values[3:]
        if self.part_colours:
            assert labels is not None
            for part in range(1, int(labels.max()) + 1):
                where = labels == part
                colour[:, where] = jitter(colour[:, where], self.part_colours[part - 1])
        if self.colours is not None:
            colour = jitter(colour, self.colours)
        return (colour * alpha).add_(1 - alpha)


def jitter(image: Tensor, shift: ColourShift) -> Tensor:
    """Colours (3, ...) in [0, 1] after the shift, pixel by pixel: equal colours stay equal in all images."""
    flat = torch.addmm(shift.offset, shift.matrix, image.flatten(1))
    return flat.clamp_(0, 1).view(image.shape)


def view_of(grid: Tensor, view: int) -> Tensor:
    """One view (..., H/2, W/2) of a grid (..., H, W), in the order of its azimuths."""
    height, width = grid.shape[-2] // 2, grid.shape[-1] // 2
    row, column = divmod(view, 2)
    return grid[..., row * height : (row + 1) * height, column * width : (column + 1) * width]
