"""The harness of a stage: resuming, failures, determinism, full disks, two runs at once."""

import errno
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import UserError
from pipeline.shards.execution import Execution, failure_of
from pipeline.shards.pool import Died
from pipeline.shards.read import iter_rows, read_manifest, read_table
from pipeline.shards.table import decode_png, encode_png
from pipeline.shards.write import shard_of
from tests.squares import build, process_of

pytestmark = pytest.mark.slow

PROJECT = Path(__file__).parents[2]


def hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def start(
    out: Path, count: int, seconds: float = 0.0, log: Path | str = "", start_new_session: bool = False, **more: str
) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "tests.squares", str(out), str(count), str(seconds), str(log)],
        cwd=PROJECT, env={**os.environ, **more}, stderr=subprocess.PIPE, text=True, start_new_session=start_new_session,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # a shell's background ignores it
    )  # fmt: skip


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


def test_failures_are_rows_with_kinds_and_reasons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARTGEN_ACCEPT_KILLED", "1")
    words = ["fails", "raises", "crashes", "mumbles", "eats", "dies", "hangs"]
    report = build(tmp_path / "out", [1, 2, *words], share=0.9, timeout_s=2)
    rows = {row["object_id"]: (row["kind"], row["reason"]) for row in read_table(tmp_path / "out/failures").to_pylist()}
    assert rows == {object_id: (failure.kind, failure.reason) for object_id, failure in report.failures.items()}
    assert rows == {
        "nfails": ("object", "it had to"),
        "nraises": ("object", "KeyError: '<b>odd</b>'"),
        "ncrashes": ("object", "the worker process died (signal SIGSEGV)"),
        "nmumbles": ("object", r"a text of it has characters that are none ('\udcff')"),
        "neats": ("memory", "MemoryError: "),
        "ndies": ("memory", "the worker process died (signal SIGKILL)"),
        "nhangs": ("timeout", "took longer than 2 s"),
    }
    assert {row["object_id"] for row in iter_rows(tmp_path / "out/squares")} == {"n1", "n2"}


class OutOfMemoryError(RuntimeError):
    """torch and Ray have one each, both dear to import."""


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Died(-signal.SIGTERM), "killed"), (Died(-signal.SIGABRT), "object"), (Died(1), "object"), (Died(), "killed"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "memory"), (OSError(errno.EACCES, "Denied"), "object"),
        (OutOfMemoryError("CUDA out of memory"), "memory"), (TimeoutError("of a server"), "object"),
    ],
)  # fmt: skip
def test_kinds_of_failures(error: Exception, kind: str) -> None:
    failure = failure_of("n", error, timeout_s=1.0)
    assert failure is not None
    assert failure.kind == kind


def test_what_may_be_the_machines_fault_fails_the_stage(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"1 of 4 .* first is ndies: .*SIGKILL.*squares\.timeout_s.*ACCEPT_KILLED=1"):
        build(tmp_path / "out", [1, "dies", 2, "fails"], share=1.0)
    assert not (tmp_path / "out").exists()
    assert build(tmp_path / "out", [1, 2]).reused == 2


def test_a_disk_that_fills_up_in_a_worker_is_not_the_objects_failure(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"squares: /tmp/picture\.png cannot be written .*No space.*objects are kept"):
        build(tmp_path / "out", [1, "fills", 2], share=1.0)


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


def workers_of(process: "subprocess.Popen[str]") -> list[psutil.Process]:
    children = psutil.Process(process.pid).children()
    return [child for child in children if "spawn_main" in " ".join(child.cmdline())]


@pytest.mark.parametrize("moment", ["starting", "working"])
def test_workers_killed_from_outside_cost_nothing(tmp_path: Path, moment: str) -> None:
    build(tmp_path / "undisturbed", list(range(8)))
    log = tmp_path / "log"
    process = start(tmp_path / "out", 8, 0.3, log, PARTGEN_SCRATCH=str(tmp_path / "scratch"))
    while not (log.exists() if moment == "working" else len(workers_of(process)) == 2):
        time.sleep(0.01)
    for worker in workers_of(process):
        worker.kill()
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    assert ("is tried again at the end, alone" in stderr) == (moment == "working")
    assert "8 computed, 0 reused, 0 failed" in stderr
    assert hashes(tmp_path / "out") == hashes(tmp_path / "undisturbed")


def test_a_worker_is_replaced_after_its_tasks() -> None:
    tasks = [(str(number), lambda: 1) for number in range(3)]
    outcomes = list(Execution(2).map(process_of, tasks, timeout_s=60, tasks_per_worker=1))
    assert len({process for _, process, _ in outcomes}) == 3
    outcomes = list(Execution(1).map(process_of, tasks, timeout_s=60, tasks_per_worker=0))
    assert len({process for _, process, _ in outcomes}) == 1
    assert not psutil.pid_exists(outcomes[0][1] or 0)


def test_workers_that_never_start_are_one_sentence(tmp_path: Path) -> None:
    tasks = [(str(number), lambda: 1) for number in range(3)]
    with pytest.raises(UserError, match=r"end before they begin \(exit status 1\)"):
        list(Execution(2).map(Unreadable(), tasks, timeout_s=60, tasks_per_worker=0))


class Unreadable:
    """Nothing that another process can unpickle."""

    def __call__(self, payload: int) -> int:
        raise AssertionError("unreachable")

    def __reduce__(self) -> tuple[Any, ...]:
        return int, ("no number",)


@pytest.mark.parametrize("delay", [0.0, 0.1, 0.3])
def test_ctrl_c_while_workers_start_is_one_sentence(tmp_path: Path, delay: float) -> None:
    process = start(tmp_path / "out", 40, 0.2, start_new_session=True)
    while not workers_of(process):
        time.sleep(0.005)
    time.sleep(delay)
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    assert stderr.splitlines()[-1] == "partgen: interrupted; finished objects are kept."
    assert "Traceback" not in stderr


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
    assert "No space left on device" in sentence
    assert "finished objects are kept" in sentence
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
