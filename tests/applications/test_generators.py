"""Four views of the user's own and programs that make objects: what becomes of them, and of those that fail."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.applications.generators import VIEWS
from pipeline.applications.inputs import INPUT
from pipeline.applications.partgen import PartGenPipeline
from pipeline.applications.result import PartObject
from pipeline.errors import Invalid, UserError
from pipeline.params.choice import Choice
from pipeline.programs import ProgramFailed
from pipeline.views.cameras import GRID_AZIMUTHS, tile
from stages.cli import main
from tests.applications.test_applications import models as models
from tests.applications.test_applications import overrides as overrides
from tests.diffusion.test_pipelines import VIEW
from tests.toy_corpus import COLOURS, ELEVATION_DEG, draw_boxes

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
BOXES = np.array([[[-0.5, -0.5, -0.3], [0.5, -0.1, 0.3]], [[-0.5, -0.1, -0.3], [0.5, 0.5, -0.1]]])
GENERATOR = """
import sys
from pathlib import Path

out, log, *given = map(Path, sys.argv[1:])
deep = out / "0/meshes"
deep.mkdir(parents=True)
lines, count = [], 0
for low, high, colour in (((-1, -1, 0), (1, 1, 0.4), "0.8 0.1 0.1"), ((-1, 0.6, 0.5), (1, 1, 2), "0.1 0.1 0.8")):
    corners = [(x, y, z) for x in (low[0], high[0]) for y in (low[1], high[1]) for z in (low[2], high[2])]
    lines += [f"v {x} {y} {z} {colour}" for x, y, z in corners]
    for a, b, c, d in ((1, 2, 4, 3), (5, 7, 8, 6), (1, 5, 6, 2), (3, 4, 8, 7), (1, 3, 7, 5), (2, 6, 8, 4)):
        lines.append("f " + " ".join(str(count + corner) for corner in (a, b, c, d)))
    count += 8
