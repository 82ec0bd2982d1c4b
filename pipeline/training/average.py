"""The exponential moving average of a network's weights."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn


class Average:
    """Moving average of `parameters`, which is what a training keeps.

    a_1 = w_1,  a_n = k_n a_{n-1} + (1 - k_n) w_n,  k_n = min(decay, (n - 1) / (n + 8)),  w_n the weights after step n.

    While the second term of the minimum holds, a_n weighs w_m by about m^8: the last tenth of the steps counts, however
    short the training, and nothing is left of the weights it started from. With a decay of 0, a_n is w_n exactly.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], decay: float) -> None:
        self.parameters, self.decay = parameters, decay
        self.values = [parameter.detach().clone() for parameter in parameters]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after step `step`, which counts from 1."""
        keep = min(self.decay, (step - 1) / (step + 8))
        for value, parameter in zip(self.values, self.parameters, strict=True):
            value.lerp_(parameter, 1 - keep)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The network has the average for its weights, inside; then its own again, bit for bit, nothing copied."""
        self.exchange()
        try:
            yield
        finally:
            self.exchange()

    def exchange(self) -> None:
        """Exchange the weights and their average."""
        for index, parameter in enumerate(self.parameters):
            parameter.data, self.values[index] = self.values[index], parameter.data
