"""Objects and their parts in place as the shards hold them: pictures and the cameras that took them.

Shape suffixes: V views, H W pixels of a view.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline.errors import NoObjects, UserError
from pipeline.params.render import RenderParams
from pipeline.reconstruction.rays import split_views
from pipeline.shards.dataset import TableRows
from pipeline.shards.read import read_manifest
from pipeline.shards.store import content_key
from pipeline.shards.table import WHOLE, decode_png
from pipeline.training.index_file import IndexFile, build_index_file
from pipeline.training.join import joined
from pipeline.views.augment import Augmentation
from pipeline.views.cameras import GRID_AZIMUTHS, untile

CONTRACT = "drawn/1"
"""Raise it when the same tables give another index."""
TABLES = {"grids": "renders/grids", "novel": "renders/novel"}
CAMERA = ("view_size", "fov_deg", "distance", "elevation_deg")
"""The settings of the stage `render` that say what a pixel of a grid sees."""

RECORD = np.dtype([(name, "<i8") for name in ("grid", "novel", "parts")])
"""An object: the rows of the whole in renders/grids and renders/novel, and how many parts' rows follow it in both."""


@dataclass(frozen=True)
class PosedViews:
    """An object, or a part of it in place, from all sides: RGBA with straight alpha, uint8."""

    object_id: str
    part_id: int
    """0 for the whole object."""
    grid: Tensor
    """(4, 2H, 2W), the 2x2 grid."""
    novel_V4HW: Tensor
    """From the novel views."""
    azimuths: tuple[float, ...]
    """Of the novel views, degrees."""
    elevations: tuple[float, ...]

    def changed(self, change: Augmentation, channels: Sequence[int] = (0, 1, 2)) -> "PosedViews":
        """As the turned or mirrored object would be drawn, `channels` in the place of red, green and blue.

        Turned by a quarter, each view of the grid shows what the next one showed, so that what was seen from azimuth a
        is seen from a - 90; mirrored, it is seen flipped from -a.
        """
        order = [*channels, 3]
        turned = [azimuth - 90.0 * change.quarter_turns for azimuth in self.azimuths]
        return replace(
            self,
            grid=change.grid(self.grid)[order],
            novel_V4HW=change.view(self.novel_V4HW)[:, order],
            azimuths=tuple(-azimuth if change.mirrored else azimuth for azimuth in turned),
        )

    def views(self, elevation_deg: float) -> tuple[Tensor, list[tuple[float, float]]]:
        """All views, (4 + V, 4, H, W), the grid's at `elevation_deg` first, with azimuth and elevation of each."""
        cameras = [(azimuth, elevation_deg) for azimuth in GRID_AZIMUTHS]
        cameras += zip(self.azimuths, self.elevations, strict=True)
        return torch.cat((split_views(self.grid[None])[0], self.novel_V4HW)), cameras


def over_white(rgba: Tensor) -> tuple[Tensor, Tensor]:
    """Pictures (..., 4, H, W) as colour over white (..., 3, H, W) and alpha (..., H, W): float32 in [0, 1]."""
    values = rgba.float() / 255
    alpha = values[..., 3, :, :]
    weight = alpha[..., None, :, :]
    return values[..., :3, :, :] * weight + (1 - weight), alpha


class DrawnObjects:
    """The objects of a split, with random access; nothing is held that grows with the corpus but row groups' starts.

    Copies that are sent to other processes open the files themselves.
    """

    def __init__(self, data: Path, split: str, render: RenderParams) -> None:
        """UserError when a table is missing, the split is empty, or the shards were drawn by other cameras."""
        self.elevation_deg = render.elevation_deg
        _check_cameras(data, render)
        self._index = IndexFile(_build_index(data, split), RECORD)
        self._tables = {name: TableRows(data / folder) for name, folder in TABLES.items()}
        self.count = len(self._index)

    def parts(self, place: int) -> int:
        """How many parts object `place` has; its parts count from 1."""
        return self._index[place][2]

    def read(self, place: int, part: int = 0) -> PosedViews:
        """Object `place`, or one of its parts; 0 is the whole."""
        grid_row, novel_row, parts = self._index[place]
        assert 0 <= part <= parts
        grid, novel = self._tables["grids"][grid_row + part], self._tables["novel"][novel_row + part]
        views = untile(decode_png(novel["image"]["bytes"]))
        return PosedViews(
            object_id=grid["object_id"],
            part_id=grid["part_id"],
            grid=torch.from_numpy(decode_png(grid["image"]["bytes"])).permute(2, 0, 1),
            novel_V4HW=torch.from_numpy(views).permute(0, 3, 1, 2),
            azimuths=tuple(novel["azimuths"]),
            elevations=tuple(novel["elevations"]),
        )


def validation_objects(data: Path, render: RenderParams, training: str) -> DrawnObjects | None:
    """The objects to measure a training on; None, said aloud, where there are none."""
    try:
        return DrawnObjects(data, "val", render)
    except NoObjects as error:
        print(f"{training}: trained without validation: {error}", file=sys.stderr)
        return None


def _check_cameras(data: Path, render: RenderParams) -> None:
    for folder in TABLES.values():
        settings = read_manifest(data / folder).settings
        for name in CAMERA:
            wanted = getattr(render, name)
            if settings[name] != wanted:
                raise UserError(
                    f"{data / folder} was drawn with {name}={settings[name]} and the params say "
                    f"render.{name}={wanted}; run the stage render again, or set render.{name}={settings[name]}."
                )


def _build_index(data: Path, split: str) -> Path:
    """A file of RECORDs, one an object of the split, in the order of the tables; built once for the same tables."""
    tables = {name: data / folder for name, folder in TABLES.items()}
    digests = [read_manifest(folder).digest for folder in tables.values()]
    return build_index_file(content_key(CONTRACT, *digests, split), RECORD, lambda: _records(data, tables, split))


def _records(data: Path, tables: Mapping[str, Path], split: str) -> Iterator[tuple[int, int, int]]:
    used = 0
    for rows in joined(tables):
        grids, novel = rows["grids"], rows.get("novel")
        if grids.split != split:
            continue
        if novel is None or novel.parts != grids.parts or grids.parts[0] != WHOLE:
            print(f"{grids.object_id} is left out: its novel views are not those of its grids.", file=sys.stderr)
            continue
        used += 1
        yield grids.first, novel.first, len(grids.parts) - 1
    if not used:
        raise NoObjects(
            f"{data} has no objects of the split {split} that are drawn from novel views; add objects, or raise "
            "the split's share in the params of assets, and run its stages again."
        )
