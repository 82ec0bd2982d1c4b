"""The stages `segment`, `complete` and `generate` on a corpus of toys, with tiny, really trained models."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_dilation

from pipeline.diffusion.pipelines import SegmentationPipeline
from pipeline.errors import UserError
from pipeline.folders import STAGE, write_sums
from pipeline.params.complete import ALONE, CompleteParams
from pipeline.params.generate import GenerateParams
from pipeline.params.segment import SegmentParams
from pipeline.reconstruction.carving import HULL_CELLS, Carver
from pipeline.regions.ranking import Pool
from pipeline.shards.read import read_manifest, read_table
from pipeline.shards.table import decode_png
from pipeline.views.cameras import Camera, over_white, tile, untile
from stages.complete import run as complete
from stages.generate import run as generate
from stages.segment import run
from tests.toy_models import VIEW_SIZE

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("forked")]

PARAMS = SegmentParams(
    split="val",
    runs=3,
    seed=0,
    min_patch_pixels=2,
    vote_radius=0.3,
    vote_colour=0.5,
    min_pixels=2,
    max_parts=4,
    recolour=True,
    min_part_pixels=8,
    max_failed_share=0.0,
    timeout_s=120.0,
)
METHODS = CompleteParams(
    methods=["complete", "complete_single_view"],
    seed=0,
    draws=1,
    keep_visible=True,
    max_failed_share=0.0,
    timeout_s=120.0,
)

PROMPTS = ["a red box", "a box"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, toy_models: Path, forked: None) -> Path:
    """A folder with the toy corpus, the networks that were trained on it, and the segmentations that they drew."""
    folder = tmp_path_factory.mktemp("trained")
    shutil.copytree(toy_models / "data", folder / "data", ignore=shutil.ignore_patterns("models"))
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("PARTGEN_WORKERS", "1")
        patch.setenv("PARTGEN_SCRATCH", str(folder / ".partgen"))
        with pytest.raises(UserError, match="no model"):
            run(PARAMS)
        shutil.copytree(toy_models / "data/models", "data/models")
        model = SegmentationPipeline.from_pretrained("data/models/segment")
        torch.nn.init.normal_(model.unet.conv_out.weight)  # trained so briefly it would draw nothing but white
        model.save_pretrained("data/models/segment")
        write_sums(Path("data/models/segment"), STAGE)
        assert run(PARAMS).total > 0
    return folder


@pytest.fixture
def project(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of `trained` for a test to change; its scratch folder is another one, so nothing is reused at first."""
    shutil.copytree(trained / "data", tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PARTGEN_WORKERS", "1")
    torch.set_num_threads(1)
    return tmp_path


def test_held_out_objects_are_segmented(project: Path) -> None:
    report = run(PARAMS)
    assert report.computed == report.total > 0
    runs = read_table(Path("data/segmentations/runs")).to_pylist()
    assert len(runs) == 3 * report.total
    assert {row["split"] for row in runs} == {"val"}
    first = [row for row in runs if row["object_id"] == runs[0]["object_id"]]
    maps = np.stack([decode_png(row["labels"]["bytes"]) for row in first])
    assert [row["run"] for row in first] == [0, 1, 2]
    assert not np.array_equal(maps[0], maps[1])  # another seed, another segmentation

    proposals = read_table(Path("data/segmentations/proposals")).to_pylist()
    stored = [(row["run"], row["label"]) for row in proposals if row["object_id"] == first[0]["object_id"]]
    ranked = Pool.of_runs(maps).ranked()
    assert stored == list(zip(ranked.run_N.tolist(), ranked.label_N.tolist(), strict=True))

    (parts,) = [
        row
        for row in read_table(Path("data/segmentations/parts")).to_pylist()
        if row["object_id"] == first[0]["object_id"]
    ]
    assert parts["run"] == int(np.argmax([row["score"] for row in first]))
    assert 1 <= decode_png(parts["labels"]["bytes"]).max() <= PARAMS.max_parts

    assert run(PARAMS).reused == report.total
    assert run(PARAMS.model_copy(update={"recolour": False})).computed == report.total
    plain = [decode_png(row["labels"]["bytes"]) for row in read_table(Path("data/segmentations/runs")).to_pylist()[:3]]
    assert np.array_equal(plain[0], maps[0])
    assert not np.array_equal(plain[1], maps[1])  # the same noise, other colours
    assert run(PARAMS.model_copy(update={"vote_radius": 0.0})).computed == report.total
    alone = [decode_png(row["labels"]["bytes"]) for row in read_table(Path("data/segmentations/runs")).to_pylist()[:3]]
    assert not np.array_equal(alone, maps)


def test_their_parts_are_completed(project: Path) -> None:
    report = complete(METHODS)
    assert report.computed == report.total > 0
    completed = read_table(Path("data/completions/grids")).to_pylist()
    truth = read_table(Path("data/masks/labels")).to_pylist()
    labels = {row["object_id"]: decode_png(row["labels"]["bytes"]) for row in truth}
    drawn = read_table(Path("data/renders/grids")).to_pylist()
    wholes = {row["object_id"]: over_white(decode_png(row["image"]["bytes"])) for row in drawn if not row["part_id"]}
    of_parts = {(row["object_id"], row["part_id"]) for row in drawn if row["split"] == "val" and row["part_id"]}
    for method in METHODS.methods:
        rows = [row for row in completed if (row["source"], row["method"]) == ("truth", method)]
        assert {(row["object_id"], row["label"]) for row in rows} == of_parts
        for row in rows:
            mask = labels[row["object_id"]] == row["label"]
            assert row["pixels"] == np.count_nonzero(mask)
            picture = decode_png(row["image"]["bytes"])
            assert picture.shape == (2 * VIEW_SIZE, 2 * VIEW_SIZE, 3)
            assert np.array_equal(picture[mask], (wholes[row["object_id"]][mask] * 255).round())
            views = untile(labels[row["object_id"]] > 0)
            beyond = tile(np.stack([~binary_dilation(view, np.ones((3, 3))) for view in views]))
            assert (picture[beyond] == 255).all()
    assert {row["label"] for row in completed if row["source"] == "imagined"} == {0}
    assert any(row["source"] == "predicted" for row in completed)
    assert complete(METHODS).reused == report.total
    assert complete(METHODS.model_copy(update={"keep_visible": False})).computed == report.total
    bare = {key_of(row): row["image"] for row in read_table(Path("data/completions/grids")).to_pylist()}
    kept = {key_of(row): row["image"] for row in completed}
    assert {key for key in kept if key not in bare} == {
        (object_id, "truth", name + ALONE, label) for object_id, label in of_parts for name in METHODS.methods
    }
    for (object_id, source, name, label), image in bare.items():  # alone, a network draws what it draws unpasted
        if source == "truth":
            assert image == kept[object_id, source, name + ALONE, label]
    assert any(bare[key] != kept[key] for key in bare)


def key_of(row: dict[str, Any]) -> tuple[str, str, str, int]:
    return row["object_id"], row["source"], row["method"], row["label"]


def pictures_of(alone: bool) -> list[bytes]:
    """Of the completions, in the order of their table."""
    rows = read_table(Path("data/completions/grids")).to_pylist()
    return [row["image"]["bytes"] for row in rows if row["method"].endswith(ALONE) == alone]


@pytest.mark.parametrize("method", METHODS.methods)
def test_the_completion_that_its_views_agree_on_best_is_kept(project: Path, method: str) -> None:
    of_one = METHODS.model_copy(update={"methods": [method]})
    singles: list[list[bytes]] = []
    first: list[bytes] = []
    for seed in range(3):
        complete(of_one.model_copy(update={"seed": seed}))
        singles.append(pictures_of(alone=False))
        first = pictures_of(alone=True) if seed == 0 else first
    report = complete(of_one.model_copy(update={"draws": 3}))
    assert report.computed == report.total > 0
    best = pictures_of(alone=False)
    assert pictures_of(alone=True) == first != []
    settings = read_manifest(Path("data/renders/grids")).settings
    camera = Camera(settings["fov_deg"], settings["distance"], VIEW_SIZE)
    carver = Carver(camera, settings["elevation_deg"], HULL_CELLS)
    chosen = set()
    for picture, drawn in zip(best, zip(*singles, strict=True), strict=True):
        agree = [
            carver.agreement(torch.from_numpy(decode_png(png).astype(np.float32) / 255).movedim(-1, 0)) for png in drawn
        ]
        chosen.add(drawn.index(picture))
        assert agree[drawn.index(picture)] == pytest.approx(max(agree), abs=0.02)  # pictures were rounded to bytes
    assert len(chosen) > 1


def test_objects_are_drawn_anew_from_captions_and_views_and_texts(project: Path) -> None:
    drawing = GenerateParams(
        split="val", seed=0, prompts=PROMPTS, command=None, command_timeout_s=1.0, max_failed_share=0.0, timeout_s=120.0
    )
    report = generate(drawing)
    captions = read_table(Path("data/captions/captions")).to_pylist()
    told = {row["object_id"]: row["caption"] for row in captions if row["split"] == "val" and not row["part_id"]}
    assert report.computed == report.total == len(told) + len(PROMPTS) > len(PROMPTS)
    rows = read_table(Path("data/generations/grids")).to_pylist()
    assert {(row["object_id"], row["method"], row["prompt"]) for row in rows} == {
        (object_id, *drawn) for object_id in told for drawn in (("text_to_mv", told[object_id]), ("image_to_mv", ""))
    }
    assert {decode_png(row["image"]["bytes"]).shape for row in rows} == {(2 * VIEW_SIZE, 2 * VIEW_SIZE, 3)}
    texts = read_table(Path("data/generations/prompts")).to_pylist()
    assert {row["object_id"]: row["prompt"] for row in texts} == {"prompt-001": PROMPTS[0], "prompt-002": PROMPTS[1]}
    assert {decode_png(row["image"]["bytes"]).shape for row in texts} == {(2 * VIEW_SIZE, 2 * VIEW_SIZE, 3)}
    assert texts[0]["image"] != texts[1]["image"]
    assert generate(drawing).reused == report.total
    assert generate(drawing.model_copy(update={"prompts": ["a red box", "a blue box"]})).computed == 1
    assert generate(drawing.model_copy(update={"seed": 1})).computed == report.total
