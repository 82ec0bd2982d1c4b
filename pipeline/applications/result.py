"""An object made of parts, as the applications return it: the folder that it is kept in, and read from.

    object.glb              all parts, a named node each, with the attribution of what they were made from
    parts/NN-NAME.glb       each part alone and in place; missing for a part without a surface
    parts/NN-NAME.png       the 2x2 grid J from which the part was reconstructed, if it was
    fields/NN.safetensors   its field, if it has one
    neural.glb              the same parts made of their fields, beside their own surface, if that was asked for
    surface.glb             the object's own surface before it was divided, if its parts are made of that
    hierarchy.safetensors   all the ways to divide it: `partgen regroup`
    atoms.png               which piece of the surface that is never divided each pixel of the grid shows
    grid.png, labels.png    the object's 2x2 grid, RGBA, and which part each of its pixels shows; 0 is the background
    input.png               what was cut out of a picture, on nothing; only of an object made from one
    segmentations/K.png     the ways to see its parts that were kept, the best first
    turntable.gif, exploded.gif  animations, which are added when all else is there
    result.json             everything else: seed, scores, models, settings, notice, diagnostics, history
    SHA256SUMS              checksums of all these, by which a damaged file is noticed when the result is read

Everything that an edit starts from is in the folder, so that a result can be edited on another machine, too.

Shape suffixes: H W pixels of the 2x2 grid.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from PIL import Image

from pipeline.applications.diagnostics import Diagnostic
from pipeline.applications.export import beside, check_formats, export
from pipeline.errors import NotFound, UserError, nearest
from pipeline.folders import check_free, check_sums, file_name, regular, whole_folder, write_sums, written
from pipeline.reconstruction.field import Field, load_field
from pipeline.shards.table import decode_png, encode_png
from pipeline.shards.write import write_json
from pipeline.surface.division import Division
from pipeline.surface.stored import restored
from pipeline.views.palette import PART_COLOURS

FORMAT, VERSION, READ = "partgen-result", 2, (1, 2)
PICTURE, ATOMS, NEURAL = "input.png", "atoms.png", "neural.glb"
KIND = "result"
"""Of the folder, in its SHA256SUMS."""
ANIMATIONS = ("turntable.gif", "exploded.gif")
COPIED = ("name", "caption", "merged", "overlap", "notice", "origin", "seed", "models", "settings", "history")
"""What stands in result.json as it is."""


@dataclass(frozen=True, repr=False)
class Part:
    """One part of an object."""

    label: int
    """Its value in the label map, from 1; it stays the same through edits."""
    name: str
    """Unique within the object."""
    caption: str
    score: float | None
    """Share of the segmentation runs that have a region like it, in [0, 1]; None for a part that no runs have found:
    one of the surface, or one that was drawn anew."""
    grid: np.ndarray | None = None
    """(H, W, 3) uint8: the part alone, from which its field was made."""
    field: Field | None = None
    """Of every part but those of the object's own surface, which have one once something needs it."""
    glb: bytes | None = None
    """The part alone and in place; None when it has no surface."""
    triangles: int = 0
    absent: str = ""
    """Why it has no surface; empty when it has one."""
    original: bool = False
    """Whether its surface is that of the file it comes from, and not its field's; what closes it may be of that."""
    atoms: Sequence[int] = ()
    """Of such a part, what of the hierarchy it is made of."""
    models: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Digests of the models that made its surface, or what closes it, by their names; none where that is the file's."""
    colour: str = ""
    """What shows it in label maps, such as `#3cb44b`; empty: that of its label in `PART_COLOURS`."""

    @property
    def stem(self) -> str:
        """How its files are called."""
        return f"{self.label:02d}-{file_name(self.name)}"


@dataclass(frozen=True)
class Segmentation:
    """One way to see an object's parts."""

    labels: np.ndarray
    """(H, W) uint8: 1..S, the largest part first; 0 the background."""
    score: float
    """How much all runs agree with it, at most 1: a whole segmentation's `run_scores`, a seeded part's reliability."""
    run: int


