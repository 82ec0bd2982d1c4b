"""Exported models: half the precision, the same networks, and a card that credits every object."""

import contextlib
import csv
import io
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from pipeline.diffusion.autoencoder import build_autoencoder
from pipeline.diffusion.networks import load_autoencoder
from pipeline.diffusion.tasks import TRAININGS
from pipeline.errors import UserError
from pipeline.evaluation.evaluate_object import FIGURES
from pipeline.folders import STAGE, changed_files, check_replaceable, write_sums
from pipeline.heldout.reconstruct_tables import FIELDS
from pipeline.params.base import load_group
from pipeline.params.diffusion import DiffusionParams
from pipeline.reconstruction.field import Decoder, Field
from pipeline.report.export import KIND, export_models
from pipeline.report.gallery import ranked
from pipeline.shards.read import read_table
from pipeline.views.mask_tables import VISIBILITY
from tests.toy_report import NUMBERS, figures_of, put

pytestmark = pytest.mark.slow

NANO = Path(__file__).parents[2] / "presets/nano.yaml"
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def written(toy_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project with models, to be copied from."""
    tmp_path = shutil.copytree(toy_project, tmp_path_factory.mktemp("written"), dirs_exist_ok=True)
    shutil.copyfile(NANO, tmp_path / "params.yaml")
    build_autoencoder(load_group(DiffusionParams, path=NANO).autoencoder).save_pretrained(
        tmp_path / "data/models/autoencoder"
    )
    decoder = Decoder(channels=2, width=4, layers=2)
    Field(torch.rand(2, 4, 4, 4), decoder).save(tmp_path / "field")
    rows = [
        {"object_id": name, "split": "test", "source": "predicted", "method": "complete", "label": 1}
        | {"field": (tmp_path / "field").read_bytes()}
        for name in NUMBERS
    ]
    put(tmp_path / "data/reconstructions", FIELDS, rows)
    for name in (*TRAININGS[1:], "lrm", "grouping"):
        (tmp_path / "data/models" / name).mkdir(exist_ok=True)
        save_file({"weight": torch.rand(4), "count": torch.arange(4)}, tmp_path / "data/models" / name / WEIGHTS)
    return tmp_path


@pytest.fixture
def project(written: Path, tmp_path: Path) -> Path:
    return shutil.copytree(written, tmp_path, dirs_exist_ok=True)


@pytest.fixture(scope="module")
def first_export(written: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A project whose models were exported, to be copied from, and what that said."""
    folder = shutil.copytree(written, tmp_path_factory.mktemp("exported"), dirs_exist_ok=True)
    with contextlib.redirect_stderr(io.StringIO()) as said:
        assert export_models(folder / "weights/toy", folder / "data", folder) == folder / "weights/toy/README.md"
    return folder, said.getvalue()


@pytest.fixture
def exported(first_export: tuple[Path, str], tmp_path: Path) -> Path:
    return shutil.copytree(first_export[0], tmp_path, dirs_exist_ok=True)


def test_models_are_halved_and_load_as_before(exported: Path) -> None:
    project = exported
    models, out = project / "data/models", project / "weights/toy"
    card = (out / "README.md").read_text()
    assert {path.name for path in out.iterdir() if path.is_dir()} == {*TRAININGS, "lrm", "grouping"}
    before, after = load_file(models / "segment" / WEIGHTS), load_file(out / "segment" / WEIGHTS)
    assert after["weight"].dtype == torch.float16
    assert torch.equal(after["weight"], before["weight"].half())
    assert torch.equal(after["count"], before["count"])
    network = load_autoencoder(out / "autoencoder")
    assert {value.dtype for value in network.state_dict().values() if value.is_floating_point()} == {torch.float32}

    with Image.open(out / "gallery.png") as gallery:
        assert (np.asarray(gallery.convert("RGB")) < 128).any()
    assert card.startswith("# toy\n")
    kept = [row for row in read_table(project / "data/assets/objects").to_pylist() if row["status"] == "ok"]
    listed = list(csv.DictReader((out / "objects.csv").open(newline="", encoding="utf-8")))
    assert {(row["object_id"], row["author"], row["licence"]) for row in listed} == {
        (row["object_id"], row["author"], row["licence"]) for row in kept
    }
    for expected in (
        "Table 1",
        "Table 2",
        "Table 3",
        "Not to be used for",
        "no model looks at the circled pictures",
        "Nothing is checked unless a checker is set up",
        *TRAININGS,
        *{row["licence"] for row in kept},
    ):
        assert expected in card


def test_a_failed_export_leaves_the_older_one(exported: Path) -> None:
    project, out = exported, exported / "weights/toy"
    card = (out / "README.md").read_bytes()
    save_file({"weight": torch.tensor([1e6])}, project / "data/models/edit" / WEIGHTS)
    with pytest.raises(UserError, match=r"edit.*the layer weight has values too large for float16"):
        export_models(out, project / "data", project)
    shutil.rmtree(project / "data/models/lrm")
    with pytest.raises(UserError, match=r"models/lrm is missing; run the stage `train_lrm`"):
        export_models(out, project / "data", project)
    assert (out / "README.md").read_bytes() == card


def tree(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("folder", ["data", "results", "presets", ".", "data/models/segment", "params.yaml"])
def test_nothing_but_an_export_is_replaced(project: Path, folder: str) -> None:
    for name in ("results/chair/object.glb", "presets/mine.yaml"):
        (project / name).parent.mkdir(parents=True)
        (project / name).write_text("mine")
    before = tree(project)
    with pytest.raises(UserError, match=r"name a new folder|is a file and no folder"):
        export_models(project / folder, project / "data", project)
    assert tree(project) == before


def test_an_export_that_was_changed_is_not_replaced(
    exported: Path, first_export: tuple[Path, str], capfd: pytest.CaptureFixture[str]
) -> None:
    project, out = exported, exported / "weights/toy"
    assert "replaced" not in first_export[1]
    export_models(out, project / "data", project)
    assert f"The older export in {out} will be replaced." in capfd.readouterr().err
    with (out / "README.md").open("a") as card:
        card.write("What I found out.")
    before = tree(out)
    with pytest.raises(UserError, match=r"README\.md was changed since it was exported; move it away"):
        export_models(out, project / "data", project)
    assert tree(out) == before


def test_a_damaged_model_is_not_exported(project: Path) -> None:
    models = project / "data/models"
    write_sums(models / "segment", STAGE)
    content = bytearray((models / "segment" / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (models / "segment" / WEIGHTS).write_bytes(content)
    with pytest.raises(UserError, match=f"segment/{WEIGHTS} is damaged"):
        export_models(project / "weights/toy", project / "data", project)


def test_the_shipped_weights_are_what_was_exported() -> None:
    shipped = NANO.parents[1] / "weights/nano"
    assert changed_files(shipped) == [], "write_sums(weights/nano) after a change by hand"
    check_replaceable(shipped, KIND)


def test_the_gallery_goes_by_rank(project: Path) -> None:
    assert list(ranked(project / "data").values()) == [(1, 0.4567), (2, 0.4567)]
    rows, seen = [], []
    for number in range(10):
        name = f"toy-{number:03d}"
        for row in figures_of(name):
            changes = {"ap50": number // 2 / 10, "psnr_foreground": float(-number)}
            rows.append({**row, "value": changes.get(row["figure"], row["value"])})
        for part in (1, 2):
            pixels = [0, 0, 0, 0] if (number, part) == (9, 2) else [5, 0, 0, 0]  # of the last one part is in sight
            seen.append({"object_id": name, "split": "test", "part_id": part, "pixels": pixels})
    put(project / "data/evaluation", FIGURES, rows)
    put(project / "data/masks", VISIBILITY, seen)
    shown = ranked(project / "data")
    assert list(shown) == [f"toy-{number:03d}" for number in (8, 6, 4, 5, 0, 1)]
    assert list(shown.values()) == [(1, 0.4), (2, 0.3), (4, 0.2), (5, 0.2), (8, 0.0), (9, 0.0)]
    put(project / "data/masks", VISIBILITY, [row for row in seen if row["part_id"] == 1])
    with pytest.raises(UserError, match="None of the evaluated objects shows more than one part"):
        ranked(project / "data")
