"""The example as it stands, with the weights that come along and settings that are quick."""

import runpy
from pathlib import Path

import pytest
import torch

from partgen import PartObject
from tests.chat_server import ChatServer

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SCRIPT = str(ROOT / "examples/decompose.py")
SAMPLE = ROOT / "data/samples/showerDoor.glb"
QUICK = (
    "render.samples=1",
    "captions.backend=openai",
    "complete.draws=1",
    "reconstruct.reconstructor=carve",
    "reconstruct.mesh.resolution=16",
    "reconstruct.turntable.frames=2",
    "reconstruct.turntable.size=32",
)


def test_the_example_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.set_num_threads(1)
    with ChatServer() as server:
        overrides = [*QUICK, f"captions.endpoint.base_url={server.url}"]
        models, params = ROOT / "weights/nano", ROOT / "presets/nano.yaml"
        main = runpy.run_path(SCRIPT)["main"]
        main(SAMPLE, tmp_path / "made", models=models, params=params, overrides=overrides, steps=2)
    parts, edited = (PartObject.load(tmp_path / "made" / name) for name in ("parts", "edited"))
    assert len(parts.parts) == len(edited.parts) >= 2
    assert edited.parts[-1].name == "cushion"
    assert [part.glb for part in edited.parts[:-1]] == [part.glb for part in parts.parts[:-1]]
    printed = capsys.readouterr().out
    assert all(part.name in printed for part in parts.parts)
    assert printed.rstrip().endswith("edited/object.glb")
