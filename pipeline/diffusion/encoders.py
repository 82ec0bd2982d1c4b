"""What the frozen text and image encoders share: weights out of packages, and telling one encoder from another."""

import hashlib
import importlib.util
from pathlib import Path
from typing import Any, Self

from diffusers import ConfigMixin, ModelMixin
from torch import nn

from pipeline.errors import UserError


class PackagedEncoder(ModelMixin, ConfigMixin):
    """An encoder whose weights come with an installed package: a folder of it holds its config alone."""

    config_name = "config.json"

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> None:
        """Write config.json; options for weights have no effect."""
        self.save_config(save_directory)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **kwargs: Any) -> Self:
        """The encoder of a saved config; `subfolder` and `torch_dtype` as in diffusers, other options have no effect."""
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


def freeze(encoder: nn.Module) -> None:
    """Evaluation mode, no gradients: encoders are never trained here."""
    encoder.eval().requires_grad_(False)


def fingerprint(encoder: nn.Module) -> str:
    """A short digest of the weights, so that caches of an encoder's outputs do not outlive a change of them."""
    digest = hashlib.sha256()
    for name, value in sorted(encoder.state_dict().items()):
        digest.update(f"{name}{tuple(value.shape)}{value.double().sum().item()}".encode())
    return digest.hexdigest()[:16]
