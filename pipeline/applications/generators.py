"""Objects that others have drawn: four views of the user's own, and what a program of the user's makes.

Shape suffixes: V views, H W pixels of a view.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import binary_dilation

from pipeline.applications.diagnostics import Diagnostic
from pipeline.applications.inputs import INPUT, Source, short_name
from pipeline.applications.models import Models
from pipeline.applications.photo import as_read, read_picture, without_background
from pipeline.assets.bundle import FORMATS
from pipeline.assets.names import clean_name
from pipeline.assets.surface import Up
from pipeline.errors import Invalid, UserError
from pipeline.folders import file_name
from pipeline.params.choice import Choice
from pipeline.params.generate import GenerateParams
from pipeline.programs import ProgramFailed, run_program, written
from pipeline.reconstruction.carving import HULL_CELLS, Carver
from pipeline.shards.progress import step
from pipeline.surface.close import Close
from pipeline.surface.division import PartsFrom
from pipeline.views.cameras import tile

COMMAND = "generate.command"
VIEWS = ("front", "right", "back", "left")
"""The order of the four views, and where they see the object from."""
PICTURES = (".png", ".jpg", ".jpeg", ".webp")
MOST_NAMED = 5
LEAST_AGREEMENT, DOUBTFUL_AGREEMENT = 0.8, 0.95
"""Mean IoU of the views' outlines with those of their visual hull, below which they are refused, or doubted. Of the ten
samples, as rendered, .98 at the least; with one view at half its size .79 at the most, at four fifths .92 to .96; with
one of another object .63 to .94."""
COMPARED_PX = 64
"""At this side outlines are compared, whatever the models' views have."""
FAINT = 5
"""A pixel with at least this alpha, of 255, shows something of the object."""
SAYS_LITTLE = 0.02
"""Of a view's pixels: an outline of fewer, such as that of a pane's edge, is not compared."""


class OnSurface(TypedDict, total=False):
    """How the surface of a mesh is divided; see `PartGenPipeline.decompose`."""

    up: Up
    parts: int | None
    parts_from: PartsFrom
    close: Close


def from_views(
    pictures: Sequence[str | Path | Image.Image],
    models: Models,
    allow: Callable[[Image.Image], Image.Image],
    origin: Mapping[str, Any],
) -> Source:
    """Four pictures of one object, cut out or not, from the front, its right, behind and its left, as one grid.

    They are as the models' cameras see them: square, all of one size and scale, the object's middle in theirs. Each
    passes through `allow` as it was read. `origin` says what they were made from, a text or a picture, if anything.
    UserError when they are not four, differ in size, show nothing, or cannot be of one object.
    """
    if len(pictures) != len(VIEWS):
        raise Invalid(f"The views are {len(pictures)}; give four pictures of one object: {', '.join(VIEWS)}.")
    files = ["" if isinstance(one, Image.Image) else Path(one).name for one in pictures]
    called = [f"The {side} view {file}".rstrip() for side, file in zip(VIEWS, files, strict=True)]
    with step("Backgrounds of the views"):
        opened = [
            as_read(one, name) if isinstance(one, Image.Image) else read_picture(Path(one))
            for name, one in zip(called, pictures, strict=True)
        ]
        for name, one in zip(called, opened, strict=True):
            if one.width != one.height or one.size != opened[0].size:
                raise Invalid(
                    f"{name} has {one.width} x {one.height} pixels, and the {VIEWS[0]} view {opened[0].width} x "
                    f"{opened[0].height}; give four square pictures of one size, drawn at one scale."
                )
        cut = [Image.fromarray(without_background(allow(one))) for one in opened]
    views_VHW4 = _scaled(cut, models.view_size)
    for name, view_HW4 in zip(called, views_VHW4, strict=True):
        if not (view_HW4[..., 3] >= FAINT).any():
            raise UserError(f"{name} shows no object; give four pictures of one object, or cut it out yourself.")
    text = origin.get("prompt", "")
    return Source(
        short_name(text) or clean_name(Path(origin.get("file", "")).stem) or "object",
        text,
        tile(views_VHW4),
        {**origin, "views": files},
        remarks=list(_doubts(cut, models)),
    )


def _scaled(pictures: Sequence[Image.Image], side: int) -> np.ndarray:
    """Square RGBA pictures at that many pixels a side, (V, H, W, 4) uint8."""
    return np.stack([np.asarray(one.resize((side, side), Image.Resampling.LANCZOS)) for one in pictures])


def _doubts(cut: Sequence[Image.Image], models: Models) -> Iterator[Diagnostic]:
    """What speaks against the views; UserError when they are hardly of one object."""
    side = cut[0].width
    carver = Carver(replace(models.camera, size=COMPARED_PX), models.cameras["elevation_deg"], HULL_CELLS)
    agreement = _agreement(_scaled(cut, COMPARED_PX), carver)
    cameras = models.cameras
    told = (
        f"their outlines fit one body by {agreement:.2f} (IoU; 1 is perfect), so they are not all of one object, "
        f"at one scale, from {', '.join(VIEWS)}, {cameras['elevation_deg']:g} degrees above it, by a camera of "
        f"{cameras['fov_deg']:g} degrees at {cameras['distance']:g} times its radius"
    )
    if agreement < LEAST_AGREEMENT:
        raise UserError(f"The views cannot be used: {told}; draw them so, in this order.")
    if agreement < DOUBTFUL_AGREEMENT:
        yield Diagnostic(INPUT, None, agreement, f"The views are doubtful: {told}.")
    if side < models.view_size:
        yield Diagnostic(
            INPUT, None, side, f"The views have {side} pixels a side and are enlarged to {models.view_size}."
        )


