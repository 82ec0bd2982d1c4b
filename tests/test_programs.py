"""Programs of the user's: what becomes of those that die, hang, leave others behind, or are orphaned."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.params.command import check_places
from pipeline.programs import ProgramFailed, run_program, written

NAMED = "generate.command"


def shell(text: str, timeout_s: float = 20.0, **values: str | Path) -> None:
    run_program(["/bin/sh", "-c", text, "{out}", "{prompt}"], {"out": "", "prompt": "", **values}, timeout_s, NAMED)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def gone(pid: int) -> bool:
    """Within two seconds."""
    for _ in range(100):
        if not is_alive(pid):
            return True
        time.sleep(0.02)
    return False


def test_values_are_put_at_their_places_and_not_read_by_anyone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shell('printf %s "$1" > "$0/said"', out=Path("."), prompt='a "chair" $(false) {out} {"json": 1}')
    assert (tmp_path / "said").read_text() == 'a "chair" $(false) {out} {"json": 1}'


def test_what_a_program_writes_is_found_at_any_depth_but_for_empty_files(tmp_path: Path) -> None:
    shell('cd "$0"; mkdir -p a/b; echo x > a/b/it.GLB; echo x > a/notes.txt; : > empty.glb', out=tmp_path)
    assert written(tmp_path, {".glb", ".obj"}) == [tmp_path / "a/b/it.GLB"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("echo first >&2; echo 'no weights.' >&2; echo; exit 3", "sh ended with status 3 (no weights)"),
        ("echo told on stdout; exit 1", "sh ended with status 1 (told on stdout)"),
        ("exit 7", "sh ended with status 7"),
        ("kill -SEGV $$", "sh was ended by a signal, Segmentation fault"),
        ("yes 'x' | head -c 300000 >&2; exit 1", "sh ended with status 1 (x)"),
    ],
)
def test_one_that_dies_is_told_with_its_last_line(text: str, reason: str) -> None:
    with pytest.raises(ProgramFailed) as failed:
        shell(text)
    assert failed.value.reason == reason
    assert str(failed.value) == f"`generate.command`: {reason}; see that it runs by itself."


def test_one_that_is_not_there_or_is_no_program(tmp_path: Path) -> None:
    (tmp_path / "rubbish").write_bytes(b"\x7fELF rubbish")
    (tmp_path / "rubbish").chmod(0o755)
    with pytest.raises(ProgramFailed, match="there is no program /nowhere/generator; give its path"):
        run_program(["/nowhere/generator"], {}, 1.0, NAMED)
    with pytest.raises(ProgramFailed, match="rubbish cannot be started"):
        run_program([str(tmp_path / "rubbish")], {}, 1.0, NAMED)


def test_one_that_hangs_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    begun = time.monotonic()
    with pytest.raises(ProgramFailed, match=r"had not ended after 0\.3 s and was killed \(waiting\)"):
        shell('trap "" TERM; sleep 60 & echo $! > "$0/pid"; echo waiting >&2; wait', timeout_s=0.3, out=tmp_path)
    assert time.monotonic() - begun < 5
    assert gone(int((tmp_path / "pid").read_text()))


def test_what_a_program_leaves_running_ends_with_it(tmp_path: Path) -> None:
    shell('sleep 60 & echo $! > "$0/pid"', out=tmp_path)
    assert gone(int((tmp_path / "pid").read_text()))


def test_a_program_ends_with_the_process_that_runs_it_even_when_that_is_killed(tmp_path: Path) -> None:
    code = f"from tests.test_programs import *; shell('echo $$ > {tmp_path}/pid; sleep 60; true', 60)"
    outer = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    for _ in range(500):
        if (tmp_path / "pid").exists() and (tmp_path / "pid").read_text():
            break
        time.sleep(0.02)
    outer.send_signal(signal.SIGKILL)
    outer.wait()
    assert gone(int((tmp_path / "pid").read_text()))


def test_the_places_of_a_command_are_checked() -> None:
    check_places(["tool", '{"json": 1}', "--to={out}"], ("image", "out"), ("out",))
    with pytest.raises(ValueError, match=r"nothing is put at \{picture\}; give \{image\}, \{out\}"):
        check_places(["tool", "{picture}", "{out}"], ("image", "out"))
    with pytest.raises(ValueError, match=r"it lacks \{out\}"):
        check_places(["tool", "{image}"], ("image", "out"), ("out",))
