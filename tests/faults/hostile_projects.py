"""More hostile files: in a folder of objects, in a result's folder, in a table's."""

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.applications.result import PartObject
from pipeline.shards.read import read_table
from tests.applications.test_result import an_object
from tests.assets_files import boxes
from tests.faults.hostile import CASES, POINTER, SECRET, Case, header, png_bomb, write
from tests.faults.targets import DATA, partgen, real_project
from tests.toy_corpus import write_toy_corpus


def _stage(make: Callable[[Path], object]) -> Case:
    """The stage assets over a folder with the hostile file and two good ones, which must be kept."""

    def all_of_it() -> None:
        write("o/good.glb", boxes(seat=(1.0, 0.0), leg=(0.5, 1.0)))
        write("o/better.glb", boxes(top=(1.0, 0.0), foot=(0.5, 2.0)))
        real_project()
        with contextlib.suppress(OSError):  # a file system that takes no such name
            make(Path("o"))

    def read() -> None:
        partgen("stage", "assets", "--set", "assets.folder.path=o", "--set", "assets.max_failed_share=0.4")

    def checked() -> None:
        try:
            read()
        finally:
            kept = read_table(DATA / "assets/objects").to_pylist() if (DATA / "assets/objects").exists() else []
            if sum(row["status"] == "ok" and row["source"] == "folder" for row in kept) < 2:
                raise RuntimeError("the good objects beside it are lost")

    return Case(all_of_it, checked)


def _index(text: bytes) -> Case:
    def make() -> None:
        write("o/good.glb", boxes(seat=(1.0, 0.0), leg=(0.5, 1.0)))
        real_project()
        write("o/index.json", text)

    def read() -> None:
        partgen("stage", "assets", "--set", "assets.folder.path=o", "--set", "assets.folder.index=index.json")

    return Case(make, read)


NODES = [{"mesh": 0, "name": "\ud800"}, {"mesh": 0, "name": "b", "translation": [3, 0, 0]}]
SURROGATE = header(scenes=[{"nodes": [0, 1]}], nodes=NODES)
STAGES = {
    "assets: a node's name with a lone surrogate": _stage(lambda folder: (folder / "a.glb").write_bytes(SURROGATE)),
    "assets: a file's name in Latin-1": _stage(
        lambda folder: Path(os.fsdecode(bytes(folder) + b"/st\xfchl.glb")).write_bytes(
            boxes(a=(1.0, 0.0), b=(1.0, 2.0))
        )
    ),
    "assets: 1 MB of spaces in mtllib": _stage(
        lambda folder: (folder / "a.obj").write_bytes(b"mtllib a" + b" " * 1_000_000 + b"b\nv 0 0 0\n")
    ),
    "assets: a pipe": _stage(lambda folder: os.mkfifo(folder / "a.glb")),
    "assets: a link to a device": _stage(lambda folder: os.symlink("/dev/zero", folder / "a.glb")),
    "assets: an index with a lone surrogate": _index(b'[{"file": "good.glb", "name": "\\ud800"}]'),
    "assets: a deep index": _index(b"[" * 200_000 + b"]" * 200_000),
}


def _result(change: Callable[[dict[str, Any]], object] | bytes) -> Case:
    def make() -> None:
        folder = an_object().save("chair")
        file = folder / "result.json"
        if isinstance(change, bytes):
            file.write_bytes(change)
        else:
            values = json.loads(file.read_text())
            change(values)
            file.write_text(json.dumps(values))
        with contextlib.suppress(FileNotFoundError):
            (folder / "SHA256SUMS").unlink()  # who made it made the checksums, too

    return Case(make, lambda: PartObject.load("chair").save("again"))


RESULTS = {
    "result: deep JSON": _result(b"[" * 200_000 + b"]" * 200_000),
    "result: a list": _result(b"[1]"),
    "result: parts that are none": _result(lambda values: values.update(parts=[None, 3, "x"])),
    "result: parts that are a mapping": _result(lambda values: values.update(parts={"a": 1})),
    "result: names that climb": _result(lambda values: values["parts"][0].update(name="../" * 9 + "etc/hostname")),
    "result: a name that is a number": _result(lambda values: values["parts"][0].update(name=3)),
    "result: a label of 10^30": _result(lambda values: values["parts"][0].update(label=10**30)),
    "result: a caption with a lone surrogate": _result(lambda values: values.update(caption="\ud800")),
    "result: a billion segmentations": _result(lambda values: values.update(segmentations=10**9)),
    "result: settings that are none": _result(lambda values: values.update(settings=None)),
    "result: diagnostics of other fields": _result(lambda values: values.update(diagnostics=[{"x": 1}])),
    "result: a pipe": Case(
        lambda: (_result(lambda values: None).make(), os.remove("chair/grid.png"), os.mkfifo("chair/grid.png")),
        lambda: PartObject.load("chair"),
    ),
    "result: a picture that is a bomb": Case(
        lambda: (_result(lambda values: None).make(), Path("chair/grid.png").write_bytes(png_bomb(60_000))),
        lambda: PartObject.load("chair"),
    ),
}


def _manifest(text: bytes) -> Case:
    def make() -> None:
        write_toy_corpus(DATA, objects=3, view_size=16)
        Path(DATA, "captions/captions/manifest.json").write_bytes(text)

    return Case(make, lambda: print(len(read_table(DATA / "captions/captions"))))


SHARD = {"file": f"../../../{SECRET}", "rows": 1, "bytes": 1, "sha256": "0"}
MANIFEST = {"manifest": 1, "table": "captions", "version": 1, "rows": 1, "shards": [SHARD], "settings": {}}
TABLES = {
    "table: a deep manifest": _manifest(b"[" * 200_000 + b"]" * 200_000),
    "table: a manifest that is a list": _manifest(b"[]"),
    "table: shards that are a number": _manifest(json.dumps(MANIFEST | {"shards": 3}).encode()),
    "table: a shard outside": _manifest(json.dumps(MANIFEST).encode()),
    "table: a pointer of Git LFS": _manifest(POINTER),
}

CASES |= {**STAGES, **RESULTS, **TABLES}
