"""Weights by a rule of their names and shapes, so that networks can be compared without storing any."""

import math
import zlib
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

GOLDEN = Path(__file__).parent / "golden"
"""What the authors' own modules gave with such weights, and the keys and shapes of their whole networks."""
Network = TypeVar("Network", bound=nn.Module)


def rule_filled(network: Network) -> Network:
    """The network with normal values: over the root of the inputs, near 1 for norms' weights, small for biases."""
    state = {}
    for key, old in network.state_dict().items():
        value = torch.randn(old.shape, generator=torch.Generator().manual_seed(zlib.crc32(key.encode())))
        if old.ndim > 1:
            state[key] = value / math.sqrt(max(1, value[0].numel()))
        else:
            state[key] = 1 + 0.1 * value if key.endswith("weight") else 0.1 * value
    network.load_state_dict(state)
    return network.eval()


def drawn(seed: int, *shape: int) -> torch.Tensor:
    """Normal values."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def keys(network: nn.Module) -> list[str]:
    """Of all weights with their shapes, as in the files of GOLDEN."""
    state = network.state_dict().items()
    return sorted(f"{key} {'x'.join(map(str, value.shape)) or '-'}" for key, value in state)
