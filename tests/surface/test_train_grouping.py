"""The grouping model: samples that are true, a loss that falls, and what the stages make."""

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from pipeline.assets.tables import GLBS
from pipeline.errors import NoObjects, UserError
from pipeline.evaluation.surface_parts import surface_parts
from pipeline.evaluation.surface_regimes import SurfaceRegime
from pipeline.params.atoms import AtomsParams
from pipeline.params.base import validate
from pipeline.params.train import TrainParams
from pipeline.shards.read import iter_rows
from pipeline.surface.examples import LEAST_LEFT, GroupingExamples, changed, collate, sample
from pipeline.surface.features import COLOURS, MATERIAL
from pipeline.surface.find_atoms import CLUSTERS, LINKED
from pipeline.surface.grouping import GroupingModel, predicted, tokens
from pipeline.surface.object_atoms import ATOMS, REGIMES, ObjectAtoms
from pipeline.surface.objective import GroupingObjective
from pipeline.surface.scores import ceiling, co_association, mean_best_iou, mean_best_iou_of_levels
from stages import atoms as atoms_stage
from stages import train_grouping
from tests.evaluation.test_evaluate_stage import PARAMS as EVALUATE
from tests.forked import forked_workers
from tests.toy_corpus import toy_boxes, write_toy_corpus
from tests.toy_report import put
from tests.toy_results import COARSE, boxes_glb

pytestmark = pytest.mark.slow

NANO = Path(__file__).parents[2] / "presets/nano.yaml"
OBJECTS = 4
PARAMS = AtomsParams(max_failed_share=0.0, timeout_s=60.0)


def training(**schedule: Any) -> TrainParams:
    values = yaml.safe_load(NANO.read_text())["train"] | {"init_from": ""}
    values["loop"] |= {"warmup_steps": 0, "checkpoint_every": 1000, "validate_every": 1000}
    values["grouping"] |= {"steps": 2, "batch": 2, "micro_batch": 2} | schedule
    return validate(TrainParams, values, "train")


