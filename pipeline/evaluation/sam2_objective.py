"""Fine-tuning SAM2 for the other two forms of Table 1: its mask decoder alone, or all of it, on one view or the grid.

A sample is an object, one of its parts in sight and a pixel of that part, all drawn by the sample's number; the
picture is the view with that pixel or the whole grid, and the target is the part's mask in it. The loss is SAM2's own,
for one point: the best of the three masks learns by 20 focal + dice, and all three estimates of the IoU by their
absolute error.
Not published: the paper's recipe for SAM2.

Shape suffixes: B samples, 3 the masks of a query point, H W pixels of the picture, V views.
"""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import Sam2Model, Sam2Processor

from pipeline.errors import NoObjects
from pipeline.evaluation.sam2 import as_bytes, prompts
from pipeline.shards.dataset import ObjectRows
from pipeline.shards.read import read_table
from pipeline.shards.table import decode_png
from pipeline.views.cameras import over_white, untile

FOCAL_WEIGHT, DICE_WEIGHT, IOU_WEIGHT = 20.0, 1.0, 1.0
FOCAL_ALPHA, FOCAL_GAMMA = 0.25, 2.0
VALIDATED, PICTURES = 32, 4
UNUSED = (
    "mask_decoder.output_hypernetworks_mlps.0.",
    "mask_decoder.pred_obj_score_head.",
    "prompt_encoder.mask_embed.",
)
"""What this loss does not depend on: the single mask, whether there is anything at the point, and masks as prompts."""


class PointPrompts(Dataset[dict[str, Any]]):
    """Samples by their number, without end."""

    def __init__(self, data: Path, split: str, processor: Sam2Processor, views: Literal[1, 4], seed: int) -> None:
        """UserError when a table is missing or the split has no object."""
        self.processor, self.views, self.seed = processor, views, seed
        self._grids = ObjectRows(data / "renders/grids", ["part_id", "image"])
        self._labels = ObjectRows(data / "masks/labels", ["labels"])
        self.objects = [
            row["object_id"]
            for row in read_table(data / "masks/labels", ["object_id", "split"]).to_pylist()
            if row["split"] == split and row["object_id"] in self._grids.numbers
        ]
        if not self.objects:
            raise NoObjects(f"{data} has no object of the split {split} with masks; run the stages that make them.")

    def __getitem__(self, number: int) -> dict[str, Any]:
        """`pixel_values` (3, h, w), `input_points` (1, 1, 2), `mask` (H, W) bool, `shown` (H, W, 3), `object_id`."""
        draws = np.random.default_rng((self.seed, number))
        object_id = self.objects[draws.integers(len(self.objects))]
        labels, image = (
            decode_png(self._labels.whole(object_id)["labels"]["bytes"]),
            over_white(decode_png(self._grids.whole(object_id)["image"]["bytes"])),
        )
        if self.views == 1:
            labels_VHW, images = untile(labels), untile(image)
            view = draws.choice(np.flatnonzero(labels_VHW.any(axis=(1, 2))))
            labels, image = labels_VHW[view], images[view]
        mask = labels == draws.choice(np.unique(labels[labels > 0]))
        point = draws.choice(np.argwhere(mask))
        picture = self.processor(images=as_bytes(image), return_tensors="pt")
        return {
            "pixel_values": picture["pixel_values"][0],
            "input_points": prompts(self.processor, point[None], mask.shape)[0],
            "mask": torch.from_numpy(mask),
            "shown": torch.from_numpy(image),
            "object_id": object_id,
        }


