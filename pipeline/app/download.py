"""A result as an archive to be taken away: the files that were asked for, its licence and result.json."""

import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.applications.export import check_formats, export, losses
from pipeline.applications.result import PartObject
from pipeline.errors import NoSurface
from pipeline.surface.merge import merge_glbs

LICENCE = "LICENCE.txt"
STORED = (".png", ".gif", ".3mf", ".jpg")
"""What is compressed already."""


def pack(
    result: PartObject, folder: Path, out: Path, formats: Sequence[str], labels: Sequence[int], separate: bool
) -> None:
    """Write the archive `out`: the object, or the parts `labels` of it, in all `formats` (GLB when none is given), and
    with `separate` each of these parts alone, too; UserError when there is nothing to write.
    """
    wanted = check_formats(formats) or ("glb",)
    some = [result.part(str(label)) for label in labels] or list(result.parts)
    kept = [part for part in some if part.glb is not None]
    if not kept:
        raise NoSurface(f"None of these parts of {result.name} has a surface, so there is nothing to take away.")
    glb = result.glb if len(some) == len(result.parts) else merge_glbs([part.glb for part in kept if part.glb])
    chosen = replace(result, parts=kept, glb=glb)
    with tempfile.TemporaryDirectory(dir=out.parent) as name, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
        there = Path(name)
        for form in wanted:
            export(chosen, there / f"object.{form}", form, False)
            if separate:
                export(chosen, there / "parts", form, True)
        for file in sorted(path for path in there.rglob("*") if path.is_file()):
            how = zipfile.ZIP_STORED if file.suffix in STORED else zipfile.ZIP_DEFLATED
            packed.write(file, file.relative_to(there).as_posix(), how)
        packed.write(folder / "result.json", "result.json")
        packed.writestr(LICENCE, licence(result, losses(chosen, wanted)))


def licence(result: PartObject, notes: Sequence[str]) -> str:
    """Whose work it is, what of it was generated, and what the formats could not hold, in plain text."""
    made = [part.name for part in result.parts if not part.original]
    lines = [
        f"{result.name}",
        "",
        f"Source: {result.notice}" if result.notice else "The source says nothing of its author or licence.",
        "The surface is that of the source, divided into parts by PartGen."
        if not made
        else f"Made by PartGen's models, and to be named as such where that is shown: {', '.join(made)}.",
        *notes,
    ]
    return "\n".join(lines) + "\n"
