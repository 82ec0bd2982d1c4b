"""What the training loop minimises for the grouping model: cross-entropy over pairs of atoms, and the squared error of
what it says of the groups of its own hierarchy.

Shape suffixes: B samples, N atoms, H W pixels of the 2x2 grid.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.surface.examples import GroupingExamples, collate, sample
from pipeline.surface.grouping import GroupingModel, grouped, tokens
from pipeline.surface.hierarchy import hierarchy
from pipeline.surface.object_atoms import REGIMES, ObjectAtoms
from pipeline.surface.part_count import best_ious, node_features
from pipeline.surface.scores import mean_best_iou
from pipeline.views.palette import PART_COLOURS

PICTURES, WHITE_EDGE = 4, 2
LEAST = 1e-3
"""Less than this weight of pairs of one kind does not count."""


class GroupingObjective:
    """The loss of the grouping model over its training examples."""

    collate = staticmethod(collate)

    def __init__(
        self, model: GroupingModel, examples: GroupingExamples, validation: Sequence[tuple[str, str, ObjectAtoms]]
    ) -> None:
        """`validation` are regime, id and atoms of objects to measure on; it may be empty."""
        self.module = model
        self._examples, self._validation = examples, validation

    def examples(self) -> GroupingExamples:
        """The training examples."""
        return self._examples

    def loss(self, module: nn.Module, batch: dict[str, Any]) -> Tensor:
        """(B,) Cross-entropy over pairs, weighted by the roots of areas; pairs of one part and of two count alike.

        To it comes the mean squared error of the nodes' qualities, which teaches nothing about pairs.
        """
        share, same, here = batch["share"], batch["same"], ~batch["padding"]
        logits = module(tokens(batch["points"], share), batch["pairs"], batch["padding"])
        error = F.binary_cross_entropy_with_logits(logits.float(), same, reduction="none")
        count = share.shape[1]
        apart = 1 - torch.eye(count, device=share.device)
        weight = share.sqrt()[:, :, None] * share.sqrt()[:, None] * here[:, :, None] * here[:, None] * apart
        loss, kinds = torch.zeros(len(share), device=share.device), torch.zeros(len(share), device=share.device)
        for kind in (same, 1 - same):
            total = (weight * kind).sum(dim=(1, 2))
            loss = loss + (weight * kind * error).sum(dim=(1, 2)) / total.clamp_min(LEAST)
            kinds = kinds + (total > LEAST)
        return loss / kinds.clamp_min(1) + self._quality_loss(torch.sigmoid(logits.detach().float()), batch)

    def _quality_loss(self, probability: Tensor, batch: dict[str, Any]) -> Tensor:
        losses = []
        counts = (~batch["padding"]).sum(dim=1).tolist()
        same, share, truth = (value.cpu().numpy() for value in (probability, batch["share"], batch["truth"]))
        for number, count in enumerate(counts):
            probability_NN = same[number, :count, :count].astype(np.float64)
            merges = hierarchy(probability_NN)
            nodes = torch.from_numpy(node_features(probability_NN, merges, share[number, :count]))
            target = torch.from_numpy(best_ious(truth[number, :count], merges))
            found = self.module.quality(nodes.to(probability.device))
            losses.append(F.mse_loss(found, target.to(probability.device)))
        return torch.stack(losses)

    def validation(self) -> dict[str, float]:
        """By regime, the mean best IoU of the parts, in [0, 1]; `loss`, that of the samples as they are."""
        if not self._validation:
            return {}
        ious: dict[str, list[float]] = {regime: [] for regime in REGIMES}
        losses = []
        for regime, object_id, atoms in self._validation:
            ious[regime].append(mean_best_iou(atoms.truth_NS, grouped(self.module, atoms.features)))
            if len(atoms.truth_NS) > 1:
                batch = self.collate([{"object_id": object_id, **sample(atoms)}])
                losses.append(float(self.loss(self.module, batch)))
        found = {f"iou_{regime}": float(np.mean(values)) for regime, values in ious.items() if values}
        return {"loss": float(np.mean(losses)), **found} if losses else found

    def pictures(self) -> dict[str, np.ndarray]:
        """Four views of some objects in the colours of their true parts, and of those that are found."""
        shown = [atoms for _, _, atoms in self._validation] or [atoms for _, atoms in self._examples.rows]
        columns = []
        for atoms in shown[:PICTURES]:
            labels = [atoms.truth_NS.argmax(axis=1), grouped(self.module, atoms.features)]
            drawn = [_coloured(np.concatenate([[-1], part_N])[atoms.seen_HW] + 1) for part_N in labels]
            columns.append(np.concatenate(drawn))
        return {"samples": np.concatenate(columns, axis=1)}


def _coloured(labels_HW: np.ndarray) -> np.ndarray:
    colours = np.asarray(PART_COLOURS, np.uint8)
    picture = colours[np.where(labels_HW > 0, (labels_HW - 1) % (len(colours) - 1) + 1, 0)]
    return np.pad(picture, ((WHITE_EDGE,) * 2, (WHITE_EDGE,) * 2, (0, 0)), constant_values=255)
