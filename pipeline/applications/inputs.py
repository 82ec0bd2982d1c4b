"""What an object is made from: the four views of a 3D object, or those that are drawn out of a picture or a text."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy.spatial.transform import Rotation

from pipeline.applications.backgrounds import find_object
from pipeline.applications.diagnostics import Diagnostic
from pipeline.applications.models import Models
from pipeline.applications.photo import as_read, cut_out, doubts, object_view, read_picture
from pipeline.applications.render_input import draw_object
from pipeline.assets.names import MAX_NAME_BYTES, clean_name, cut_bytes
from pipeline.assets.reasons import as_text
from pipeline.assets.surface import Piece, Up
from pipeline.errors import Invalid, UserError
from pipeline.params.assets import AssetsParams
from pipeline.params.render import RenderParams
from pipeline.shards.progress import step
from pipeline.views.cameras import shown

INPUT = "input"
"""The kind of a diagnostic of what an object was made from; it outlives edits."""
MOST_BACKGROUND = 0.05
"""Share of what a network drew that may be background without a word: 0.02 at the most of nine clean drawings."""


@dataclass(frozen=True)
class Source:
    """Four views of one object, and where they are from."""

    name: str
    """Short."""
    subject: str
    """What it is, in words, for captions; empty when nobody has said it."""
    grid: np.ndarray
    """(H, W, 4) uint8, the 2x2 grid with straight alpha; something is in sight."""
    origin: Mapping[str, Any]
    notice: str = ""
    """Whose work it is, where the file says so."""
    models: Sequence[str] = ()
    """Names of the models that drew it."""
    remarks: Sequence[Diagnostic] = ()
    """What was missing in its file, or is doubtful in its picture or drawing."""
    picture: np.ndarray | None = None
    """(S, S, 4) uint8 with straight alpha, what was cut out of the picture that it was drawn from, if it was."""
    pieces: Sequence[Piece] = ()
    """Of a 3D object, as its file has them, in the frame of the drawing."""

    @property
    def shown(self) -> np.ndarray:
        """The object's pixels, (H, W) bool."""
        return shown(self.grid)


def from_object(
    path: Path,
    assets: AssetsParams,
    render: RenderParams,
    models: Models,
    up: Up = "y",
    turn: Sequence[float] = (0, 0, 0),
) -> Source:
    """A GLB, glTF, OBJ, PLY or STL, +Y or +Z up, drawn as the models' grids were; UserError if it cannot be.

    Stood upright, it is turned by so many degrees around its own X, Y and Z, one after another.
    """
    turn_44 = np.eye(4)
    turn_44[:3, :3] = Rotation.from_euler("XYZ", turn, degrees=True).as_matrix()
    with step("Drawing"):
        drawn = draw_object(path, assets, render.model_copy(update=dict(models.cameras)), up, turn_44)
    name, file = clean_name(as_text(os.fsencode(path.stem))), as_text(os.fsencode(path.name))
    source = Source(
        name or "object",
        name,
        drawn.grid,
        {"kind": "object", "file": file, "from_file": drawn.from_file.tolist()},
        drawn.notice,
        remarks=[Diagnostic(INPUT, None, 1.0, f"{file}: {warning}.") for warning in drawn.warnings],
        pieces=drawn.pieces,
    )
    if not source.shown.any():
        raise UserError(f"{path} shows nothing from any side; give an object with a visible surface.")
    return source


def from_picture(
    picture: str | Path | Image.Image, models: Models, seed: int, allow: Callable[[Image.Image], Image.Image]
) -> Source:
    """A picture of one object, its background removed, as `image_to_mv` sees it from all sides.

    It passes through `allow` as it was read.
    """
    from pipeline.diffusion.pipelines import ImageToMultiViewPipeline

    file = "" if isinstance(picture, Image.Image) else Path(picture).name
    called = file or "The picture"
    with step("Background"):
        opened = as_read(picture, called) if isinstance(picture, Image.Image) else read_picture(Path(picture))
        square = cut_out(allow(opened))
        view = object_view(square, models.view_size)
    found = [Diagnostic(INPUT, None, 1.0, f"{called}: {doubt}.") for doubt in doubts(square, models.view_size)]
    with step("Four views"):
        (drawn,) = models.get(ImageToMultiViewPipeline)(view, generator=torch.Generator().manual_seed(seed)).images
    grid, remarks = as_grid(drawn, seed)
    return Source(
        clean_name(Path(file).stem) or "object",
        "",
        grid,
        {"kind": "image", "file": file},
        models=ImageToMultiViewPipeline.tasks,
        remarks=[*found, *remarks],
        picture=np.asarray(square),
    )


def from_prompt(prompt: str, models: Models, seed: int) -> Source:
    """A text, as `text_to_mv` imagines it; UserError when it is empty, or longer than the text encoder takes."""
    from pipeline.diffusion.pipelines import TextToMultiViewPipeline

    text = checked_prompt(prompt)
    with step("Four views"):
        (drawn,) = models.get(TextToMultiViewPipeline)(text, generator=torch.Generator().manual_seed(seed)).images
    grid, remarks = as_grid(drawn, seed)
    origin = {"kind": "text", "prompt": text}
    return Source(short_name(text), text, grid, origin, models=TextToMultiViewPipeline.tasks, remarks=remarks)


def checked_prompt(prompt: str) -> str:
    """The text on one line; UserError when there is none."""
    text = " ".join(prompt.split())
    if not text:
        raise Invalid("The prompt is empty; say in a few words what is wanted.")
    return text


def short_name(text: str) -> str:
    """A text as a name."""
    return cut_bytes(text, MAX_NAME_BYTES)


def as_grid(drawn: np.ndarray, seed: int) -> tuple[np.ndarray, list[Diagnostic]]:
    """A drawn grid (H, W, 3) as RGBA, its object opaque and all else transparent, and what a user should know of that.

    UserError when there is no object.
    """
    shown, taken = find_object(drawn)
    if not shown.any():
        raise UserError(f"The model drew nothing but white with the seed {seed}; try another, or train it for longer.")
    message = (
        f"{taken:.0%} of what the model drew, pale dots and specks, was taken for background; compare it in grid.png, "
        "which keeps its colours under the transparency, and try another seed if parts are missing."
    )
    remarks = [Diagnostic(INPUT, None, taken, message)] if taken > MOST_BACKGROUND else []
    return np.dstack([(drawn * 255).round(), shown * 255.0]).astype(np.uint8), remarks
