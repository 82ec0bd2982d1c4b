"""From the cost of a micro batch to memory, time and whether it fits."""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass

from torch import Tensor, nn

from pipeline.params.train import LoopParams
from pipeline.plan.gpus import Gpu
from pipeline.plan.networks import Network
from pipeline.plan.trace import Cost, Precision, training_cost

USABLE = 0.9
"""Share of a GPU's memory that may be planned: the rest is for the CUDA context, fragments of free memory, and what the
kernels use for a moment."""


@dataclass(frozen=True)
class Estimate:
    """What the training of one network needs. Memory in bytes, of one GPU; all GPUs hold the same."""

    name: str
    shape: tuple[int, int, int]
    """What goes into the network for one sample: channels, height, width."""
    trainable: int
    frozen: int
    """Parameters of the encoders around the network, and of the network itself where they are not trained."""
    weights: int
    """All weights, with the bfloat16 copies that autocast makes of them."""
    gradients: int
    optimiser: int
    """AdamW's two moments."""
    ema: int
    activations: int
    """Kept for the backward pass of one micro batch."""
    micro_batch: int
    batch: int
    steps: int
    flops: int
    """Of a step, over the whole batch: forward and backward, and the frozen encoders' forward."""
    gpu_hours: float
    """Of the whole schedule."""
    capacity: int
    """What may be planned of the GPU's memory."""

    @property
    def memory(self) -> int:
        """All of it."""
        return self._fixed + self.activations

    @property
    def fits(self) -> bool:
        """Whether a micro batch fits the GPU."""
        return self.memory <= self.capacity

    @property
    def largest_micro_batch(self) -> int:
        """Samples whose activations the GPU can hold at once, at most a whole batch; 0 when not even one."""
        left = max(0, self.capacity - self._fixed)
        return min(self.batch, left * self.micro_batch // max(1, self.activations))

    @property
    def _fixed(self) -> int:
        return self.weights + self.gradients + self.optimiser + self.ema


class Costs:
    """Costs of a micro batch; a body that several networks share is traced once, their stems one by one."""

    def __init__(self, precision: Precision) -> None:
        self._precision = precision
        self._bodies: dict[Hashable, Cost] = {}

    def of(self, network: Network) -> Cost:
        """Cost of a micro batch through `network`."""
        stem, batch = network.stem, network.schedule.micro_batch
        if stem is None:
            return self._trace(network)
        first = training_cost(stem.module, lambda: stem.forward(batch), self._precision)
        key = (stem.body, batch)
        if key not in self._bodies:
            self._bodies[key] = self._trace(network) - first
        return self._bodies[key] + first

    def _trace(self, network: Network) -> Cost:
        return training_cost(network.module, lambda: network.forward(network.schedule.micro_batch), self._precision)


def estimate(network: Network, cost: Cost, loop: LoopParams, gpu: Gpu, utilisation: float) -> Estimate:
    """What the training of `network` needs when the GPU reaches `utilisation` (0 to 1) of its peak FLOPs.

    `cost` is that of a micro batch.
    """
    schedule = network.schedule
    trained = [weight for weight in network.module.parameters() if weight.requires_grad]
    kept = [weight for weight in network.module.parameters() if not weight.requires_grad]
    frozen = [*kept, *(weight for module in network.frozen for weight in module.parameters())]
    flops = cost.flops * schedule.batch // schedule.micro_batch + network.frozen_flops * schedule.batch
    seconds = schedule.steps * flops / (gpu.flops(loop.precision) * utilisation)
    return Estimate(
        name=network.name,
        shape=network.shape,
        trainable=count(trained),
        frozen=count(frozen),
        weights=nbytes((*trained, *frozen, *_buffers(network))) + cost.weight_copy_bytes,
        gradients=nbytes(trained),
        optimiser=2 * nbytes(trained),
        ema=nbytes(trained),
        activations=cost.activation_bytes,
        micro_batch=schedule.micro_batch,
        batch=schedule.batch,
        steps=schedule.steps,
        flops=flops,
        gpu_hours=seconds / 3600,
        capacity=int(USABLE * gpu.memory_gib * 2**30),
    )


def count(weights: Iterable[Tensor]) -> int:
    """Numbers in all of them."""
    return sum(weight.numel() for weight in weights)


def nbytes(weights: Iterable[Tensor]) -> int:
    """Bytes of all of them."""
    return sum(weight.numel() * weight.element_size() for weight in weights)


def _buffers(network: Network) -> list[Tensor]:
    modules: tuple[nn.Module, ...] = (network.module, *network.frozen)
    return [buffer for module in modules for buffer in module.buffers()]
