"""A corpus of toys: objects of coloured boxes, ray-cast into the very tables of the data half, in a second.

Boxes are true 3D: views, part grids and label maps agree as in real shards. Renders have soft edges, label maps hard
ones; the last part of every third object lies inside another one, in sight in no view.
"""

from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.captions.tables import CAPTIONS
from pipeline.shards.table import Table, encode_png, image_cell
from pipeline.shards.write import shard_of, write_tables
from pipeline.views.cameras import GRID_AZIMUTHS, camera_to_world, random_views, tile
from pipeline.views.mask_tables import LABELS, VISIBILITY
from pipeline.views.masks import visible_pixels
from pipeline.views.palette import PART_COLOURS
from pipeline.views.tables import CONDITIONING, GRIDS, NOVEL

FOV_DEG, DISTANCE, ELEVATION_DEG, RANDOM_ELEVATION_DEG = 40.0, 3.1, 20.0, (-10.0, 45.0)
CONDITIONING_VIEWS = 2
FINER = 2
"""Rays a pixel's side in renders."""
COLOURS = {
    "red": (205, 40, 45), "green": (50, 160, 70), "blue": (45, 80, 200), "yellow": (235, 205, 50),
    "purple": (130, 50, 160), "pink": (240, 140, 180), "brown": (120, 75, 40), "cyan": (70, 190, 215),
}  # fmt: skip
STAGES: dict[str, tuple[Table, ...]] = {
    "renders": (GRIDS, NOVEL, CONDITIONING),
    "masks": (LABELS, VISIBILITY),
    "captions": (CAPTIONS,),
}


def write_toy_corpus(
    data: Path, objects: int = 6, view_size: int = 16, shards: int = 2, undivided: Collection[str] = ()
) -> None:
    """Write under `data`: of renders grids, novel and conditioning, of masks labels and visibility, and the captions.

    Of the objects `undivided` there are no rows of parts.

    Objects `toy-000`, `toy-001`, ... of 2 to 4 parts each; the last one is of the split test, the one before it of val.
    """
    contents: dict[int, dict[str, list[dict[str, Any]]]] = {}
    for number in range(objects):
        object_id = f"toy-{number:03d}"
        split = {objects - 1: "test", objects - 2: "val"}.get(number, "train")
        rows = contents.setdefault(shard_of(object_id, shards), {})
        for name, found in toy_object(object_id, number, split, view_size).items():
            some = [row for row in found if object_id not in undivided or not row.get("part_id")]
            rows.setdefault(name, []).extend(some)
    settings = {
        "azimuths_deg": list(GRID_AZIMUTHS), "conditioning_views": CONDITIONING_VIEWS, "distance": DISTANCE,
        "elevation_deg": ELEVATION_DEG, "fov_deg": FOV_DEG, "random_elevation_deg": list(RANDOM_ELEVATION_DEG),
        "shards": shards, "view_size": view_size,
    }  # fmt: skip
    for stage, tables in STAGES.items():
        shard_tables = [
            (index, {table.name: _arrow(table, contents[index][table.name]) for table in tables})
            for index in sorted(contents)
        ]
        (data / stage).parent.mkdir(parents=True, exist_ok=True)
        write_tables(data / stage, tables, shard_tables, settings)


