"""The networks of a task while it is trained, and how one is loaded: without what only some of them need."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from diffusers import AutoencoderKL, ModelMixin
from torch import Tensor

from pipeline.diffusion.autoencoder import Autoencoder, PatchAutoencoder
from pipeline.diffusion.unet import MultiViewUNet
from pipeline.errors import UserError
from pipeline.folders import reading, without_origin

if TYPE_CHECKING:
    from pipeline.diffusion.image import ClipImage, EfficientNetLite0
    from pipeline.diffusion.text import ClipText, MiniLM

Loaded = TypeVar("Loaded", bound=ModelMixin)


@dataclass(frozen=True)
class Model:
    """The networks of a task."""

    unet: MultiViewUNet
    autoencoder: Autoencoder
    text: MiniLM | ClipText
    image: EfficientNetLite0 | ClipImage | None
    """None where the task has no image tokens."""


class Tokens(Protocol):
    """Tokens of a frozen encoder that were computed beforehand."""

    def __getitem__(self, rows: Tensor) -> Tensor:
        """Those of some rows, float32 (B, N, E); -1 is the last row, the null text's where rows are captions'."""


def load_network(folder: Path, kinds: Sequence[type[Loaded]]) -> Loaded:
    """A network whose class is named in its config; UserError where there is none, or where it is damaged."""
    try:
        name = json.loads((folder / "config.json").read_text(encoding="utf-8"))["_class_name"]
        kind = {kind.__name__: kind for kind in kinds}[name]
    except (OSError, ValueError, KeyError):
        expected = " or ".join(kind.__name__ for kind in kinds)
        raise UserError(f"{folder} holds no {expected}; train it first (`partgen run`).") from None
    with reading(folder, name):
        return without_origin(kind.from_pretrained(folder).float())


def load_autoencoder(folder: Path) -> Autoencoder:
    """The autoencoder of a folder; UserError where there is none."""
    return load_network(folder, (PatchAutoencoder, AutoencoderKL))
