"""Contact sheets: cards of objects as one PNG, and as one HTML page that opens from disk and asks for no other file."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import matplotlib
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image, ImageDraw, ImageFont

THUMBNAIL_PX = 256
"""Pictures are shrunk to this many pixels a side, and small ones enlarged by whole factors without smoothing."""
COLUMNS, CELL_PX, MARGIN_PX, LINE_PX = 6, THUMBNAIL_PX + 8, 12, 17
TEXT_LINES = 3

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Picture:
    """A picture with what is to be said under it; `legend` holds (colour, text) pairs."""

    image: Image.Image
    text: str
    legend: Sequence[tuple[tuple[int, int, int], str]] = ()


@dataclass
class Card:
    """One object: its pictures and its rows of text, by table."""

    title: str
    credit: str
    """Author, licence and source."""
    pictures: dict[str, list[Picture]] = field(default_factory=dict)
    rows: dict[str, list[Mapping[str, str]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Sheet:
    """A page of cards; `summary` are pictures about the whole stage, `failures` pairs of object and reason."""

    title: str
    subtitle: str
    cards: Sequence[Card]
    summary: Sequence[Picture] = ()
    failures: Sequence[tuple[str, str]] = ()


def thumbnail(image: Image.Image) -> Image.Image:
    """RGB over white, at most THUMBNAIL_PX a side; a small picture is enlarged by a whole factor, unsmoothed."""
    opaque = _over_white(image)
    side = max(opaque.size)
    if side > THUMBNAIL_PX:
        opaque.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.LANCZOS)
        return opaque
    factor = max(THUMBNAIL_PX // side, 1)
    return opaque.resize((opaque.width * factor, opaque.height * factor), Image.Resampling.NEAREST)


def write_html(sheet: Sheet, path: Path) -> None:
    """One self-contained page: pictures as data URIs, every text escaped, no scripts."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    page = environment.get_template("sheet.html").render(
        sheet=sheet, is_small=_is_small, thumbnail=thumbnail, data_uri=_data_uri
    )
    path.write_text(page, encoding="utf-8")


def write_png(sheet: Sheet, path: Path) -> None:
    """The same cards as one picture, `COLUMNS` pictures wide."""
    width = COLUMNS * CELL_PX + 2 * MARGIN_PX
    blocks = [_heading(sheet.title, sheet.subtitle, width)]
    blocks += [_over_white(picture.image) for picture in sheet.summary]
    halves = 2 if all(map(_is_small, sheet.cards)) else 1
    cards = [_card_png(card, width // halves) for card in sheet.cards]
    blocks += [_beside(cards[first : first + halves], width) for first in range(0, len(cards), halves)]
    if sheet.failures:
        lines = [f"{name}: {reason}" for name, reason in sheet.failures]
        blocks.append(_heading(f"Failed or dropped: {len(lines)}", "\n".join(lines), width))
    _below(blocks, width).save(path, format="PNG")


def _is_small(card: Card) -> bool:
    """Whether two such cards go side by side."""
    widths = [len(pictures) for pictures in card.pictures.values()]
    return 0 < sum(widths) <= COLUMNS // 2 and all(len(rows[0]) <= 4 for rows in card.rows.values())


def _data_uri(image: Image.Image) -> str:
    stream = io.BytesIO()
    image.save(stream, format="PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def _card_png(card: Card, width: int) -> Image.Image:
    facts = [
        " · ".join(value if name == "part" else f"{name} {value}" for name, value in row.items() if value)
        for rows in card.rows.values()
        for row in rows
    ]
    blocks = [_heading(card.title, "\n".join([card.credit, *facts]), width)]
    columns = width // CELL_PX
    for pictures in card.pictures.values():
        for first in range(0, len(pictures), columns):
            blocks.append(
                _beside([_cell_png(picture) for picture in pictures[first : first + columns]], width, MARGIN_PX)
            )
    return _below(blocks, width)


def _cell_png(picture: Picture) -> Image.Image:
    lines = _wrap(picture.text, CELL_PX - 8)[:TEXT_LINES]
    image = thumbnail(picture.image)
    cell = Image.new("RGB", (CELL_PX, image.height + LINE_PX * (len(lines) + len(picture.legend)) + MARGIN_PX), "white")
    cell.paste(image, (0, 0))
    draw = ImageDraw.Draw(cell)
    draw.rectangle((0, 0, image.width - 1, image.height - 1), outline="#e4e7eb")
    draw.multiline_text((0, image.height + 2), "\n".join(lines), "#1b1f24", _font(), spacing=3)
    for row, (colour, text) in enumerate(picture.legend, start=len(lines)):
        y = image.height + 2 + LINE_PX * row
        draw.rectangle((0, y + 2, 10, y + 12), fill=colour)
        draw.text((16, y), _wrap(text, CELL_PX - 24)[0], "#1b1f24", _font())
    return cell


def _below(images: Sequence[Image.Image], width: int) -> Image.Image:
    column = Image.new("RGB", (width, sum(image.height for image in images)), "white")
    top = 0
    for image in images:
        column.paste(image, (0, top))
        top += image.height
    return column


def _beside(images: Sequence[Image.Image], width: int, left: int = 0) -> Image.Image:
    row = Image.new("RGB", (width, max(image.height for image in images)), "white")
    for image in images:
        row.paste(image, (left, 0))
        left += image.width
    return row


def _heading(title: str, text: str, width: int) -> Image.Image:
    lines = [line for paragraph in text.split("\n") for line in _wrap(paragraph, width - 2 * MARGIN_PX)]
    block = Image.new("RGB", (width, 2 * MARGIN_PX + LINE_PX * (len(lines) + 2)), "white")
    draw = ImageDraw.Draw(block)
    draw.line((MARGIN_PX, 4, width - MARGIN_PX, 4), fill="#d8dce1")
    draw.text((MARGIN_PX, MARGIN_PX), _wrap(title, width - 2 * MARGIN_PX, 17)[0], "#1b1f24", _font(17))
    draw.multiline_text((MARGIN_PX, MARGIN_PX + LINE_PX + 8), "\n".join(lines), "#57606a", _font(), spacing=3)
    return block


def _wrap(text: str, width: int, size: int = 13) -> list[str]:
    """Lines of at most `width` pixels; words that are too long are broken."""
    lines = [""]
    for word in " ".join(text.split()).split(" "):
        while word:
            candidate = f"{lines[-1]} {word}".strip()
            if _font(size).getlength(candidate) <= width:
                lines[-1], word = candidate, ""
            elif lines[-1]:
                lines.append("")
            else:
                fits = next(n for n in range(len(word), 0, -1) if n == 1 or _font(size).getlength(word[:n]) <= width)
                lines[-1], word = word[:fits], word[fits:]
                lines.append("")
    return lines


def _over_white(image: Image.Image) -> Image.Image:
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


@cache
def _font(size: int = 13) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf", size)