@cache
def toy_object(object_id: str, number: int, split: str, view_size: int) -> dict[str, list[dict[str, Any]]]:
    """The rows of one object by table; its parts are in the order of their ids, 1..S."""
    boxes, names = toy_boxes(number)
    colours = np.array([COLOURS[name] for name in names])
    parts = range(1, len(boxes) + 1)
    grid_views = [(azimuth, ELEVATION_DEG) for azimuth in GRID_AZIMUTHS]
    azimuths, elevations = random_views(object_id, 0, "conditioning", CONDITIONING_VIEWS, RANDOM_ELEVATION_DEG)
    single_views = list(zip(azimuths.tolist(), elevations.tolist(), strict=True))
    azimuths, elevations = random_views(object_id, 0, "novel", 4, RANDOM_ELEVATION_DEG)
    novel_views = list(zip(azimuths.tolist(), elevations.tolist(), strict=True))
    novel_cameras = {"azimuths": azimuths.tolist(), "elevations": elevations.tolist()}
    labels = np.stack([hits(boxes, view, view_size)[0] for view in grid_views])
    common = {"object_id": object_id, "split": split}
    caption = " and ".join(f"a {name} box" for name in names)
    palette = PART_COLOURS[: len(boxes) + 1]

    def drawn(chosen: list[int], view: tuple[float, float]) -> np.ndarray:
        indices = [part - 1 for part in chosen]
        return draw_boxes(boxes[indices], colours[indices], view, view_size)

    def four(chosen: list[int], views: list[tuple[float, float]]) -> dict[str, Any]:
        return image_cell(encode_png(tile(np.stack([drawn(chosen, view) for view in views]))), "grid.png")

    shown = [(0, list(parts)), *((part, [part]) for part in parts)]
    return {
        "grids": [{**common, "part_id": part, "image": four(chosen, grid_views)} for part, chosen in shown],
        "novel": [
            {**common, "part_id": part, **novel_cameras, "image": four(chosen, novel_views)} for part, chosen in shown
        ],
        "conditioning": [
            {
                **common,
                "view": index,
                "azimuth": view[0],
                "elevation": view[1],
                "image": image_cell(encode_png(drawn(list(parts), view)), "view.png"),
            }
            for index, view in enumerate(single_views)
        ],
        "labels": [
            {**common, "labels": image_cell(encode_png(tile(labels), palette), "labels.png"), "silhouette_iou": 1.0}
        ],
        "visibility": [{**common, "part_id": part, "pixels": visible_pixels(labels, part)} for part in parts],
        "captions": [
            {**common, "part_id": part, "name": name, "caption": text, "backend": "toy", "views": 4}
            for part, name, text in [
                (0, object_id, caption[0].upper() + caption[1:] + "."),
                *((part, names[part - 1], f"A {names[part - 1]} box.") for part in parts),
            ]
        ],
    }


def toy_boxes(number: int) -> tuple[np.ndarray, list[str]]:
    """Boxes (S, 2, 3), lower and upper corners within the unit sphere, and the name of each one's colour."""
    generator = np.random.default_rng(number)
    count = 2 + number % 3
    names = generator.permutation(sorted(COLOURS))[:count].tolist()
    # One box an octant, so that none hides another whole, and no object has a symmetry.
    octants = generator.permutation(8)[:count]
    signs = np.stack([octants & 1, octants >> 1 & 1, octants >> 2 & 1], axis=1) * 2 - 1
    inner = generator.uniform(-0.2, 0.02, (count, 3))
    outer = generator.uniform(0.42, 0.57, (count, 3))
    corners = np.stack([signs * inner, signs * outer], axis=1)
    boxes = np.sort(corners, axis=1)
    if number % 3 == 2:
        low, high = boxes[0]
        boxes[-1] = [low + 0.3 * (high - low), low + 0.7 * (high - low)]
    return boxes, names


def hits(boxes: np.ndarray, view: tuple[float, float], size: int) -> tuple[np.ndarray, np.ndarray]:
    """For each pixel's centre the id of the nearest box, uint8 (H, W), and the axis of the side that is hit."""
    pose = camera_to_world(*view, DISTANCE)
    reach = np.tan(np.radians(FOV_DEG) / 2) * ((np.arange(size) + 0.5) / size * 2 - 1)
    right, down = np.meshgrid(reach, reach)
    rays = np.stack([right, -down, -np.ones_like(right)], axis=-1) @ pose[:3, :3].T
    origin = pose[:3, 3]
    slabs = np.sort((boxes[:, :, None, None] - origin) / rays[None, None], axis=1)  # (S, 2, H, W, 3)
    near, far = slabs[:, 0].max(-1), slabs[:, 1].min(-1)
    depth = np.where(near < far, near, np.inf)
    nearest = depth.argmin(0)
    labels = np.where(np.isfinite(depth.min(0)), nearest + 1, 0).astype(np.uint8)
    axes = np.take_along_axis(slabs[:, 0].argmax(-1), nearest[None], axis=0)[0]
    return labels, axes


def draw_boxes(boxes: np.ndarray, colours: np.ndarray, view: tuple[float, float], size: int) -> np.ndarray:
    """RGBA uint8 (size, size, 4) with straight alpha: the share of the pixel's rays that hit."""
    labels, axes = hits(boxes, view, size * FINER)
    shade = np.array([0.8, 1.0, 0.9])[axes][..., None]
    colour = colours[np.maximum(labels, 1) - 1] * shade
    hit = (labels > 0).astype(float)
    blocks = (size, FINER, size, FINER, -1)
    covered = hit.reshape(*blocks).sum((1, 3))
    mean = (colour * hit[..., None]).reshape(*blocks).sum((1, 3)) / np.maximum(covered, 1)
    return np.concatenate([mean, covered / FINER**2 * 255], axis=-1).round().astype(np.uint8)


def _arrow(table: Table, rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=table.storage_schema())
