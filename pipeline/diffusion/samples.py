"""Training samples of a diffusion task: an endless, numbered sequence over rows that are given.

A sample is a function of the seed and its number alone. So a run that goes on after an interruption sees what it would
have seen, and how many processes and workers share the work changes nothing; nor does it where the rows come from.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from pipeline.diffusion.tasks import Task
from pipeline.training.index_file import NONE
from pipeline.training.order import shuffled
from pipeline.views.augment import Augmentation
from pipeline.views.part_colours import by_appearance, colour_code

FIELDS = ("whole", "part", "labels", "view", "caption", "part_id")
"""Of a record, which makes a sample: the rows of I and J in the table `grids`, of the label map, of the single view and
of the caption; -1 for what the task does not need. Last the part's id, 0 for the whole object."""

WHOLE_SHARE = 0.5
"""Of the samples of a task that draws parts together, the share with all parts of the object."""


class Records(Protocol):
    """The records of a split, by their place."""

    def __len__(self) -> int: ...

    def __getitem__(self, place: int) -> tuple[int, ...]: ...


class DecodedTable(Protocol):
    """The rows of a table by their number, which the caller leaves as they are.

    Of `grids` an `object_id` and an `image`, uint8 (H, W, 4) with straight alpha; of `labels` the `labels`, uint8
    (H, W); of `views` an `image`; of `captions` a `caption`.
    """

    def __getitem__(self, row: int) -> dict[str, Any]: ...


