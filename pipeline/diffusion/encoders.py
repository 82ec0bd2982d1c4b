"""What the frozen text and image encoders share: they are frozen, and where their weights come from."""

import importlib.util
from pathlib import Path
from typing import Any, Self

import torch
from diffusers import ConfigMixin, ModelMixin
from torch import nn
from transformers import PreTrainedModel
from transformers.utils import logging

from pipeline.errors import UserError


class PackagedEncoder(ModelMixin, ConfigMixin):
    """An encoder whose weights come with an installed package: a folder of it holds its config alone."""

    config_name = "config.json"

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> None:
        """Write config.json; options for weights have no effect."""
        self.save_config(save_directory)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **kwargs: Any) -> Self:
        """The encoder of a saved config; of the options, `subfolder` and `torch_dtype` have their effect."""
        config = cls.load_config(pretrained_model_name_or_path, subfolder=kwargs.get("subfolder"))
        encoder: Self = cls.from_config(config)
        return encoder if kwargs.get("torch_dtype") is None else encoder.to(kwargs["torch_dtype"])


def package_file(package: str, module: str, name: str) -> Path:
    """A file inside an installed package, which is not imported; UserError when it is not there."""
    spec = importlib.util.find_spec(module)
    locations = list(spec.submodule_search_locations or ()) if spec else []
    if not locations or not (path := Path(locations[0]) / name).exists():
        raise UserError(f"The package {package} with {name} is not installed; run `make setup`.")
    return path


def load_frozen(kind: type[PreTrainedModel], folder: Path) -> Any:
    """A model of transformers out of a folder, in float32; UserError when the folder holds no such model.

    What else the folder holds (a CLIP's other half) is left there; every weight of the model has to be in it, where
    transformers would make up the missing ones.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; name that of a {kind.__name__}.")
    verbosity = logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        loaded: Any = kind.from_pretrained(folder, local_files_only=True, dtype=torch.float32, output_loading_info=True)
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300].rstrip(".")
        raise UserError(f"{folder} holds no {kind.__name__}: {reason}; name another folder.") from None
    finally:
        logging.set_verbosity(verbosity)
    model, found = loaded
    if found["missing_keys"]:
        raise UserError(f"{folder} holds no {kind.__name__}: {min(found['missing_keys'])} is missing; name another.")
    return model


def freeze(encoder: nn.Module) -> None:
    """Evaluation mode, no gradients: encoders are never trained here."""
    encoder.eval().requires_grad_(False)
