"""Cards of objects from tables: image columns become pictures, all other columns text."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipeline.report.contact_sheet import Card, Picture
from pipeline.shards.dataset import ObjectRows
from pipeline.shards.read import MANIFEST, iter_rows, read_manifest, read_table
from pipeline.shards.table import IMAGE_TYPE, WHOLE, decode_png
from pipeline.views.cameras import over_white
from pipeline.views.palette import PART_COLOURS

OVERLAY_OPACITY = 0.6
IDENTITY = ("object_id", "split")
LABELS_FOLDER = ("masks", "labels")


def read_cards(data: Path, folders: Sequence[Path], limit: int, split: str | None) -> list[Card]:
    """Cards of at most `limit` objects (of one `split`) from the tables in `folders`, by object id.

    Names, authors and licences come from `data`/assets. Objects of tables without pictures are shown by their renders,
    and label maps on top of them, where `data`/renders has any.
    """
    chosen = _choose(folders, limit, split)
    objects = {row["object_id"]: row for row in _rows_of(data / "assets/objects", chosen)}
    grids = _whole_grids(data, chosen)
    names: dict[str, dict[int, str]] = {object_id: {} for object_id in chosen}
    for row in _rows_of(data / "assets/parts", chosen):
        names[row["object_id"]][row["part_id"]] = row["name"]
    cards = {object_id: _card(object_id, objects.get(object_id)) for object_id in sorted(chosen)}
    for folder in folders:
        for row in _rows_of(folder, chosen):
            object_id = row["object_id"]
            images = {name: cell for name, cell in row.items() if _is_image(cell)}
            texts = _texts(row, names[object_id])
            said = " · ".join(value if name == "part" else f"{name} {value}" for name, value in texts.items())
            if folder.parts[-2:] == LABELS_FOLDER:
                labels = decode_png(row["labels"]["bytes"])
                overlay = _overlay(labels, grids.get(object_id), names[object_id], said)
                cards[object_id].pictures.setdefault(folder.name, []).extend(overlay)
            elif images:
                opened = [Picture(_open(cell), said) for cell in images.values()]
                cards[object_id].pictures.setdefault(folder.name, []).extend(opened)
            elif texts:
                cards[object_id].rows.setdefault(folder.name, []).append(texts)
    for object_id, card in cards.items():
        if not card.pictures and object_id in grids:
            card.pictures["render"] = [Picture(Image.fromarray(grids[object_id]), "")]
        card.rows = {name: _without_empty_columns(rows) for name, rows in card.rows.items()}
    return list(cards.values())


def read_failures(folder: Path) -> list[tuple[str, str]]:
    """Objects that a stage could not process, and those that `assets` dropped, with their reasons."""
    failures = [(row["object_id"], row["reason"]) for row in _rows_of(folder / "failures")]
    if folder.name == "assets":
        objects = _rows_of(folder / "objects")
        failures += [(row["object_id"], row["reason"]) for row in objects if row["status"] != "ok"]
    return sorted(failures)


def _choose(folders: Sequence[Path], limit: int, split: str | None) -> set[str]:
    # In the order of the shards, which are by hash: a fair sample, not the first letters of the alphabet.
    chosen: dict[str, None] = {}
    for folder in folders:
        columns = [name for name in ("object_id", "split", "status") if name in _columns(folder)]
        for row in read_table(folder, columns).to_pylist():
            if (split is None or row.get("split") == split) and row.get("status", "ok") == "ok":
                chosen.setdefault(row["object_id"])
    return set(list(chosen)[:limit])


def _rows_of(folder: Path, chosen: set[str] | None = None) -> list[dict[str, Any]]:
    if not (folder / MANIFEST).exists():
        return []
    if chosen is None:
        return list(iter_rows(folder))
    rows = ObjectRows(folder)
    return [row for object_id in rows.numbers if object_id in chosen for row in rows.of(object_id)]


def _whole_grids(data: Path, chosen: set[str]) -> dict[str, np.ndarray]:
    grids = _rows_of(data / "renders/grids", chosen)
    return {row["object_id"]: decode_png(row["image"]["bytes"]) for row in grids if row["part_id"] == WHOLE}


def _overlay(labels: np.ndarray, grid: np.ndarray | None, names: Mapping[int, str], said: str) -> list[Picture]:
    """The render as it is, and under the colours of its parts; labels alone where there is no render."""
    colours = PART_COLOURS[labels].astype(np.float32) / 255
    ids, counts = np.unique(labels[labels > 0], return_counts=True)
    legend = [
        (tuple(PART_COLOURS[part].tolist()), f"{part} {names.get(part, '')} · {count} px")
        for part, count in zip(ids.tolist(), counts.tolist(), strict=True)
    ]
    if grid is None:
        return [Picture(_image(colours), said, legend)]
    render = over_white(grid)
    mixed = np.where(labels[..., None] > 0, OVERLAY_OPACITY * colours + (1 - OVERLAY_OPACITY) * render, render)
    return [Picture(_image(render), "render"), Picture(_image(mixed), said, legend)]


def _image(values: np.ndarray) -> Image.Image:
    return Image.fromarray((values * 255).round().astype(np.uint8))


def _open(cell: Mapping[str, Any]) -> Image.Image:
    image = Image.open(io.BytesIO(cell["bytes"]))
    return image.convert("RGB") if image.mode == "P" else image  # label maps in the colours of their palette


def _is_image(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {field.name for field in IMAGE_TYPE}


def _columns(folder: Path) -> list[str]:
    names: list[str] = read_manifest(folder).shards[0].metadata().schema.to_arrow_schema().names
    return names


def _texts(row: Mapping[str, Any], names: Mapping[int, str]) -> dict[str, str]:
    """What a row says besides pictures and binary data."""
    texts = {}
    for name, value in row.items():
        if name == "part_id":
            texts["part"] = "whole" if value == 0 else f"{value} {names.get(value, '')}".strip()
        elif name == "label" and "source" in row:
            texts["part"] = _labelled(row["source"], value, names)
        elif name == "name" and texts.get("part", "").endswith(value):
            continue  # said already
        elif name not in IDENTITY and not isinstance(value, bytes) and not _is_image(value):
            texts[name] = _text(value)
    return texts


def _labelled(source: str, label: int, names: Mapping[int, str]) -> str:
    """What a label stands for in the map that `source` names: only those of the truth are parts with names."""
    if label == 0:
        return source if source in ("imagined", "whole") else "all parts"
    return f"{label} {names.get(label, '')}".strip() if source == "truth" else f"part {label}"


def _without_empty_columns(rows: Sequence[Mapping[str, str]]) -> list[Mapping[str, str]]:
    columns = {name: None for row in rows for name, value in row.items() if value}
    return [{name: row.get(name, "") for name in columns} for row in rows]


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(_text(item) for item in value)
    return str(value)


def _card(object_id: str, row: Mapping[str, Any] | None) -> Card:
    if row is None:
        return Card(object_id, "")
    credit = " · ".join(f"{name}: {row[name]}" for name in ("author", "licence", "source", "origin") if row[name])
    return Card(f"{row['name']} ({object_id}, {row['split']})", credit)
