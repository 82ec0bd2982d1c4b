"""The real stages on a few real objects, by `dvc repro`."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipeline.shards.read import read_manifest, read_table
from tests.smollm2 import link_model

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
SAMPLES = ("showerDoor.glb", "designChair.glb")
STAGES = ("assets", "render", "masks", "captions", "train@autoencoder", "train@text_to_mv")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project with two samples, small pictures and a scratch folder of its own."""
    folder = tmp_path / "project"
    ignored = shutil.ignore_patterns("__pycache__", "cache", "tmp", "config.local", "sweethome3d")
    weights = (f"weights/nano/{network}" for network in ("autoencoder", "text_to_mv"))
    for name in (".dvc", "pipeline", "stages", "data/sources", "data/splits", *weights):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in ("dvc.yaml", ".dvcignore", ".gitignore"):
        shutil.copy(ROOT / name, folder)
    samples = folder / "data" / "samples"
    samples.mkdir()
    head, *rows = (ROOT / "data/samples/samples.csv").read_text().splitlines()
    (samples / "samples.csv").write_text("\n".join([head, *(row for row in rows if row.startswith(SAMPLES))]) + "\n")
    for name in SAMPLES:
        shutil.copy(ROOT / "data" / "samples" / name, samples)
    params = yaml.safe_load((ROOT / "presets" / "nano.yaml").read_text())
    params["assets"]["sweethome3d"]["objects"] = 0
    params["train"]["init_from"] = ""
    params["render"] |= {"view_size": 48, "samples": 2, "conditioning_views": 1}
    params["diffusion"]["unet"]["channels"] = [32, 32, 32]
    for sampler in params["diffusion"]["sampler"].values():
        sampler["steps"] = 2
    for task in ("autoencoder", "text_to_mv"):
        params["train"][task] |= {"steps": 1, "batch": 1, "micro_batch": 1}
    write_params(folder, params)
    link_model(folder / ".partgen")
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    monkeypatch.delenv("PARTGEN_SCRATCH")
    monkeypatch.setenv("PARTGEN_WORKERS", "1")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    return folder


def write_params(folder: Path, params: dict[str, dict[str, object]]) -> None:
    (folder / "params.yaml").write_text(yaml.safe_dump(params))


def repro(folder: Path) -> str:
    """What `dvc repro` prints."""
    command = [sys.executable, "-m", "dvc", "repro", STAGES[-1]]
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
    return done.stdout


def ran(output: str) -> list[str]:
    return [name for name in STAGES if f"Running stage '{name}'" in output]


def cpu_seconds() -> float:
    """Of the subprocesses that have ended; other work on the machine does not count."""
    times = os.times()
    return times.children_user + times.children_system


def test_the_dag(project: Path) -> None:
    assert ran(repro(project)) == list(STAGES)
    data = project / "data"
    objects = read_table(data / "assets/objects").to_pylist()
    assert {row["status"] for row in objects} == {"ok"}
    parts = sum(row["part_count"] for row in objects)
    assert read_manifest(data / "renders/grids").rows == len(SAMPLES) + parts
    assert read_manifest(data / "masks/labels").rows == len(SAMPLES)
    captions = read_table(data / "captions/captions").to_pylist()
    assert len(captions) == len(SAMPLES) + parts
    assert all(row["caption"] for row in captions)
    assert (data / "models/text_to_mv/model_index.json").exists()

    before = cpu_seconds()
    assert ran(repro(project)) == []
    assert cpu_seconds() - before < 2

    params = yaml.safe_load((project / "params.yaml").read_text())
    params["masks"]["min_silhouette_iou"] /= 2
    write_params(project, params)
    assert ran(repro(project)) == ["masks"], "the label maps came out the same, so captions are up to date"
