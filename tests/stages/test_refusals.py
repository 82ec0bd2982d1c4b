"""What the system refuses to a stage: one sentence and exit status 2, before the work where it can be known before."""

import os
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.errors import UserError
from pipeline.shards.read import read_manifest, read_table
from pipeline.shards.table import Table
from pipeline.shards.write import write_tables
from tests.squares import build

PROJECT = Path(__file__).parents[2]
PLAIN = Table("plain", 1, pa.schema([("object_id", pa.string()), ("number", pa.int64())]))
LATE = """
import sys
from pathlib import Path
import numpy as np, pyarrow as pa
from stages.entry import one_sentence_errors
disk, noise = sys.argv[-1], np.random.rand(300, 300).astype(np.float32)
with one_sentence_errors():
    """


def write(out: Path, rows: int) -> None:
    table = pa.table({"object_id": [f"n{n:03d}" for n in range(rows)], "number": list(range(rows))}, PLAIN.schema)
    write_tables(out, [PLAIN], [(0, {"plain": table.cast(PLAIN.storage_schema())})], {})


def on_small_disk(folder: Path, command: list[str], options: str = "size=64k") -> "subprocess.CompletedProcess[str]":
    """Run a command that finds a disk of its own at `folder`; skip where a test may not mount one."""
    folder.mkdir()
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine does not let a test mount a small disk")
    script = f'mount -t tmpfs -o {options} tmpfs {folder} && exec "$@"'
    shell = ["unshare", "-rm", "sh", "-c", script, "sh", *command]
    return subprocess.run(shell, capture_output=True, text=True, timeout=60, check=False, cwd=PROJECT)


def sentence_of(done: "subprocess.CompletedProcess[str]") -> str:
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    sentence = done.stderr.splitlines()[-1]
    assert sentence.startswith("partgen: ")
    return sentence


FULL = {
    "metrics": "from pipeline.shards.write import write_json; write_json(Path(disk) / 'm.json', {'a': 'b' * 99999})",
    "weights": "from safetensors.numpy import save_file; save_file({'a': noise}, disk + '/a.safetensors')",
    "table": "import pyarrow.parquet as pq; pq.write_table(pa.table({'a': noise.ravel()}), disk + '/a.parquet')",
    "picture": "from PIL import Image; Image.fromarray(noise).save(disk + '/a.tiff')",
}


@pytest.mark.parametrize("action", FULL.values(), ids=FULL)
def test_a_full_disk_at_any_write_is_one_sentence(tmp_path: Path, action: str) -> None:
    disk = tmp_path / "disk"
    done = on_small_disk(disk, [sys.executable, "-c", LATE + action, str(disk)])
    assert "(No space left on device); free some space and run it again." in sentence_of(done)


@pytest.mark.parametrize("place", ["out", "scratch"])
def test_a_disk_that_cannot_be_written_is_found_before_the_work(tmp_path: Path, place: str) -> None:
    disk, log = tmp_path / "disk", tmp_path / "log"
    folders = {"out": tmp_path / "out/squares", "scratch": tmp_path / "scratch", place: disk / "deeper"}
    command = [sys.executable, "-m", "tests.squares", str(folders["out"] / "o"), "3", "0", str(log)]
    done = on_small_disk(disk, ["env", f"PARTGEN_SCRATCH={folders['scratch']}", *command], "ro")
    assert f"{disk / 'deeper'} cannot be written or read (Read-only file system)" in sentence_of(done)
    assert not log.exists()


def test_a_scratch_folder_that_is_a_file_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("PARTGEN_SCRATCH", str(tmp_path / "file"))
    with pytest.raises(UserError, match="a file is in its way"):
        build(tmp_path / "out", [1])


def test_mistakes_of_this_program_keep_their_traceback() -> None:
    for action in ("open('/nowhere/file')", "{}['key']", "raise ValueError('Permission was denied')"):
        done = subprocess.run(
            [sys.executable, "-c", LATE + action], capture_output=True, text=True, cwd=PROJECT, check=False
        )
        assert done.returncode == 1
        assert "Traceback" in done.stderr


def test_only_a_folder_of_tables_is_replaced(tmp_path: Path) -> None:
    log, out = tmp_path / "log", tmp_path / "data/squares"
    refused = partial(build, out, [1], log=str(log))
    out.mkdir(parents=True)
    assert build(out, [1]).computed == 1
    (out / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"data/squares would be replaced, and notes\.txt in it is no table"):
        refused()
    (out / "notes.txt").unlink()
    (out / "manifest-less").mkdir()
    with pytest.raises(UserError, match="manifest-less in it is no table"):
        refused()
    (out / "manifest-less").rmdir()
    assert refused().reused == 1
    elsewhere = tmp_path / "larger-disk"
    out.rename(elsewhere)
    out.symlink_to(elsewhere)
    with pytest.raises(UserError, match="data/squares is a link, which is not replaced"):
        build(out, [2], log=str(log))
    out.unlink()
    out.write_text("mine")
    with pytest.raises(UserError, match="data/squares is no folder"):
        build(out, [2], log=str(log))
    assert not log.exists()
    assert read_manifest(elsewhere / "squares").rows == 2


def test_readers_find_a_whole_table_while_it_is_replaced(tmp_path: Path) -> None:
    out, reads = tmp_path / "data", 0
    write(out, 1)
    writer = threading.Thread(target=lambda: [write(out, 1 + n) for n in range(100)])
    writer.start()
    while writer.is_alive():
        assert read_manifest(out / "plain").rows in range(1, 101)
        reads += 1
    writer.join()
    assert reads > 10
    assert read_table(out / "plain").num_rows == 100
    assert os.listdir(tmp_path) == ["data"]
