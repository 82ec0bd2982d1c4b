"""What an object is made from: the four views of a 3D object, or those that are drawn out of a picture or a text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from pipeline.assets.names import MAX_NAME_BYTES, clean_name, cut_bytes
from pipeline.diffusion.pipelines import ImageToMultiViewPipeline, TextToMultiViewPipeline
from pipeline.errors import UserError
from pipeline.generation.diagnostics import Diagnostic
from pipeline.generation.drawing import draw_object
from pipeline.generation.networks import Networks
from pipeline.generation.photo import object_view, read_picture
from pipeline.generation.steps import step
from pipeline.params.assets import AssetsParams
from pipeline.params.render import RenderParams
from pipeline.reconstruction.carving import silhouettes
from pipeline.reconstruction.lrm import split_views
from pipeline.views.cameras import tile

SHOWN_ALPHA = 128
"""A pixel of a grid with at least this alpha, of 255, is the object's."""
INPUT = "input"
"""The kind of a diagnostic of what an object was made from; it outlives edits."""


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
    """What was missing in its file."""

    @property
    def shown(self) -> np.ndarray:
        """The object's pixels, (H, W) bool."""
        shown: np.ndarray = self.grid[..., 3] >= SHOWN_ALPHA
        return shown


def from_object(path: Path, assets: AssetsParams, render: RenderParams, networks: Networks) -> Source:
    """A GLB, glTF, OBJ, PLY or STL, drawn as the models' grids were; UserError when that cannot be done."""
    with step("Drawing"):
        drawn = draw_object(path, assets, render.model_copy(update=dict(networks.cameras)))
    name = clean_name(path.stem)
    source = Source(
        name or "object",
        name,
        drawn.grid,
        {"kind": "object", "file": path.name},
        drawn.notice,
        remarks=[Diagnostic(INPUT, None, 1.0, f"{path.name}: {warning}.") for warning in drawn.warnings],
    )
    if not source.shown.any():
        raise UserError(f"{path} shows nothing from any side; give an object with a visible surface.")
    return source


def from_picture(picture: str | Path | Image.Image, networks: Networks, seed: int) -> Source:
    """A picture of one object, its background removed, as `image_to_mv` sees it from all sides."""
    file = "" if isinstance(picture, Image.Image) else Path(picture).name
    with step("Background"):
        opened = picture if isinstance(picture, Image.Image) else read_picture(Path(picture))
        view = object_view(opened, networks.view_size)
    with step("Four views"):
        (drawn,) = networks.get(ImageToMultiViewPipeline)(view, generator=torch.Generator().manual_seed(seed)).images
    return Source(
        clean_name(Path(file).stem) or "object",
        "",
        _cut_out(drawn, seed),
        {"kind": "image", "file": file},
        models=ImageToMultiViewPipeline.tasks,
    )


def from_prompt(prompt: str, networks: Networks, seed: int) -> Source:
    """A text, as `text_to_mv` imagines it; UserError when it is empty, or longer than the text encoder takes."""
    text = checked_prompt(prompt)
    with step("Four views"):
        (drawn,) = networks.get(TextToMultiViewPipeline)(text, generator=torch.Generator().manual_seed(seed)).images
    origin = {"kind": "text", "prompt": text}
    return Source(short_name(text), text, _cut_out(drawn, seed), origin, models=TextToMultiViewPipeline.tasks)


def checked_prompt(prompt: str) -> str:
    """The text on one line; UserError when there is none."""
    text = " ".join(prompt.split())
    if not text:
        raise UserError("The prompt is empty; say in a few words what is wanted.")
    return text


def short_name(text: str) -> str:
    """A text as a name."""
    return cut_bytes(text, MAX_NAME_BYTES)


def _cut_out(drawn: np.ndarray, seed: int) -> np.ndarray:
    """A drawn grid (H, W, 3) as RGBA: what is not white is the object, as carving has it; UserError when all is."""
    pixels = torch.from_numpy(drawn).permute(2, 0, 1)[None]
    shown = tile(silhouettes(split_views(pixels)[0]).numpy() > 0)
    if not shown.any():
        raise UserError(f"The model drew nothing but white with the seed {seed}; try another, or train it for longer.")
    return np.dstack([(drawn * 255).round(), shown * 255.0]).astype(np.uint8)
