"""The folder that an object made of parts is kept in: how it is written and read.

    object.glb              all parts, a named node each, with the attribution of what they were made from
    parts/NN-NAME.glb       each part alone and in place; missing for a part without a surface
    parts/NN-NAME.png       the 2x2 grid J from which the part was reconstructed, if it was
    fields/NN.safetensors   its field, if it has one
    splats/NN-NAME.ply      the gaussians that the field was made of, if it was
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

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from pipeline.applications.diagnostics import Diagnostic
from pipeline.applications.part import OwnSurface, Part, Segmentation
from pipeline.errors import NotFound, UserError
from pipeline.folders import check_sums, regular
from pipeline.reconstruction.field import load_field
from pipeline.reconstruction.gaussian_files import encoded_gaussians
from pipeline.shards.table import decode_png, encode_png
from pipeline.shards.write import write_json
from pipeline.views.palette import PART_COLOURS

if TYPE_CHECKING:
    from pipeline.applications.result import PartObject

FORMAT, VERSION, READ = "partgen-result", 2, (1, 2)
PICTURE, ATOMS, NEURAL = "input.png", "atoms.png", "neural.glb"
KIND = "result"
"""Of the folder, in its SHA256SUMS."""
ANIMATIONS = ("turntable.gif", "exploded.gif")
COPIED = ("name", "caption", "merged", "overlap", "notice", "origin", "seed", "models", "settings", "history")
"""What stands in result.json as it is."""


def write_result(result: "PartObject", folder: Path) -> None:
    """Write all files of a result but its checksums into a folder that is there."""
    (folder / "parts").mkdir()
    if any(part.field is not None for part in result.parts):
        (folder / "fields").mkdir()
    if result.segmentations:
        (folder / "segmentations").mkdir()
    files = {
        **result.animations,
        "grid.png": encode_png(result.grid),
        "labels.png": _label_png(result.labels, result.parts),
    }
    if result.glb is not None:
        files["object.glb"] = result.glb
    if result.picture is not None:
        files[PICTURE] = encode_png(result.picture)
    if result.neural is not None:
        files[NEURAL] = result.neural
    if result.surface is not None:
        files |= {**result.surface.files, ATOMS: encode_png(result.surface.atoms_HW)}
    for number, segmentation in enumerate(result.segmentations, start=1):
        files[f"segmentations/{number}.png"] = _label_png(segmentation.labels)
    for part in result.parts:
        if part.grid is not None:
            files[f"parts/{part.stem}.png"] = encode_png(part.grid)
        if part.glb is not None:
            files[f"parts/{part.stem}.glb"] = part.glb
        if part.field is not None:
            part.field.save(folder / _field_file(part.label))
            splats = part.field.splats()
            if splats is not None:
                (folder / "splats").mkdir(exist_ok=True)
                files[f"splats/{part.stem}.ply"] = encoded_gaussians(splats)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    write_json(folder / "result.json", _values(result))


def _values(result: "PartObject") -> dict[str, Any]:
    return {
        "format": FORMAT,
        "version": VERSION,
        **{name: getattr(result, name) for name in COPIED},
        "parts": [_part_values(part, result.labels) for part in result.parts],
        "segmentations": [
            {"file": f"segmentations/{number}.png", "run": one.run, "score": one.score}
            for number, one in enumerate(result.segmentations, start=1)
        ],
        "diagnostics": [asdict(one) for one in result.diagnostics],
        "picture": None if result.picture is None else PICTURE,
        "surface": None if result.surface is None else [*result.surface.files, ATOMS],
        "neural": None if result.neural is None else NEURAL,
    }


def _part_values(part: Part, labels_HW: np.ndarray) -> dict[str, Any]:
    made = part.field
    return {
        **{
            name: getattr(part, name)
            for name in ("label", "name", "caption", "score", "triangles", "absent", "original", "models", "colour")
        },
        "atoms": list(part.atoms),
        "pixels": int((labels_HW == part.label).sum()),
        "placement": None if made is None else {"offset": made.offset_3, "scale": made.scale},
        "glb": None if part.glb is None else f"parts/{part.stem}.glb",
        "grid": None if part.grid is None else f"parts/{part.stem}.png",
        "field": None if made is None else _field_file(part.label),
    }


def read_result(path: Path) -> dict[str, Any]:
    """The arguments of the `PartObject` that a folder keeps; UserError as of `PartObject.load`."""
    values = _read_values(path)
    check_sums(path)
    try:
        _check_frame(values)
        return dict(
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
