"""Shards against one PNG a file, on the same pictures: DVC, size on disk, random access by a torch DataLoader.

And what it costs to check the shards as they are read, against reading them unchecked: the footers and pages that are
read, as is done, and for comparison the SHA-256 of each whole file before its first row.

    python -m benchmarks.shards [--grids data/renders/grids] [--count 20000]

Grids are repeated up to the count, each made unique in one pixel so that nothing is deduplicated.
"""

import argparse
import hashlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch.utils.data import DataLoader, Dataset

from pipeline.errors import UserError
from pipeline.shards.dataset import TableRows
from pipeline.shards.read import read_manifest
from pipeline.shards.table import decode_png, encode_png, image_cell
from pipeline.shards.write import write_tables
from pipeline.views.tables import GRIDS
from stages.entry import one_sentence_errors

SHARDS, BATCH, WORKERS, ROUNDS = 8, 32, 2, 3


class Files(Dataset[np.ndarray]):
    """One PNG a file."""

    def __init__(self, folder: Path) -> None:
        self.paths = sorted(folder.glob("*.png"))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> np.ndarray:
        return decode_png(self.paths[index].read_bytes())


class Shards(Dataset[np.ndarray]):
    """The same pictures out of a table."""

    def __init__(self, folder: Path) -> None:
        self.rows = TableRows(folder, ["image"])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> np.ndarray:
        return decode_png(self.rows[index]["image"]["bytes"])


def pictures(grids: Path, count: int) -> Iterator[bytes]:
    """`count` different PNGs."""
    rows = TableRows(grids, ["image"])
    for number in range(count):
        pixels = decode_png(rows[number % len(rows)]["image"]["bytes"])
        pixels[0, 0] = (*number.to_bytes(3, "big"), 255)
        yield encode_png(pixels)


