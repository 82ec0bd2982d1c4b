"""A training of a diffusion task out of a pack, on a machine with a GPU, or none, and little else.

    python -m pipeline.packs.train segment --pack PACK --init MODELS --out FOLDER --set precision=bf16

needs this program's folder `pipeline` and torch, diffusers, safetensors, numpy and accelerate: no Parquet, no renderer,
no encoders. Samples, noise, loss and loop are those of `stages.train`. FOLDER/TASK becomes the model, as any other;
FOLDER/training/TASK has the checkpoints, of files under 16 MiB, from which the same command goes on, also on another
machine to which FOLDER was copied.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image

from pipeline.diffusion.autoencoder import latent_channels, latent_factor
from pipeline.diffusion.networks import Model, load_autoencoder
from pipeline.diffusion.objective import DiffusionObjective
from pipeline.diffusion.schedule import training_schedule
from pipeline.diffusion.tasks import BASE, TASKS, Task, find_task
from pipeline.diffusion.unet import MultiViewUNet, build_unet, fine_tuned_from, load_unet
from pipeline.errors import UserError, nearest
from pipeline.folders import SUMS, content_digest, replaced, written
from pipeline.packs.read import NullText, Pack
from pipeline.training.loop import train

CHECKPOINT_BYTES = 15 * 2**20
"""Of a checkpoint's file, at most, without its header."""
NOT_DECIDING = (
    "precision",
    "micro_batch",
    "gradient_checkpointing",
    "checkpoint_every",
    "validate_every",
    "pictures_every",
)
"""Settings that another machine may have otherwise when it goes on from a checkpoint."""
STARTED = time.monotonic()


def run(
    task_name: str, pack: Pack, init: Path | None, out: Path, compiled: bool = False, until: float = math.inf
) -> bool:
    """Train a task with the pack's settings, up to the moment `until`; whether it came to its end.

    The network goes on from the task's own in the folder `init`, else from `text_to_mv` there; without a folder,
    `text_to_mv` starts from random weights. UserError for what is missing or does not fit.
    """
    task = find_task(task_name)
    if task_name not in pack.schedules:
        raise UserError(f"{pack.folder} is a pack of {', '.join(pack.schedules)}; make one with {task_name}.")
    settings, schedule = pack.settings, pack.schedules[task_name]
    loop, diffusion = settings.loop, settings.diffusion
    folder = out / "training" / task_name
    network = _network_of(task, init, out)
    torch.manual_seed(loop.seed)
    model_folder = pack.folder / "models" / task_name
    autoencoder = load_autoencoder(model_folder / "autoencoder").eval().requires_grad_(False)
    text: Any = NullText(pack.null_text)
    side = 2 * settings.view_size // latent_factor(autoencoder)
    unet = _start(task, pack, network, latent_channels(autoencoder), side)
    _check_same(folder, task_name, pack, network)
    task = task.of_network(unet.config.in_channels, unet.config.out_channels)
    if schedule.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    examples = pack.samples(task, "train", loop.drop_condition, loop.augment)
    assert examples is not None
    objective = DiffusionObjective(
        task,
        Model(unet, autoencoder, text, None),
        training_schedule(diffusion.schedule, task),
        getattr(diffusion.sampler, task_name),
        examples,
        pack.samples(task, "val", 0.0, augment=False),
        loop.seed,
        text_outputs=pack.tokens["text"] if task.caption else None,
        image_outputs=pack.tokens["image"] if task.image_tokens else None,
        part_balance=loop.part_balance,
    )
    ended = train(
        objective,
        task_name,
        loop,
        schedule,
        folder,
        folder / "curve.csv",
        compiled=compiled,
        until=until,
        piece_bytes=CHECKPOINT_BYTES,
    )
    if ended:
        unet.eval()
        with torch.no_grad():
            pictures = objective.pictures()
        with written(folder / "samples.png") as partial:
            Image.fromarray(np.concatenate(list(pictures.values()))).save(partial, "PNG")
        with replaced(out / task_name) as partial:
            shutil.copytree(model_folder, partial, dirs_exist_ok=True)
            unet.save_pretrained(partial / "unet")
    return ended


