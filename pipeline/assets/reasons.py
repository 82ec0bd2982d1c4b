"""What is said of an object: why it was dropped, what was left out of it, and its words as text fit to be written."""

from collections.abc import Iterable
from typing import Any

MOST_WARNINGS = 30
"""Warnings that are kept of an object."""


class ObjectDropped(Exception):
    """An object does not fit the data set; the reason is a few words and stays in the table of objects."""


class Broken(Exception):
    """A mesh of a file cannot be read; the others can."""


class Missing(Broken):
    """Of a file that is referred to and not there, of which the bundle has told already."""


def encodable(value: Any) -> Any:
    """Text of a file, or lists and dicts with such text, that can be written as UTF-8.

    JSON may hold halves of surrogate pairs (`"\\ud800"`), and Linux gives the bytes of file names that are not UTF-8 as
    such halves: these are written out as escapes, each in its own way.
    """
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, dict):
        return {encodable(key): encodable(entry) for key, entry in value.items()}
    return [encodable(entry) for entry in value] if isinstance(value, list) else value


def shortened(value: object, limit: int = 80) -> str:
    """A word of a file on one line, for a sentence."""
    text = " ".join(encodable(str(value)[: 2 * limit]).split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def point_cloud(points: int) -> str:
    """Why an object of points alone is dropped."""
    return f"a point cloud: {points} points without faces; make a surface of them first, as MeshLab does"


def as_text(value: bytes) -> str:
    """Text of an OBJ, MTL or PLY or a file's name: UTF-8, or what older exporters wrote."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def said_once(warnings: Iterable[str]) -> list[str]:
    """Each warning once, in order; of very many the first, and how many more there are."""
    distinct = list(dict.fromkeys(warnings))
    more = len(distinct) - MOST_WARNINGS
    return distinct if more <= 0 else [*distinct[:MOST_WARNINGS], f"{more} more warnings like these"]