@dataclass(frozen=True, repr=False)
class OwnSurface:
    """The surface that an object was made of, with all the ways to divide it."""

    files: Mapping[str, bytes]
    """As of `pipeline.surface.stored`."""
    atoms_HW: np.ndarray
    """(H, W) uint8, what of it each pixel of the grid shows, from 1; 0 is the background."""

    @classmethod
    def of(cls, files: Mapping[str, bytes], atoms_HW: np.ndarray, division: Division) -> Self:
        """With the division of which these are the files, which need not be read again."""
        surface = cls(files, atoms_HW)
        vars(surface)["division"] = division
        return surface

    @cached_property
    def division(self) -> Division:
        """All the ways to divide it; ValueError when the files are not of one."""
        return restored(self.files)


@dataclass(frozen=True, repr=False)
class PartObject:
    """What the applications make: parts in 3D, and how they came about."""

    name: str
    caption: str
    """The text that it was made from, if it was; else one sentence by the captions' backend."""
    grid: np.ndarray
    """(H, W, 4) uint8, the object's 2x2 grid with straight alpha."""
    labels: np.ndarray
    """(H, W) uint8, the labels of the parts in sight."""
    parts: Sequence[Part]
    """In the order of their labels."""
    segmentations: Sequence[Segmentation]
    """Those that were kept, the best first; of the object before it was edited. None of one that keeps its surface."""
    merged: int
    """Regions of the one that was used that joined another, for their size or since there were too many."""
    glb: bytes | None
    """All parts; None when no part has a surface."""
    overlap: Mapping[str, float]
    """How far parts claim the same space: `mean_iou` and `max_iou` of pairs, and the share `contested` of the union."""
    diagnostics: Sequence[Diagnostic]
    notice: str
    """Whose work it is made from; the copyright of its GLBs."""
    origin: Mapping[str, Any]
    """`kind`: object, image or text, and which; of an object `from_file`, the (4, 4) matrix from its frame to this."""
    seed: int
    models: Mapping[str, str]
    """Digests of the models that took part, by their names."""
    settings: Mapping[str, Any]
    """`cameras`, which view the grid shows, and the parameters in force."""
    history: Sequence[Mapping[str, Any]]
    """What was done to it, the first thing first."""
    picture: np.ndarray | None = None
    """(S, S, 4) uint8 with straight alpha, what was cut out of the picture that it was made from, if it was."""
    surface: OwnSurface | None = None
    """Of an object in parts of its own surface, until it is edited."""
    neural: bytes | None = None
    """Of such an object a GLB of the same parts made of their fields, where it was asked for."""
    animations: Mapping[str, bytes] = field(default_factory=dict)
    """GIFs by the names of their files, `ANIMATIONS`: from all around, as it is and with its parts pulled apart; empty
    until `PartGenPipeline.animated` draws them."""

    def part(self, name: str) -> Part:
        """The part of that name or number; UserError that lists the parts when there is none."""
        for part in self.parts:
            if name.casefold() == part.name.casefold() or name == str(part.label):
                return part
        known = ", ".join(f"{part.label} {part.name}" for part in self.parts)
        near = nearest(name, [part.name for part in self.parts])
        raise NotFound(f"There is no part `{name}`{near} in {self.name}; its parts are {known}.")

    def save(self, folder: str | Path, formats: Sequence[str] = (), separate: bool = False) -> Path:
        """Write everything into a new folder, whole or not at all; UserError when there is something already.

        With `formats`, such as `obj`, also object.obj and what it refers to, and with `separate` the same of every part
        beside its GLB; none of these when no part has a surface.
        """
        out = Path(folder)
        check_free(out)
        with whole_folder(out, KIND) as partial:
            (partial / "parts").mkdir()
            if any(part.field is not None for part in self.parts):
                (partial / "fields").mkdir()
            if self.segmentations:
                (partial / "segmentations").mkdir()
            self._write(partial)
            for file, content in beside(self, check_formats(formats), separate):
                (partial / file).write_bytes(content)
            check_free(out)
        return out

    def export(self, path: str | Path, format: str | None = None, separate: bool = False) -> list[Path]:
        """Write all parts as one file, of the format that its suffix or `format` names: glb, obj, stl, ply or 3mf.

        An OBJ gets its library of materials and its textures beside it. With `separate` the `path` is a folder, in
        which every part gets a file of its own, NN-NAME. OBJ and 3MF keep names, textures, materials and colours, PLY
        colours at vertices, STL geometry alone. Returns the files; UserError when one is there already, for an unknown
        format, and when no part has a surface.
        """
        return export(self, Path(path), format, separate)

    def save_animations(self, folder: str | Path) -> None:
        """Add the animations to the folder that this result was saved in before they were drawn."""
        out = Path(folder)
        for name, content in self.animations.items():
            with written(out / name) as partial:
                partial.write_bytes(content)
        write_sums(out, KIND)

    def _write(self, folder: Path) -> None:
        files = {
            **self.animations,
            "grid.png": encode_png(self.grid),
            "labels.png": _label_png(self.labels, self.parts),
        }
        if self.glb is not None:
            files["object.glb"] = self.glb
        if self.picture is not None:
            files[PICTURE] = encode_png(self.picture)
        if self.neural is not None:
            files[NEURAL] = self.neural
        if self.surface is not None:
            files |= {**self.surface.files, ATOMS: encode_png(self.surface.atoms_HW)}
        for number, segmentation in enumerate(self.segmentations, start=1):
            files[f"segmentations/{number}.png"] = _label_png(segmentation.labels)
        for part in self.parts:
            if part.grid is not None:
                files[f"parts/{part.stem}.png"] = encode_png(part.grid)
            if part.glb is not None:
                files[f"parts/{part.stem}.glb"] = part.glb
            if part.field is not None:
                part.field.save(folder / _field_file(part.label))
        for name, content in files.items():
            (folder / name).write_bytes(content)
        write_json(folder / "result.json", self._values())

    def _values(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "version": VERSION,
            **{name: getattr(self, name) for name in COPIED},
            "parts": [self._part_values(part) for part in self.parts],
            "segmentations": [
                {"file": f"segmentations/{number}.png", "run": one.run, "score": one.score}
                for number, one in enumerate(self.segmentations, start=1)
            ],
            "diagnostics": [asdict(one) for one in self.diagnostics],
            "picture": None if self.picture is None else PICTURE,
            "surface": None if self.surface is None else [*self.surface.files, ATOMS],
            "neural": None if self.neural is None else NEURAL,
        }

    def _part_values(self, part: Part) -> dict[str, Any]:
        made = part.field
        return {
            **{
                name: getattr(part, name)
                for name in ("label", "name", "caption", "score", "triangles", "absent", "original", "models", "colour")
            },
            "atoms": list(part.atoms),
            "pixels": int((self.labels == part.label).sum()),
            "placement": None if made is None else {"offset": made.offset_3, "scale": made.scale},
            "glb": None if part.glb is None else f"parts/{part.stem}.glb",
            "grid": None if part.grid is None else f"parts/{part.stem}.png",
            "field": None if made is None else _field_file(part.label),
        }

    @classmethod
    def load(cls, folder: str | Path) -> "PartObject":
        """What `save` wrote; UserError when it is something else, of another version, not whole, or damaged."""
        path = Path(folder)
        values = _read_values(path)
        check_sums(path)
        try:
            _check_frame(values)
            return cls(
                grid=decode_png(regular(path / "grid.png").read_bytes()),
                labels=decode_png(regular(path / "labels.png").read_bytes()),
                parts=[_read_part(path, row) for row in values["parts"]],
                segmentations=[
                    Segmentation(
                        decode_png(regular(path / f"segmentations/{number}.png").read_bytes()), row["score"], row["run"]
                    )
                    for number, row in enumerate(values["segmentations"], start=1)
                ],
                glb=regular(path / "object.glb").read_bytes() if any(row["glb"] for row in values["parts"]) else None,
                diagnostics=[Diagnostic(**row) for row in values["diagnostics"]],
                **{name: values[name] for name in COPIED},
                # Results of before this file have no such value.
                picture=decode_png(regular(path / PICTURE).read_bytes()) if values.get("picture") else None,
                surface=_read_surface(path, values["surface"]) if values.get("surface") else None,
                neural=regular(path / NEURAL).read_bytes() if values.get("neural") else None,
                animations={name: regular(path / name).read_bytes() for name in ANIMATIONS if (path / name).exists()},
            )
        except FileNotFoundError as error:
            raise NotFound(f"{error.filename} is missing; copy the result's whole folder, or make it again.") from None
        except (
            OSError, KeyError, TypeError, ValueError, AttributeError, SyntaxError, RecursionError,
            Image.DecompressionBombError,
        ) as error:  # fmt: skip
            reason = " ".join(str(error).split())[:120]
            raise UserError(f"{path} is no whole result ({type(error).__name__}: {reason}); make it again.") from None