class Samples(Dataset[dict[str, Any]]):
    """The samples of a task over a split: an object, a part of it, or an object with one of its single views.

    Sample n is of epoch n // count; every epoch has an order of its own.

    A sample: `images`, float32 (3, H, W) in [0, 1] by the names of the task, of the grid or of one view; `masks`,
    float32 (1, H, W) of 0 and 1, all 0 for a part that is in sight nowhere; `caption`, empty when the task has none;
    `dropped`, whether to train it without its conditions; `number`; `text_row` and `image_row`, its rows in the
    FrozenOutputs, -1 when it has no caption (the row of the null text) or no single view; `object_id`; `part_id`, 0 for
    the whole object.

    A sample of a task that draws parts together also has `others`: samples of other parts of its object, changed and
    dropped alike and of the same number; in WHOLE_SHARE of the samples all of them, else so many as chance says.
    """

    def __init__(
        self,
        task: Task,
        index: Records,
        tables: Mapping[str, DecodedTable],
        colours: int,
        palette: str,
        seed: int,
        drop_condition: float,
        augment: bool,
    ) -> None:
        """`colours` and `palette` are those of the diffusion params; `drop_condition` is the share of samples to train
        without conditions. Without `augment`, a task of one view draws view n % 4 for sample n.
        """
        self.task, self.seed, self.drop_condition, self.augment = task, seed, drop_condition, augment
        self.colours, self.palette = colours, palette
        self.index, self.tables = index, tables
        self.count = len(index)

    def __len__(self) -> int:
        """Samples of an epoch."""
        return self.count

    def __getitem__(self, number: int) -> dict[str, Any]:
        epoch, position = divmod(number, self.count)
        place = shuffled(position, self.count, (self.seed, epoch))
        record = dict(zip(FIELDS, self.index[place], strict=True))
        whole = self.tables["grids"][record["whole"]]
        # All is drawn, whether it is used or not: so a sample's object, view and colours hang on nothing else.
        draws = np.random.default_rng((self.seed, number))
        dropped = bool(draws.random() < self.drop_condition)
        permutation = torch.from_numpy(draws.permutation(self.colours) + 1)
        view = int(draws.integers(4)) if self.augment else number % 4
        change = Augmentation.drawn(draws, self.task.augmentations) if self.augment else Augmentation()
        shown = view if self.task.views == 1 else None

        def sample(record: dict[str, int]) -> dict[str, Any]:
            images, masks = self._pictures(whole, record, change, permutation, shown)
            return {
                "images": {name: images[name] for name in self.task.images},
                "masks": masks,
                "caption": self.tables["captions"][record["caption"]]["caption"] if self.task.caption else "",
                "dropped": dropped,
                "number": number,
                "text_row": record["caption"],
                "image_row": 2 * record["view"] + change.mirrored if record["view"] != NONE else NONE,
                "object_id": whole["object_id"],
                "part_id": record["part_id"],
            }

        drawn = sample(record)
        if self.task.joint:
            drawn["others"] = [sample(other) for other in self._others(place, draws)]
        return drawn

    def _others(self, place: int, draws: np.random.Generator) -> list[dict[str, int]]:
        """The records of other parts of the object whose part is in `place`; an object's parts follow each other."""
        whole, others = self.index[place][0], []
        for step, end in ((-1, -1), (1, self.count)):
            for at in range(place + step, end, step):
                fields = self.index[at]
                if fields[0] != whole:
                    break
                others.append(dict(zip(FIELDS, fields, strict=True)))
        every, kept = draws.random() < WHOLE_SHARE, draws.integers(len(others) + 1)
        order = draws.permutation(len(others))
        return [others[which] for which in (order if every else order[:kept])]

    def _pictures(
        self,
        whole: dict[str, Any],
        record: dict[str, int],
        change: Augmentation,
        permutation: Tensor,
        view: int | None,
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The task's images and masks by name, of the whole grid or of one view of it."""

        def shown(pixels: np.ndarray) -> Tensor:
            return change.grid(_tensor(pixels)) if view is None else change.view_of(_tensor(pixels), view)

        names = {*self.task.images, *filter(None, [self.task.stacked_mask])}
        images: dict[str, Tensor] = {}
        masks: dict[str, Tensor] = {}
        labels = None
        if names & {"colours", "masked", "rest", "mask", "rest_mask"}:
            labels = shown(self.tables["labels"][record["labels"]]["labels"])
        if names & {"whole", "masked", "rest"}:
            images["whole"] = change.over_white(shown(whole["image"]), labels)
        if "part" in names:
            images["part"] = change.over_white(shown(self.tables["grids"][record["part"]]["image"]))
        if "view" in names:
            images["view"] = change.over_white(change.view(_tensor(self.tables["views"][record["view"]]["image"])))
        if labels is not None:
            part = labels == record["part_id"]
            rest = (labels != 0) & ~part
            if "colours" in names:
                if self.palette == "appearance":
                    permutation = by_appearance(labels, images["whole"], self.colours)
                images["colours"] = colour_code(labels, permutation)
            # Where the mask is not, the picture is as white as the background of I and J.
            if "masked" in names:
                images["masked"] = torch.where(part, images["whole"], 1.0)
            if "rest" in names:
                images["rest"] = torch.where(rest, images["whole"], 1.0)
            masks = {"mask": part[None].float(), "rest_mask": rest[None].float()}
        return images, {name: masks[name] for name in masks if name in names}


def collate(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Samples as a batch: images and masks stacked, numbers as int64 and `dropped` as bool (B,), texts in lists.

    With the `others` of a sample behind it, where it has any, all but `object_id` are of the parts, which are then more
    than the samples.
    """
    ids = [item["object_id"] for item in items]
    items = [part for item in items for part in (item, *item.get("others", ()))]
    batch: dict[str, Any] = {
        key: {name: torch.stack([item[key][name] for item in items]) for name in items[0][key]}
        for key in ("images", "masks")
    }
    batch |= {"caption": [item["caption"] for item in items], "object_id": ids}
    for key in ("number", "text_row", "image_row", "part_id", "dropped"):
        batch[key] = torch.tensor([item[key] for item in items])
    return batch


def _tensor(pixels: np.ndarray) -> Tensor:
    """A stored picture, uint8 (4, H, W), or label map, uint8 (H, W)."""
    tensor = torch.from_numpy(pixels)
    return tensor if tensor.ndim == 2 else tensor.permute(2, 0, 1)
