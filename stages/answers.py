"""What the applications answer: a result as a document for scripts, and errors as sentences."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import UserError, refused, system_fault
from pipeline.folders import SUMS

if TYPE_CHECKING:
    from pipeline.applications.result import PartObject

Document = dict[str, Any] | list[dict[str, Any]]
"""Of one object, or of many."""


@dataclass
class Answer:
    """What a command has to say in the end."""

    document: Document = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        """Whether one of many objects did."""
        return isinstance(self.document, list) and any("error" in one for one in self.document)


@contextmanager
def answered(wanted: bool) -> Iterator[Answer]:
    """Where it is wanted, the answer is printed on stdout as JSON at the end, and all else that is printed on stderr.

    An error, which goes on, is `{"error": sentence}`.
    """
    answer, started = Answer(), time.monotonic()
    if not wanted:
        yield answer
        return
    try:
        with _on_stderr():
            yield answer
    except Exception as error:
        print(json.dumps({"error": sentence(error)}))
        raise
    if isinstance(answer.document, dict):
        answer.document["seconds"] = round(time.monotonic() - started, 1)
    print(json.dumps(answer.document, indent=2))


@contextmanager
def _on_stderr() -> Iterator[None]:
    """What libraries print on file descriptor 1 included."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def document(folder: Path, result: PartObject, notes: list[str]) -> dict[str, Any]:
    """A result that was saved; files are named from its folder on."""
    files = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
    return {
        "folder": str(folder),
        "name": result.name,
        "caption": result.caption,
        "parts": [
            {
                "label": part.label,
                "name": part.name,
                "caption": part.caption,
                "score": part.score,
                "triangles": part.triangles,
                "files": [file for file in files if file.startswith((f"parts/{part.stem}.", f"parts/{part.stem}-"))],
            }
            for part in result.parts
        ],
        "files": [file for file in files if file != SUMS],
        "diagnostics": [asdict(one) for one in result.diagnostics],
        "notes": notes,
    }


def sentence(error: Exception) -> str:
    """What happened, and what to do about it where that is known."""
    if isinstance(error, UserError):
        return str(error)
    fault = system_fault(error)
    return f"{type(error).__name__}: {' '.join(str(error).split())}" if fault is None else f"{refused(fault)}."