def write_assets(data: Path) -> None:
    write_toy_corpus(data, OBJECTS, 16)
    rows = [
        {"object_id": row["object_id"], "split": row["split"], "glb": boxes_glb(toy_boxes(number)[0])}
        for number, row in enumerate(sorted(iter_rows(data / "masks/labels"), key=lambda row: str(row["object_id"])))
    ]
    put(data / "assets", GLBS, rows)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the atoms of toys, as the stage finds them."""
    folder = tmp_path_factory.mktemp("project")
    write_assets(folder / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("PARTGEN_SCRATCH", str(folder / "scratch"))
        patch.setenv("PARTGEN_WORKERS", "1")
        with forked_workers(COARSE):
            atoms_stage.run(PARAMS)
    return folder


@pytest.fixture
def rows(project: Path) -> list[tuple[str, str, ObjectAtoms]]:
    return [
        (row["object_id"], row["regime"], ObjectAtoms.unpacked(row["arrays"]))
        for row in iter_rows(project / "data/atoms/atoms")
    ]


def test_atoms_of_boxes_are_the_boxes(project: Path, rows: list[tuple[str, str, ObjectAtoms]]) -> None:
    counts = {f"toy-{number:03d}": len(toy_boxes(number)[0]) for number in range(OBJECTS)}
    assert sorted((name, regime) for name, regime, _ in rows) == [
        (name, regime) for name in counts for regime in REGIMES
    ]
    labels = {row["object_id"]: row for row in iter_rows(project / "data/masks/labels")}
    for name, regime, atoms in rows:
        if regime == "C":
            continue
        assert atoms.truth_NS.shape == (counts[name], counts[name])
        assert ceiling(atoms.truth_NS) == 1
        np.testing.assert_array_equal(np.sort(atoms.truth_NS.argmax(axis=1)), np.arange(counts[name]))
        assert atoms.clustered_PS.shape == atoms.linked_PS.shape == (0, counts[name])
        assert labels[name]["split"] in ("train", "val", "test")
        assert len(np.unique(atoms.seen_HW)) > 1
    metrics = json.loads((project / "metrics/atoms.json").read_text())
    assert (metrics["objects"], metrics["failed"]) == (OBJECTS, 0)
    assert metrics["mean_atoms"]["A"] == pytest.approx(np.mean(list(counts.values())), rel=1e-4)


def test_superfaces_of_a_skin_have_its_parts(rows: list[tuple[str, str, ObjectAtoms]]) -> None:
    for _, regime, atoms in rows:
        if regime != "C":
            continue
        assert atoms.truth_NS.max(axis=1).sum() > 0.9 * atoms.truth_NS.sum()
        for found_PS in (atoms.clustered_PS, atoms.linked_PS):
            assert 1 <= len(found_PS) <= max(CLUSTERS, LINKED)
            assert found_PS.sum() == pytest.approx(atoms.truth_NS.sum(), rel=1e-3)
        pairs = atoms.features.pairs_NNC
        np.testing.assert_allclose(pairs, pairs.swapaxes(0, 1), atol=1e-2)


def test_packed_atoms_are_the_same(rows: list[tuple[str, str, ObjectAtoms]]) -> None:
    for _, _, atoms in rows:
        again = ObjectAtoms.unpacked(atoms.packed())
        for name in ("truth_NS", "material_N", "seen_HW"):
            np.testing.assert_array_equal(getattr(again, name), getattr(atoms, name))
        np.testing.assert_array_equal(again.features.pairs_NNC, atoms.features.pairs_NNC)


def test_a_sample_hangs_on_seed_and_number_alone(rows: list[tuple[str, str, ObjectAtoms]]) -> None:
    some = [(name, atoms) for name, _, atoms in rows]
    one, other = GroupingExamples(some, 0), GroupingExamples(some, 0)
    for number in (3, 0, 20):
        assert torch.equal(one[number]["points"], other[number]["points"])
    assert not torch.equal(one[0]["points"], GroupingExamples(some, 1)[0]["points"])
    epoch = [one[number]["object_id"] for number in range(len(one.rows))]
    assert sorted(epoch) == sorted(name for name, _ in one.rows)


def test_changed_objects_keep_their_truth_and_may_lose_their_colours(rows: list[tuple[str, str, ObjectAtoms]]) -> None:
    atoms = rows[0][2]
    grey = fewer = 0
    for seed in range(40):
        new = changed(atoms, np.random.default_rng(seed))
        kept, all_of_them = (Counter(map(tuple, each.truth_NS.tolist())) for each in (new, atoms))
        assert kept <= all_of_them, "atoms are left out, and none is doubled"
        fewer += kept < all_of_them
        assert kept.total() >= min(LEAST_LEFT, len(atoms.truth_NS))
        assert new.features.share_N.sum() == pytest.approx(1, abs=1e-3)  # kept in half precision
        normals = np.linalg.norm(new.features.points_NK9[..., 3:6], axis=-1)
        np.testing.assert_allclose(normals, 1, atol=1e-3)
        if not new.features.points_NK9[..., 7:9].any():
            grey += 1
            assert not new.features.pairs_NNC[..., [*COLOURS, MATERIAL]].any()
    assert 0 < grey < 25
    assert 0 < fewer < 40


def test_padding_changes_nothing(rows: list[tuple[str, str, ObjectAtoms]]) -> None:
    torch.manual_seed(0)
    model = GroupingModel(width=12, layers=2, heads=2, pair_width=8).eval()
    items = [{"object_id": name, **sample(atoms)} for name, _, atoms in rows]
    batch = collate(items)
    with torch.no_grad():
        together = model(tokens(batch["points"], batch["share"]), batch["pairs"], batch["padding"])
    objective = GroupingObjective(model, GroupingExamples([], 0), [])
    with torch.no_grad():
        losses = objective.loss(model, batch)
        for place, (item, (_, _, atoms)) in enumerate(zip(items, rows, strict=True)):
            count = len(item["share"])
            alone = predicted(model, atoms.features)
            np.testing.assert_allclose(torch.sigmoid(together[place, :count, :count]).numpy(), alone, atol=1e-5)
            torch.testing.assert_close(losses[place : place + 1], objective.loss(model, collate([item])))


def test_the_loss_falls_and_the_stage_leaves_model_curve_and_pictures(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    train_grouping.run(training(steps=25, batch=4, micro_batch=4, learning_rate=0.003))
    with (project / "plots/train/grouping.csv").open() as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    metrics = json.loads((project / "metrics/train/grouping.json").read_text())
    assert metrics["steps"] == 25
    assert 0 < metrics["validation"]["iou_A"] <= 1
    assert (project / "plots/train/grouping.png").exists()
    model = GroupingModel.load(project / "data/models/grouping")
    assert model.config["width"] == 96
    goes_on = training().model_copy(update={"init_from": "data/models"})
    train_grouping.run(goes_on.model_copy(update={"grouping": goes_on.grouping.model_copy(update={"steps": 0})}))
    same = GroupingModel.load(project / "data/models/grouping")
    assert all(torch.equal(value, same.state_dict()[name]) for name, value in model.state_dict().items())


def test_what_cannot_be_trained_is_one_sentence(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    with pytest.raises(UserError, match=r"nowhere/grouping is missing; give train\.init_from"):
        train_grouping.run(training().model_copy(update={"init_from": "nowhere"}))
    alone = [row for row in iter_rows(project / "data/atoms/atoms") if row["split"] != "train"]
    put(Path("few/atoms"), ATOMS, alone)
    with pytest.raises(NoObjects, match="no training object of more than one piece"):
        train_grouping.run(training(), Path("few"))


def test_scores_are_those_of_plain_counting() -> None:
    draws = np.random.default_rng(0)
    for _ in range(50):
        truth_NS = draws.random((7, 3)) * (draws.random((7, 3)) < 0.5)
        part_N = np.unique(draws.integers(4, size=7), return_inverse=True)[1]
        best = []
        for true in range(3):
            if truth_NS[:, true].sum() == 0:
                continue
            ious = []
            for part in range(part_N.max() + 1):
                shared = truth_NS[part_N == part, true].sum()
                ious.append(shared / (truth_NS[part_N == part].sum() + truth_NS[:, true].sum() - shared))
            best.append(max(ious))
        if best:
            assert mean_best_iou(truth_NS, part_N) == pytest.approx(np.mean(best))
    merges = np.array([[0, 1, 0.1, 2], [2, 3, 0.2, 2], [4, 5, 0.9, 4]])
    truth_NS = np.eye(2)[[0, 0, 1, 1]]
    assert mean_best_iou_of_levels(truth_NS, merges) == 1


def test_runs_tell_which_atoms_are_together() -> None:
    seen = np.array([[1, 1, 2, 2], [3, 3, 0, 0]])
    maps = np.array([[[1, 1, 1, 1], [2, 2, 0, 0]], [[1, 2, 2, 2], [0, 0, 0, 0]]])
    found = co_association(maps, seen, 4)
    assert found[0, 1] == pytest.approx((1 + 0.5) / 2)
    assert found[0, 2] == 0
    assert np.isnan(found[3]).all(), "nobody saw the fourth"


def test_every_method_has_its_figures_and_the_truth_has_all(
    project: Path, rows: list[tuple[str, str, ObjectAtoms]]
) -> None:
    torch.manual_seed(0)
    GroupingModel(width=12, layers=1, heads=2, pair_width=8).save(project / "random")
    table = [row for row in iter_rows(project / "data/atoms/atoms") if row["object_id"] == "toy-003"]
    surfaces = [row for row in iter_rows(project / "data/atoms/surfaces") if row["object_id"] == "toy-003"]
    atoms = next(atoms for name, _, atoms in rows if name == "toy-003")  # all parts are in sight
    truth = np.concatenate([[0], atoms.truth_NS.argmax(axis=1) + 1])[atoms.seen_HW]
    found = {
        (method, regime): figures
        for method, regime, figures in surface_parts(
            SurfaceRegime.all_of(table, surfaces), truth[None], truth, project / "random", EVALUATE
        )
    }
    for regime in REGIMES:
        if regime != "C":
            assert found["best atoms", regime] == {"iou": 100}
            assert found["views", regime]["iou"] == pytest.approx(100)
        assert found["one part", regime]["parts"] == 1
        assert found["grouping", regime]["iou"] <= found["grouping", regime]["iou_levels"] <= 100
        assert {"grouping without colour", "grouping + 1 runs"} < {method for method, where in found if where == regime}
    assert {("materials", "A"), ("K-means", "C"), ("linkage", "C"), ("superfaces", "C")} < set(found)
