"""The index of a folder of objects: whose they are, and what they are called."""

import csv
import json
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from pipeline.assets.readers import FolderReader, Outside
from pipeline.assets.reasons import ObjectDropped, encodable
from pipeline.errors import UserError

COLUMNS = ("file", "name", "category", "author", "licence", "origin", "group")
KINDS = (".csv", ".json")
MOST_BYTES = 64_000_000


def read_index(root: Path, index: str, files: Collection[str]) -> dict[str, dict[str, str]]:
    """Entries by their file: a CSV, or a JSON list of objects, in `root` with the column `file` and others of COLUMNS.

    UserError when it is not a file of that kind within `root`, or names what is not among `files`; the sentence says
    where it is wrong and never what stands there, which may be no index at all.
    """
    path = root / index
    if path.suffix.lower() not in KINDS:
        raise UserError(f"The index {path} is neither .csv nor .json; correct assets.folder.index or leave it empty.")
    try:
        contents = FolderReader(root)(index, MOST_BYTES)
    except Outside:
        raise UserError(f"The index {path} is outside {root}; put it there and correct assets.folder.index.") from None
    except ObjectDropped:
        raise UserError(
            f"The index {path} cannot be read, or has more than {MOST_BYTES // 10**6} MB; correct assets.folder.index."
        ) from None
    if contents is None:
        raise UserError(f"The index {path} does not exist, or is no file; correct assets.folder.index or empty it.")
    entries = {}
    for number, row in enumerate(_rows(path, contents), start=1):
        if not isinstance(row, dict) or not isinstance(row.get("file"), str):
            raise UserError(f"Entry {number} of {path} is without `file`; every object needs one.")
        _check_columns(path, row)
        if row["file"] not in files:
            raise UserError(f"Entry {number} of {path} names a file that is not in {root}; correct it or add the file.")
        entries[row["file"]] = {key: encodable(str(value or "")) for key, value in row.items()}
    return entries


def _rows(path: Path, contents: bytes) -> list[Any]:
    try:
        text = contents.decode("utf-8-sig")
        if path.suffix.lower() == ".json":
            found = json.loads(text)
            return found if isinstance(found, list) else [found]
        table = csv.DictReader(text.splitlines())
        _check_columns(path, table.fieldnames or ())
        return list(table)
    except (ValueError, RecursionError, csv.Error):
        raise UserError(
            f"The index {path} is not {path.suffix[1:].upper()} in UTF-8; mend it or leave it out."
        ) from None


def _check_columns(path: Path, columns: Iterable[object]) -> None:
    for place, column in enumerate(columns, start=1):
        if column not in COLUMNS:
            raise UserError(f"Column {place} of {path} is none of {', '.join(COLUMNS)}; correct it or take it out.")
