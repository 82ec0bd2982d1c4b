"""What the objectives of the reconstruction models have in common: how novel views are measured and shown.

How the paper trains its model is not published. Here colour over white and alpha of views with known cameras are
supervised, those of the grid itself among them; depth is not, since the shards hold none. What the silhouettes of eight
views and the colours inside them leave open is left to the network.

Shape suffixes: V views, H W pixels of a view.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.reconstruction.drawn_objects import DrawnObjects, PosedViews, over_white
from pipeline.reconstruction.examples import DrawnExamples, collate

ALPHA_WEIGHT = 0.5
"""Of the squared error of alpha, against that of colour. A white object shows in alpha alone."""
HELD_OUT = 8
"""Objects that are measured on, each whole and by one of its parts."""
PICTURES = 4
WHITE_EDGE = 2
"""Pixels between pictures."""
LEAST_ERROR = 1e-10
"""A mean squared error below this counts as this, 100 dB: what is drawn exactly must not swallow the mean."""


class ViewsObjective(ABC):
    """An objective whose module is measured by the novel views that it draws."""

    collate = staticmethod(collate)

    def __init__(self, examples: DrawnExamples, validation: DrawnObjects | None) -> None:
        self._examples, self._validation = examples, validation

    @abstractmethod
    def draw(self, drawn: PosedViews) -> Tensor:
        """The novel views of an object as its reconstruction shows them, (V, 3, H, W) over white."""

    def examples(self) -> DrawnExamples:
        """The training examples."""
        return self._examples

    def validation(self) -> dict[str, float]:
        """How well novel views of up to HELD_OUT validation objects are drawn; nothing when there are none.

        `psnr` in dB, over all pixels of a view in [0, 1] over white, the mean over views of whole objects; `psnr_parts`
        over those of parts, of which white makes up more; `loss`, the mean squared error of both, for the loss curve.
        """
        if self._validation is None:
            return {}
        errors: dict[str, list[float]] = {"psnr": [], "psnr_parts": []}
        for place in range(min(HELD_OUT, self._validation.count)):
            for name, drawn in zip(errors, chosen(self._validation, place), strict=False):
                errors[name] += self._errors(drawn)
        everything = [error for values in errors.values() for error in values]
        return {"loss": float(np.mean(everything))} | {
            name: float(np.mean(-10 * np.log10(np.maximum(values, LEAST_ERROR))))
            for name, values in errors.items()
            if values
        }

    def pictures(self) -> dict[str, np.ndarray]:
        """The grid shown, novel views as drawn and as they are: uint8 (H, W, 3), a row an object or part."""
        objects = self._validation or self._examples.objects
        shown = [drawn for place in range(min(PICTURES, objects.count)) for drawn in chosen(objects, place)]
        rows = []
        for drawn in shown[:PICTURES]:
            columns = [over_white(drawn.grid)[0], tiled(self.draw(drawn)), tiled(over_white(drawn.novel_V4HW)[0])]
            rows.append(torch.cat([F.pad(column, (WHITE_EDGE,) * 4, value=1.0) for column in columns], dim=-1))
        picture = torch.cat(rows, dim=-2).permute(1, 2, 0)
        return {"samples": (picture.clamp(0, 1) * 255).round().byte().numpy()}

    def _errors(self, drawn: PosedViews) -> list[float]:
        """The mean squared error of each novel view."""
        truth_V3HW = over_white(drawn.novel_V4HW)[0]
        errors: list[float] = (self.draw(drawn) - truth_V3HW).square().mean(dim=(1, 2, 3)).tolist()
        return errors


def chosen(objects: DrawnObjects, place: int) -> Sequence[PosedViews]:
    """Object `place`, whole, and one of its parts, if it has any: with the place, another one."""
    parts = objects.parts(place)
    return [objects.read(place), *([objects.read(place, 1 + place % parts)] if parts else [])]


def tiled(views_V3HW: Tensor) -> Tensor:
    """Views in two rows, (3, 2H, V/2 * W); of an odd number the last is left out."""
    half = len(views_V3HW) // 2
    return torch.cat([torch.cat(list(row), dim=-1) for row in views_V3HW[: 2 * half].split(half)], dim=-2)
