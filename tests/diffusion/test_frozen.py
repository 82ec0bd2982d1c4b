"""Tokens computed beforehand against the encoders that they come from: the real ones, on a toy corpus."""

import pickle
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from pipeline.diffusion import frozen
from pipeline.diffusion.examples import Examples
from pipeline.diffusion.frozen import image_outputs, text_outputs
from pipeline.diffusion.image import EfficientNetLite0
from pipeline.diffusion.tasks import TASKS
from pipeline.diffusion.text import MiniLM
from pipeline.errors import UserError
from pipeline.params.base import load_group
from pipeline.params.diffusion import DiffusionParams
from tests.toy_corpus import write_toy_corpus

pytestmark = pytest.mark.slow

PARAMS = load_group(DiffusionParams, [], Path(__file__).parents[2] / "presets/nano.yaml")
LIMIT = 24
"""Tokens of a prompt."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project") / "data"
    write_toy_corpus(folder, objects=10)  # more captions than an encoder is given at once
    return folder


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scratch folder with the tokens of all captions, to be copied from."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PARTGEN_SCRATCH", str(folder))
        text_outputs(data, MiniLM(LIMIT))
    return folder


@pytest.fixture
def small_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A scratch folder on 300 kB that said to have more, as where another process fills the disk meanwhile."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small file system cannot be mounted here")
    monkeypatch.setenv("PARTGEN_SCRATCH", str(folder))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10**9))
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


class Counting(MiniLM):
    """Notes what it encodes; killed in the middle when told so."""

    def __init__(self, max_tokens: int, batches: int = 10**9) -> None:
        super().__init__(max_tokens)
        self.seen: list[str] = []
        self.batches = batches

    def encode(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor | None]:
        if self.batches == 0:
            raise KeyboardInterrupt
        self.batches -= 1
        self.seen += prompts
        return super().encode(prompts)


def test_text_rows_are_the_tokens_of_the_samples_captions(data: Path) -> None:
    encoder = MiniLM(LIMIT)
    outputs = text_outputs(data, encoder)
    for task in ("edit", "text_to_mv", "segment"):
        samples = Examples(data, TASKS[task], "train", PARAMS, 0, 0.0, augment=True)
        items = [samples[number] for number in range(6)]
        rows = outputs[torch.tensor([item["text_row"] for item in items])]
        expected, _ = encoder.encode([item["caption"] for item in items])
        assert rows.dtype == torch.float32
        assert rows.shape == (6, *outputs.shape[1:])
        assert torch.allclose(rows, expected, atol=2e-3)
        assert torch.equal(pickle.loads(pickle.dumps(outputs))[[items[0]["text_row"]]], rows[:1])
    assert torch.allclose(outputs[[-1]], encoder.encode([""])[0], atol=2e-3)


def test_image_rows_are_the_tokens_of_the_samples_views(tmp_path: Path) -> None:
    data, encoder = tmp_path / "data", EfficientNetLite0()
    write_toy_corpus(data, objects=5)
    outputs = image_outputs(data, encoder)
    samples = Examples(data, TASKS["image_to_mv"], "train", PARAMS, 0, 0.0, augment=True)
    items = [samples[number] for number in range(8)]
    rows = torch.tensor([item["image_row"] for item in items])
    assert set((rows % 2).tolist()) == {0, 1}
    expected = encoder.encode(torch.stack([item["images"]["view"] for item in items]))
    assert torch.allclose(outputs[rows], expected, atol=2e-2, rtol=2e-3)
    assert not torch.allclose(outputs[rows ^ 1], expected, atol=2e-1)  # of the mirror images


def test_a_killed_run_goes_on_where_it_was(data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    whole = Counting(LIMIT)
    rows = len(text_outputs(data, whole))
    assert whole.seen[-1] == ""
    capfd.readouterr()
    for file in frozen.scratch().glob("frozen/*"):
        file.unlink()
    killed = Counting(LIMIT, batches=2)
    with pytest.raises(KeyboardInterrupt):
        text_outputs(data, killed)
    rest = Counting(LIMIT)
    outputs = text_outputs(data, rest)
    assert len(rest.seen) == rows - frozen.BATCH_ROWS
    fresh = MiniLM(LIMIT)
    assert torch.allclose(outputs[[0, rows - 1]], fresh.encode([whole.seen[1], ""])[0], atol=2e-3)
    assert f"{rows} of {rows}" in capfd.readouterr().err
    again = Counting(LIMIT)
    text_outputs(data, again)
    assert again.seen == []


def test_a_row_that_was_damaged_is_noticed(data: Path) -> None:
    outputs = text_outputs(data, MiniLM(LIMIT))
    expected = outputs[[0, 2]]
    with outputs.file.open("r+b") as file:
        file.seek(outputs.shape[1] * outputs.shape[2] * 2 + 7)  # in row 1
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 4]))
    damaged = text_outputs(data, MiniLM(LIMIT))
    assert torch.equal(damaged[[0, 2]], expected)
    with pytest.raises(UserError, match=r"\.f16 is damaged; remove it, and its tokens are computed again"):
        damaged[[0, 1]]
    outputs.file.unlink()
    assert torch.equal(text_outputs(data, MiniLM(LIMIT))[[0, 2]], expected)


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        (".json", b""),
        (".json", b"{"),
        (".json", b"[]"),
        (".json", b'{"done": 3}'),
        (".json", b'{"done": 99999, "shape": [1, 2, 3]}'),
        (".f16", b"short"),
    ],
)
def test_files_that_do_not_fit_are_made_anew(data: Path, finished: Path, suffix: str, content: bytes) -> None:
    shutil.copytree(finished, frozen.scratch(), dirs_exist_ok=True)
    encoder = Counting(LIMIT)
    outputs = text_outputs(data, encoder)
    assert encoder.seen == []
    expected = outputs[[0, 2]]
    outputs.file.with_suffix(suffix).write_bytes(content)
    assert torch.equal(text_outputs(data, encoder)[[0, 2]], expected)
    assert encoder.seen != []


def test_a_full_disk_is_noticed_before_the_encoder_runs(data: Path, small_disk: Path) -> None:
    encoder = Counting(LIMIT)
    with pytest.raises(UserError, match=r"GB free; make room, move PARTGEN_SCRATCH, or set train\.loop\.precompute"):
        text_outputs(data, encoder)
    assert len(encoder.seen) == 1  # whose shape is needed
    assert not list(small_disk.rglob("*.f16"))


def test_other_weights_lengths_and_captions_have_other_rows(data: Path, tmp_path: Path) -> None:
    first = text_outputs(data, MiniLM(LIMIT))
    assert text_outputs(data, MiniLM(LIMIT)).file == first.file
    assert text_outputs(data, MiniLM(LIMIT + 1)).shape == (len(first), LIMIT + 1, 384)
    changed = MiniLM(LIMIT)
    next(changed.parameters()).data[5] += 0.1
    assert text_outputs(data, changed).file != first.file
    write_toy_corpus(tmp_path / "data", objects=3)
    assert len(text_outputs(tmp_path / "data", MiniLM(LIMIT))) < len(first)


def test_a_user_is_told_what_is_wrong(data: Path, tmp_path: Path) -> None:
    large = MiniLM(LIMIT)
    large.model.encoder.layer[-1].output.LayerNorm.weight.data *= 1e6
    with pytest.raises(UserError, match=r"more than float16 holds; set train\.loop\.precompute=false"):
        text_outputs(data, large)
    with pytest.raises(UserError, match=r"captions holds no table yet; run the stage"):
        text_outputs(tmp_path, MiniLM(LIMIT))
