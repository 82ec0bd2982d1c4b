"""The trainings of SAM2's two fine-tuned forms, from a tiny checkpoint of the real classes, through the real stage."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from transformers import Sam2ImageProcessor, Sam2Processor

from pipeline.errors import UserError
from pipeline.evaluation.sam2 import Sam2Segmenter
from stages.cli import main
from stages.train_sam2 import launch
from tests.evaluation.test_sam2 import PIXELS, tiny_sam2
from tests.toy_corpus import write_toy_corpus

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(ROOT / "presets/nano.yaml", tmp_path / "params.yaml")
    write_toy_corpus(tmp_path / "data", objects=4)
    tiny_sam2().save_pretrained(tmp_path / "sam2")
    size = {"height": PIXELS, "width": PIXELS}
    Sam2Processor(Sam2ImageProcessor(size=size)).save_pretrained(tmp_path / "sam2")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PARTGEN_SCRATCH", str(tmp_path / "scratch"))
    return tmp_path


@pytest.mark.parametrize("name", ["sam2_mask_decoder", "sam2_grid"])
def test_a_form_is_trained_by_its_stage(project: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    said = ["evaluate.sam2=sam2", f"train.{name}.steps=2", f"train.{name}.batch=2", f"train.{name}.learning_rate=0.01"]
    command = ["partgen", "stage", f"train@{name}", *(word for one in said for word in ("--set", one))]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit, match="0"):
        main()
    before = Sam2Segmenter.from_pretrained("sam2").model.state_dict()
    after = Sam2Segmenter.from_pretrained(f"data/models/{name}").model.state_dict()
    changed = {key.partition(".")[0] for key in before if not torch.equal(before[key], after[key])}
    assert "mask_decoder" in changed
    assert ("vision_encoder" in changed) == (name == "sam2_grid")
    metrics = json.loads(Path(f"metrics/train/{name}.json").read_text())
    assert (metrics["init_from"], metrics["steps"], sorted(metrics["validation"])) == ("sam2", 2, ["iou", "loss"])
    assert {path.name for path in Path("plots/train").iterdir()} == {f"{name}.csv", f"{name}.png"}


def test_without_weights_it_says_what_to_give(project: Path) -> None:
    with pytest.raises(
        UserError, match=r"evaluate\.sam2 is null, and train@sam2_grid starts from the weights there; give"
    ):
        launch("sam2_grid")
    with pytest.raises(UserError, match="cannot be read as SAM2"):
        launch("sam2_grid", ["evaluate.sam2=data"])
    with pytest.raises(UserError, match="There is no training `sam2_gird`"):
        launch("sam2_gird")
