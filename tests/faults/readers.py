"""What reads files that may be damaged: each reader makes a project, names files of it, and reads them.

A reader prints a digest of what it read, or of what it made of that. All of them run as the targets do.
"""

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.applications.result import PartObject
from pipeline.shards.dataset import TableRows
from pipeline.shards.read import iter_rows, read_table
from tests.applications.test_result import an_object
from tests.faults.targets import DATA
from tests.squares import build
from tests.toy_corpus import write_toy_corpus

GRIDS, CAPTIONS = DATA / "renders/grids", DATA / "captions/captions"


@dataclass(frozen=True)
class Reader:
    """Reads files."""

    prepare: Callable[[], object]
    files: str
    """The files to damage, a pattern below the project's folder."""
    read: Callable[[], object]


def tree_digest(*folders: Path) -> str:
    """Of all files below some folders, without the checksums beside them."""
    found = hashlib.sha256()
    for file in sorted(path for folder in folders for path in folder.rglob("*") if path.is_file()):
        found.update(str(file).encode() + hashlib.sha256(file.read_bytes()).digest())
    return found.hexdigest()


def say(value: Any) -> None:
    """Print the digest of a value's text, of bytes, or of tensors by name."""
    found = hashlib.sha256()
    if hasattr(value, "state_dict"):
        value = {name: tensor.numpy().tobytes() for name, tensor in value.state_dict().items()}
    found.update(repr(value).encode("utf-8", "surrogatepass"))
    print("READ", found.hexdigest())


def corpus() -> None:
    write_toy_corpus(DATA, objects=4, view_size=16)


def _table_rows() -> None:
    rows = TableRows(GRIDS)
    say([rows[number] for number in range(len(rows))])


def _squares() -> None:
    build(Path("out"), [1, 2, 3])
    say(tree_digest(Path("out")))


def _result() -> None:
    found = PartObject.load("results/chair")
    shutil.rmtree("again", ignore_errors=True)
    found.save("again")
    say(tree_digest(Path("again")))


READERS = {
    "read_table": Reader(corpus, f"{CAPTIONS}/*", lambda: say(read_table(CAPTIONS).to_pylist())),
    "iter_rows": Reader(corpus, f"{GRIDS}/*", lambda: say(list(iter_rows(GRIDS)))),
    "table_rows": Reader(corpus, f"{GRIDS}/*", _table_rows),
    "store": Reader(lambda: build(Path("out"), [1, 2, 3]), ".partgen/store/**/*.arrow", _squares),
    "result": Reader(lambda: an_object().save("results/chair"), "results/chair/**/*", _result),
}  # fmt: skip
