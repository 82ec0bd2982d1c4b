"""`partgen decompose` of many objects: a result each, a table of all, and nothing done twice."""

from __future__ import annotations

import csv
import json
import os
import sys
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import FULL, Invalid, NotFound, UserError, system_fault
from pipeline.folders import check_free, file_name, written
from pipeline.params.choice import Choice
from pipeline.shards.progress import Progress
from stages.answers import document, sentence
from stages.options import Options
from stages.reserve import reserved

if TYPE_CHECKING:
    from pipeline.applications.partgen import PartGenPipeline

TABLE = "results.csv"
COLUMNS = ("file", "folder", "parts", "seconds", "error")
RESULT = "result.json"
REQUEST = "request"
"""In the first entry of a result's history: the file and the options that it was made of, and how long that took."""


def decompose_all(
    named: Sequence[Path], out: Path | None, choice: Choice, asked: Mapping[str, Any], options: Options
) -> list[dict[str, Any]]:
    """The documents of all objects that are named, or lie below folders that are; `asked` is of the API's method.

    Each result is OUT/NAME. Finished ones of the same file and options are kept. UserError, before any work, for what
    is not there, and for a folder OUT/NAME that is anything else.
    """
    if out is None:
        raise Invalid("Several objects become several results; name the folder that these are to lie in with --out.")
    if out.exists() and not out.is_dir():
        raise Invalid(f"{out} is a file and no folder; name another folder with --out.")
    objects, formats = find_objects(named, out), options.formats()
    wanted = {
        **asdict(choice), **asked, "models": None if options.models is None else str(options.models),
        "steps": options.steps, "texture": options.texture, "set": options.set_ or [], "format": formats,
        "separate": options.separate, "animation": not options.no_animation,
    }  # fmt: skip
    pipeline = options.pipeline()
    done: dict[str, dict[str, Any]] = {}
    for name, path in objects.items():
        if (found := _finished(out / name, path, wanted, pipeline)) is not None:
            done[name] = found
    kept = len(done)
    with Progress("Objects", len(objects), done=kept) as progress:
        for name, path in objects.items():
            if name in done:
                continue
            print(path, file=sys.stderr)
            done[name] = _attempted(path, out / name, choice, asked, wanted, pipeline)
            _write_table(out / TABLE, done.values())
            progress.advance(failed="error" in done[name])
    documents = [done[name] for name in objects]
    _write_table(out / TABLE, documents)
    failed = sum("error" in one for one in documents)
    _print_table(documents)
    print(f"{len(objects)} objects, {failed} failed, {kept} were there already; {out / TABLE} is this table.")
    return documents


def find_objects(named: Sequence[Path], out: Path) -> dict[str, Path]:
    """The files by the names of their results, the same for the same files; each once, however often it is named.

    A folder stands for all 3D files below it, but for hidden ones and for what lies in results and in `out`; these are
    called by their path in it. UserError for what is not there, and for a folder without any.
    """
    from pipeline.assets.bundle import FORMATS

    found: dict[Path, tuple[str, Path]] = {}
    for one in named:
        if not one.exists():
            raise NotFound(f"There is no 3D object or folder {one}; give paths of files or folders.")
        inside = [path for path in _below(one, out) if path.suffix.lower() in FORMATS] if one.is_dir() else [one]
        if not inside:
            raise NotFound(f"There is no 3D object below {one}; give a folder with {', '.join(FORMATS)}.")
        for path in inside:
            called = path.stem if path == one else " ".join(path.relative_to(one).with_suffix("").parts)
            found.setdefault(path.resolve(), (called, path))
    names: dict[str, Path] = {}
    for called, path in sorted(found.values(), key=lambda pair: (file_name(pair[0]), str(pair[1]))):
        name, number = file_name(called), 1
        while (candidate := name if number == 1 else f"{name}-{number}") in names:
            number += 1
        names[candidate] = path
    return names


