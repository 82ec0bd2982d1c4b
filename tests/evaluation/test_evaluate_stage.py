"""The stage `evaluate` on results with known errors."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Sam2ImageProcessor, Sam2Processor

from pipeline.errors import UserError
from pipeline.evaluation.evaluate_object import EvaluateTask, completion, generation, reassembly, segmentation
from pipeline.params.evaluate import EvaluateParams
from pipeline.shards.read import read_table
from stages.evaluate import items, run, show
from tests.evaluation.test_part123 import as_part123
from tests.evaluation.test_perceptual import save_alexnet, save_whole_clip
from tests.evaluation.test_sam2 import PIXELS, tiny_sam2
from tests.toy_corpus import write_toy_corpus
from tests.toy_results import ERRORS, MOVED, write_toy_results

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("forked")]

VIEW_SIZE = 32
OBJECTS = {"toy-001": 1, "toy-002": 2}
"""The second has a part that is out of sight."""
PARAMS = EvaluateParams(
    runs=[1, 2],
    points=500,
    seed=0,
    sam2=None,
    sam2_mask_decoder=None,
    sam2_grid=None,
    sam2_queries=4,
    part123=None,
    clip=None,
    lpips=None,
    part_objaverse_tiny=None,
    max_failed_share=0.0,
    timeout_s=120.0,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results") / "data"
    write_toy_corpus(folder, objects=3, view_size=VIEW_SIZE, shards=1)
    write_toy_results(folder, OBJECTS)
    return folder


@pytest.fixture(autouse=True)
def one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARTGEN_WORKERS", "1")
    torch.set_num_threads(1)


def task_of(data: Path, object_id: str, params: EvaluateParams = PARAMS) -> EvaluateTask:
    (item,) = [item for item in items(data, params) if item.object_id == object_id]
    loaded: EvaluateTask = item.load()
    return loaded


def decibels(error: int) -> float:
    return float(-20 * np.log10(error / 255))


def test_known_errors_give_known_figures(data: Path) -> None:
    task = task_of(data, "toy-002")
    found = {(method, setting): figures for method, setting, figures in completion(task)}
    # The hidden part counts, too: on the views nothing is left of it by the mask.
    assert found["oracle", "views"] == pytest.approx({"ssim": 1.0, "st_lpips": 0.0, "psnr_exact": 1.0}, abs=1e-6)
    assert found["none", "views"]["psnr_foreground"] < 40
    for method in ("complete", "complete_no_context"):
        for setting in ("views", "3d"):
            figures = found[method, setting]
            assert figures["psnr"] == pytest.approx(decibels(ERRORS[method]), abs=0.05)
            assert figures["psnr_foreground"] == pytest.approx(decibels(ERRORS[method]), abs=0.05)
            assert figures["psnr_exact"] == 0
    assert set(found) == {
        *(
            (method, setting)
            for method in ("oracle", "complete", "complete_no_context", "none")
            for setting in ("views", "3d")
        )
    }


def test_shapes_are_compared_in_their_place_and_absent_ones_count(data: Path) -> None:
    task = task_of(data, "toy-001")
    found = {(method, setting): figures for method, setting, figures in reassembly(task)}
    count = len(task.grids) - 1
    assert found["oracle parts", "part shape"]["chamfer"] < 0.1
    assert found["oracle parts", "part shape"]["f_score_10"] > 0.9
    moved = found["true parts", "part shape"]["chamfer"]
    assert (count - 1) * 0.15 + 2 < moved * count < (count - 1) * MOVED * 3**0.5 + 2
    assert found["true parts", "shape"]["absent"] == pytest.approx(1 / count)
    assert found["predicted parts", "shape"] == {
        "chamfer": 2.0, "f_score_2": 0.0, "f_score_5": 0.0, "f_score_10": 0.0, "absent": 1.0,
    }  # fmt: skip
    assert found["whole", "shape"]["chamfer"] < 0.1
    assert found["true parts", "overlap"] == {"mean_iou": 0.1, "max_iou": 0.2, "contested": 0.3}
    assert found["whole", "3d"]["psnr"] == pytest.approx(decibels(ERRORS["whole"]), abs=0.05)
    assert ("whole", "overlap") not in found


def test_part123_has_a_row_for_the_objects_that_it_was_run_on(data: Path, tmp_path: Path) -> None:
    as_part123(tmp_path / "toy-001", 40.0, 0.5)
    params = PARAMS.model_copy(update={"part123": str(tmp_path)})
    found = {(method, setting): figures for method, setting, figures in segmentation(task_of(data, "toy-001", params))}
    assert 0 < found["part123", "aligned"]["iou"] <= 1
    assert 0 <= found["part123", "automatic"]["ap50"] <= 1
    assert task_of(data, "toy-002", params).part123 is None
    keys = [[item.key for item in items(data, one)] for one in (PARAMS, params)]
    assert [mine != theirs for mine, theirs in zip(*keys, strict=True)] == [True, False]
    with pytest.raises(UserError, match=r"evaluate\.part123 is .*where there is no folder"):
        list(items(data, PARAMS.model_copy(update={"part123": str(tmp_path / "absent")})))


def test_an_object_that_was_not_reconstructed_keeps_the_rest(data: Path) -> None:
    task = task_of(data, "toy-001")
    without = EvaluateTask(**{**vars(task), "views": [], "parts": [], "objects": []})
    assert {setting for _, setting, _ in completion(without)} == {"views"}
    assert not list(reassembly(without))


def test_drawn_objects_are_told_from_the_others(data: Path) -> None:
    task = task_of(data, "toy-001")
    found = {method: figures for method, setting, figures in generation(task)}
    # What was drawn from the view is the object's own grid, but for an error; from the caption, the other object's.
    assert found["image_to_mv"] == {
        "closer_than": 1.0, "in_nearest_tenth": 1.0, "st_lpips": pytest.approx(0, abs=0.1),
    }  # fmt: skip
    assert (found["text_to_mv"]["closer_than"], found["text_to_mv"]["in_nearest_tenth"]) == (0, 0)
    assert found["text_to_mv"]["st_lpips"] > found["image_to_mv"]["st_lpips"]
    assert 0 <= found["view"]["closer_than"] <= 1
    alone = EvaluateTask(**{**vars(task), "wholes": {"toy-001": task.wholes["toy-001"]}})
    assert [set(figures) for _, _, figures in generation(alone)] == [{"st_lpips"}] * 3
    assert not list(generation(EvaluateTask(**{**vars(task), "generations": []})))


def test_the_stage_writes_figures_tables_curves_and_conventions(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="run the stage `evaluate`"):
        show()
    assert run(PARAMS, data).computed == 2
    figures = read_table(data / "evaluation/figures").to_pylist()
    assert {row["object_id"] for row in figures} == set(OBJECTS)
    assert all(np.isfinite(row["value"]) for row in figures)

    divided = read_table(data / "evaluation/divisions").to_pylist()
    assert [(row["object_id"], row["regime"]) for row in divided] == [(name, one) for name in OBJECTS for one in "ABC"]
    assert all(0 < row["iou"] <= 100 and min(row["part"]) == 1 for row in divided)

    metrics = json.loads((tmp_path / "metrics/evaluate.json").read_text())
    assert metrics["objects"] == 2
    assert metrics["surface"]["cap"]["closed"]["chamfer"]["count"] == 2
    assert metrics["surface"]["grouping"]["A"]["iou"]["count"] == 2
    assert metrics["failed"] == {
        "generations": 0,
        "segmentations": 0,
        "completions": 0,
        "reconstructions": 0,
        "evaluate": 0,
    }
    found = metrics["segmentation"]["partgen 1"]["automatic"]["ap50"]
    assert found == {"mean": 1.0, "low": 1.0, "high": 1.0, "count": 2}
    assert metrics["segmentation"]["partgen 1"]["seeded"]["ap75"]["mean"] == 1.0
    assert metrics["segmentation"]["partgen 2"]["seeded"]["ap75"]["mean"] < 1.0  # the one large part comes first
    large = metrics["segmentation"]["partgen 1"]["automatic, large parts"]["ap50"]
    assert large == {"mean": 1.0, "low": 1.0, "high": 1.0, "count": 2}
    assert {"hed-watershed", "felzenszwalb"} < set(metrics["segmentation"])
    difference = metrics["reassembly"]["predicted parts"]["3d minus whole"]["psnr"]
    assert difference["mean"] == pytest.approx(decibels(26) - decibels(13), abs=0.05)
    assert metrics["conventions"]["segmentation"]["order"].startswith("score, then the larger area")
    assert metrics["conventions"]["stages"]["segment"]["runs"] == 2

    with (tmp_path / "plots/evaluate/recall.csv").open() as file:
        curve = [row for row in csv.DictReader(file) if (row["method"], row["mode"]) == ("partgen 1", "automatic")]
    assert [(row["threshold"], row["k"]) for row in curve] == [
        (t, k) for t in ("0.5", "0.75") for k in ("1", "3", "5", "10")
    ]
    recalls = [float(row["recall"]) for row in curve[:4]]
    assert recalls == sorted(recalls)
    assert recalls[-1] == 1.0

    printed = capsys.readouterr().out
    for text in (
        "(objects: all parts of 2, large parts of 2)",
        "no weights given",
        "37.4 / 27.0",
        "exact",
        "0.936 / 0.039 / 17.16",
        "Table 3",
        "from one view",
        "with caps",
        "2 runs of the segmentation",
        "order:",
    ):
        assert text in printed, text
    before = (tmp_path / "metrics/evaluate.json").read_bytes()
    assert run(PARAMS, data).reused == 2
    assert (tmp_path / "metrics/evaluate.json").read_bytes() == before
    assert capsys.readouterr().out == printed
    show()
    tables, again = (
        text[text.index("Table 1. ") : text.index("; failed")] for text in (printed, capsys.readouterr().out)
    )
    assert again == tables


def test_what_is_asked_for_and_not_there_is_named(data: Path) -> None:
    with pytest.raises(UserError, match=r"evaluate\.clip is 'nowhere/clip'"):
        run(PARAMS.model_copy(update={"clip": "nowhere/clip"}), data)
    with pytest.raises(UserError, match=r"evaluate\.runs has 10, and objects were segmented 2 times"):
        run(PARAMS.model_copy(update={"runs": [1, 10]}), data)


def test_keys_change_with_a_picture_a_param_and_weights(data: Path, tmp_path: Path) -> None:
    def keys(params: EvaluateParams = PARAMS) -> dict[str, str]:
        return {item.object_id: item.key for item in items(data, params)}

    first = keys()
    assert keys(PARAMS.model_copy(update={"timeout_s": 1.0})) == first
    assert keys(PARAMS.model_copy(update={"points": 100})) != first
    (tmp_path / "weights").write_bytes(b"one")
    given = PARAMS.model_copy(update={"lpips": str(tmp_path / "weights")})
    with_one = keys(given)
    (tmp_path / "weights").write_bytes(b"two")
    assert keys(given) != with_one


def test_users_weights_give_their_rows(data: Path, tmp_path: Path) -> None:
    save_alexnet(tmp_path / "alexnet.pth")
    save_whole_clip(tmp_path / "clip")
    tiny_sam2().save_pretrained(tmp_path / "sam2")
    Sam2Processor(Sam2ImageProcessor(size={"height": PIXELS, "width": PIXELS})).save_pretrained(tmp_path / "sam2")
    paths = {"lpips": "alexnet.pth", "clip": "clip", "sam2_grid": "sam2"}
    params = PARAMS.model_copy(update={key: str(tmp_path / path) for key, path in paths.items()})
    task = task_of(data, "toy-001", params)
    found = {(method, setting): figures for method, setting, figures in (*segmentation(task), *completion(task))}
    assert found["oracle", "views"]["lpips"] == pytest.approx(0.0, abs=1e-6)
    assert found["oracle", "views"]["clip"] == pytest.approx(1.0, abs=1e-5)
    assert found["complete", "views"]["lpips"] > 1e-4
    assert found["complete", "3d"]["clip"] < 1.0
    modes = {mode + truth for mode in ("automatic", "seeded") for truth in ("", ", large parts")}
    assert modes == {setting for method, setting in found if method == "sam2-grid"}
    assert ("sam2", "automatic") not in found
