"""A training of a diffusion task out of a pack, on a machine with a GPU, or none, and little else.

    python -m pipeline.diffusion.packed segment --pack PACK --init MODELS --out FOLDER --set precision=bf16

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
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import load_file
from torch import Tensor, nn

from pipeline.diffusion.autoencoder import latent_channels, latent_factor
from pipeline.diffusion.networks import Model, load_autoencoder
from pipeline.diffusion.objective import DiffusionObjective
from pipeline.diffusion.samples import Samples
from pipeline.diffusion.schedule import training_schedule
from pipeline.diffusion.tasks import BASE, TASKS, Task, find_task
from pipeline.diffusion.unet import MultiViewUNet, build_unet, fine_tuned_from, load_unet
from pipeline.errors import UserError, nearest
from pipeline.folders import check_sums, content_digest, replaced, written
from pipeline.training.loop import train

VERSION = 1
KIND = "pack of training samples"
MANIFEST, ROWS, INDEX = "manifest.json", "rows.json", "index.safetensors"
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


class PackedTable:
    """The rows of a table of a pack, held in memory; see `pipeline.diffusion.samples.DecodedTable`."""

    def __init__(self, columns: Mapping[str, Sequence[Any] | np.ndarray]) -> None:
        self.columns = columns

    def __getitem__(self, row: int) -> dict[str, Any]:
        return {name: values[row] for name, values in self.columns.items()}


class PackedTokens:
    """Tokens of a frozen encoder, float16 (rows, N, E), held in memory; see `pipeline.diffusion.networks.Tokens`."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def __getitem__(self, rows: Tensor) -> Tensor:
        return torch.from_numpy(self.values[rows.numpy()].astype(np.float32))


class NullText(nn.Module):
    """In the place of a text encoder: the tokens of the empty string, (1, L, D), and of nothing else."""

    def __init__(self, tokens: Tensor) -> None:
        super().__init__()
        self.register_buffer("tokens", tokens)
        self.width = tokens.shape[-1]

    @property
    def device(self) -> torch.device:
        """Where the tokens are."""
        return next(self.buffers()).device

    def encode(self, prompts: Sequence[str]) -> tuple[Tensor, None]:
        """The null text's tokens."""
        assert list(prompts) == [""], "captions have their tokens in the pack"
        return next(self.buffers()), None


class Pack:
    """A pack, and the samples of its tasks. UserError when it is none, or one of its files is damaged."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
            known = manifest["pack"] == VERSION
        except (OSError, ValueError, KeyError, TypeError):
            known = False
        if not known:
            raise UserError(f"{folder} is no pack of this version; make one with `partgen pack`.")
        check_sums(folder)
        self.settings = json.loads(json.dumps(manifest), object_hook=lambda values: SimpleNamespace(**values))
        self.schedules: dict[str, SimpleNamespace] = vars(self.settings.schedules)
        rows = json.loads((folder / ROWS).read_text(encoding="utf-8"))
        arrays = load_file(folder / INDEX)
        self.null_text = torch.from_numpy(arrays.pop("null_text"))
        self.records = arrays
        self.tables = {
            "grids": PackedTable({"image": self._pieces("grids")} | rows.get("grids", {})),
            "labels": PackedTable({"labels": self._pieces("labels")}),
            "views": PackedTable({"image": self._pieces("views")}),
            "captions": PackedTable(rows.get("captions", {})),
        }
        self.tokens = {name: PackedTokens(self._pieces(name)) for name in ("text", "image")}

    def samples(self, task: Task, split: str, drop_condition: float, augment: bool) -> Samples | None:
        """Those of a split, `train` or `val`; None where the pack has none."""
        if (records := self.records.get(f"{task.name}/{split}")) is None:
            return None
        index = [tuple(record) for record in records.tolist()]
        diffusion, seed = self.settings.diffusion, self.settings.loop.seed
        return Samples(task, index, self.tables, diffusion.colours, diffusion.palette, seed, drop_condition, augment)

    def _pieces(self, name: str) -> np.ndarray:
        """The array whose rows the files NAME-N.safetensors have."""
        files = sorted(self.folder.glob(f"{name}-*.safetensors"))
        if not files:
            return np.empty(0)
        shapes = []
        for file in files:
            with safe_open(file, "np") as piece:
                shapes.append(piece.get_slice(name).get_shape())
        rows: np.ndarray | None = None
        start = 0
        for file, shape in zip(files, shapes, strict=True):
            piece = load_file(file)[name]
            if rows is None:
                rows = np.empty((sum(one[0] for one in shapes), *shape[1:]), piece.dtype)
            rows[start : start + len(piece)] = piece
            start += len(piece)
        assert rows is not None
        return rows


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
    _check_same(folder, task_name, pack, init)
    torch.manual_seed(loop.seed)
    model_folder = pack.folder / "models" / task_name
    autoencoder = load_autoencoder(model_folder / "autoencoder").eval().requires_grad_(False)
    text: Any = NullText(pack.null_text)
    unet = _start(task, pack, init, latent_channels(autoencoder), 2 * settings.view_size // latent_factor(autoencoder))
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


def _start(task: Task, pack: Pack, init: Path | None, channels: int, side: int) -> MultiViewUNet:
    diffusion, embed_width = pack.settings.diffusion, pack.settings.image_embed_width
    if init is not None and (init / task.name / "unet").is_dir():
        return load_unet(init / task.name / "unet")
    if init is not None and task.name != BASE:
        return fine_tuned_from(load_unet(init / BASE / "unet"), task, diffusion, embed_width)
    if task.name != BASE:
        raise UserError(f"{task.name} is fine-tuned from {BASE}; name a folder that has it (--init).")
    return build_unet(diffusion, task, channels, side, pack.null_text.shape[-1], embed_width)


def _check_same(folder: Path, task: str, pack: Pack, init: Path | None) -> None:
    """UserError when `folder` has checkpoints of other samples, settings or weights to start from."""
    deciding = {
        key: value
        for group in (pack.settings.loop, pack.schedules[task])
        for key, value in vars(group).items()
        if key not in NOT_DECIDING
    }
    networks = [init / name / "unet" for name in (task, BASE) if init is not None and (init / name / "unet").is_dir()]
    about = {
        "pack": content_digest(pack.folder / "SHA256SUMS"),
        "settings": deciding,
        "init": content_digest(networks[0]) if networks else "",
    }
    file = folder / "about.json"
    if file.exists() and (other := json.loads(file.read_text(encoding="utf-8"))) != about:
        what = next(key for key in about if other.get(key) != about[key])
        raise UserError(f"{folder} has a training with another {what}; name another folder (--out).")
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