def _network_of(task: Task, init: Path | None, out: Path) -> Path | None:
    """The folder of the network to start from; None for random weights."""
    if init is None:
        if task.name != BASE:
            raise UserError(f"{task.name} is fine-tuned from {task.base}; name a folder that has it (--init).")
        return None
    # What this training itself made, where one folder holds all networks, is not what it started from.
    names = [task.base] if init.resolve() == out.resolve() else [task.name, task.base]
    return next((init / name / "unet" for name in names if (init / name / "unet").is_dir()), init / task.base / "unet")


def _start(task: Task, pack: Pack, network: Path | None, channels: int, side: int) -> MultiViewUNet:
    """The denoiser as the training starts."""
    diffusion, embed_width = pack.settings.diffusion, pack.settings.image_embed_width
    if network is None:
        return build_unet(diffusion, task, channels, side, pack.null_text.shape[-1], embed_width)
    found = load_unet(network)
    return found if network.parent.name == task.name else fine_tuned_from(found, task, diffusion, embed_width)


def _check_same(folder: Path, task: str, pack: Pack, network: Path | None) -> None:
    """UserError when `folder` has checkpoints of other samples, settings or weights to start from."""
    deciding = {
        key: value
        for group in (pack.settings.loop, pack.schedules[task])
        for key, value in vars(group).items()
        if key not in NOT_DECIDING
    }
    about = {
        "samples": content_digest(pack.folder / SUMS),
        "settings": deciding,
        "weights": content_digest(network) if network else "",
    }
    file = folder / "about.json"
    if file.exists() and (other := json.loads(file.read_text(encoding="utf-8"))) != about:
        what = next(key for key in about if other.get(key) != about[key])
        raise UserError(f"{folder} has a training that began with other {what}; name another folder (--out).")
    with written(file) as partial:
        partial.write_text(json.dumps(about, indent=2), encoding="utf-8")


def _override(groups: Sequence[SimpleNamespace], text: str) -> None:
    """Set `key=value`, a JSON value, in the group that has the key; UserError for one of another name or kind."""
    key, _, value = text.partition("=")
    known = {name: group for group in groups for name in vars(group)}
    if key not in known:
        raise UserError(f"There is no setting `{key}`{nearest(key, known)}; there are {', '.join(known)}.")
    old = getattr(known[key], key)
    try:
        new = (
            type(old)(value) if isinstance(old, int | float | str) and not isinstance(old, bool) else json.loads(value)
        )
    except ValueError:
        new = None
    if type(new) is not type(old):
        raise UserError(f"{key} is {old!r} in the pack and cannot be {value!r}; give a value of that kind.")
    setattr(known[key], key, new)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=list(TASKS))
    parser.add_argument("--pack", type=Path, required=True, help="folder that `partgen pack` wrote")
    parser.add_argument("--init", type=Path, help="folder of models to start from")
    parser.add_argument("--out", type=Path, required=True, help="folder of the model and of the checkpoints")
    parser.add_argument("--compile", action="store_true", help="compile the network (torch.compile)")
    parser.add_argument("--minutes", type=float, default=math.inf, help="then write a checkpoint and end with status 3")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="steps, batch, learning_rate, ..."
    )
    return parser.parse_args()


def main() -> int:
    """The command; its exit status: 0, 2 for a mistake told in one sentence, 3 when the time was up before the end."""
    arguments = _parse()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    try:
        pack = Pack(arguments.pack)
        groups = [pack.settings.loop, *filter(None, [pack.schedules.get(arguments.task)])]
        for text in arguments.set:
            _override(groups, text)
        until = STARTED + 60 * arguments.minutes
        ended = run(arguments.task, pack, arguments.init, arguments.out, arguments.compile, until)
    except UserError as error:
        print(f"partgen: {error}", file=sys.stderr)
        return 2
    if not ended:
        print(f"{arguments.task}: the time is up; the same command goes on from the checkpoint.", file=sys.stderr)
    return 0 if ended else 3


if __name__ == "__main__":
    sys.exit(main())
