"""Records on disk, found by their number: what an epoch is made of is not held in memory."""

import hashlib
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.folders import written
from pipeline.shards.scratch import scratch

NONE = -1
"""In a record, in the place of a row that there is none of."""
SUM_BYTES = hashlib.sha256().digest_size


class IndexFile:
    """Records one after the other and their SHA-256; a copy that is sent to another process opens the file itself."""

    def __init__(self, path: Path, record: np.dtype) -> None:
        self.path, self.record = path, record
        self._records: np.memmap | None = None

    def __len__(self) -> int:
        return (self.path.stat().st_size - SUM_BYTES) // self.record.itemsize

    def __getitem__(self, place: int) -> tuple[int, ...]:
        """The fields of a record."""
        if self._records is None:
            self._records = np.memmap(self.path, self.record, mode="r", shape=(len(self),))
        fields: tuple[int, ...] = self._records[place].tolist()
        return fields

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_records": None}


def build_index_file(key: str, record: np.dtype, records: Callable[[], Iterable[tuple[int, ...]]]) -> Path:
    """The IndexFile under `key` in the scratch folder; made of `records` when there is none yet, or it is damaged."""
    path = scratch() / "examples" / f"{key}.index"
    if not _is_whole(path):
        with written(path) as partial, partial.open("wb") as file:
            digest = hashlib.sha256()
            for fields in records():
                data = np.array([fields], record).tobytes()
                digest.update(data)
                file.write(data)
            file.write(digest.digest())
    return path


def _is_whole(path: Path) -> bool:
    if not path.exists():
        return False
    digest, left = hashlib.sha256(), path.stat().st_size - SUM_BYTES
    with path.open("rb") as file:
        while left > 0:
            data = file.read(min(left, 1 << 20))
            digest.update(data)
            left -= len(data) or left
        whole = file.read() == digest.digest()
    if not whole:
        print(f"{path} is damaged, or of an older version; it is made again.", file=sys.stderr, flush=True)
    return whole