def _read_values(folder: Path) -> Mapping[str, Any]:
    path = folder / "result.json"
    try:
        values = json.loads(regular(path).read_bytes())
        json.dumps(values, ensure_ascii=False).encode()  # a lone surrogate could not be written again
        found = (values["format"], values["version"])
    except FileNotFoundError:
        raise NotFound(f"{folder} holds no result (no result.json); `partgen decompose` makes one.") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise UserError(f"{path} is no result of this program; `partgen decompose` makes one.") from None
    if found not in [(FORMAT, version) for version in READ]:
        raise UserError(
            f"{folder} is a result of the format {found[0]} {found[1]}, and this program reads {FORMAT} {VERSION}; "
            "make it again with this program."
        )
    return dict(values)


def _check_frame(values: Mapping[str, Any]) -> None:
    """ValueError or KeyError when the GLBs stand in a file's frame, and nothing says where that is."""
    if values["settings"].get("frame") == "file":
        matrix = np.array(values["origin"]["from_file"], np.float64)
        if matrix.shape != (4, 4) or not np.isfinite(np.linalg.inv(matrix)).all():
            raise ValueError("its matrix from_file is none")


def _read_surface(folder: Path, names: Sequence[str]) -> OwnSurface:
    files = {name: regular(folder / name).read_bytes() for name in names if name != ATOMS}
    return OwnSurface(files, decode_png(regular(folder / ATOMS).read_bytes()))


def _read_part(folder: Path, row: Mapping[str, Any]) -> Part:
    part = Part(
        label=row["label"],
        name=row["name"],
        caption=row["caption"],
        score=row["score"],
        field=load_field(folder / _field_file(row["label"])) if row["field"] else None,
        triangles=row["triangles"],
        absent=row["absent"],
        original=row.get("original", False),
        atoms=row.get("atoms", ()),
        models=row.get("models", {}),
        colour=row.get("colour", ""),
    )
    grid = decode_png(regular(folder / f"parts/{part.stem}.png").read_bytes()) if row["grid"] else None
    glb = regular(folder / f"parts/{part.stem}.glb").read_bytes() if row["glb"] else None
    return replace(part, grid=grid, glb=glb)


def _field_file(label: int) -> str:
    return f"fields/{label:02d}.safetensors"


def _label_png(labels: np.ndarray, parts: Sequence[Part] = ()) -> bytes:
    palette = PART_COLOURS[: int(labels.max()) + 1].copy()
    for part in parts:
        if part.colour and part.label < len(palette):
            palette[part.label] = list(bytes.fromhex(part.colour.removeprefix("#")))
    return encode_png(labels, palette=palette)
