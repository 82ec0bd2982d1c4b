"""Cost of one training step of a network, measured on the meta device: shapes without numbers, no memory.

What is counted is what a GPU would hold and do, so the meta device is made to behave like one in two ways: attention is
one fused operation that never keeps its scores, and bfloat16 autocast, which the meta device does not have, is done
here by the rules of PyTorch's CUDA autocast.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from diffusers import ModelMixin
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

Precision = Literal["fp32", "bf16"]

# The operations of CUDA autocast that networks use, by the names that a TorchFunctionMode sees (ATen/autocast_mode.h).
LOWERED = {
    "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "linear", "matmul",
    "__matmul__", "mm", "mv", "bmm", "addmm", "addbmm", "baddbmm", "einsum", "prelu", "scaled_dot_product_attention",
}  # fmt: skip
RAISED = {
    "group_norm", "layer_norm", "rms_norm", "softmax", "log_softmax", "softplus", "exp", "expm1", "log", "log2",
    "log10", "log1p", "pow", "__pow__", "reciprocal", "rsqrt", "sum", "prod", "cumsum", "cumprod", "norm", "logsumexp",
    "interpolate", "cosine_similarity", "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "cross_entropy",
    "nll_loss", "kl_div", "binary_cross_entropy_with_logits",
}  # fmt: skip


@dataclass(frozen=True)
class Cost:
    """Of one micro batch, forward and backward."""

    flops: int
    """Multiplications and additions of matrix products, convolutions and attention; a fused multiply-add is two."""
    activation_bytes: int
    """What autograd keeps from the forward to the backward pass, besides the weights; each storage once. With gradient
    checkpointing: what enters the blocks, and what the largest block keeps while it is computed again."""
    weight_copy_bytes: int
    """bfloat16 copies of the weights, which autocast keeps over the same time; they do not grow with the batch."""

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.flops + other.flops,
            self.activation_bytes + other.activation_bytes,
            self.weight_copy_bytes + other.weight_copy_bytes,
        )

    def __sub__(self, other: "Cost") -> "Cost":
        return self + Cost(-other.flops, -other.activation_bytes, -other.weight_copy_bytes)


class Flops(TorchDispatchMode):
    """Counts by the formulas of torch.utils.flop_counter, whose own mode takes twice the time: it counts by modules."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func.overloadpacket in flop_registry:
            self.total += flop_registry[func.overloadpacket](*args, **(kwargs or {}), out_val=result)
        return result


class SavedStorages:
    """Context in which the storages that autograd saves are counted once each, whatever the number of their views."""

    def __init__(self, without: Iterable[Tensor]) -> None:
        """`without`: tensors whose storages are not counted, such as weights and buffers."""
        self._without = {tensor.untyped_storage()._cdata for tensor in without}
        # Holding the storages keeps one that was freed meanwhile from lending its address to another.
        self._storages: dict[int, torch.UntypedStorage] = {}
        self._hooks = saved_tensors_hooks(self._pack, lambda tensor: tensor)

    def __enter__(self) -> "SavedStorages":
        self._hooks.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._hooks.__exit__(*exception)

    def hold(self, tensor: Tensor) -> None:
        """Count one that something else than autograd keeps."""
        self._pack(tensor)

    def _pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._without:
            self._storages[storage._cdata] = storage
        return tensor

    def nbytes(self, without: Iterable[Tensor] = ()) -> int:
        """Bytes of all storages seen so far, but for those of `without`."""
        left_out = {tensor.untyped_storage()._cdata for tensor in without}
        return sum(storage.nbytes() for key, storage in self._storages.items() if key not in left_out)


