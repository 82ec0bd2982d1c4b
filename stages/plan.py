"""`partgen plan`: what the trainings of a preset need, and its data, before anyone starts them."""

from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from pipeline.diffusion.tasks import TASKS
from pipeline.errors import UserError
from pipeline.params.base import StageGroup, load_group, read_yaml
from pipeline.params.diffusion import DiffusionParams
from pipeline.params.gaussians import GaussiansParams
from pipeline.params.reconstruct import ReconstructParams
from pipeline.params.reconstruction import ReconstructionParams
from pipeline.params.render import RenderParams
from pipeline.params.train import TrainParams
from pipeline.plan.data import MEASURED, MOST_SHARD, StageNeed, data_half, shards_for
from pipeline.plan.estimate import USABLE, Costs, Estimate, estimate
from pipeline.plan.gpus import Gpu, find_gpu
from pipeline.plan.networks import Preset
from pipeline.plan.reconstructors import Inference, inferences
from pipeline.project import default_params, find_preset

GIB = 2**30
WIDTH = 110
"""Of the tables, where they do not go to a terminal."""
ANEW_RATE = 5e-5
"""The least learning rate of a training from random weights: half of Stable Diffusion's own, 1e-4."""
CHECKPOINTED = (
    "{}: with gradient checkpointing, what enters the blocks and what one block keeps while it is computed again; "
    "FLOPs are with this second forward pass."
)


def plan(preset: str | None, gpu: str, gpus: int = 1, utilisation: float = 0.35, objects: int | None = None) -> None:
    """Print parameters, memory, FLOPs and GPU-hours of every network of `preset`, None for the params in force.

    `utilisation` is the share of the GPU's peak that training is assumed to reach, 0 to 1. With `objects`, also
    CPU-hours, storage and shards of so many. Nothing is trained, and no weights are in memory. UserError for an
    unknown preset or GPU.
    """
    path, card = default_params() if preset is None else find_preset(preset), find_gpu(gpu)
    if not 0 < utilisation <= 1:
        raise UserError(f"The utilisation is {utilisation}; give a share of the GPU's peak, above 0 and at most 1.")
    diffusion, train = load_group(DiffusionParams, path=path), load_group(TrainParams, path=path)
    reconstruction = load_group(ReconstructionParams, path=path) if _has(path, ReconstructionParams) else None
    gaussians = load_group(GaussiansParams, path=path) if _has(path, GaussiansParams) else None
    networks = Preset(diffusion, train, load_group(RenderParams, path=path), reconstruction, gaussians)
    costs, errors = Costs(train.loop.precision), Console(stderr=True)
    estimates = [
        estimate(network, costs.of(network), train.loop, card, utilisation)
        for network in track(networks.networks(), "Tracing", total=len(networks.names), console=errors, transient=True)
    ]
    console = Console()
    console = console if console.is_terminal else Console(width=WIDTH)
    needs = data_half(read_yaml(path), objects) if objects else []
    if needs:
        console.print(_data(needs))
    console.print(_work(estimates, card, gpus))
    console.print(_memory(estimates, card, train.loop.precision))
    others = list(inferences(load_group(ReconstructParams, path=path)))
    if others:
        console.print(_others(others, card))
    recomputed = [name for name in TASKS if train.denoiser(name).gradient_checkpointing]
    checkpointed = [CHECKPOINTED.format(" and ".join(recomputed))] if recomputed else []
    said = (*_from_nothing(diffusion, train), *networks.assumed, *checkpointed)
    for note in (*_data_notes(needs), *said, *_notes(estimates, card, gpus, utilisation, train.loop.precision)):
        console.print(note, highlight=False)


def _has(path: Path, group: type[StageGroup]) -> bool:
    return group.name in read_yaml(path)


def _work(estimates: list[Estimate], gpu: Gpu, gpus: int) -> Table:
    table = Table(title=f"Work, on {gpus} {gpu.name}", title_justify="left")
    table.add_column("network", no_wrap=True)
    for heading in ("input", "trained M", "frozen M", "batch", "TFLOPs", "steps", "GPU-hours", "hours"):
        table.add_column(heading, justify="right")
    for row in estimates:
        table.add_row(
            row.name,
            "x".join(map(str, row.shape)),
            *(f"{count / 1e6:,.1f}" for count in (row.trainable, row.frozen)),
            str(row.batch),
            f"{row.flops / 1e12:,.3g}" if row.flops < 1e15 else f"{row.flops / 1e12:,.0f}",
            f"{row.steps:,}",
            *map(_hours, (row.gpu_hours, row.gpu_hours / gpus)),
        )
    total = sum(row.gpu_hours for row in estimates)
    table.add_section()
    table.add_row("all", *[""] * 6, _hours(total), _hours(total / gpus))
    return table


