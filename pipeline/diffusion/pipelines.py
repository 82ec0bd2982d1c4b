"""The samplers of the diffusion models, as diffusers' pipelines: saved and loaded as a folder of safetensors.

    from pipeline.diffusion.pipelines import SegmentationPipeline

    segment = SegmentationPipeline.from_pretrained("data/models/segment")
    drawn = segment(Image.open("grid.png"), num_samples=5, generator=torch.Generator().manual_seed(0))
    drawn.labels  # (5, H, W): five ways to see its parts

All take the options of `Sampling`: `num_samples`, `generator`, `num_inference_steps`, `guidance_scale`, `solver`. The
same seed gives the same pictures. UserError for pictures of another size than the model was trained for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Unpack

import numpy as np
import torch
from diffusers.utils import BaseOutput
from torch import Tensor

# diffusers loads components of those modules alone that are imported already
from pipeline.diffusion import autoencoder, image, text, unet  # noqa: F401
from pipeline.diffusion.pictures import Picture, as_masks, as_picture, masked
from pipeline.diffusion.sampling import MultiViewPipeline, Sampling
from pipeline.diffusion.tasks import find_task
from pipeline.errors import UserError
from pipeline.views.part_colours import decode_colours, drop_small

Masks = np.ndarray | Tensor | Sequence[np.ndarray | Tensor]
"""Bool, (H, W) in the layout of the grid; several as a list or as (M, H, W)."""


@dataclass
class MultiViewOutput(BaseOutput):
    """What was drawn."""

    images: np.ndarray
    """2x2 grids (N, H, W, 3) float32 in [0, 1], the samples of one input after the other."""


@dataclass
class SegmentationOutput(BaseOutput):
    """Segmentations of a grid."""

    images: np.ndarray
    """The colours as drawn, (N, H, W, 3) float32 in [0, 1]."""
    labels: np.ndarray
    """(N, H, W) uint8: 0 the background, else the index of the reference colour. Which colour a part has, is chance."""


class TextToMultiViewPipeline(MultiViewPipeline):
    """Four views of an object out of a text (A.3)."""

    tasks: ClassVar = ("text_to_mv",)

    def __call__(self, prompt: str | Sequence[str], **sampling: Unpack[Sampling]) -> MultiViewOutput:
        """Grids for a prompt, or for each of several; UserError for one longer than the text encoder takes."""
        return MultiViewOutput(self.draw({}, {}, _prompts(prompt), **sampling))


class ImageToMultiViewPipeline(MultiViewPipeline):
    """Four views of an object out of one view from anywhere (A.4)."""

    tasks: ClassVar = ("image_to_mv",)

    def __call__(self, view: Picture | Sequence[Picture], **sampling: Unpack[Sampling]) -> MultiViewOutput:
        """Grids for a picture of the size of one view, on white or transparent, or for each of several."""
        several = view if isinstance(view, Sequence) else [view]
        views = np.stack([as_picture(each, self.view_size, "view") for each in several])
        return MultiViewOutput(self.draw({"view": views}, {}, [""] * len(views), **sampling))


class SegmentationPipeline(MultiViewPipeline):
    """Parts of an object as colours (main paper, 3.2; A.5)."""

    tasks: ClassVar = ("segment",)

    def __call__(
        self, grid: Picture | Sequence[Picture], min_pixels: int = 0, **sampling: Unpack[Sampling]
    ) -> SegmentationOutput:
        """Segmentations of a grid, or of each of several.

        Parts of fewer than `min_pixels` over its four views become background.
        """
        several = grid if isinstance(grid, Sequence) else [grid]
        whole = np.stack([as_picture(each, self.config.grid_size, "grid") for each in several])
        images = self.draw({"whole": whole}, {}, [""] * len(whole), **sampling)
        colours = torch.from_numpy(images).permute(0, 3, 1, 2)
        labels = drop_small(decode_colours(colours, self.config.colours), min_pixels)
        return SegmentationOutput(images, labels.to(torch.uint8).numpy())


class CompletionPipeline(MultiViewPipeline):
    """A part whole and alone, out of what the grid shows of it (main paper, 3.3; A.6), and the ablations of Table 2."""

    tasks: ClassVar = ("complete", "complete_no_context", "complete_single_view", "complete_joint")

    def __call__(self, grid: Picture, masks: Masks, **sampling: Unpack[Sampling]) -> MultiViewOutput:
        """The part of each mask. An empty mask is allowed: the part is then imagined from the object.

        For `complete_joint` the masks are those of all parts of the object.
        """
        size = self.config.grid_size
        marked = as_masks(masks, size, "mask")
        whole = np.repeat(as_picture(grid, size, "grid")[None], len(marked), axis=0)
        images = {"whole": whole, "masked": masked(whole, marked)}
        images = {name: images[name] for name in find_task(self.config.task).stacked}
        return MultiViewOutput(self.draw(images, {"mask": marked}, [""] * len(marked), **sampling))


class EditingPipeline(MultiViewPipeline):
    """A new part out of a text, among the parts that remain (A.8)."""

    tasks: ClassVar = ("edit",)

    def __call__(
        self, grid: Picture, rest_masks: Masks, prompt: str | Sequence[str], **sampling: Unpack[Sampling]
    ) -> MultiViewOutput:
        """The part of each prompt; its mask marks the parts that REMAIN, so the new one may be of any shape."""
        size, prompts = self.config.grid_size, _prompts(prompt)
        rest = as_masks(rest_masks, size, "mask of the remaining parts")
        if len(rest) != len(prompts):
            raise UserError(f"{len(rest)} masks and {len(prompts)} prompts were given; give as many of both.")
        whole = np.repeat(as_picture(grid, size, "grid")[None], len(rest), axis=0)
        images = {"rest": masked(whole, rest)}
        return MultiViewOutput(self.draw(images, {"rest_mask": rest}, prompts, **sampling))


PIPELINES: dict[str, type[MultiViewPipeline]] = {
    task: kind
    for kind in (
        TextToMultiViewPipeline,
        ImageToMultiViewPipeline,
        SegmentationPipeline,
        CompletionPipeline,
        EditingPipeline,
    )
    for task in kind.tasks
}


def pipeline_class(task_name: str) -> type[MultiViewPipeline]:
    """The pipeline of a task; UserError for a name that is no task's."""
    return PIPELINES[find_task(task_name).name]


def _prompts(prompt: str | Sequence[str]) -> list[str]:
    return [prompt] if isinstance(prompt, str) else list(prompt)
