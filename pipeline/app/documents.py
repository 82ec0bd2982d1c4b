"""What the server answers: jobs, objects and their parts as JSON."""

import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from pipeline.app.commands import python_lines, shell_lines
from pipeline.app.jobs import Job, Jobs, State
from pipeline.app.objects import RESULT, Object, Version
from pipeline.app.refusals import Refusal
from pipeline.app.settings import API

PREVIEW, ATOMS_GLB, OBJECT_GLB, NEURAL_GLB = "preview.png", "atoms.glb", "object.glb", "neural.glb"
HIERARCHY = "hierarchy.safetensors"
KEPT = 64
"""Versions of which the values are kept in memory; they do not change."""


class Step(BaseModel):
    """A step of a job that has ended."""

    name: str
    seconds: float


class JobDocument(BaseModel):
    """A job as clients see it."""

    id: str
    command: str
    title: str
    state: State
    position: int | None
    """Jobs that come before it; null unless it waits."""
    step: str | None
    steps: list[Step]
    progress: float | None
    seconds: float
    left_s: float | None
    error: str | None
    object: str | None
    version: int | None
    created: float


class UploadDocument(BaseModel):
    """An upload as clients see it."""

    id: str
    name: str
    kind: Literal["object", "picture"]
    format: str
    bytes: int


class CutOut(BaseModel):
    """The picture of an upload, and the mask of its object."""

    id: str
    width: int
    height: int
    picture: str
    mask: str
    note: str


class Card(BaseModel):
    """An object in the gallery."""

    id: str
    name: str
    caption: str
    parts: int
    version: int
    created: float
    command: str
    own_surface: bool
    picture: str


def job_document(job: Job, jobs: Jobs) -> dict[str, Any]:
    """See `JobDocument`."""
    left = jobs.left(job)
    progress: float | None = {"done": 1.0, "queued": 0.0}.get(job.state)
    if left is not None:
        progress = round(min(0.99, job.seconds / (job.seconds + left)), 3)
    return {
        "id": job.id,
        "command": job.command,
        "title": job.title,
        "state": job.state,
        "position": jobs.position(job),
        "step": job.step,
        "steps": job.steps,
        "progress": progress,
        "seconds": round(job.seconds, 1),
        "left_s": None if left is None else round(left, 1),
        "error": job.error,
        "object": job.object,
        "version": job.version,
        "created": job.created,
    }


class Documents:
    """Reads results as they lie on the disk; no library of the models takes part."""

    def __init__(self) -> None:
        self._values: OrderedDict[Path, tuple[int, dict[str, Any]]] = OrderedDict()

    def values(self, version: Version) -> dict[str, Any]:
        """The result.json of a version, with the hierarchy of its surface; Refusal (404) when it is gone or damaged."""
        path = version.folder / RESULT
        try:
            changed = path.stat().st_mtime_ns
            known = self._values.get(path)
            if known is not None and known[0] == changed:
                self._values.move_to_end(path)
                return known[1]
            values: dict[str, Any] = json.loads(path.read_bytes())
            if not isinstance(values, dict) or not isinstance(values.get("parts"), list):
                raise ValueError
            values["hierarchy"] = _hierarchy(version.folder) if values.get("surface") else None
        except (OSError, ValueError, KeyError):
            raise Refusal(404, "The folder of this result is no longer there, or is damaged.") from None
        self._values[path] = (changed, values)
        while len(self._values) > KEPT:
            self._values.popitem(last=False)
        return values

    def files(self, version: Version) -> dict[str, Path]:
        """All files of a version that a client may fetch, by the names that it has for them."""
        values = self.values(version)
        names = ["grid.png", "labels.png", "turntable.gif", "exploded.gif", OBJECT_GLB, NEURAL_GLB]
        names += [row[kind] for row in values["parts"] for kind in ("glb", "grid") if row.get(kind)]
        names += [row["file"] for row in values["segmentations"]]
        names += ["atoms.png"] if values.get("surface") else []
        names += [values["picture"]] if values.get("picture") else []
        paths = {name: version.folder / name for name in names}
        return {name: path for name, path in paths.items() if path.is_file() and not path.is_symlink()}

    def card(self, found: Object) -> dict[str, Any]:
        """See `Card`."""
        values = self.values(found.version)
        return {
            "id": found.id,
            "name": values["name"],
            "caption": values["caption"],
            "parts": len(values["parts"]),
            "version": found.current,
            "created": found.created,
            "command": found.version.command,
            "own_surface": bool(values.get("surface")),
            "picture": _url(found, PREVIEW),
        }

    def object(self, found: Object, busy: str | None) -> dict[str, Any]:
        """All that the page shows of an object."""
        values, files = self.values(found.version), self.files(found.version)
        hierarchy = values["hierarchy"]

        def url(name: str | None) -> str | None:
            return _url(found, name) if name in files else None

        named = {
            "object": url(OBJECT_GLB),
            "atoms": None if hierarchy is None else _url(found, ATOMS_GLB),
            "neural": url(NEURAL_GLB),
            "grid": url("grid.png"),
            "labels": url("labels.png"),
            "atom_map": url("atoms.png"),
            "picture": _url(found, PREVIEW),
            "turntable": url("turntable.gif"),
            "exploded": url("exploded.gif"),
            "input": url(values.get("picture")),
        }
        return {
            **self.card(found),
            "versions": [{"version": one.number, "command": one.command} for one in found.chain],
            "can_undo": found.version.parent in found.versions,
            "can_redo": bool(found.redo) and found.redo[-1] in found.versions,
            "busy": busy,
            "history": values["history"],
            "origin": values["origin"],
            "licence": values["notice"] or None,
            "notice": values["notice"],
            "warnings": [one["message"] for one in values["diagnostics"]],
            "parts": [self._part(row, url) for row in values["parts"]],
            "hierarchy": hierarchy,
            "segmentations": [{"score": one["score"], "url": url(one["file"])} for one in values["segmentations"]],
            "segmentation": (values["history"] or [{}])[-1].get("choice", {}).get("use"),
            "view_size": values["settings"].get("cameras", {}).get("view_size"),
            "commands": {
                "shell": shell_lines(values["history"], found.folder or found.version.folder.name),
                "python": python_lines(values["history"]),
            },
            "files": named,
        }

    def _part(self, row: Mapping[str, Any], url: Any) -> dict[str, Any]:
        from pipeline.views.palette import PART_COLOURS

        own = row.get("colour", "")
        colour = own or "#" + bytes(PART_COLOURS[row["label"] % len(PART_COLOURS)].tolist()).hex()
        kept = ("label", "name", "caption", "triangles", "absent", "score")
        return {
            **{name: row[name] for name in kept},
            "original": row.get("original", False),
            "atoms": row.get("atoms", []),
            "colour": colour,
            "own_colour": bool(own),
            "glb": url(row.get("glb")),
            "grid": url(row.get("grid")),
        }


def _url(found: Object, name: str | None) -> str:
    return f"{API}/objects/{found.id}/versions/{found.current}/files/{name}"


def _hierarchy(folder: Path) -> dict[str, Any]:
    from safetensors.numpy import load

    content = (folder / HIERARCHY).read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    merges = load(content)["merges"]
    return {
        "pieces": len(merges) + 1,
        "chosen": int(json.loads(header["__metadata__"]["division"])["chosen"]),
        "merges": merges[:, :2].astype(int).tolist(),
        "heights": [round(float(value), 6) for value in merges[:, 2]] if len(merges) else [],
    }


def names_of(parts: Sequence[int | str]) -> list[str]:
    """Parts as the applications take them, by name or by number."""
    return [str(part) for part in parts]
