"""Where the results of applications go, and how they are finished: saved, told and animated."""

from __future__ import annotations

import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.errors import NoSurface, NotFound, UserError
from pipeline.folders import file_name, next_free
from stages.answers import Document, document
from stages.reserve import reserved

if TYPE_CHECKING:
    from pipeline.applications.partgen import PartGenPipeline
    from pipeline.applications.result import PartObject

RESULTS = Path("results")

Result = Annotated[Path, typer.Argument(help="Folder of a result.")]
Part = Annotated[str, typer.Argument(help="Name or number of the part.")]
Out = Annotated[Path | None, typer.Option(help="New folder of the result; nothing is ever overwritten.")]


def new_folder(out: Path | None, name: str) -> AbstractContextManager[Path]:
    """Where the result goes, held while it is made; UserError, before any work is done, when it cannot go there."""
    return reserved(out or RESULTS / file_name(name))


def next_folder(out: Path | None, result: Path) -> AbstractContextManager[Path]:
    """The same for what becomes of a result."""
    return reserved(out or next_free(result))


def load_result(folder: Path) -> PartObject:
    """A result in its folder; NotFound when there is none, UserError as of `PartObject.load`."""
    if not (folder / "result.json").exists():
        raise NotFound(f"{folder} holds no result (no result.json); `partgen decompose` makes one.")
    from pipeline.applications.result import PartObject

    return PartObject.load(folder)


def finish(
    pipeline: PartGenPipeline,
    result: PartObject,
    folder: Path,
    no_animation: bool,
    formats: Sequence[str] = (),
    separate: bool = False,
) -> Document:
    """Save, and say what is there and what to look at twice; then draw the animations, which can be interrupted.

    NoSurface, when all that is done, where other formats were wanted of an object without a surface.
    """
    from pipeline.applications.export import losses

    keep(result, folder, formats, separate)
    print(f"{folder}: {result.caption}")
    for part in result.parts:
        score = "" if part.score is None else f", score {part.score:.2f}"
        surface = f"{part.triangles} triangles" if part.glb is not None else "absent"
        print(f"  {part.label} {part.name}: {surface}{score}")
    if len(result.segmentations) > 1:
        scores = ", ".join(f"{one.score:.2f}" for one in result.segmentations)
        print(f"  {len(result.segmentations)} segmentations with the scores {scores}; --use takes another.")
    notes = losses(result, formats)
    for line in (*(f"Warning: {warning.message}" for warning in result.diagnostics), *notes):
        print(line)
    sys.stdout.flush()
    if not no_animation:
        try:
            pipeline.animated(result).save_animations(folder)
        except KeyboardInterrupt:
            print(f"partgen: interrupted; {folder} is whole but for its animations.", file=sys.stderr)
            sys.exit(128 + signal.SIGINT)
    if formats and result.glb is None:
        raise NoSurface(f"{folder} is there, but no part has a surface that could be written as {', '.join(formats)}.")
    return document(folder, result, notes)


def keep(result: PartObject, folder: Path, formats: Sequence[str] = (), separate: bool = False) -> None:
    """UserError where the folder can no longer be written; the result is then in the system's temporary folder."""
    try:
        result.save(folder, formats, separate)
    except (OSError, UserError) as error:
        kept = result.save(Path(tempfile.mkdtemp(prefix="partgen-")) / folder.name, formats, separate)
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UserError(
            f"{folder} cannot be written ({reason}); the result is {kept}: move it where it stays."
        ) from None
