"""Installed from a wheel, in an empty folder: the applications work, and what needs a project says so."""

import csv
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path

import pytest
import trimesh

from pipeline.project import default_models, default_params, find_preset, in_project
from pipeline.shards.scratch import scratch
from tests.chat_server import ChatServer
from tests.toy_project import ROOT

pytestmark = pytest.mark.slow

BUILT = (
    "partgen.py",
    "pipeline",
    "stages",
    "flows",
    "presets",
    "weights",
    "data/samples",
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "LICENSES",
)
BUILD = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
QUICK = (
    "captions.backend=openai", "complete.draws=1", "segment.min_patch_pixels=2", "reconstruct.reconstructor=carve",
    "reconstruct.carve_resolution=16", "reconstruct.mesh.resolution=16", "reconstruct.turntable.frames=2",
    "reconstruct.turntable.size=16",
)  # fmt: skip


@pytest.fixture(scope="module")
def partgen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command of an environment of its own, which has this one's packages but for this program."""
    source, wheels, home = (tmp_path_factory.mktemp(name) for name in ("source", "wheels", "environment"))
    for name in BUILT:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        (source / name).parent.mkdir(exist_ok=True)
        copy(ROOT / name, source / name)
    subprocess.run([sys.executable, "-c", BUILD, wheels], cwd=source, check=True, stdout=subprocess.DEVNULL)
    (wheel,) = wheels.glob("*.whl")
    venv.create(home, symlinks=True)
    python = str(home / "bin/python")
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", str(wheel)]
    subprocess.run(install, check=True)
    packages = home / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"
    # Of a folder that is named so, files .pth do not count: this program's editable installation is not found.
    (packages / "others.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return home / "bin/partgen"


def run(partgen: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    left_out = ("PARTGEN_SCRATCH", "PYTHONPATH")
    environment = {name: value for name, value in os.environ.items() if name not in left_out}
    environment |= {"XDG_CACHE_HOME": str(folder.parent / "cache")}
    return subprocess.run(
        [partgen, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_the_installed_command_works_in_an_empty_folder(partgen: Path, tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert run(partgen, folder, "--version").stdout == f"partgen {version}\n"
    assert "decompose" in run(partgen, folder, "--help").stdout
    packages = next(partgen.parents[1].glob("lib/python*/site-packages"))
    for page in ("app/static/index.html", "app/static/main.js", "report/static/three.min.js"):
        assert (packages / "pipeline" / page).is_file()
    samples = [row["file"] for row in csv.DictReader((packages / "data/samples/samples.csv").open(encoding="utf-8"))]
    assert len(samples) == 10
    assert all((packages / "data/samples" / name).is_file() for name in samples)
    for arguments in (["stage", "render"], ["run"], ["serve"]):
        refused = run(partgen, folder, *arguments)
        assert refused.returncode == 2
        assert f"{folder} is no " in refused.stderr
        assert len(refused.stderr.strip().splitlines()) == 1
    assert not list(folder.iterdir())

    boxes = [trimesh.creation.box(extents, trimesh.transformations.translation_matrix(place)) for extents, place in
             (((1, 0.2, 1), (0, 0, 0)), ((0.2, 1, 0.2), (0, 0.6, 0)))]  # fmt: skip
    trimesh.Scene({"seat": boxes[0], "back": boxes[1]}).export(folder / "chair.glb")
    with ChatServer() as server:
        settings = [f"--set={one}" for one in (*QUICK, f"captions.endpoint.base_url={server.url}")]
        made = run(partgen, folder, "decompose", "chair.glb", "--steps=1", *settings)
    assert made.returncode == 0, made.stderr
    assert f"models are those of {partgen.parents[1]}" in made.stdout
    result = json.loads((folder / "results/chair/result.json").read_text())
    assert result["origin"]["kind"] == "object"
    assert sorted(path.name for path in folder.iterdir()) == ["chair.glb", "results"]
    assert (tmp_path / "cache/partgen").is_dir()

    assert run(partgen, folder, "preset", "corpus").returncode == 0
    assert (folder / "params.yaml").read_bytes() == (ROOT / "presets/corpus.yaml").read_bytes()


def test_the_library_is_one_module_that_is_imported_at_once(partgen: Path, tmp_path: Path) -> None:
    program = (
        "import sys, partgen; print(partgen.__version__, 'torch' in sys.modules, 'pydantic' in sys.modules); "
        "from partgen import Choice, NotFound, PartGenPipeline, PartObject, UserError; "
        "assert issubclass(NotFound, UserError) and Choice().use == 1 and PartObject.load; "
        "PartGenPipeline.from_pretrained('nowhere')"
    )
    done = run(partgen.with_name("python"), tmp_path, "-c", program)
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert done.stdout == f"{version} False False\n"
    assert done.stderr.strip().splitlines()[-1].startswith("pipeline.errors.NotFound: There is no folder nowhere")


def test_a_project_is_told_from_folders_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PARTGEN_SCRATCH")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "params.yaml").write_text("prepare: {split: 0.2}\n")  # DVC's own example
    (tmp_path / "dvc.yaml").write_text("stages: {prepare: {cmd: python prepare.py}}\n")
    (tmp_path / "data/models").mkdir(parents=True)
    assert not in_project()
    assert default_params() == ROOT / "presets/nano.yaml"
    assert default_models() == ROOT / "weights/nano"
    assert scratch() == tmp_path / "cache/partgen"
    shutil.copy(ROOT / "presets/sd.yaml", "params.yaml")
    (tmp_path / "presets").mkdir()
    shutil.copy(ROOT / "presets/sd.yaml", "presets/mine.yaml")
    assert in_project()
    assert default_params() == Path("params.yaml")
    assert default_models() == Path("data/models")
    assert scratch() == Path(".partgen")
    assert find_preset("mine") == Path("presets/mine.yaml")
    assert find_preset("nano") == ROOT / "presets/nano.yaml"