def _below(folder: Path, out: Path) -> Iterator[Path]:
    for root, folders, files in os.walk(folder):
        here = Path(root)
        if RESULT in files or here.resolve() == out.resolve():
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (here / name for name in sorted(files) if not name.startswith("."))


def _finished(folder: Path, path: Path, wanted: Mapping[str, Any], pipeline: PartGenPipeline) -> dict[str, Any] | None:
    """The document of a result that is there; UserError when it is of another file or other options."""
    if not (folder / RESULT).exists():
        check_free(folder)
        return None
    from pipeline.applications.export import losses
    from pipeline.applications.result import PartObject

    result = PartObject.load(folder)
    known, advice = dict(result.history[0].get(REQUEST, {})), "move it away, or name a new folder with --out."
    if known.get("file") != _digest(path, pipeline):
        raise UserError(f"{folder} is there already, and not of {path} as it is now; {advice}")
    new, old = _plain(wanted), dict(known.get("options", {}))
    if changed := sorted(key for key in {*new, *old} if new.get(key) != old.get(key)):
        words = ", ".join(f"{key.replace('_', '-')} {old.get(key)}" for key in changed)
        raise UserError(f"{folder} is there already, made with other options ({words}); {advice}")
    notes = losses(result, new["format"])
    return {"file": str(path), **document(folder, result, notes), "seconds": known.get("seconds")}


def _attempted(
    path: Path,
    folder: Path,
    choice: Choice,
    asked: Mapping[str, Any],
    wanted: Mapping[str, Any],
    pipeline: PartGenPipeline,
) -> dict[str, Any]:
    """The document of an object that is taken apart; of one that cannot be, why."""
    from pipeline.applications.export import losses

    started = time.monotonic()
    try:
        with reserved(folder):
            digest = _digest(path, pipeline)
            result = pipeline.decompose(path, choice, **asked)
            result = pipeline.animated(result) if wanted["animation"] else result
            seconds = round(time.monotonic() - started, 1)
            request = {"file": digest, "options": _plain(wanted), "seconds": seconds}
            first, *others = result.history
            result = replace(result, history=[{**first, REQUEST: request}, *others])
            result.save(folder, wanted["format"], wanted["separate"])
        notes = losses(result, wanted["format"])
        return {"file": str(path), **document(folder, result, notes), "seconds": seconds}
    except Exception as error:
        fault = None if isinstance(error, UserError) else system_fault(error)
        if fault is not None and fault.errno in FULL:  # the others would fail, too
            raise
        if fault is None and not isinstance(error, UserError):
            traceback.print_exc()
        print(f"partgen: {sentence(error)}", file=sys.stderr)
        seconds = round(time.monotonic() - started, 1)
        return {"file": str(path), "folder": str(folder), "error": sentence(error), "seconds": seconds}


def _digest(path: Path, pipeline: PartGenPipeline) -> str:
    """Of a file and what it refers to; empty when it cannot be read."""
    from pipeline.applications.render_input import read_object
    from pipeline.assets.reasons import ObjectDropped

    try:
        return read_object(path, int(pipeline.settings.assets.max_file_mb * 2**20)).digest().hex()
    except ObjectDropped:
        return ""


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON gives them back."""
    return dict(json.loads(json.dumps(values)))


def _cells(one: Mapping[str, Any]) -> list[str]:
    parts = len(one["parts"]) if "parts" in one else ""
    return [str(value) for value in (one["file"], one["folder"], parts, one["seconds"], one.get("error", ""))]


def _write_table(path: Path, documents: Iterable[Mapping[str, Any]]) -> None:
    with written(path) as partial, partial.open("w", encoding="utf-8", errors="surrogateescape", newline="") as stream:
        csv.writer(stream).writerows([COLUMNS, *map(_cells, documents)])


def _print_table(documents: Sequence[Mapping[str, Any]]) -> None:
    rows = [list(COLUMNS), *map(_cells, documents)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