(deep / "mesh.obj").write_text("\\n".join(lines))
(out / "0/input.png").write_bytes(b"not looked at")
log.write_text(repr([one.read_bytes()[:4] if one.is_file() else str(one) for one in given]))
"""
"""A text- or picture-to-3D model that makes a seat with a back, +Z of which is up."""


def with_program(
    models: Path, overrides: Sequence[str], command: Sequence[str], timeout_s: float = 60.0
) -> PartGenPipeline:
    said = [*overrides, f"generate.command={json.dumps(command)}", f"generate.command_timeout_s={timeout_s}"]
    return PartGenPipeline.from_pretrained(models, params=ROOT / "presets/nano.yaml", overrides=said)


@pytest.fixture
def generator(tmp_path: Path) -> list[str]:
    (tmp_path / "generator.py").write_text(GENERATOR)
    return [sys.executable, str(tmp_path / "generator.py"), "{out}", str(tmp_path / "log"), "{seed}"]


@pytest.fixture
def views(tmp_path: Path) -> list[Path]:
    """Four cut-out pictures of a seat with a back."""
    paths = [tmp_path / f"{side}.png" for side in VIEWS]
    for path, azimuth in zip(paths, GRID_AZIMUTHS, strict=True):
        colours = np.array([COLOURS["red"], COLOURS["blue"]])
        Image.fromarray(draw_boxes(BOXES, colours, (azimuth, ELEVATION_DEG), 4 * VIEW)).save(path)
    return paths


def test_the_mesh_of_a_program_is_taken_apart_on_its_surface(
    models: Path, overrides: list[str], generator: list[str], tmp_path: Path
) -> None:
    partgen = with_program(models, overrides, [*generator, "{prompt}"])
    made = partgen.from_text("a red seat\nwith a back", seed=3, up="z", parts=2)
    assert (tmp_path / "log").read_text() == "['3', 'a red seat with a back']"
    assert (made.name, made.caption) == ("a red seat with a back", "a red seat with a back")
    assert [part.original for part in made.parts] == [True, True]
    assert [part.triangles for part in made.parts] == [12, 12]
    red, blue = (made.grid[made.labels == part.label][:, :3].mean(axis=0) for part in made.parts)
    assert red[0] > red[2]
    assert blue[2] > blue[0]
    made.save(tmp_path / "saved")
    again = PartObject.load(tmp_path / "saved")
    origin: dict[str, Any] = dict(again.origin)
    assert np.shape(origin.pop("from_file")) == (4, 4)
    assert origin == {
        "kind": "text", "prompt": "a red seat with a back", "program": [*generator, "{prompt}"],
        "file": "a red seat with a back.obj",
    }  # fmt: skip
    (entry,) = again.history
    assert (entry["command"], entry["origin"], entry["parts"]) == ("from-text", again.origin, 2)
    assert len(partgen.regroup(again, 1).parts) == 1


def test_a_program_gets_the_picture_as_a_png(
    models: Path, overrides: list[str], generator: list[str], tmp_path: Path
) -> None:
    Image.new("RGB", (40, 30), "red").save(tmp_path / "Chair_7.jpg")
    made = with_program(models, overrides, [*generator, "{image}"]).from_image(tmp_path / "Chair_7.jpg", up="z")
    assert (tmp_path / "log").read_text() == "['0', b'\\x89PNG']"
    assert (made.name, made.origin["kind"], made.origin["file"]) == ("chair", "image", "Chair_7.jpg")
    assert made.surface is not None


def test_own_views_become_an_object(
    models: Path, overrides: list[str], views: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    set_ = [word for one in overrides for word in ("--set", one)]
    asked = ["from-text", "a red seat", "--views", *map(str, views), "--models", str(models), "--no-animation", *set_]
    monkeypatch.setattr(sys, "argv", ["partgen", *asked])
    with pytest.raises(SystemExit, match="0"):
        main()
    made = PartObject.load("results/a-red-seat")
    size = (VIEW, VIEW)
    seen = tile(np.stack([np.asarray(Image.open(one).resize(size, Image.Resampling.LANCZOS)) for one in views]))
    np.testing.assert_array_equal(made.grid, seen)
    assert made.origin == {"kind": "text", "prompt": "a red seat", "views": [one.name for one in views]}
    assert sorted(made.models) == ["complete", "segment"]
    assert not [one for one in made.diagnostics if one.kind == INPUT]


def test_a_program_may_write_four_views(models: Path, overrides: list[str], views: list[Path]) -> None:
    copy = 'cd "$0"; for side in 0:front 1:right 2:back 3:left; do cp "$1/${side#*:}.png" "$2/${side%:*}.png"; done'
    command = ["/bin/sh", "-c", copy, str(views[0].parent), str(views[0].parent), "{out}", "{prompt}"]
    partgen = with_program(models, overrides, command)
    made = partgen.from_text("a red seat")
    assert made.origin["views"] == ["0.png", "1.png", "2.png", "3.png"]
    assert made.history[0]["origin"]["program"] == command
    with pytest.raises(Invalid, match="--parts, --parts-from, --close and --up are for a mesh"):
        partgen.from_text("a red seat", parts=2)


def test_views_that_cannot_be_of_one_object_are_refused(
    models: Path, overrides: list[str], views: list[Path], tmp_path: Path
) -> None:
    partgen = PartGenPipeline.from_pretrained(models, params=ROOT / "presets/nano.yaml", overrides=overrides)
    right = Image.open(views[1])
    with pytest.raises(Invalid, match="The views are 3; give four pictures of one object: front, right, back, left"):
        partgen.from_image(views=views[:3])
    for size, said in (((32, 32), "32 x 32"), ((4 * VIEW, 32), f"{4 * VIEW} x 32")):
        right.resize(size).save(tmp_path / "other.png")
        with pytest.raises(Invalid, match=rf"The right view other\.png has {said} pixels, and the front view"):
            partgen.from_image(views=[views[0], tmp_path / "other.png", *views[2:]])
    with pytest.raises(UserError, match="The back view shows no object"):
        partgen.from_image(views=[views[0], views[1], Image.new("RGBA", right.size), views[3]])
    half = Image.new("RGBA", right.size)
    half.paste(right.resize((2 * VIEW, 2 * VIEW)), (VIEW, VIEW))
    with pytest.raises(UserError, match=r"The views cannot be used: their outlines fit one body by 0\.[3-7]"):
        partgen.from_image(views=[views[0], half, *views[2:]])
    with pytest.raises(Invalid, match="Give a picture of the object or four views of it"):
        partgen.from_image(views[0], views=views)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("exit 0", "the program ended well and wrote nothing; let it write one mesh"),
        ("echo no GPU >&2; exit 2", r"sh ended with status 2 \(no GPU\)"),
        ("sleep 30", r"sh had not ended after 1 s and was killed"),
        ("touch a.glb; echo 1 > b.txt", r"wrote 1 files \(b\.txt\)"),
        ("echo 1 > a.glb; echo 1 > b.obj", r"wrote 2 meshes \(a\.glb, b\.obj\); let it write one mesh"),
        ("for i in 1 2 3; do echo 1 > $i.png; done", r"wrote 3 files \(1\.png, 2\.png, 3\.png\)"),
        ("echo rubbish > a.glb", r"^a lamp\.glb, which `generate\.command` wrote, cannot be taken apart"),
        ("for i in 1 2 3 4; do echo 1 > $i.png; done", r"^1\.png, which `generate\.command` wrote, is no picture"),
    ],
)
def test_programs_that_make_nothing_of_use(models: Path, overrides: list[str], script: str, said: str) -> None:
    partgen = with_program(models, overrides, ["/bin/sh", "-c", f'cd "$0"; {script}', "{out}", "{prompt}"], 1.0)
    with pytest.raises(UserError, match=said) as failed:
        partgen.from_text("a lamp")
    assert isinstance(failed.value, ProgramFailed) or "which" in str(failed.value)
    assert "/tmp" not in str(failed.value)


def test_what_a_program_cannot_be_asked_is_said(
    models: Path, overrides: list[str], generator: list[str], tmp_path: Path
) -> None:
    partgen = with_program(models, overrides, [*generator, "{prompt}"])
    with pytest.raises(Invalid, match=r"has no \{image\}, so it makes nothing of a picture"):
        partgen.from_image(Image.new("RGB", (8, 8)))
    with pytest.raises(Invalid, match="Segmentations are chosen"):
        partgen.from_text("a chair", Choice(samples=2))
    none = PartGenPipeline.from_pretrained(models, params=ROOT / "presets/nano.yaml", overrides=overrides)
    with pytest.raises(Invalid, match="only a program of yours makes"):
        none.from_text("a chair", close="cap")
    with pytest.raises(Invalid, match=r"nothing is put at \{picture\}"):
        with_program(models, overrides, ["tool", "{picture}", "{out}"])
