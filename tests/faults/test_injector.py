"""The instruments themselves: that faults happen where they are wanted, and that the judge sees what they do."""

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.corruptor import DAMAGES, corrupt
from tests.faults.injector import Fault, operations, preloaded
from tests.faults.server import Job
from tests.faults.trials import Bench

pytestmark = pytest.mark.slow

WRITER = """
import os, shutil, sys
import numpy as np, pyarrow as pa, pyarrow.parquet as pq
from PIL import Image
from safetensors.numpy import save_file
pq.write_table(pa.table({"a": [1]}), "arrow.parquet")
save_file({"a": np.zeros(9)}, "rust.safetensors")
Image.new("L", (2, 2)).save("pillow.png")
np.memmap("sparse", np.uint8, "w+", shape=90000)
shutil.copyfile("pillow.png", "copied.png")
os.mkdir("made")
os.replace("copied.png", "made/moved.png")
shutil.rmtree("made")
open(sys.argv[1], "w").close()
"""
SHORT = "import os; os.mkdir('a'); f = open('b', 'wb', 0); f.write(bytes(10)); f.write(bytes(10)); os.replace('b', 'c')"


def run(folder: Path, program: str, fault: Fault) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    inside, log = folder / "inside", folder / "log"
    inside.mkdir(exist_ok=True)
    environment = {**preloaded(), **fault.environment(log, inside)}
    command = [sys.executable, "-c", program, str(folder / "outside")]
    done = subprocess.run(command, cwd=inside, env=environment, capture_output=True, text=True)
    return done, [line.replace(f"{inside}/", "") for line in operations(log)]


def test_c_and_rust_are_reached_and_other_folders_are_not(injector: Path, tmp_path: Path) -> None:
    done, found = run(tmp_path, WRITER, Fault())
    assert done.returncode == 0, done.stderr
    for expected in (
        "write arrow.parquet", "open .tmp", "open pillow.png", "write copied.png", "map sparse",
        "mkdir made", "rename made/moved.png", "unlink made/moved.png",
    ):  # fmt: skip
        assert any(line.startswith(expected) for line in found), (expected, found)
    assert not any("outside" in line for line in found)


@pytest.mark.parametrize(
    ("kind", "at", "error", "there"),
    [
        ("kill", 3, None, {"a": 0, "b": 0}),
        ("tear", 2, None, {"a": 0, "b": 15}),
        ("space", 4, errno.ENOSPC, {"a": 0, "b": 10}),
        ("io", 5, errno.EIO, {"a": 0, "b": 20}),
        ("readonly", 1, errno.EROFS, {}),
    ],
)
def test_faults_happen_at_their_operation(
    injector: Path, tmp_path: Path, kind: str, at: int, error: int | None, there: dict[str, int]
) -> None:
    done, found = run(tmp_path, SHORT, Fault(kind, at))
    assert done.returncode == (-9 if error is None else 1)
    assert error is None or f"[Errno {error}]" in done.stderr
    assert len(found) >= at
    inside = tmp_path / "inside"
    assert {path.name: path.stat().st_size if path.is_file() else 0 for path in inside.iterdir()} == there


def test_a_full_disk_ends_a_program_that_writes_into_holes(injector: Path, tmp_path: Path) -> None:
    program = "import numpy as np; np.memmap('sparse', np.uint8, 'w+', shape=90000)[:] = 1"
    _, found = run(tmp_path, program, Fault())
    place = next(number for number, line in enumerate(found, start=1) if line == "map sparse")
    assert run(tmp_path, program, Fault("space", place))[0].returncode == -7  # SIGBUS


def test_children_count_when_they_are_to(injector: Path, tmp_path: Path) -> None:
    program = "import os, subprocess; os.mkdir('a'); subprocess.run(['mkdir', 'b'])"
    assert run(tmp_path, program, Fault())[1] == ["mkdir a"]
    (tmp_path / "log").unlink()
    for name in ("a", "b"):
        (tmp_path / "inside" / name).rmdir()
    assert run(tmp_path, program, Fault(children=True))[1] == ["mkdir a", "mkdir b"]


@pytest.mark.parametrize("how", DAMAGES)
def test_damage_is_the_same_for_the_same_seed(tmp_path: Path, how: str) -> None:
    damaged = []
    for name in ("a", "b"):
        (tmp_path / name).write_text('{"value": [1, 2, {"inner": "text"}]}' + " " * 200)
        assert corrupt(tmp_path / name, how, 3)
        damaged.append((tmp_path / name).read_bytes())
    assert damaged[0] == damaged[1]


def test_a_job_ends_as_a_program_does(bench: Bench) -> None:
    """Exit statuses, errors of the user, tracebacks, and processes that it leaves."""
    programs = {
        "(lambda: print('hello'))": (0, "hello\n", ""),
        "(lambda: sys.exit(3))": (3, "", ""),
        "(lambda: partgen('preset', 'nao'))": (2, "", "partgen: "),
        "(lambda: 1 / 0)": (1, "", ""),
    }
    for call, (status, stdout, sentence) in programs.items():
        ended = bench.server.run(Job(f"tests.faults.targets:{call}", bench.next_folder))
        assert (ended.status, ended.stdout) == (status, stdout)
        assert ended.sentence.startswith(sentence)
        assert bool(ended.sentence) == bool(sentence)
        assert ended.left == []
    assert bench.server.run(
        Job("tests.faults.targets:(lambda: __import__('time').sleep(9))", bench.next_folder, timeout_s=0.3)
    ).timed_out
