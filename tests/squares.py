"""A small real stage for tests of the harness: objects are numbers, results are pictures of them.

python -m tests.squares OUT COUNT [SECONDS_EACH]
"""

import errno
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.errors import ObjectFailed
from pipeline.shards.build import Item, Report, build_shards
from pipeline.shards.store import Rows, content_key
from pipeline.shards.table import Table, encode_png, image_cell, image_field
from stages.entry import one_sentence_errors

SQUARES = Table(
    "squares", 1, pa.schema([("object_id", pa.string()), ("number", pa.int64()), image_field("image")]), ("number",)
)


def square(payload: dict[str, Any]) -> Rows:
    """Two rows for a number; the words among the payloads misbehave."""
    value = payload["value"]
    if value == "fails":
        raise ObjectFailed("it had to")
    if value == "raises":
        raise KeyError("<b>odd</b>")
    if value == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if value == "crashes":
        os.kill(os.getpid(), signal.SIGSEGV)
    if value == "eats":
        raise MemoryError
    if value == "fills":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/tmp/picture.png")
    if value == "mumbles":
        return {"squares": [{"object_id": "mumbles", "number": 0, "image": image_cell(b"", "\udcff.png")}]}
    if value == "hangs":
        time.sleep(600)
    time.sleep(payload["seconds"])
    if payload["log"]:
        with open(payload["log"], "a") as log:
            log.write(f"{value}\n")
    pixels = np.random.default_rng(value).integers(0, 255, (48, 48, 3), dtype=np.uint8)
    cell = image_cell(encode_png(pixels), "square.png")
    return {"squares": [{"object_id": f"n{value}", "number": n, "image": cell} for n in (value * value, value)]}


def process_of(payload: Any) -> int:
    """The process that works on a payload."""
    return os.getpid()


def build(
    out: Path, values: list[Any], *, seconds: float = 0.0, log: str = "", share: float = 0.0, **more: Any
) -> Report:
    """Run the stage over `values`."""
    items = [
        Item(f"n{v}", content_key("square/1", str(v)), lambda v=v: {"value": v, "seconds": seconds, "log": log})  # type: ignore[misc]
        for v in values
    ]
    settings = {"side": 48}
    return build_shards(
        stage="squares", out=out, tables=[SQUARES], items=items, function=square, shards=4, settings=settings,
        max_failed_share=share, timeout_s=more.pop("timeout_s", 60), **more,
    )  # fmt: skip


if __name__ == "__main__":
    with one_sentence_errors():
        build(Path(sys.argv[1]), list(range(int(sys.argv[2]))), seconds=float(sys.argv[3]), log=sys.argv[4])
