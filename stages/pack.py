"""`partgen pack`: the training samples of diffusion tasks, for a machine with a GPU and little else."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.diffusion.pack import write_pack
from pipeline.diffusion.tasks import find_task
from pipeline.diffusion.trainings import TrainingData
from pipeline.params.base import load_group
from pipeline.params.diffusion import DiffusionParams
from pipeline.params.render import RenderParams
from pipeline.params.train import TrainParams


def pack(out: Path, tasks: Sequence[str], models: Path, overrides: Sequence[str] = ()) -> None:
    """Write the pack of these tasks with params.yaml and `overrides`; `models` has the autoencoder."""
    params, diffusion = load_group(TrainParams, overrides), load_group(DiffusionParams, overrides)
    view_size = load_group(RenderParams, overrides).view_size
    training = TrainingData(Path("data"), diffusion, params.loop.seed, view_size, params.loop.augment)
    write_pack(out, [find_task(task).name for task in tasks], params, training, models)
    pieces = sorted(out.rglob("*.safetensors"))
    megabytes = [path.stat().st_size / 1e6 for path in pieces]
    print(f"{out}: {len(pieces)} files of {sum(megabytes):.1f} MB, the largest of {max(megabytes):.1f} MB.")
