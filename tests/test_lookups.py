"""No command looks up a host, or connects to one, that is not this machine."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pipeline.applications.photo import _session
from tests.diffusion.test_pipelines import model
from tests.lookups import Lookups, missing_compiler
from tests.toy_project import ROOT, make_toy_project

pytestmark = pytest.mark.slow

FIRST_REPORT_S = 11
"""onnxruntime looks up its maker's host this long after its import, measured 9.1 s."""
# What an application does with its models, and the session that cuts out a picture.
APPLICATION = """
import sys, time
from pathlib import Path
from pipeline.diffusion.pipelines import SegmentationPipeline
from pipeline.applications.photo import _session
SegmentationPipeline.from_pretrained("segment")
assert "onnxruntime" in sys.modules, "the watch is of no use"
_session(Path("same.onnx"))
time.sleep({})
"""
HUB = """
from pathlib import Path
from pipeline.errors import UserError
from pipeline.evaluation.perceptual import ClipScore
from pipeline.evaluation.sam2 import Sam2Segmenter
for load in (ClipScore, Sam2Segmenter.from_pretrained):
    try:
        load(Path("openai/clip-vit-base-patch32"))
    except UserError as error:
        print(error)
"""


@pytest.fixture
def lookups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lookups:
    if missing_compiler():
        pytest.skip("the watch is a library in C, and there is no gcc")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for name in [name for name in os.environ if name.startswith(("PREFECT_", "DVC_", "HF_", "ORT_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    return Lookups(tmp_path)


def run(lookups: Lookups, folder: Path, *command: str) -> str:
    arguments = [sys.executable, *command]
    done = subprocess.run(arguments, cwd=folder, env=lookups.environment, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_the_watch_sees_other_hosts(lookups: Lookups, tmp_path: Path) -> None:
    program = "import socket; s = socket.socket(); s.settimeout(1); s.connect_ex(('127.0.0.1', 9)); {}"
    run(lookups, tmp_path, "-c", program.format("socket.getaddrinfo('localhost', 80)"))
    assert lookups.abroad() == []
    run(lookups, tmp_path, "-c", program.format("socket.getaddrinfo('host.invalid', 80)"))
    run(lookups, tmp_path, "-c", program.format("s.connect_ex(('192.0.2.1', 9))"))
    assert [line.split()[:2] for line in lookups.abroad()] == [["name", "host.invalid"], ["address", "192.0.2.1"]]


def test_commands_and_models_look_up_no_host(lookups: Lookups, tmp_path: Path) -> None:
    project = make_toy_project(tmp_path / "project")
    model("segment").save_pretrained(project / "segment")
    (project / "same.onnx").write_bytes(SAME)
    slow = subprocess.Popen(
        [sys.executable, "-c", APPLICATION.format(FIRST_REPORT_S)], cwd=project, env=lookups.environment
    )
    assert "decompose" in run(lookups, project, "-m", "stages.cli", "--help")
    assert "no tables yet" in run(lookups, project, "-m", "stages.cli", "show", "assets")
    lookups.environment["PREFECT_API_URL"] = "http://127.0.0.1:9/api"
    assert "No Prefect server answers" in run(lookups, project, "-m", "stages.cli", "serve")
    assert "assets" in run(lookups, project, "-m", "dvc", "status")
    told = run(lookups, project, "-c", HUB)
    assert "cannot be read as CLIP" in told
    assert "cannot be read as SAM2" in told
    assert slow.wait(120) == 0
    assert lookups.abroad() == []


def test_cutting_out_takes_as_many_threads_as_the_rest(tmp_path: Path) -> None:
    (tmp_path / "same.onnx").write_bytes(SAME)
    options = _session(tmp_path / "same.onnx").get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (torch.get_num_threads(), 1)


def _message(*fields: tuple[int, int | bytes]) -> bytes:
    """A protobuf message of small numbers and bytes."""
    return b"".join(
        bytes([number << 3, value]) if isinstance(value, int) else bytes([number << 3 | 2, len(value)]) + value
        for number, value in fields
    )


def _value(name: bytes) -> bytes:
    return _message((1, name), (2, _message((1, _message((1, 1), (2, _message((1, _message((1, 1))))))))))


SAME = _message(
    (1, 8),
    (
        7,
        _message(
            (1, _message((1, b"x"), (2, b"y"), (4, b"Identity"))), (2, b"g"), (11, _value(b"x")), (12, _value(b"y"))
        ),
    ),
    (8, _message((2, 13))),
)
"""A network of ONNX that hands on a number."""
