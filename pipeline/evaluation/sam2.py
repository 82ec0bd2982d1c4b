"""SAM2 as a baseline of Table 1, by transformers' classes; the weights are the user's.

The three forms of the table are this one class with other weights: as published, with a fine-tuned mask decoder, and
fine-tuned on the grid of four views (`pipeline.evaluation.sam2_objective` trains both). SAM2 gives three masks for a
query point, each with its own estimate of its IoU, which is its score here. The picture is always the whole grid, so
that masks can reach over all four views, as those they are compared with do.

Shape suffixes: N masks of all query points, h w pixels of SAM2's own output.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import Sam2Model, Sam2Processor

from pipeline.errors import UserError
from pipeline.regions.proposals import Proposals
from pipeline.regions.ranking import Pool

LAYOUT = "a folder with SAM2 in the layout of transformers, such as facebook/sam2.1-hiera-large's"


@dataclass(frozen=True)
class Sam2Segmenter:
    """SAM2 with query points all over an object, or with one seed."""

    model: Sam2Model
    processor: Sam2Processor
    query_spacing: int = 16
    """Query points lie on the object on a grid of so many a side of a view. Their number is not published."""
    queries_at_once: int = 32

    @classmethod
    def from_pretrained(
        cls, path: str | Path, query_spacing: int = query_spacing, device: torch.device | str = "cpu"
    ) -> "Sam2Segmenter":
        """Load the user's weights; UserError when there are none."""
        try:
            if not Path(path).is_dir():  # transformers would ask the Hugging Face hub
                raise NotADirectoryError("no folder")
            model = Sam2Model.from_pretrained(path, local_files_only=True).eval().to(device)
            processor = Sam2Processor.from_pretrained(path, local_files_only=True)
            return cls(model, processor, query_spacing)
        except (OSError, ValueError, TypeError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"{path} cannot be read as SAM2 ({reason}); give {LAYOUT}.") from None

    def automatic(self, image: np.ndarray, foreground: np.ndarray) -> Proposals:
        """Ranked proposals for all parts of a grid; `image` (H, W, 3) in [0, 1], `foreground` (H, W) bool."""
        return self.looking_at(image).automatic(foreground)

    def seeded(self, image: np.ndarray, y: int, x: int) -> Proposals:
        """Ranked proposals for the part at a seed, the pixel in row `y` and column `x`: three at most."""
        return self.looking_at(image).seeded(y, x)

    @torch.no_grad()
    def looking_at(self, image: np.ndarray) -> "EmbeddedPicture":
        """The same for many questions about one grid, which is encoded once."""
        picture = self.processor(images=as_bytes(image), return_tensors="pt")
        embeddings = self.model.get_image_embeddings(picture["pixel_values"].to(self.model.device))
        return EmbeddedPicture(self, embeddings, image.shape[:2])


@dataclass(frozen=True)
class EmbeddedPicture:
    """A grid as SAM2 has encoded it."""

    segmenter: Sam2Segmenter
    embeddings: list[Tensor]
    size: tuple[int, int]
    """Height and width of the grid."""

    def automatic(self, foreground: np.ndarray) -> Proposals:
        """See `Sam2Segmenter.automatic`."""
        return self._ranked(query_points(foreground, self.segmenter.query_spacing))

    def seeded(self, y: int, x: int) -> Proposals:
        """See `Sam2Segmenter.seeded`."""
        return self._ranked(np.array([[y, x]]))

    @torch.no_grad()
    def _ranked(self, points: np.ndarray) -> Proposals:
        if not len(points):
            return Proposals.of_masks(np.zeros((0, *self.size), dtype=bool), [])
        model, at_once = self.segmenter.model, self.segmenter.queries_at_once
        logits, scores = [], []
        for start in range(0, len(points), at_once):
            prompt = prompts(self.segmenter.processor, points[start : start + at_once], self.size)
            seen = model(image_embeddings=self.embeddings, input_points=prompt.to(model.device))
            logits.append(seen.pred_masks[0].flatten(0, 1).float().cpu())
            scores.append(seen.iou_scores[0].flatten().float().cpu())
        # Thousands of masks are compared as small as they come; those that are left are enlarged.
        logits_Nhw, scores_N = torch.cat(logits), torch.cat(scores).numpy()
        pool = Pool.of_scored(Proposals.of_masks((logits_Nhw > 0).numpy(), scores_N))
        kept = pool.proposals.run_N[pool.kept(np.ones(len(pool.proposals), dtype=bool))]
        enlarged = F.interpolate(logits_Nhw[kept][:, None], self.size, mode="bilinear", align_corners=False)
        return Proposals.of_masks((enlarged[:, 0] > 0).numpy(), scores_N[kept])


def conventions(query_spacing: int) -> dict[str, str]:
    """What the result depends on, as it is printed beside the table."""
    return {
        "query points": f"those on the object of {query_spacing} x {query_spacing} a view",
        "score": "the IoU that SAM2 estimates",
        "duplicates": "dropped at the resolution of its masks",
    }


def query_points(foreground: np.ndarray, spacing: int) -> np.ndarray:
    """Rows and columns (N, 2) of those points of a regular grid over a grid's four views that lie on the object."""
    height, width = foreground.shape
    places = (np.arange(2 * spacing) + 0.5) / (2 * spacing)
    rows, columns = np.meshgrid((places * height).astype(int), (places * width).astype(int), indexing="ij")
    on_object = foreground[rows, columns]
    return np.stack([rows[on_object], columns[on_object]], axis=1)


def prompts(processor: Sam2Processor, points: np.ndarray, size: tuple[int, int]) -> Tensor:
    """Pixels (N, 2), rows and columns of a picture of `size`, as SAM2 takes them: (1, N, 1, 2), x and y."""
    # A pixel's middle lies half a pixel from its corner.
    nested = [[[[float(x) + 0.5, float(y) + 0.5]] for y, x in points]]
    encoded: Tensor = processor(input_points=nested, original_sizes=[list(size)], return_tensors="pt")["input_points"]
    return encoded


def as_bytes(image: np.ndarray) -> np.ndarray:
    """A picture in [0, 1] as uint8, which is what the processor scales."""
    return (image * 255).round().astype(np.uint8)