class LikeCuda(TorchFunctionMode):
    """Makes the meta device compute as a CUDA device would: fused attention, and autocast when `precision` is bf16."""

    def __init__(self, precision: Precision) -> None:
        super().__init__()
        self._lowers = precision == "bf16"
        self.weight_copies: dict[int, Tensor] = {}
        """bfloat16 copies of the weights by id; as in autocast, a weight that is used twice has one."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if self._lowers and name in LOWERED:
            args, kwargs = self._cast(args, torch.bfloat16), self._cast(kwargs, torch.bfloat16)
        elif self._lowers and name in RAISED and kwargs.get("dtype") is None:
            args, kwargs = self._cast(args, torch.float32), self._cast(kwargs, torch.float32)
        if name == "scaled_dot_product_attention":
            return fused_attention(*args, **kwargs)
        return func(*args, **kwargs)

    def _cast(self, value: Any, dtype: torch.dtype) -> Any:
        if isinstance(value, Tensor):
            if value.dtype not in (torch.float32, torch.bfloat16) or value.dtype == dtype:
                return value
            if dtype == torch.bfloat16 and value.is_leaf and value.requires_grad:
                return self.weight_copies.setdefault(id(value), value.to(dtype))
            return value.to(dtype)
        if isinstance(value, Mapping):
            return {key: self._cast(inner, dtype) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(self._cast(inner, dtype) for inner in value)
        return value


class Checkpointed:
    """Stands in for torch.utils.checkpoint: a block's inputs are kept, what it saves itself is not."""

    def __init__(self, weights: Iterable[Tensor], saved: SavedStorages, flops: Flops, mode: LikeCuda) -> None:
        self._weights, self._saved, self._flops, self._mode = tuple(weights), saved, flops, mode
        self.largest = 0
        """Bytes that the largest block keeps while it is computed again."""
        self.flops = 0
        """Of all blocks' second forward pass."""

    def __call__(self, block: Callable[..., Any], *args: Any) -> Any:
        kept = tuple(_tensors(args))
        for tensor in kept:
            self._saved.hold(tensor)
        before = self._flops.total
        with SavedStorages(self._weights) as inside:
            result = block(*args)
        self.flops += self._flops.total - before
        self.largest = max(self.largest, inside.nbytes(without=(*kept, *self._mode.weight_copies.values())))
        return result


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _tensors(inner)


def fused_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Attention as CUDA computes it: flash attention in bfloat16 without a mask, else the memory-efficient kernel.

    PyTorch takes the plain products on the meta device instead, and then keeps all scores for the backward pass.
    """
    assert not enable_gqa
    aten = torch.ops.aten
    if query.dtype == torch.bfloat16 and attn_mask is None:
        flash = aten._scaled_dot_product_flash_attention(query, key, value, dropout_p, is_causal, scale=scale)
        attended: Tensor = flash[0]
        return attended
    shape = (*query.shape[:-1], key.shape[-2])
    bias = None if attn_mask is None else attn_mask.to(query.dtype).expand(shape)
    efficient = aten._scaled_dot_product_efficient_attention(
        query, key, value, bias, True, dropout_p, is_causal, scale=scale
    )
    attended = efficient[0]
    return attended


def training_cost(module: nn.Module, forward: Callable[[], Tensor], precision: Precision) -> Cost:
    """Cost of a forward pass of `module` on the meta device, and of the backward pass from the mean of its output.

    Where gradient checkpointing is enabled, with what it computes again.
    """
    module.train()
    weights = (*module.parameters(), *module.buffers())
    with Flops() as flops:
        with SavedStorages(weights) as saved, LikeCuda(precision) as mode:
            checkpointed = Checkpointed(weights, saved, flops, mode)
            network = module if isinstance(module, ModelMixin) and module.is_gradient_checkpointing else None
            if network is not None:
                network.enable_gradient_checkpointing(checkpointed)
            loss = forward().float().square().mean()
        copies = tuple(mode.weight_copies.values())
        activations = saved.nbytes(without=copies)
        copied = saved.nbytes() - activations
        loss.backward()
    module.zero_grad()
    if network is not None:
        network.enable_gradient_checkpointing()
        copied = sum(copy.nbytes for copy in copies)  # all blocks', in autocast's cache until the forward pass ends
    return Cost(flops.total + checkpointed.flops, activations + checkpointed.largest, copied)


def inference_flops(forward: Callable[[], object]) -> int:
    """FLOPs of what `forward` computes on the meta device without gradients."""
    with torch.no_grad(), Flops() as flops, LikeCuda("fp32"):
        forward()
    return flops.total
