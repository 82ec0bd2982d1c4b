"""The trained models of a folder. Each is read when it is first needed; all of them are for the same views."""

import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch

from pipeline.errors import NotFound, UserError
from pipeline.folders import content_digest
from pipeline.params.reconstruct import ReconstructParams
from pipeline.params.reconstruction import ReconstructionParams
from pipeline.params.render import RenderParams
from pipeline.project import SHIPPED, WEIGHTS
from pipeline.views.cameras import CAMERA_KEYS, Camera

if TYPE_CHECKING:  # diffusers takes longer to import than a surface to be taken apart
    from pipeline.diffusion.sampling import MultiViewPipeline
    from pipeline.reconstruction.reconstructor import Reconstructor

LRM = "lrm"
"""The folder of the reconstruction model."""

PipelineT = TypeVar("PipelineT", bound="MultiViewPipeline")


class Models:
    """Those of diffusion by their pipelines' classes, and the reconstructor; on the GPU where there is one."""

    def __init__(self, folder: Path, render: RenderParams, steps: int | None = None) -> None:
        """`steps` of denoising; None: as the models were saved with. `render` says the cameras without an `lrm`."""
        self.folder, self.steps = folder, steps
        self.cameras = _cameras(folder / LRM, render)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._loaded: dict[str, MultiViewPipeline] = {}
        self._reconstructors: dict[str, Reconstructor] = {}
        self._digests: dict[Path, str] = {}

    @cached_property
    def camera(self) -> Camera:
        """Of every view."""
        return Camera(self.cameras["fov_deg"], self.cameras["distance"], self.view_size)

    @property
    def view_size(self) -> int:
        """Pixels a side of a view."""
        return int(self.cameras["view_size"])

    def require(self, *kinds: "type[MultiViewPipeline]") -> None:
        """UserError when the model of one of the pipelines is not there, or draws other views; nothing is read."""
        for kind in kinds:
            folder = self.folder / kind.tasks[0]
            try:
                size = int(json.loads((folder / kind.config_name).read_text(encoding="utf-8"))["grid_size"]) // 2
            except (OSError, ValueError, KeyError, TypeError):
                raise NotFound(
                    f"{folder} holds no model; train it with `partgen run`, or name a folder of models that has it."
                ) from None
            if size != self.view_size:
                raise UserError(
                    f"{folder} draws views of {size} px, and the cameras are those of views of {self.view_size} px; "
                    "train all models on the same renders."
                )

    def get(self, kind: type[PipelineT]) -> PipelineT:
        """The model of the first of the pipeline's tasks; UserError as in `require`."""
        task = kind.tasks[0]
        if task not in self._loaded:
            self.require(kind)
            from diffusers.utils import logging

            logging.disable_progress_bar()
            model = kind.from_pretrained(self.folder / task)
            model.set_progress_bar_config(disable=True)
            if self.steps is not None:
                model.register_to_config(steps=self.steps)
            self._loaded[task] = model.to(self.device)
        return cast(PipelineT, self._loaded[task])

    def reconstructor(self, params: ReconstructParams, reconstruction: ReconstructionParams) -> "Reconstructor":
        """The one that `params` names; UserError when it needs a model that is not there."""
        key = params.model_dump_json()
        if key not in self._reconstructors:
            from pipeline.reconstruction.reconstructor import find_reconstructor

            self._reconstructors[key] = find_reconstructor(
                params, reconstruction, self.folder, self.cameras, self.device
            )
        return self._reconstructors[key]

    def digests(self, *names: str) -> dict[str, str]:
        """Of the models of these names."""
        return {name: self.digest(self.folder / name) for name in names}

    def reconstructing(self, params: ReconstructParams) -> dict[str, str]:
        """Digests of the model that reconstructs, by its name; empty where none does."""
        return {name: self.digest(file) for name, file in params.files(self.folder).items()}

    def digest(self, folder: Path) -> str:
        """Of the model in a folder, or in a file."""
        if folder not in self._digests:
            self._digests[folder] = content_digest(folder)
        return self._digests[folder]

    def where(self, name: str) -> Path:
        """Where the model of that name is: among these, or else among those that come with PartGen."""
        return self.folder / name if (self.folder / name).is_dir() else SHIPPED / WEIGHTS / name


def _cameras(model: Path, render: RenderParams) -> dict[str, Any]:
    """What the reconstruction model was trained for, else what the parameters of the stage render say."""
    config = model / "config.json"
    if not config.is_file():
        return {name: getattr(render, name) for name in CAMERA_KEYS}
    try:
        values = json.loads(config.read_text(encoding="utf-8"))
        return {name: values[name] for name in CAMERA_KEYS}
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{config} says nothing of cameras; run the stage `train_lrm` again.") from None
