"""Which rows of which tables make a training sample: an index on disk, by a streaming join of the tables."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from pipeline.diffusion.samples import FIELDS
from pipeline.diffusion.tasks import Task
from pipeline.errors import NoObjects, UserError
from pipeline.shards.read import read_manifest
from pipeline.shards.store import content_key
from pipeline.shards.table import WHOLE
from pipeline.training.index_file import NONE, build_index_file
from pipeline.training.join import Rows, joined

CONTRACT = "examples/1"
"""Raise it when the same tables give another index."""

RECORD = np.dtype([(name, "<i8") for name in FIELDS])
"""A sample, its rows those of the tables under data/."""


def tables_of(task: Task) -> dict[str, str]:
    """The tables that a task's samples come from, by what they give: their folders under data/."""
    tables = {"grids": "renders/grids"}
    if task.stacked_mask or {"colours", "masked", "rest"} & set(task.images):
        tables["labels"] = "masks/labels"
    if "view" in task.images:
        tables["views"] = "renders/conditioning"
    if task.caption is not None:
        tables["captions"] = "captions/captions"
    return tables


def build_index(data: Path, task: Task, split: str, colours: int, only: Sequence[str] | None = None) -> Path:
    """A file of RECORDs, one a sample of the split, in the order of the tables; built once for the same tables.

    `only` keeps the objects of these ids. UserError when a table is missing, the split is empty, one of `only` is not
    in it, or an object has more parts than there are `colours` and the task draws them.
    """
    tables = {name: data / folder for name, folder in tables_of(task).items()}
    limit = colours if "colours" in task.images else 0
    wanted = None if only is None else sorted(set(only))
    digests = [read_manifest(folder).digest for folder in tables.values()]
    about = {"task": task.name, "split": split, "limit": limit, "only": wanted}
    key = content_key(CONTRACT, *digests, about)
    return build_index_file(key, RECORD, lambda: _records(data, task, tables, split, limit, wanted))


def _records(
    data: Path, task: Task, tables: Mapping[str, Path], split: str, limit: int, wanted: Sequence[str] | None
) -> Iterator[tuple[int, ...]]:
    missing = set(wanted or ())
    objects = used = 0
    for rows in joined(tables):
        grids = rows["grids"]
        if grids.split != split or (wanted is not None and grids.object_id not in missing):
            continue
        if task.needs_parts and grids.parts == [WHOLE]:
            continue
        objects += 1
        samples = _samples(task, rows)
        if not samples:
            continue
        used += 1
        missing.discard(grids.object_id)
        if limit:
            _check_colours(grids, limit)
        yield from samples
    if missing:
        raise UserError(
            f"{data} has no object {min(missing)} in the split {split} for {task.name}; name others (`partgen show`)."
        )
    if not used:
        raise NoObjects(
            f"{data} has no sample of the split {split} for {task.name} ({objects} objects of it are drawn); add "
            "objects, or raise the split's share in the params of assets, and run its stages again."
        )
    if used < objects:
        print(
            f"{task.name}: {objects - used} of {objects} objects of {split} have no masks, views or captions and "
            "are left out; the tables of failures say why.",
            file=sys.stderr,
            flush=True,
        )


def _samples(task: Task, rows: dict[str, Rows]) -> list[tuple[int, ...]]:
    """The samples of one object as fields of a RECORD; none when a table lacks what they need."""
    grids = rows["grids"]
    if rows.keys() != tables_of(task).keys() or grids.of_part(WHOLE) == NONE:
        return []
    labels = rows["labels"].first if "labels" in rows else NONE
    views = [rows["views"].first + place for place in range(len(rows["views"].parts))] if "views" in rows else [NONE]
    parts = [part for part in grids.parts if part != WHOLE] if task.of_parts else [WHOLE]
    samples: list[tuple[int, ...]] = []
    for part in parts:
        caption = rows["captions"].of_part(part if task.caption == "part" else WHOLE) if task.caption else NONE
        if task.caption and caption == NONE:
            continue
        drawn = grids.of_part(part) if task.of_parts else NONE
        samples += [(grids.of_part(WHOLE), drawn, labels, view, caption, part) for view in views]
    return samples


def _check_colours(grids: Rows, colours: int) -> None:
    parts = len(grids.parts) - 1
    if max(grids.parts) > colours:
        raise UserError(
            f"{grids.object_id} has {parts} parts and there are {colours} reference colours; set "
            f"diffusion.colours={max(grids.parts)} or more, or lower assets.max_parts."
        )
