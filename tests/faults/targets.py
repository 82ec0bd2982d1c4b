"""What is disturbed while it writes: commands on small projects, each with what it makes. See also stage_targets.py.

All functions run in the project's folder, in a process of their own that ends as every command does
(`stages.entry.one_sentence_errors`).
"""

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import yaml

from pipeline.shards.write import write_metrics
from stages.cli import main
from tests.applications.test_result import an_object
from tests.squares import build

ROOT = Path(__file__).parents[2]
SAMPLES = ("showerDoor.glb", "designChair.glb")
DATA = Path("data")


@dataclass(frozen=True)
class Target:
    """Work that writes files."""

    prepare: Callable[[], object]
    """Makes what is there before, undisturbed; often an older output among it."""
    work: Callable[[], object]
    outs: tuple[str, ...]
    """What it makes or replaces: at any moment each is the older or the new one, and whole."""


def partgen(*arguments: str) -> None:
    """The command line, in this process."""
    sys.argv = ["partgen", *arguments]
    try:
        main()
    except SystemExit as ended:
        if ended.code:
            raise


def _presets() -> None:
    shutil.copytree(ROOT / "presets", "presets")
    shutil.copy("presets/corpus.yaml", "params.yaml")


def _save() -> None:
    if not Path("results/chair").exists():  # it never writes over anything
        an_object().save("results/chair")


def real_project(*stages: str) -> None:
    """The project with two samples and small pictures, and the stages before."""
    for name in ("data/samples", "data/splits"):
        shutil.copytree(ROOT / name, name, ignore=shutil.ignore_patterns("*.glb", "*.gltf", "*.obj", "*.ply", "*.stl"))
    index = Path("data/samples/samples.csv")
    head, *rows = index.read_text().splitlines()
    index.write_text("\n".join([head, *(row for row in rows if row.startswith(SAMPLES))]) + "\n")
    for sample in SAMPLES:
        shutil.copy(ROOT / "data/samples" / sample, index.parent)
    params = yaml.safe_load((ROOT / "presets/nano.yaml").read_text())
    params["assets"]["sweethome3d"]["objects"] = 0
    params["render"] |= {"view_size": 48, "samples": 2, "conditioning_views": 1}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    for stage in stages:
        partgen("stage", stage)


TARGETS = {
    "preset": Target(_presets, partial(partgen, "preset", "nano"), ("params.yaml", "params.yaml.bak")),
    "metrics": Target(
        lambda: write_metrics("toy", {"older": 1}),
        lambda: write_metrics("toy", {"newer": list(range(99))}),
        ("metrics/toy.json",),
    ),
    "save": Target(lambda: None, _save, ("results/chair",)),
    "stage:squares": Target(
        lambda: build(Path("out"), [1, 2]), lambda: build(Path("out"), [1, 2, 3]), ("out",)
    ),
    "stage:assets": Target(real_project, lambda: partgen("stage", "assets"), ("data/assets", "metrics/assets.json")),
    "stage:render": Target(
        lambda: real_project("assets"), lambda: partgen("stage", "render"), ("data/renders", "metrics/render.json")
    ),
    "stage:masks": Target(
        lambda: real_project("assets", "render"), lambda: partgen("stage", "masks"),
        ("data/masks", "metrics/masks.json"),
    ),
    "stage:captions": Target(
        lambda: real_project("assets", "render", "masks"),
        lambda: partgen("stage", "captions"),
        ("data/captions", "metrics/captions.json"),
    ),
}  # fmt: skip
