"""Pictures and masks that users hand to the models, checked: nothing is resized, rescaled or guessed."""

from collections.abc import Sequence

import numpy as np
from PIL import Image
from torch import Tensor

from pipeline.errors import UserError
from pipeline.views.cameras import over_white

Picture = Image.Image | np.ndarray | Tensor
"""PIL; numpy (H, W, 3) float in [0, 1] or uint8; tensor (3, H, W) likewise. A fourth channel is alpha, over white."""


def as_picture(picture: Picture, size: int, name: str) -> np.ndarray:
    """A picture as (size, size, 3) float32 in [0, 1]; UserError that calls it by `name` when it is anything else."""
    pixels = _pixels(picture)
    if pixels.ndim != 3 or pixels.shape[2] not in (3, 4):
        raise UserError(f"The {name} is an array of shape {pixels.shape}; give a picture of three colour channels.")
    _check_size(pixels.shape[:2], size, name)
    if pixels.dtype != np.uint8:
        pixels = pixels.astype(np.float32)
        # written so that NaN is refused
        if not (pixels.min() >= 0.0 and pixels.max() <= 1.0):
            raise UserError(
                f"The {name} has values from {pixels.min():g} to {pixels.max():g}; give floats in [0, 1], or uint8."
            )
        pixels = (pixels * 255.0 if pixels.shape[2] == 4 else pixels).astype(np.float32)
    elif pixels.shape[2] == 3:
        pixels = pixels.astype(np.float32) / 255.0
    return over_white(pixels) if pixels.shape[2] == 4 else pixels


def as_masks(masks: np.ndarray | Tensor | Sequence[np.ndarray | Tensor], size: int, name: str) -> np.ndarray:
    """One mask (H, W) or several as bool (M, size, size); UserError that calls them by `name` otherwise."""
    several = list(masks) if isinstance(masks, Sequence) or masks.ndim == 3 else [masks]
    if not several:
        raise UserError(f"There is no {name} in an empty list; give at least one, which may be all false.")
    arrays = [_array(mask) for mask in several]
    for array in arrays:
        if array.ndim != 2 or array.dtype != bool:
            raise UserError(
                f"The {name} is of shape {array.shape} and type {array.dtype}; give booleans of height x width, "
                "such as `labels == part`."
            )
        _check_size(array.shape, size, name)
    return np.stack(arrays)


def masked(grids: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Pictures (..., H, W, 3) where masks (..., H, W) are set, white elsewhere: I * M.

    White, not black: the background of the masked picture has to be that of the part's own picture J (main paper, 3.3).
    """
    return np.where(masks[..., None], grids, np.float32(1))


def _check_size(shape: tuple[int, ...], size: int, name: str) -> None:
    if shape != (size, size):
        raise UserError(
            f"The {name} is {shape[1]} x {shape[0]} pixels; the model was trained for {size} x {size}: "
            "pad it to a square and resize it."
        )


def _pixels(picture: Picture) -> np.ndarray:
    if isinstance(picture, Image.Image):
        return np.asarray(picture.convert("RGBA" if picture.has_transparency_data else "RGB"))
    array = _array(picture)
    return np.moveaxis(array, 0, -1) if isinstance(picture, Tensor) and array.ndim == 3 else array


def _array(values: np.ndarray | Tensor) -> np.ndarray:
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
