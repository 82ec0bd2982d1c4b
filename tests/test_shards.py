"""The harness of a stage: resuming, failures, determinism, full disks, two runs at once."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import UserError
from pipeline.shards.read import iter_rows, read_manifest, read_table
from pipeline.shards.table import decode_png, encode_png
from pipeline.shards.write import shard_of
from tests.squares import build

PROJECT = Path(__file__).parents[1]


def hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def start(out: Path, count: int, seconds: float = 0.0, log: Path | str = "", **more: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "tests.squares", str(out), str(count), str(seconds), str(log)]
    return subprocess.Popen(command, cwd=PROJECT, env={**os.environ, **more}, stderr=subprocess.PIPE, text=True)


def test_rows_come_back_sorted_with_pictures(tmp_path: Path) -> None:
    report = build(tmp_path / "out", list(range(5)))
    assert (report.computed, report.reused, report.failures) == (5, 0, {})
    rows = list(iter_rows(tmp_path / "out/squares"))
    assert sorted((row["object_id"], row["number"]) for row in rows) == sorted(
        (f"n{v}", n) for v in range(5) for n in (v, v * v)
    )
    expected = np.random.default_rng(3).integers(0, 255, (48, 48, 3), dtype=np.uint8)
    picture = next(row["image"] for row in rows if row["object_id"] == "n3")
    np.testing.assert_array_equal(decode_png(picture["bytes"]), expected)
    manifest = read_manifest(tmp_path / "out/squares")
    assert manifest.rows == 10
    assert manifest.settings == {"side": 48}


def test_finished_objects_are_reused_and_a_new_one_changes_one_shard(tmp_path: Path) -> None:
    build(tmp_path / "out", list(range(20)))
    before = hashes(tmp_path / "out/squares")
    report = build(tmp_path / "out", list(range(21)))
    assert (report.computed, report.reused) == (1, 20)
    after = hashes(tmp_path / "out/squares")
    changed = {name for name in before | after if before.get(name) != after.get(name)}
    assert changed == {"manifest.json", f"{shard_of('n20', 4):05d}.parquet"}


def test_failures_are_rows_with_reasons(tmp_path: Path) -> None:
    report = build(tmp_path / "out", [1, 2, "fails", "raises", "dies", "hangs"], share=0.7, timeout_s=3)
    reasons = {row["object_id"]: row["reason"] for row in read_table(tmp_path / "out/failures").to_pylist()}
    assert reasons == report.failures
    assert reasons["nfails"] == "it had to"
    assert reasons["nraises"] == "KeyError: '<b>odd</b>'"
    assert "SIGKILL" in reasons["ndies"]
    assert reasons["nhangs"] == "took longer than 3 s"
    assert {row["object_id"] for row in iter_rows(tmp_path / "out/squares")} == {"n1", "n2"}


def test_too_many_failures_fail_the_stage_and_keep_the_rest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"1 of 3 objects failed.*nfails: it had to"):
        build(tmp_path / "out", [1, 2, "fails"], share=0.2)
    assert not (tmp_path / "out").exists()
    assert build(tmp_path / "out", [1, 2]).reused == 2


def test_no_objects_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="was given no objects"):
        build(tmp_path / "out", [])


def test_a_stage_killed_with_9_redoes_nothing_and_leaves_nobody(tmp_path: Path, scratch_of_its_own: Path) -> None:
    build(tmp_path / "undisturbed", list(range(12)))
    shutil.rmtree(scratch_of_its_own)
    process = start(tmp_path / "out", 12, 0.3)

    def finished() -> set[str]:
        return {path.stem for path in scratch_of_its_own.glob("store/squares/*/*.arrow")}

    while len(finished()) < 4:
        time.sleep(0.05)
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate()
    _, alive = psutil.wait_procs(children, timeout=5)
    assert not alive
    assert not (tmp_path / "out").exists()
    kept = len(finished())
    again = start(tmp_path / "out", 12)
    _, stderr = again.communicate()
    assert again.returncode == 0, stderr
    assert f"{12 - kept} computed, {kept} reused" in stderr
    assert hashes(tmp_path / "out") == hashes(tmp_path / "undisturbed")


def test_sigterm_ends_the_workers(tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = start(tmp_path / "out", 40, 0.2, log)
    while not log.exists():
        time.sleep(0.05)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    _, alive = psutil.wait_procs(children, timeout=5)
    assert process.returncode == 143
    assert not alive


def test_a_worker_killed_from_outside_costs_one_object(tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = start(tmp_path / "out", 12, 0.5, log)
    while not log.exists():
        time.sleep(0.05)
    worker = next(
        child for child in psutil.Process(process.pid).children() if "spawn_main" in " ".join(child.cmdline())
    )
    worker.kill()
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 2  # the bound on failures is 0 here
    assert "1 of 12 objects failed" in stderr
    assert "the worker process died (signal SIGKILL)" in stderr


def test_two_runs_at_once_take_turns(tmp_path: Path) -> None:
    runs = [start(tmp_path / "out", 8, 0.2) for _ in range(2)]
    errors = [run.communicate(timeout=60)[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    assert sum("is being written by another run" in text for text in errors) == 1
    assert sum("8 computed, 0 reused" in text for text in errors) == 1
    assert sum("0 computed, 8 reused" in text for text in errors) == 1


def test_a_full_disk_is_one_sentence_and_loses_nothing(tmp_path: Path) -> None:
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine does not let a test mount a small disk")
    disk = tmp_path / "disk"
    disk.mkdir()
    script = (
        f"mount -t tmpfs -o size=200k tmpfs {disk} && cd {PROJECT} && PARTGEN_SCRATCH={disk}/scratch "
        f"{sys.executable} -m tests.squares {disk}/out 40 0 ''; status=$?; ls -A {disk}; "
        f"find {disk} -name '*.partial'; exit $status"
    )
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    sentence = next(line for line in done.stderr.splitlines() if line.startswith("partgen:"))
    assert "The disk is full" in sentence
    assert done.stdout.split() == ["scratch"]


def test_a_torn_shard_is_noticed(tmp_path: Path) -> None:
    build(tmp_path / "out", list(range(5)))
    shard = next((tmp_path / "out/squares").glob("*.parquet"))
    shard.write_bytes(shard.read_bytes()[:-10])
    with pytest.raises(UserError, match=f"{shard.name} differs from the manifest"):
        read_manifest(tmp_path / "out/squares")


def test_a_torn_result_is_computed_again(tmp_path: Path, scratch_of_its_own: Path) -> None:
    build(tmp_path / "out", list(range(3)))
    result = next((scratch_of_its_own / "store/squares").rglob("*.arrow"))
    result.write_bytes(result.read_bytes()[:-100])
    report = build(tmp_path / "out", list(range(3)))
    assert (report.computed, report.reused) == (1, 2)


def test_rows_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    from pipeline.shards.store import ResultStore
    from tests.squares import SQUARES

    store = ResultStore(tmp_path, [SQUARES])
    with pytest.raises(ValueError, match="expected"):
        store.put("k", {"squares": [{"object_id": "a"}]})
    with pytest.raises(ValueError, match="tables that the stage does not have"):
        store.put("k", {"circles": []})
    assert store.get("k") is None


def test_shards_carry_images_in_the_hugging_face_layout(tmp_path: Path) -> None:
    import datasets

    build(tmp_path / "out", list(range(4)))
    files = [str(path) for path in sorted((tmp_path / "out/squares").glob("*.parquet"))]
    data = datasets.load_dataset("parquet", data_files=files, cache_dir=str(tmp_path / "cache"), split="train")
    assert isinstance(data.features["image"], datasets.Image)
    assert data[0]["image"].size == (48, 48)
    metadata = pq.read_schema(files[0]).metadata
    assert b"pandas" not in metadata
    assert metadata[b"partgen"] == b"squares/1"


@settings(max_examples=50)
@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([0, 3, 4]), st.integers(0, 2**32))
def test_png_keeps_pixels_and_bytes(height: int, width: int, channels: int, seed: int) -> None:
    shape = (height, width, channels) if channels else (height, width)
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    png = encode_png(pixels)
    np.testing.assert_array_equal(decode_png(png), pixels)
    assert encode_png(pixels.copy()) == png
    assert b"tEXt" not in png
    assert b"tIME" not in png
