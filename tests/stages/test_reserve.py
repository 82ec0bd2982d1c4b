"""The name of a result is held while it is made, and what cannot be written is told before the work."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.applications.result import PartObject
from pipeline.errors import UserError
from pipeline.folders import next_free
from stages.entry import one_sentence_errors
from stages.reserve import reserved
from stages.results import keep
from tests.applications.test_result import an_object
from tests.toy_project import ROOT

HOLDER = """
import sys
from pathlib import Path
from stages.reserve import reserved
with reserved(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
    raise SystemExit
"""


def sentence_of(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What the command line says when the result cannot go to `folder`."""
    with pytest.raises(SystemExit) as ended, one_sentence_errors(), reserved(folder):
        pytest.fail("the work began")
    assert ended.value.code == 2
    said = capsys.readouterr().err.strip()
    assert "\n" not in said
    return said


@contextmanager
def holder(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that makes a result."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.communicate()


@contextmanager
def a_user_without_rights() -> Iterator[None]:
    own = os.geteuid()
    if own == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(own)


def test_what_cannot_be_written_is_told_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("mine")
    assert f"{tmp_path / 'file'} is there already" in sentence_of(tmp_path / "file", capsys)
    assert "a file is in its way" in sentence_of(tmp_path / "file/chair", capsys)
    assert "use shorter names" in sentence_of(tmp_path / ("long" * 80), capsys)
    assert "use shorter names" in sentence_of(tmp_path / ("long" * 50), capsys), "as long as it may be, once it is made"
    with tempfile.TemporaryDirectory() as name:  # pytest's own is root's alone
        Path(name).chmod(0o777)
        shut = Path(name) / "shut"
        shut.mkdir(mode=0o555)
        for scratch, out in (("scratch", shut / "chair"), ("shut/scratch", Path(name) / "chair")):
            monkeypatch.setenv("PARTGEN_SCRATCH", f"{name}/{scratch}")
            with a_user_without_rights():
                said = sentence_of(out, capsys)
            assert said.startswith(f"partgen: {shut}")
            assert said.endswith(
                "cannot be written or read (Permission denied); allow it for this user, or use another folder."
            )
    monkeypatch.setenv("PARTGEN_SCRATCH", str(tmp_path / "file"))
    assert f"{tmp_path / 'file'} cannot be made" in sentence_of(tmp_path / "chair", capsys)
    assert not (tmp_path / "chair").exists()


@pytest.mark.slow
def test_a_name_is_held_until_the_result_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chair = tmp_path / "results/chair"
    with holder(chair) as other:
        assert f"{chair} is being made by another run" in sentence_of(chair, capsys)
        assert chair.is_dir(), "it is the other run's"
        assert next_free(chair) == tmp_path / "results/chair-2"
        other.communicate("")
        assert not chair.exists(), "nothing is left of a run that failed"
    with holder(chair) as other:
        other.kill()
        other.wait()
        with reserved(chair):  # nor is anything in the way of the next
            an_object().save(chair)
    assert (chair / "result.json").is_file()
    assert "is there already" in sentence_of(chair, capsys)


def test_a_folder_of_the_users_stays(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    with pytest.raises(UserError, match="no use"), reserved(mine):
        raise UserError("This is of no use.")
    assert mine.is_dir()


def test_a_result_whose_place_is_lost_during_the_work_is_kept_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "results").write_text("a file now")
    with pytest.raises(UserError, match=r"results/chair cannot be written \(.*\); the result is .*: move it") as told:
        keep(an_object(), tmp_path / "results/chair")
    kept = re.search(r"the result is (.*?): move it", str(told.value))
    assert kept is not None
    assert PartObject.load(kept[1]).name == "chair"