def _agreement(views_VHW4: np.ndarray, carver: Carver) -> float:
    """The mean IoU over views of their outlines with those of their visual hull; 1 where nothing can be compared."""
    seen_VHW = views_VHW4[..., 3] >= FAINT
    tells_V = seen_VHW.mean(axis=(1, 2)) >= SAYS_LITTLE
    # A pixel wider, so that what is thinner than a cell is not missed.
    outlines_VHW = np.stack([binary_dilation(view, np.ones((3, 3))) for view in seen_VHW])
    if not tells_V.any():
        return 1.0
    room_VHW = torch.from_numpy(outlines_VHW | ~tells_V[:, None, None]).float()
    hull_VHW = carver.surface(room_VHW).isfinite().all(dim=-1).numpy()
    both_V = (hull_VHW & outlines_VHW).sum(axis=(1, 2))[tells_V]
    return float((both_V / (hull_VHW | outlines_VHW).sum(axis=(1, 2))[tells_V]).mean())


@contextmanager
def made_by_program(
    params: GenerateParams, given: str | Image.Image, origin: Mapping[str, Any], seed: int
) -> Iterator[Path | list[Path]]:
    """What `generate.command` makes of a text or a picture: a mesh or four views; there until the end.

    The mesh's file is called like its `origin`, so that it is named by that. Invalid when the command has no place for
    what is given; ProgramFailed when it dies, hangs, or writes nothing of use.
    """
    assert params.command is not None
    place, kind = ("prompt", "text") if isinstance(given, str) else ("image", "picture")
    if not any(f"{{{place}}}" in word for word in params.command):
        raise Invalid(
            f"`{COMMAND}` has no {{{place}}}, so it makes nothing of a {kind}; put it there, or set it to null, for "
            "the networks."
        )
    with tempfile.TemporaryDirectory(prefix="partgen-") as folder:
        out = Path(folder) / "out"
        out.mkdir()
        values: dict[str, str | Path] = {"out": out, "seed": str(seed), "prompt": "", "image": ""}
        if isinstance(given, str):
            values["prompt"] = given
        else:
            values["image"] = Path(folder) / "picture.png"
            given.save(values["image"])
        with step(f"`{COMMAND}`"):
            run_program(params.command, values, params.command_timeout_s, COMMAND)
        text = origin.get("prompt", "")
        yield _found(out, file_name(text).replace("-", " ") if text else Path(origin["file"]).stem or "object")


@contextmanager
def of_program(*files: Path) -> Iterator[None]:
    """What is wrong with a file is said of the program that wrote it, and not of a path that is gone by then."""
    try:
        yield
    except UserError as error:
        text = str(error)
        for file in files:
            text = text.replace(str(file), f"{file.name}, which `{COMMAND}` wrote,")
        if text == str(error):
            raise
        raise UserError(text) from None


def check_no_surface(on_surface: OnSurface) -> None:
    """Invalid when it is said how a mesh is to be divided, and there is none."""
    if on_surface:
        raise Invalid(
            "--parts, --parts-from, --close and --up are for a mesh, which here only a program of yours makes "
            f"(`{COMMAND}`); leave them out, or use one that writes a mesh."
        )


def check_any(choice: Choice) -> None:
    """Invalid when segmentations are to be chosen, and there is a mesh."""
    if replace(choice, max_parts=None) != Choice():
        raise Invalid(
            "Segmentations are chosen (--samples, --use, --runs, --seed-point, --min-part-pixels) of four views, and "
            f"`{COMMAND}` wrote a mesh; leave that out."
        )


def _found(out: Path, name: str) -> Path | list[Path]:
    """The mesh that a program wrote, under its new name, or four pictures; ProgramFailed for all else."""
    meshes = written(out, FORMATS)
    if len(meshes) == 1:
        return meshes[0].rename(meshes[0].with_stem(name))
    pictures = [] if meshes else written(out, PICTURES)
    if len(pictures) == len(VIEWS):
        return pictures
    files = meshes or written(out, {path.suffix.lower() for path in out.rglob("*")})
    names = ", ".join(str(path.relative_to(out)) for path in files[:MOST_NAMED])
    more = f" and {len(files) - MOST_NAMED} more" if len(files) > MOST_NAMED else ""
    what = f"wrote {len(files)} {'meshes' if meshes else 'files'} ({names}{more})" if files else "wrote nothing"
    advice = f"let it write one mesh ({', '.join(FORMATS)}) or four pictures into {{out}}"
    raise ProgramFailed(COMMAND, f"the program ended well and {what}", advice)
