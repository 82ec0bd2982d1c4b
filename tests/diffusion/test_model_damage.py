"""A model that was damaged on disk is named before anything is drawn; numbers that are not finite are no result."""

import shutil
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.applications.models import Models
from pipeline.diffusion.networks import load_autoencoder
from pipeline.diffusion.pipelines import SegmentationPipeline
from pipeline.diffusion.unet import load_unet
from pipeline.errors import UserError
from pipeline.folders import STAGE, SUMS, whole_folder
from pipeline.params.base import load_group
from pipeline.params.render import RenderParams
from tests.diffusion.test_pipelines import model, picture

WEIGHTS = "diffusion_pytorch_model.safetensors"
FILES = (
    "unet/config.json",
    f"unet/{WEIGHTS}",
    f"autoencoder/{WEIGHTS}",
    "model_index.json",
    "scheduler/scheduler_config.json",
)
RUBBISH = (b"", b"\0" * 64, b"{", b"[1]", b'{"_class_name": 3}', b"[" * 99_999)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    out = tmp_path / "models/segment"
    with whole_folder(out, STAGE) as folder:
        model("segment").save_pretrained(folder)
    return out


def test_a_whole_model_is_read(saved: Path) -> None:
    SegmentationPipeline.from_pretrained(saved)
    load_unet(saved / "unet")
    load_autoencoder(saved / "autoencoder")


@pytest.mark.parametrize("name", FILES)
def test_a_bit_that_flipped_is_named_before_anything_is_drawn(saved: Path, name: str) -> None:
    content = bytearray((saved / name).read_bytes())
    content[-9] ^= 8
    (saved / name).write_bytes(content)
    render = load_group(RenderParams, ["render.view_size=16"], Path("presets/nano.yaml"))
    with pytest.raises(UserError, match=f"{name} is damaged: its checksum"):
        Models(saved.parent, render).get(SegmentationPipeline)
    if name.startswith("unet"):
        with pytest.raises(UserError, match=f"{name} is damaged"):
            load_unet(saved / "unet")
    if name.startswith("autoencoder"):
        with pytest.raises(UserError, match=f"{name} is damaged"):
            load_autoencoder(saved / "autoencoder")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("content", RUBBISH)
def test_rubbish_in_a_model_without_checksums_is_one_sentence(saved: Path, name: str, content: bytes) -> None:
    (saved / SUMS).unlink()
    (saved / name).write_bytes(content)
    with pytest.raises(UserError, match=r"holds no|is not a whole|is no whole|holds a"):
        SegmentationPipeline.from_pretrained(saved)
    if name.startswith("unet"):
        with pytest.raises(UserError):
            load_unet(saved / "unet")
    if name.startswith("autoencoder"):
        with pytest.raises(UserError):
            load_autoencoder(saved / "autoencoder")


def test_a_pickle_is_not_opened(saved: Path) -> None:
    (saved / SUMS).unlink()
    shutil.move(saved / "unet" / WEIGHTS, saved / "unet/diffusion_pytorch_model.bin")
    with pytest.raises(UserError, match="holds no model that can be read"):
        SegmentationPipeline.from_pretrained(saved)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_no_numbers_give_no_result(value: float) -> None:
    broken = deepcopy(model("segment"))
    with torch.no_grad():
        next(broken.unet.parameters()).flatten()[0] = value
    with pytest.raises(UserError, match="The network of segment drew numbers that are not finite"):
        broken(picture(0))
