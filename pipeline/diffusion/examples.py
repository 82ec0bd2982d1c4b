"""Training samples of a diffusion task, out of the shards: an endless, numbered sequence.

A sample is a function of the seed and its number alone. So a run that goes on after an interruption sees what it would
have seen, and how many processes and workers share the work changes nothing.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from pipeline.diffusion.example_index import RECORD, build_index, tables_of
from pipeline.diffusion.tasks import Task
from pipeline.errors import UserError
from pipeline.params.diffusion import DiffusionParams
from pipeline.shards.dataset import DecodedRows, TableRows
from pipeline.shards.read import read_manifest
from pipeline.training.index_file import IndexFile
from pipeline.training.join import NONE
from pipeline.training.order import shuffled
from pipeline.views.augment import Augmentation
from pipeline.views.part_colours import by_appearance, colour_code

KEPT_BYTES = 2**28
"""Of decoded pictures that are kept, of each table, in each process: a small corpus is decoded once."""
COLUMNS = {
    "grids": ["object_id", "image.bytes"],
    "labels": ["labels.bytes"],
    "views": ["image.bytes"],
    "captions": ["caption"],
}


class Examples(Dataset[dict[str, Any]]):
    """The samples of a task over a split: an object, a part of it, or an object with one of its single views.

    Sample n is of epoch n // count; every epoch has an order of its own. Nothing is held that grows with the corpus but
    where row groups start, and up to KEPT_BYTES of pictures a table. Copies that are sent to other processes open the
    files themselves.

    A sample: `images`, float32 (3, H, W) in [0, 1] by the names of the task, of the grid or of one view; `masks`,
    float32 (1, H, W) of 0 and 1, all 0 for a part that is in sight nowhere; `caption`, empty when the task has none;
    `dropped`, whether to train it without its conditions; `number`; `text_row` and `image_row`, its rows in the
    FrozenOutputs, -1 when it has no caption (the row of the null text) or no single view; `object_id`; `part_id`, 0 for
    the whole object.
    """

    def __init__(
        self,
        data: Path,
        task: Task,
        split: str,
        params: DiffusionParams,
        seed: int,
        drop_condition: float,
        augment: bool,
        only: Sequence[str] | None = None,
        expected_view_size: int | None = None,
    ) -> None:
        """`drop_condition` is the share of samples to train without conditions; `only` names the objects to keep.

        Without `augment`, a task of one view draws view n % 4 for sample n. UserErrors: see `build_index`; and when the
        shards' views are not of `expected_view_size` pixels.
        """
        self.task, self.seed, self.drop_condition, self.augment = task, seed, drop_condition, augment
        self.colours, self.palette = params.colours, params.palette
        _check_sizes(data, task, expected_view_size)
        self._index = IndexFile(build_index(data, task, split, params.colours, only), RECORD)
        self._tables = {
            name: DecodedRows(TableRows(data / folder, COLUMNS[name]), KEPT_BYTES)
            for name, folder in tables_of(task).items()
        }
        self.count = len(self._index)

    def __len__(self) -> int:
        """Samples of an epoch."""
        return self.count

    def __getitem__(self, number: int) -> dict[str, Any]:
        epoch, position = divmod(number, self.count)
        fields = self._index[shuffled(position, self.count, (self.seed, epoch))]
        record = dict(zip(RECORD.names or (), fields, strict=True))
        whole = self._tables["grids"][record["whole"]]
        # All is drawn, whether it is used or not: so a sample's object, view and colours hang on nothing else.
        draws = np.random.default_rng((self.seed, number))
        dropped = bool(draws.random() < self.drop_condition)
        permutation = torch.from_numpy(draws.permutation(self.colours) + 1)
        view = int(draws.integers(4)) if self.augment else number % 4
        change = Augmentation.drawn(draws, self.task.augmentations) if self.augment else Augmentation()
        images, masks = self._pictures(whole, record, change, permutation, view if self.task.views == 1 else None)
        return {
            "images": {name: images[name] for name in self.task.images},
            "masks": masks,
            "caption": self._tables["captions"][record["caption"]]["caption"] if self.task.caption else "",
            "dropped": dropped,
            "number": number,
            "text_row": record["caption"],
            "image_row": 2 * record["view"] + change.mirrored if record["view"] != NONE else NONE,
            "object_id": whole["object_id"],
            "part_id": record["part_id"],
        }

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
            labels = shown(self._tables["labels"][record["labels"]]["labels"])
        if names & {"whole", "masked", "rest"}:
            images["whole"] = change.over_white(shown(whole["image"]), labels)
        if "part" in names:
            images["part"] = change.over_white(shown(self._tables["grids"][record["part"]]["image"]))
        if "view" in names:
            images["view"] = change.over_white(change.view(_tensor(self._tables["views"][record["view"]]["image"])))
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
    """Samples as a batch: images and masks stacked, numbers as int64 and `dropped` as bool (B,), texts in lists."""
    batch: dict[str, Any] = {
        key: {name: torch.stack([item[key][name] for item in items]) for name in items[0][key]}
        for key in ("images", "masks")
    }
    for key in ("caption", "object_id"):
        batch[key] = [item[key] for item in items]
    for key in ("number", "text_row", "image_row", "part_id", "dropped"):
        batch[key] = torch.tensor([item[key] for item in items])
    return batch


def _tensor(pixels: np.ndarray) -> Tensor:
    """A stored picture, uint8 (4, H, W), or label map, uint8 (H, W)."""
    tensor = torch.from_numpy(pixels)
    return tensor if tensor.ndim == 2 else tensor.permute(2, 0, 1)


def _check_sizes(data: Path, task: Task, expected: int | None) -> None:
    sizes = {folder: _view_size(data / folder) for folder in tables_of(task).values() if "captions" not in folder}
    drawn = sizes["renders/grids"]
    if expected is not None and drawn != expected:
        raise UserError(
            f"{data / 'renders/grids'} has views of {drawn} px and the params say render.view_size={expected}; run the "
            f"stages render and masks again, or set render.view_size={drawn}."
        )
    for folder, size in sizes.items():
        if size != drawn:
            raise UserError(
                f"{data / folder} has views of {size} px and {data / 'renders/grids'} of {drawn} px; run the stage "
                f"{'masks' if folder.startswith('masks') else 'render'} again."
            )


def _view_size(folder: Path) -> int:
    size: int = read_manifest(folder).settings["view_size"]
    return size
