"""`partgen show`: contact sheets as PNG and HTML, of tables with the odd names that users give things."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from pipeline.assets.tables import OBJECTS, PARTS
from pipeline.captions.tables import VIEWS
from pipeline.errors import UserError
from pipeline.heldout.complete_object import COMPLETIONS
from pipeline.shards.table import FAILURES, Table, encode_png, image_cell
from pipeline.shards.write import write_tables
from pipeline.views.mask_tables import LABELS, VISIBILITY
from pipeline.views.palette import PART_COLOURS
from pipeline.views.tables import GRIDS
from stages.show import show

ODD_NAME = "<script>alert('x')</script> \"Böse\" & 🪑/..\\"
SPLITS = {"a.odd": "train", "b.plain": "test"}


def filled(table: Table, **values: Any) -> dict[str, Any]:
    """A row of `table` with empty values where none are given."""
    empty = {"string": "", "int32": 0, "int64": 0, "float": 0.0, "double": 0.0}
    return {field.name: values.get(field.name, empty.get(str(field.type), [])) for field in table.schema}


def put(stage: Path, *contents: tuple[Table, list[dict[str, Any]]]) -> None:
    rows = {
        table.name: pa.Table.from_pylist([filled(table, **row) for row in given], schema=table.storage_schema())
        for table, given in contents
    }
    write_tables(stage, [table for table, _ in contents], [(0, rows)], {})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables of all stages for two objects."""
    folder = tmp_path_factory.mktemp("project") / "data"
    both = [{"object_id": object_id, "split": split} for object_id, split in SPLITS.items()]
    grid = np.zeros((16, 16, 4), np.uint8)
    grid[4:12, 4:12] = (0, 90, 0, 255)
    labels = np.zeros((16, 16), np.uint8)
    labels[4:12, 4:8], labels[4:12, 8:12] = 1, 2
    named = [{**row, "part_id": part, "name": name} for row in both for part, name in ((1, "<b>leg</b>"), (2, "seat"))]
    objects = [
        {**row, "name": name, "status": "ok", "licence": "CC0-1.0 <&>", "author": "A. <i>Uthor</i>"}
        for row, name in zip(both, (ODD_NAME, "plain chair"), strict=True)
    ]
    dropped = {"object_id": "c.lost", "status": "dropped", "reason": "single <part>"}
    failed = [{"object_id": "d.failed", "kind": "object", "reason": "<img src=x onerror=alert(1)>"}]
    put(folder / "assets", (OBJECTS, [*objects, dropped]), (PARTS, named), (FAILURES, []))
    whole = [{**row, "part_id": 0, "image": image_cell(encode_png(grid), "grid.png")} for row in both]
    put(folder / "renders", (GRIDS, whole), (FAILURES, failed))
    drawn = [
        {**row, "labels": image_cell(encode_png(labels, PART_COLOURS), "labels.png"), "silhouette_iou": 1.0}
        for row in both
    ]
    seen = [{**row, "pixels": [8, 8, 8, 8]} for row in named]
    put(folder / "masks", (LABELS, drawn), (VISIBILITY, seen), (FAILURES, []))
    prompts = [
        {
            **row,
            "view": 2,
            "caption": "a <u>red</u> leg",
            "backend": "describe",
            "prompt": image_cell(encode_png(grid), "p.png"),
        }
        for row in named
    ]
    put(folder / "captions", (VIEWS, prompts), (FAILURES, []))
    sources = (("truth", 1), ("predicted", 2), ("imagined", 0))
    completed = [
        {**row, "source": source, "method": "complete", "label": label, "pixels": 7, "image": whole[0]["image"]}
        for row in both
        for source, label in sources
    ]
    put(folder / "completions", (COMPLETIONS, completed), (FAILURES, []))
    return folder


class Page(HTMLParser):
    """What a browser would find: tags, sources of images, and text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]
        assert not any(name.startswith("on") for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.text += data


def shown(data: Path, out: Path, table: str, **options: Any) -> Page:
    png, html = show(table, out=out, limit=options.pop("limit", 24), split=options.pop("split", None), data=data)
    with Image.open(png) as image:
        image.load()
    return Page(html)


@pytest.mark.parametrize(
    "table",
    ["assets", "assets/parts", "renders", "renders/grids", "masks", "masks/visibility", "captions", "captions/views"],
)
def test_pages_are_whole_and_escaped(data: Path, tmp_path: Path, table: str) -> None:
    page = shown(data, tmp_path, table)
    assert not {"script", "b", "i", "u"} & set(page.tags) - {"i"}  # <i> is the legend's swatch
    assert page.tags.count("i") == (4 if table == "masks" else 0)
    assert page.tags.count("article") == 2
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert ODD_NAME in page.text
    assert "licence: CC0-1.0 <&>" in page.text
    assert "A. <i>Uthor</i>" in page.text


def test_reasons_of_failures_are_listed(data: Path, tmp_path: Path) -> None:
    assert "<img src=x onerror=alert(1)>" in shown(data, tmp_path, "renders").text
    assert "single <part>" in shown(data, tmp_path, "assets").text


def test_captions_stand_under_their_pictures(data: Path, tmp_path: Path) -> None:
    page = shown(data, tmp_path, "captions/views")
    assert page.text.count("1 <b>leg</b> · view 2 · caption a <u>red</u> leg · backend describe") == 2
    assert page.tags.count("img") == 4


def test_labels_are_laid_over_the_render(data: Path, tmp_path: Path) -> None:
    page = shown(data, tmp_path, "masks/labels")
    assert "1 <b>leg</b> · 32 px" in page.text
    assert page.tags.count("img") == 4  # the render and the overlay, twice
    png, _ = show("masks/labels", out=tmp_path, limit=1, split=None, data=data)
    colours = np.asarray(Image.open(png)).reshape(-1, 3)
    mixed = 0.6 * PART_COLOURS[1:3] + 0.4 * np.array([0, 90, 0])
    for colour in mixed:
        assert np.abs(colours - colour).max(axis=1).min() <= 1


def test_only_labels_of_the_truth_have_names(data: Path, tmp_path: Path) -> None:
    page = shown(data, tmp_path, "completions")
    assert page.text.count("source truth · method complete · 1 <b>leg</b> · pixels 7") == 2
    assert page.text.count("source predicted · method complete · part 2 · pixels 7") == 2
    assert page.text.count("source imagined · method complete · imagined · pixels 7") == 2


def test_split_and_limit(data: Path, tmp_path: Path) -> None:
    test = shown(data, tmp_path, "renders", split="test")
    assert "plain chair" in test.text
    assert ODD_NAME not in test.text
    assert (tmp_path / "renders-test.html").exists()
    assert shown(data, tmp_path, "renders", limit=1).tags.count("article") == 1


@pytest.mark.parametrize(
    ("table", "split", "sentence"),
    [
        ("mask", None, r"There is no table `mask` in .*\(did you mean `masks`\?\)"),
        ("renders/grid", None, r"\(did you mean `renders/grids`\?\)"),
        ("../../etc", None, r"There is no table `../../etc`"),
        ("masks", "tset", r"There is no split `tset` \(did you mean `test`\?\)"),
        ("masks", "val", r"masks has no objects of the split val"),
    ],
)
def test_mistakes_are_one_sentence(data: Path, tmp_path: Path, table: str, split: str | None, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence) as error:
        show(table, out=tmp_path, limit=3, split=split, data=data)
    assert not re.search(r"\n", str(error.value))


def test_nothing_made_yet(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no tables yet"):
        show("masks", out=tmp_path, limit=3, split=None, data=tmp_path)
