"""Weights of other projects: read without running anything that is in the file, and checked key by key."""

import pickle
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from pipeline.errors import NotFound, UserError
from pipeline.folders import regular

EASYDICT = "easydict.EasyDict"
"""The class of GRM's settings in its pickle; an OrderedDict, which may be filled without running code, stands in."""


def read_weights(path: Path, model: str) -> dict[str, Any]:
    """What is in a file of safetensors or of PyTorch, tensors in the memory of the CPU.

    UserError for a file that is missing, damaged, or a pickle that wants more than tensors and plain values: that could
    run any code.
    """
    if not path.is_file():
        raise NotFound(f"reconstruct.{model} is {path}, where there is no file; name that of its authors' weights.")
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(regular(path)))
        with torch.serialization.safe_globals([(OrderedDict, EASYDICT)]), warnings.catch_warnings(action="ignore"):
            found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = "it wants code to be run" if "Unsupported" in str(error) or "GLOBAL" in str(error) else "damaged"
        raise UserError(
            f"{path} is no plain file of weights ({reason}) and is not opened; download it again from its authors."
        ) from None
    except (SafetensorError, RuntimeError, EOFError, ValueError, OSError) as error:
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise UserError(f"{path} cannot be read as weights ({reason}); download it again.") from None
    if not isinstance(found, dict):
        raise UserError(f"{path} holds a {type(found).__name__} and no weights by name; name another file.")
    return found


def tensors_of(found: Mapping[str, Any], prefix: str = "", dropped: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """The tensors whose keys begin with `prefix`, without it, but for those that then begin with one of `dropped`."""
    kept = {key.removeprefix(prefix): value for key, value in found.items() if key.startswith(prefix)}
    return {key: value for key, value in kept.items() if isinstance(value, Tensor) and not key.startswith(dropped)}


def load_into(network: nn.Module, weights: Mapping[str, Tensor], path: Path, model: str) -> None:
    """Give a network on the meta device these weights, in float32; UserError unless keys and shapes are all its own."""
    wanted = {key: value.shape for key, value in network.state_dict().items()}
    missing, surplus = sorted(wanted.keys() - weights.keys()), sorted(weights.keys() - wanted.keys())
    if missing or surplus:
        said = [
            f"{len(keys)} of its keys are {word}, the first `{keys[0]}`"
            for keys, word in ((missing, "missing"), (surplus, "unknown"))
            if keys
        ]
        raise UserError(f"{path} is no {model} of a kind that is known here: {' and '.join(said)}; name another file.")
    for key, shape in wanted.items():
        if weights[key].shape != shape:
            sizes = " x ".join(map(str, weights[key].shape)), " x ".join(map(str, shape))
            raise UserError(f"{path} is no {model}: `{key}` is {sizes[0]} and not {sizes[1]}; name another file.")
        if not torch.isfinite(weights[key]).all():
            raise UserError(f"{path} is damaged: `{key}` holds values that are not finite; download it again.")
    network.load_state_dict({key: weights[key].float() for key in wanted}, assign=True)
    network.eval().requires_grad_(False)
