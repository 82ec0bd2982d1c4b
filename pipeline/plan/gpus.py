"""GPUs to plan for."""

from dataclasses import dataclass

from pipeline.errors import UserError, nearest


@dataclass(frozen=True)
class Gpu:
    """One accelerator."""

    name: str
    bf16_tflops: float
    """Peak of the tensor cores, dense (without sparsity), float32 accumulation, in 1e12 FLOPs a second."""
    fp32_tflops: float
    """Peak of the ordinary cores: PyTorch keeps float32 products off the tensor cores unless asked (TF32)."""
    memory_gib: float
    """What PyTorch can see of the card (`torch.cuda.mem_get_info`); less than the number on the box."""

    def flops(self, precision: str) -> float:
        """Peak FLOPs a second at `bf16` or `fp32`."""
        return (self.bf16_tflops if precision == "bf16" else self.fp32_tflops) * 1e12


# Peaks: NVIDIA's data sheets of A100 80GB SXM, H100 SXM, H200 SXM and L40S, and its Ada architecture white paper (RTX
# 4090); where a sheet gives numbers with sparsity, half of them. Memory: totals that PyTorch reports on such cards.
GPUS = {
    gpu.name: gpu
    for gpu in (
        Gpu("A100", bf16_tflops=312.0, fp32_tflops=19.5, memory_gib=79.1),
        Gpu("H100", bf16_tflops=989.4, fp32_tflops=66.9, memory_gib=79.1),
        Gpu("H200", bf16_tflops=989.4, fp32_tflops=66.9, memory_gib=139.7),
        Gpu("RTX 4090", bf16_tflops=165.2, fp32_tflops=82.6, memory_gib=23.6),
        Gpu("L40S", bf16_tflops=362.05, fp32_tflops=91.6, memory_gib=44.4),
    )
}


def find_gpu(name: str) -> Gpu:
    """The GPU of that name, in any case, with or without `RTX` and blanks; UserError that names those known."""
    for known, gpu in GPUS.items():
        if _plain(name) == _plain(known):
            return gpu
    raise UserError(f"There is no GPU `{name}` in the table{nearest(name, GPUS)}; known are {', '.join(GPUS)}.")


def _plain(name: str) -> str:
    return name.casefold().replace(" ", "").replace("-", "").removeprefix("rtx")
