"""`partgen show`: contact sheets of what stages made."""

from pathlib import Path

from PIL import Image

from pipeline.errors import UserError, nearest
from pipeline.report.cards import read_cards, read_failures
from pipeline.report.contact_sheet import Picture, Sheet, write_html, write_png
from pipeline.shards.read import MANIFEST, read_manifest

SPLITS = ("train", "val", "test")


def show(table: str, *, out: Path, limit: int, split: str | None, data: Path = Path("data")) -> list[Path]:
    """Write the contact sheet of a stage's folder, or of one of its tables, as PNG and HTML; their paths.

    UserError for a table that is not there and for an unknown split.
    """
    if split is not None and split not in SPLITS:
        raise UserError(f"There is no split `{split}`{nearest(split, SPLITS)}; the splits are {', '.join(SPLITS)}.")
    folders = _folders(table, data)
    stage = folders[0].parent
    cards = read_cards(data, folders, limit, split)
    if not cards:
        raise UserError(
            f"{table} has no objects{f' of the split {split}' if split else ''}; look at its failures table."
        )
    rows = ", ".join(f"{folder.name}: {read_manifest(folder).rows} rows" for folder in folders)
    subtitle = f"{len(cards)} objects{f' of the split {split}' if split else ''} of {rows}"
    plot = data.parent / "plots" / f"{stage.name}.png"
    summary = [Picture(Image.open(plot), f"summary of {stage.name}")] if plot.exists() else []
    sheet = Sheet(table, subtitle, cards, summary, read_failures(stage))
    out.mkdir(parents=True, exist_ok=True)
    name = table.strip("/").replace("/", "-") + (f"-{split}" if split else "")
    paths = [out / f"{name}.png", out / f"{name}.html"]
    write_png(sheet, paths[0])
    write_html(sheet, paths[1])
    return paths


def _folders(table: str, data: Path) -> list[Path]:
    """The folders of tables that `table` names."""
    known: dict[str, list[Path]] = {}
    for manifest in sorted(data.glob(f"*/*/{MANIFEST}")):
        folder = manifest.parent
        known[f"{folder.parent.name}/{folder.name}"] = [folder]
        if folder.name != "failures":
            known.setdefault(folder.parent.name, []).append(folder)
    if not known:
        raise UserError(f"{data} holds no tables yet; `partgen run` makes them.")
    if table.strip("/") not in known:
        stages = ", ".join(name for name in known if "/" not in name)
        raise UserError(f"There is no table `{table}` in {data}{nearest(table, known)}; there are the stages {stages}.")
    return known[table.strip("/")]
