"""What frozen encoders make of the corpus, computed once and kept on disk: one row a caption, two a single view.

Worth it where the encoder costs more than reading its tokens: a training visits each of them many times over.

Shape suffixes as in `pipeline.diffusion.denoiser`.
"""

import errno
import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.diffusion.image import ClipImage, EfficientNetLite0
from pipeline.diffusion.text import ClipText, MiniLM
from pipeline.errors import UserError
from pipeline.shards.progress import Progress
from pipeline.shards.read import iter_rows, read_manifest
from pipeline.shards.scratch import only_writer, scratch
from pipeline.shards.store import content_key
from pipeline.shards.table import decode_png
from pipeline.shards.write import write_json
from pipeline.views.augment import Augmentation

CONTRACT = "frozen/2"
"""Raise it when the same inputs give other rows."""
BATCH_ROWS = 32
"""Rows that an encoder is given at once; so many are lost by a kill. Even: a view and its mirror image go together."""


TextEncoder = MiniLM | ClipText
ImageEncoder = EfficientNetLite0 | ClipImage


class FrozenOutputs:
    """Tokens (rows, N, E) in a file of float16; copies that are sent to other processes open it themselves.

    Beside it lies a file with the CRC-32 of every row, with which a row is compared when it is read.
    """

    def __init__(self, file: Path, shape: tuple[int, int, int]) -> None:
        self.file, self.shape = file, shape
        self._values: np.memmap | None = None
        self._sums: np.memmap | None = None

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Tensor | Sequence[int]) -> Tensor:
        """The tokens of some rows, float32 (B, N, E); -1 is the last one, the null text's where rows are captions'.

        UserError when one of them is damaged.
        """
        if self._values is None or self._sums is None:
            self._values = np.memmap(self.file, np.float16, mode="r", shape=self.shape)
            self._sums = np.memmap(_sums_of(self.file), np.uint32, mode="r", shape=self.shape[:1])
        found = self._values[np.asarray(rows)]
        if [zlib.crc32(row) for row in found] != self._sums[np.asarray(rows)].tolist():
            raise UserError(f"{self.file} is damaged; remove it, and its tokens are computed again.")
        return torch.from_numpy(found.astype(np.float32))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_values": None, "_sums": None}


def text_outputs(data: Path, encoder: TextEncoder) -> FrozenOutputs:
    """The tokens of every caption in the order of captions/captions, then those of the null text, the empty string.

    UserError when there is no such table, a caption is too long, or the disk too small.
    """
    folder = data / "captions/captions"
    manifest = read_manifest(folder)

    def encode(prompts: Sequence[str]) -> Tensor:
        tokens, pooled = encoder.encode(prompts)
        if pooled is not None:
            raise UserError(
                "The text encoder also gives a pooled embedding, which is not computed beforehand; set "
                "train.loop.precompute=false."
            )
        return tokens

    def inputs(start: int) -> Iterator[str]:
        captions = (row["caption"] for row in iter_rows(folder, ["caption"]))
        yield from islice(captions, start, None)
        yield ""

    return _outputs("text", manifest.digest, encoder, manifest.rows + 1, inputs, encode)


