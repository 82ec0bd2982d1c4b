"""A pack in memory: the samples of its tasks, tokens, and settings."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import load_file
from torch import Tensor, nn

from pipeline.diffusion.samples import Samples
from pipeline.diffusion.tasks import Task
from pipeline.errors import UserError
from pipeline.folders import check_sums

VERSION = 1
KIND = "pack of training samples"
MANIFEST, ROWS, INDEX = "manifest.json", "rows.json", "index.safetensors"


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
        # Attributes as the params have them, whose classes need pydantic; they were checked when the pack was made.
        self.settings: Any = json.loads(json.dumps(manifest), object_hook=lambda values: SimpleNamespace(**values))
        self.schedules: dict[str, Any] = vars(self.settings.schedules)
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