def _others(rows: list[Inference], gpu: Gpu) -> Table:
    table = Table(title="Reconstruction models of others, one grid at a time, fp32", title_justify="left")
    table.add_column("model", no_wrap=True)
    for heading in ("views", "M", "weights, GiB", "TFLOPs a grid", f"weights fit {gpu.name}"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            row.name,
            f"4 x {row.views} px",
            f"{row.parameters / 1e6:,.1f}",
            f"{row.weights / GIB:,.2f}",
            f"{row.flops / 1e12:,.3g}",
            "yes" if row.weights < USABLE * gpu.memory_gib * GIB else "[bold red]no[/]",
        )
    return table


def _data(needs: list[StageNeed]) -> Table:
    table = Table(title=f"Data half, {needs[0].objects:,} objects", title_justify="left")
    table.add_column("stage", no_wrap=True)
    for heading in ("CPU s an object", "CPU-hours", "GB", "files", "largest table", "GB a file"):
        table.add_column(heading, justify="right")
    for need in needs:
        if need.measured is None:
            table.add_row(need.stage, *["not measured"] * 2)
            continue
        name, size = need.largest_table
        sizes = f"{need.storage / 1e9:,.1f}", str(need.files), name, f"{size / need.shards / 1e9:,.2f}"
        table.add_row(need.stage, f"{need.measured.cpu_s:.3g}", _hours(need.cpu_hours), *sizes)
    table.add_section()
    storage, files = sum(need.storage for need in needs) / 1e9, sum(need.files for need in needs)
    table.add_row("all measured", "", _hours(sum(need.cpu_hours for need in needs)), f"{storage:,.1f}", str(files))
    return table


def _data_notes(needs: list[StageNeed]) -> list[str]:
    notes = [f"{need.stage}: not measured with {need.missing}." for need in needs if need.missing]
    counts = ", ".join(f"{need.stage} {need.measured.objects}" for need in needs if need.measured)
    if counts:
        shards = (
            f"{needs[0].shards}; with {shards_for(needs)} none of those measured exceeds {MOST_SHARD / 1e6:,.0f} MB"
        )
        notes += [
            f"Data half: {MEASURED}; objects measured: {counts}. It counts objects that are kept; the store of "
            "finished objects and DVC's cache hold the tables once more each.",
            f"Files: assets.shards is {shards}.",
        ]
    return notes


def _hours(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.3g}"


def _memory(estimates: list[Estimate], gpu: Gpu, precision: str) -> Table:
    table = Table(title=f"Memory of each GPU in GiB, {precision}", title_justify="left")
    table.add_column("network", no_wrap=True)
    columns = ("micro", "weights", "grads", "AdamW", "EMA", "activations", "all", f"fits {gpu.name}", "largest")
    for heading in columns:
        table.add_column(heading, justify="right")
    for row in estimates:
        sizes = (row.weights, row.gradients, row.optimiser, row.ema, row.activations, row.memory)
        table.add_row(
            row.name,
            str(row.micro_batch),
            *(f"{size / GIB:,.2f}" for size in sizes),
            "yes" if row.fits else "[bold red]no[/]",
            str(row.largest_micro_batch) if row.largest_micro_batch else "[bold red]none[/]",
        )
    return table


def _from_nothing(diffusion: DiffusionParams, train: TrainParams) -> list[str]:
    """Whether the base of all tasks is to be fine-tuned from weights that know nothing."""
    schedule = train.text_to_mv
    if diffusion.checkpoint or train.init_from or not schedule.steps or schedule.learning_rate >= ANEW_RATE:
        return []
    return [
        "[bold red]text_to_mv cannot be trained so:[/] it starts from random weights, since diffusion.checkpoint and "
        f"train.init_from are empty, and {schedule.steps:,} steps at a learning rate of {schedule.learning_rate:g} "
        "fine-tune a network that knows pictures already, the paper's from billions of them. All other tasks start "
        "from it. Name a checkpoint or a folder of models (docs/training.md, Latent channels)."
    ]


def _notes(estimates: list[Estimate], gpu: Gpu, gpus: int, utilisation: float, precision: str) -> list[str]:
    peak = gpu.flops(precision) / 1e12
    notes = [
        f"Hours: at {utilisation:.0%} of the {gpu.name}'s {peak:,.0f} TFLOP/s in {precision}, which is an assumption. "
        "TFLOPs of a step: matrix products, convolutions and fused attention, forward and backward over a whole batch, "
        "and the frozen encoders' forward.",
        "Memory: `micro` is the micro batch; weights are with autocast's copies; activations are what autograd keeps "
        f"of a micro batch. All fits within {USABLE:.0%} of the {gpu.memory_gib:g} GiB that PyTorch sees; `largest` is "
        "the micro batch up to which it does.",
    ]
    unplanned = [row.name for row in estimates if not row.steps]
    if unplanned:
        notes.append(f"No training is planned of: {', '.join(unplanned)}; the cost of a step is shown, and no hours.")
    uneven = [row.name for row in estimates if row.batch % (row.micro_batch * gpus)]
    if uneven:
        notes.append(
            f"The batch is no multiple of micro batch x {gpus} GPUs, so training refuses: {', '.join(uneven)}."
        )
    return notes