def image_outputs(data: Path, encoder: ImageEncoder) -> FrozenOutputs:
    """The tokens of every single view in the order of renders/conditioning: row 2 r of view r, row 2 r + 1 mirrored."""
    folder = data / "renders/conditioning"
    manifest = read_manifest(folder)

    def encode(images: Sequence[Tensor]) -> Tensor:
        return encoder.encode(torch.stack(list(images)).to(encoder.device))

    def inputs(start: int) -> Iterator[Tensor]:
        for row in islice(iter_rows(folder, ["image"]), start // 2, None):
            pixels = torch.from_numpy(decode_png(row["image"]["bytes"])).permute(2, 0, 1)
            for change in (Augmentation(), Augmentation(mirrored=True)):
                yield change.over_white(change.view(pixels))

    return _outputs("image", manifest.digest, encoder, 2 * manifest.rows, inputs, encode)


def _outputs(
    kind: str,
    digest: str,
    encoder: TextEncoder | ImageEncoder,
    rows: int,
    inputs: Callable[[int], Iterator[Any]],
    encode: Callable[[Sequence[Any]], Tensor],
) -> FrozenOutputs:
    """The rows of `encode` over `inputs`, out of scratch or computed; `inputs(start)` begins at row `start`.

    A killed run left a file of the full length and, beside it, how many of its rows are computed. Files of other
    lengths, and one that does not say so, are made anew.
    """
    key = content_key(CONTRACT, digest, {"config": _settings(encoder)}, _weights(encoder))
    path = scratch() / "frozen" / f"{kind}-{key}.f16"
    about = path.with_suffix(".json")
    path.parent.mkdir(parents=True, exist_ok=True)
    with only_writer(path), torch.no_grad():
        found = _begun(path, about, rows)
        if found is None:
            tokens, width = encode(list(islice(inputs(0), 1))).shape[1:]
            found = 0, (rows, tokens, width)
            _make_room(path, found[1])
            write_json(about, {"done": 0, "shape": found[1]})
        done, shape = found
        if done < rows:
            values = np.memmap(path, np.float16, mode="r+", shape=shape)
            sums = np.memmap(_sums_of(path), np.uint32, mode="r+", shape=shape[:1])
            remaining = inputs(done)
            with Progress(f"{kind} tokens", rows, done) as progress:
                while batch := list(islice(remaining, BATCH_ROWS)):
                    tokens_BNE = _halves(encode(batch))
                    values[done : done + len(batch)] = tokens_BNE
                    sums[done : done + len(batch)] = [zlib.crc32(row) for row in tokens_BNE]
                    values.flush()
                    sums.flush()
                    done += len(batch)
                    write_json(about, {"done": done, "shape": shape})
                    progress.done += len(batch) - 1
                    progress.advance()
    return FrozenOutputs(path, shape)


def _sums_of(path: Path) -> Path:
    """The file of the CRC-32 of each row, uint32."""
    return path.with_suffix(".crc32")


def _bytes(shape: tuple[int, int, int]) -> int:
    return int(np.prod(shape)) * np.dtype(np.float16).itemsize


def _begun(path: Path, about: Path, rows: int) -> tuple[int, tuple[int, int, int]] | None:
    """How many of `rows` rows an earlier run computed, and the shape of its file; None when it left nothing of use."""
    try:
        known = json.loads(about.read_text(encoding="utf-8"))
        done, (count, tokens, width) = int(known["done"]), map(int, known["shape"])
        sizes = path.stat().st_size, _sums_of(path).stat().st_size
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    shape = (count, tokens, width)
    whole = count == rows and 0 <= done <= rows and sizes == (_bytes(shape), 4 * rows)
    return (done, shape) if whole else None


def _make_room(path: Path, shape: tuple[int, int, int]) -> None:
    """Files for so many values and their checksums, whose room is theirs; UserError when the disk has too little."""
    size, free = _bytes(shape), shutil.disk_usage(path.parent).free
    try:
        if size > free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        for file, length in ((path, size), (_sums_of(path), 4 * shape[0])):
            with file.open("wb") as stream:
                os.posix_fallocate(stream.fileno(), 0, length)  # a sparse file would end in a bus error later
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        path.unlink(missing_ok=True)
        raise UserError(
            f"The tokens of frozen encoders take {size / 1e9:.1f} GB and {path.parent} has {free / 1e9:.1f} GB free; "
            "make room, move PARTGEN_SCRATCH, or set train.loop.precompute=false."
        ) from None


def _halves(tokens: Tensor) -> np.ndarray:
    """The tokens as float16; UserError when one is too large for it."""
    halves = tokens.half().cpu()
    if not halves.isfinite().all():
        raise UserError(
            f"Tokens of a frozen encoder reach {tokens.abs().max():g}, more than float16 holds; set "
            "train.loop.precompute=false."
        )
    return np.ascontiguousarray(halves.numpy())


def _settings(encoder: TextEncoder | ImageEncoder) -> dict[str, Any]:
    """What the encoder was made with; names of files and versions begin with an underscore, and change nothing."""
    return {name: value for name, value in dict(encoder.config).items() if not name.startswith("_")}


def _weights(encoder: TextEncoder | ImageEncoder) -> bytes:
    """A digest of the weights: two checkpoints of one layout are two encoders."""
    digest = hashlib.blake2b()
    for name, value in sorted(encoder.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.digest()
