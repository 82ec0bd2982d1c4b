"""Files and folders that are written as a whole: nothing foreign is replaced, damage is named, nothing is left over."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.errors import UserError
from pipeline.folders import (
    SUMS,
    changed_files,
    check_replaceable,
    check_sums,
    reading,
    replaced,
    whole_folder,
    written,
)


def make(out: Path, text: str = "1", kind: str = "toy") -> Path:
    with replaced(out, kind) as folder:
        (folder / "inner").mkdir()
        (folder / "inner/file").write_text(text)
        (folder / "näme with blanks").write_text("2")
    return out


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_of_its_own_kind_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()  # an empty folder is as good as none
    for text in ("old", "new"):
        make(tmp_path / "made", text)
    assert (tmp_path / "made/inner/file").read_text() == "new"
    assert names(tmp_path) == ["made"]
    assert subprocess.run(["sha256sum", "--strict", "-c", SUMS], cwd=tmp_path / "made", check=False).returncode == 0


def foreign(folder: Path) -> None:
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work")


def other_kind(folder: Path) -> None:
    make(folder, kind="result")


def with_a_note(folder: Path) -> None:
    (make(folder) / "inner/note.txt").write_text("mine")


def a_file(folder: Path) -> None:
    folder.write_text("mine")


def a_link(folder: Path) -> None:
    make(folder.with_name("elsewhere"))
    folder.symlink_to("elsewhere")


def a_link_to_nothing(folder: Path) -> None:
    folder.symlink_to("nowhere")


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        (foreign, "holds files that are no toy of this program"),
        (other_kind, "holds files that are no toy of this program"),
        (with_a_note, r"inner/note\.txt in it is not of this program"),
        (a_file, "is a file and no folder"),
        (a_link, "is a link"),
        (a_link_to_nothing, "is a link"),
    ],
)
def test_nothing_else_is_replaced(tmp_path: Path, prepare: Callable[[Path], None], reason: str) -> None:
    prepare(tmp_path / "out")
    before = {path: path.is_symlink() or path.is_dir() or path.read_bytes() for path in tmp_path.rglob("*")}
    with pytest.raises(UserError, match=reason):
        check_replaceable(tmp_path / "out", "toy")
    with pytest.raises(UserError, match=reason):
        make(tmp_path / "out")
    assert {path: path.is_symlink() or path.is_dir() or path.read_bytes() for path in tmp_path.rglob("*")} == before


def test_what_came_into_the_folder_during_the_work_is_kept(tmp_path: Path) -> None:
    out = make(tmp_path / "out")

    def work() -> None:
        with replaced(out, "toy") as folder:
            (folder / "file").touch()
            (out / "note.txt").write_text("mine")

    with pytest.raises(UserError, match=r"note\.txt in it is not of this program"):
        work()
    assert (out / "note.txt").read_text() == "mine"
    assert (out / "inner/file").exists()
    assert names(tmp_path) == ["out"]


def test_work_that_failed_leaves_the_older_folder_and_file(tmp_path: Path) -> None:
    make(tmp_path / "out", "old")
    (tmp_path / "file").write_text("old")

    def folder_by_half() -> None:
        with replaced(tmp_path / "out", "toy") as folder:
            (folder / "half").touch()
            raise InterruptedError

    def file_by_half() -> None:
        with written(tmp_path / "file") as partial:
            partial.write_text("half")
            raise InterruptedError

    for work in (folder_by_half, file_by_half):
        with pytest.raises(InterruptedError):
            work()
    assert (tmp_path / "out/inner/file").read_text() == (tmp_path / "file").read_text() == "old"
    assert names(tmp_path) == ["file", "out"]


def test_readers_always_find_the_folder(tmp_path: Path) -> None:
    out, ended, missed = make(tmp_path / "out"), threading.Event(), []

    def read() -> None:
        while not ended.is_set():
            try:
                (out / "inner/file").read_text()
            except OSError as error:
                missed.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(100):
        make(out, str(number))
    ended.set()
    reader.join()
    assert not missed


KILLED = """
import os, signal, sys
from pathlib import Path
from pipeline.folders import whole_folder, written
with whole_folder(Path(sys.argv[1]), "toy") as folder, written(Path(sys.argv[2])) as file:
    (folder / "half").touch()
    file.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path) -> None:
    out, file = tmp_path / "out", tmp_path / "file"
    done = subprocess.run([sys.executable, "-c", KILLED, str(out), str(file)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(names(tmp_path)) == 2
    make(out)
    with written(file) as partial:
        partial.write_text("whole")
    assert names(tmp_path) == ["file", "out"]


def test_the_partial_files_of_a_running_process_stay(tmp_path: Path) -> None:
    with whole_folder(tmp_path / "out", "toy") as mine, written(tmp_path / "file") as file:
        (mine / "half").touch()
        file.touch()
        other = threading.Thread(target=make, args=[tmp_path / "out"])
        other.start()
        other.join()
        assert (mine / "half").exists()


def flipped(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[0] ^= 1
    file.write_bytes(content)


def as_a_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


@pytest.mark.parametrize("damage", [flipped, Path.unlink, lambda file: file.write_bytes(b""), as_a_pipe])
@pytest.mark.parametrize("read", ["", "inner", "inner/file"])
def test_damage_is_named(tmp_path: Path, damage: Callable[[Path], None], read: str) -> None:
    out = make(tmp_path / "out")
    check_sums(out / read)
    assert changed_files(out) == []
    damage(out / "inner/file")
    with pytest.raises(UserError, match=r"inner/file is (damaged|missing)"):
        check_sums(out / read)
    assert changed_files(out) == ["inner/file"]
    check_sums(out / "näme with blanks")  # the others are well


def test_checksums_that_are_damaged_themselves(tmp_path: Path) -> None:
    out = make(tmp_path / "out")
    whole = (out / SUMS).read_bytes()
    for content in (b"", whole[:-1], whole[:-90], whole[:60], b"\0" * len(whole)):
        (out / SUMS).write_bytes(content)
        with pytest.raises(UserError, match=f"{SUMS} is damaged"):
            check_sums(out)
        with pytest.raises(UserError, match=f"{SUMS} is damaged"):
            check_replaceable(out, "toy")


def test_a_folder_without_checksums_is_read_as_it_is(tmp_path: Path) -> None:
    foreign(tmp_path / "other")
    check_sums(tmp_path / "other")
    with (
        pytest.raises(UserError, match=r"other holds no model that can be read \(KeyError: 'weights'\)"),
        reading(tmp_path / "other", "model"),
    ):
        raise KeyError("weights")


def test_a_copy_elsewhere_is_checked_as_well(tmp_path: Path) -> None:
    shutil.copytree(make(tmp_path / "out"), tmp_path / "copy")
    flipped(tmp_path / "copy/inner/file")
    with pytest.raises(UserError, match="copy/inner/file is damaged"):
        check_sums(tmp_path / "copy")
