"""What the training loop asks of the one whose network it trains.

Shape suffixes: B samples of a micro batch.
"""

from typing import Any, Protocol

import numpy as np
from torch import Tensor, nn
from torch.utils.data import Dataset

Batch = dict[str, Any]


class Objective(Protocol):
    """What is trained, on what, and to what end."""

    @property
    def module(self) -> nn.Module:
        """The network; its parameters that require gradients are trained. The loop moves it to the device."""

    def examples(self) -> Dataset[dict[str, Any]]:
        """Samples by their number, without end: nothing but the number decides what a sample is."""

    def collate(self, items: list[dict[str, Any]]) -> Batch:
        """Samples as a batch; `object_id` is the list of their objects' ids."""

    def loss(self, module: nn.Module, batch: Batch) -> Tensor:
        """The loss of every sample of the batch, (B,), where the batch's tensors lie.

        `module` is the network as accelerate wraps it: it can be called, and has no other attributes. Several processes
        learn of each other's gradients only through that call.
        """

    def validation(self) -> dict[str, float]:
        """What is measured on validation objects, `loss` among it, with `self.module` in evaluation mode."""

    def pictures(self) -> dict[str, np.ndarray]:
        """Sample pictures by name, (H, W, 3) uint8, with `self.module` in evaluation mode."""