def write_both(grids: Path, count: int, shards: Path, files: Path) -> None:
    """The pictures as a table at `shards`, and as PNGs in `files`."""
    files.mkdir(parents=True)
    contents: list[list[dict[str, Any]]] = [[] for _ in range(SHARDS)]
    for number, png in enumerate(pictures(grids, count)):
        name = f"{number:06d}"
        (files / f"{name}.png").write_bytes(png)
        row = {"object_id": name, "split": "train", "part_id": 0, "image": image_cell(png, "grid.png")}
        contents[number * SHARDS // count].append(row)
    schema = GRIDS.storage_schema()
    tables = [(index, {GRIDS.name: pa.Table.from_pylist(rows, schema=schema)}) for index, rows in enumerate(contents)]
    write_tables(shards, [GRIDS], tables, {})


def seconds(action: Callable[[], object]) -> float:
    """How long `action` takes."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def dvc(folder: Path, *arguments: str) -> None:
    """Run DVC in `folder`, quietly."""
    environment = {**os.environ, "DVC_NO_ANALYTICS": "1"}
    subprocess.run([sys.executable, "-m", "dvc", *arguments, "-q"], cwd=folder, env=environment, check=True)


def bytes_on_disk(folder: Path) -> int:
    """Whole blocks, as the file system counts them."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def read_all(dataset: Dataset[np.ndarray]) -> None:
    """One epoch in random order."""
    generator = torch.Generator().manual_seed(0)
    for batch in DataLoader(dataset, BATCH, shuffle=True, num_workers=WORKERS, generator=generator):
        assert batch.dtype == torch.uint8


def add(repo: Path) -> None:
    """`dvc add` of data that DVC sees for the first time."""
    shutil.rmtree(repo / ".dvc/cache", ignore_errors=True)
    (repo / "data.dvc").unlink(missing_ok=True)
    dvc(repo, "add", "data")


def alternating(ours: Callable[[], object], theirs: Callable[[], object]) -> tuple[float, float]:
    """Median seconds of both, turn by turn, so that a busy machine slows both alike."""
    rounds = [(seconds(ours), seconds(theirs)) for _ in range(ROUNDS)]
    return statistics.median(first for first, _ in rounds), statistics.median(second for _, second in rounds)


def measure(grids: Path, count: int, folder: Path) -> Iterator[tuple[str, float, float]]:
    """A label, the figure of shards and that of files."""
    shards, files = folder / "of-shards", folder / "of-files"
    for repo in (shards, files):
        repo.mkdir()
        dvc(repo, "init", "--no-scm")
    start = statistics.median(seconds(lambda: dvc(shards, "status")) for _ in range(ROUNDS))
    yield "dvc status of nothing, s", start, start
    write_both(grids, count, shards / "data", files / "data")
    yield "dvc add, s", *alternating(lambda: add(shards), lambda: add(files))
    yield "dvc status, s", *alternating(lambda: dvc(shards, "status"), lambda: dvc(files, "status"))
    yield "size on disk, MB", bytes_on_disk(shards / "data") / 1e6, bytes_on_disk(files / "data") / 1e6
    yield "files to push and pull", len(list((shards / "data").rglob("*.*"))), len(Files(files / "data"))
    epochs = alternating(lambda: read_all(Shards(shards / "data/grids")), lambda: read_all(Files(files / "data")))
    yield f"epoch in random order, {WORKERS} workers, s", *epochs


def read_groups(folder: Path, check: str, every: int) -> None:
    """Read every n-th row group of a table, in order; `check` is nothing, pages, or files."""
    for shard in read_manifest(folder).shards:
        if check == "files":
            with shard.path.open("rb") as stream:
                hashlib.file_digest(stream, "sha256")
        pages = check == "pages"
        file = shard.open(memory_map=True) if pages else pq.ParquetFile(shard.path, memory_map=True)
        for group in range(0, file.num_row_groups, every):
            cells = file.read_row_group(group, use_threads=False).column("image").to_pylist()
            assert cells


def measure_checks(grids: Path, count: int, folder: Path) -> Iterator[tuple[str, float, float]]:
    """A label, the seconds with a check and those without."""
    write_both(grids, count, folder / "data", folder / "files")
    table = folder / "data/grids"
    read_groups(table, "nothing", 1)  # the files are in memory for all of them
    for name, every in {"all rows": 1, "a hundredth of them": 100}.items():
        for check in ("pages", "files"):
            yield (
                f"{name}, {check} checked, s",
                *alternating(
                    lambda check=check, every=every: read_groups(table, check, every),  # type: ignore[misc]
                    lambda every=every: read_groups(table, "nothing", every),  # type: ignore[misc]
                ),
            )


def main() -> None:
    """Print one line a measure: shards, files, how many times better shards are; checked, unchecked, the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grids", type=Path, default=Path("data/renders/grids"), help="table of grids to repeat")
    parser.add_argument("--count", type=int, default=20_000, help="pictures")
    arguments = parser.parse_args()
    if arguments.count < SHARDS:
        raise UserError(f"--count is {arguments.count}; give at least {SHARDS}, one picture a shard.")
    print(f"{arguments.count} grids of {arguments.grids}\n{'':40}{'shards':>10}{'files':>10}{'ratio':>8}")
    with tempfile.TemporaryDirectory(prefix="partgen-bench-") as folder:
        for label, ours, theirs in measure(arguments.grids, arguments.count, Path(folder)):
            print(f"{label:40}{ours:>10.2f}{theirs:>10.2f}{theirs / ours:>8.1f}", flush=True)
    print(f"{'':40}{'checked':>10}{'unchecked':>10}{'ratio':>8}")
    with tempfile.TemporaryDirectory(prefix="partgen-bench-") as folder:
        for label, checked, unchecked in measure_checks(arguments.grids, arguments.count, Path(folder)):
            print(f"{label:40}{checked:>10.3f}{unchecked:>10.3f}{checked / unchecked:>8.2f}", flush=True)


if __name__ == "__main__":
    with one_sentence_errors():
        main()