class Sam2Objective:
    """What `pipeline.training.loop.train` minimises; the trained model is saved by `save_pretrained`."""

    def __init__(
        self,
        model: Sam2Model,
        examples: PointPrompts,
        validation: PointPrompts | None,
        trained: Literal["mask_decoder", "all"],
    ) -> None:
        self.module = model
        self._examples, self._validation = examples, validation
        for name, parameter in model.named_parameters():
            reached = not name.startswith(UNUSED)
            parameter.requires_grad_(reached and (trained == "all" or name.startswith("mask_decoder.")))

    def examples(self) -> PointPrompts:
        """The training samples."""
        return self._examples

    def collate(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        """Samples as a batch."""
        names = ("pixel_values", "input_points", "mask", "shown")
        batch: dict[str, Any] = {name: torch.stack([item[name] for item in items]) for name in names}
        return batch | {"object_id": [item["object_id"] for item in items]}

    def loss(self, module: nn.Module, batch: dict[str, Any]) -> Tensor:
        """The loss of every sample, (B,)."""
        masks_B3HW, scores_B3 = self._predicted(module, batch)
        return mask_loss(masks_B3HW, scores_B3, batch["mask"])

    @torch.no_grad()
    def validation(self) -> dict[str, float]:
        """Of samples of validation objects: `loss`, and `iou`, the best of the three masks'; nothing without them."""
        if self._validation is None:
            return {}
        losses, ious = [], []
        for number in range(VALIDATED):
            batch = self._on_device(self._validation, [number])
            masks_B3HW, scores_B3 = self._predicted(self.module, batch)
            losses.append(mask_loss(masks_B3HW, scores_B3, batch["mask"]).item())
            ious.append(mask_iou(masks_B3HW, batch["mask"]).max().item())
        return {"loss": float(np.mean(losses)), "iou": float(np.mean(ious))}

    @torch.no_grad()
    def pictures(self) -> dict[str, np.ndarray]:
        """The picture, the part's mask and the one that SAM2 scores highest, a row a sample."""
        batch = self._on_device(self._validation or self._examples, list(range(PICTURES)))
        masks_B3HW, scores_B3 = self._predicted(self.module, batch)
        best = masks_B3HW[torch.arange(len(masks_B3HW)), scores_B3.argmax(dim=1)] > 0
        columns = [
            batch["shown"],
            *(mask[..., None].expand_as(batch["shown"]).float() for mask in (batch["mask"], best)),
        ]
        return {"samples": as_bytes(torch.cat(columns, dim=2).flatten(0, 1).cpu().numpy())}

    def _on_device(self, examples: PointPrompts, numbers: list[int]) -> dict[str, Any]:
        batch = self.collate([examples[number] for number in numbers])
        return {
            name: value.to(self.module.device) if isinstance(value, Tensor) else value for name, value in batch.items()
        }

    @staticmethod
    def _predicted(module: nn.Module, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Logits (B, 3, H, W) at the masks' size and scores (B, 3)."""
        seen = module(pixel_values=batch["pixel_values"], input_points=batch["input_points"])
        size = batch["mask"].shape[-2:]
        masks_B3HW = F.interpolate(seen.pred_masks[:, 0].float(), size, mode="bilinear", align_corners=False)
        return masks_B3HW, seen.iou_scores[:, 0].float()


def mask_loss(logits_B3HW: Tensor, scores_B3: Tensor, mask_BHW: Tensor) -> Tensor:
    """SAM2's loss of three masks of one point, (B,): of the mask that fits best, and of all scores."""
    target = mask_BHW[:, None].expand_as(logits_B3HW).float()
    entropy = F.binary_cross_entropy_with_logits(logits_B3HW, target, reduction="none")
    probability = logits_B3HW.sigmoid()
    wrong = torch.where(target > 0, 1 - probability, probability)
    weight = torch.where(target > 0, FOCAL_ALPHA, 1 - FOCAL_ALPHA)
    focal_B3 = (weight * wrong**FOCAL_GAMMA * entropy).mean(dim=(2, 3))
    overlap, total = (probability * target).sum(dim=(2, 3)), (probability + target).sum(dim=(2, 3))
    dice_B3 = 1 - (2 * overlap + 1) / (total + 1)
    best_B = (FOCAL_WEIGHT * focal_B3 + DICE_WEIGHT * dice_B3).amin(dim=1)
    error_B = (scores_B3 - mask_iou(logits_B3HW, mask_BHW)).abs().mean(dim=1)
    return best_B + IOU_WEIGHT * error_B


def mask_iou(logits_B3HW: Tensor, mask_BHW: Tensor) -> Tensor:
    """The IoU of every mask with the target, (B, 3); without gradients."""
    found, target = logits_B3HW.detach() > 0, mask_BHW[:, None]
    union = (found | target).sum(dim=(2, 3))
    return (found & target).sum(dim=(2, 3)) / union.clamp(min=1)
