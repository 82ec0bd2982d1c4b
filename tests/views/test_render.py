"""The stage render against what a camera must see; a real Blender, tiny pictures."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trimesh.creation import box

from pipeline.assets.glb import load_parts, write_glb
from pipeline.assets.surface import Material, Surface
from pipeline.errors import ObjectFailed, UserError
from pipeline.params.base import load_group
from pipeline.params.render import RenderParams
from pipeline.shards.table import decode_png
from pipeline.views import blender as blender_client
from pipeline.views import renders
from pipeline.views.blender import Blender, BlenderDied, Series
from pipeline.views.cameras import GRID_AZIMUTHS, Camera, camera_to_world, over_white, untile
from pipeline.views.labels import draw_labels
from pipeline.views.renders import RenderJob, render_object
from stages import doctor

pytestmark = pytest.mark.slow

T = TypeVar("T")
RED, GREEN, BLUE = np.eye(3)
PRESET = Path("presets/nano.yaml")
TINY = ("render.view_size=32", "render.samples=2", "render.conditioning_views=1")
HOSTILE = ["../../etc/passwd", "<img src=x onerror=alert(1)>", "a/b\\c\"d'e;$(reboot)\n{}", "🪑" * 15, "part.001"]


def surface(
    size: tuple[float, float, float], at: tuple[float, float, float], colour: np.ndarray, **material: Any
) -> Surface:
    """A box of one colour (linear RGB)."""
    mesh = box(size).apply_translation(at)
    factor = [*colour, material.pop("alpha", 1.0)]
    look = Material(baseColorFactor=factor, metallicFactor=material.pop("metal", 0.0), roughnessFactor=0.6, **material)
    return Surface(np.asarray(mesh.vertices), np.asarray(mesh.faces), None, None, None, look)


def glb(*surfaces: Surface, names: list[str] | None = None) -> bytes:
    names = names or [f"part {k}" for k in range(len(surfaces))]
    return write_glb([(name, [one]) for name, one in zip(names, surfaces, strict=True)], "CC0", {})


RED_AT_X = surface((0.3, 0.3, 0.3), (0.7, 0, 0), RED)
GREEN_AT_Z = surface((0.3, 0.3, 0.3), (0, 0, 0.7), GREEN)
BLUE_ON_TOP = surface((0.3, 0.3, 0.3), (0, 0.7, 0), BLUE)
SCENE = glb(RED_AT_X, GREEN_AT_Z, BLUE_ON_TOP)


def params(*overrides: str) -> RenderParams:
    return load_group(RenderParams, [*TINY, *overrides], PRESET)


def job(object_glb: bytes, parts: int, *overrides: str, object_id: str = "an object", threads: int = 2) -> RenderJob:
    return RenderJob(object_id, "train", object_glb, tuple(range(1, parts + 1)), params(*overrides), threads)


def grids(task: RenderJob) -> list[np.ndarray]:
    """(4, H, W, 4) of the whole and of each part."""
    return [untile(decode_png(row["image"]["bytes"])) for row in render_object(task)["grids"]]


def centre(view: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """Where the pixels of a primary colour lie: (right, up) in [-1, 1]."""
    rgb, opaque = view[..., :3].astype(int), view[..., 3] > 128
    k = int(colour.argmax())
    mask = opaque & (rgb[..., k] > 80) & (rgb[..., k] > 2 * np.delete(rgb, k, axis=-1).max(axis=-1))
    rows, columns = np.nonzero(mask)
    assert len(rows), "the colour is not in sight"
    half = len(view) / 2
    return np.array([columns.mean() + 0.5 - half, half - rows.mean() - 0.5]) / half


@pytest.fixture(scope="module", autouse=True)
def no_blender_is_left() -> Iterator[None]:
    yield
    if renders._blender is not None:
        running().close()
        renders._blender = None


def test_each_view_sees_the_side_that_its_azimuth_names() -> None:
    front, right, back, left = grids(job(SCENE, 3))[0]
    assert centre(front, RED)[0] > 0.4
    assert abs(centre(front, GREEN)[0]) < 0.1
    assert centre(right, GREEN)[0] < -0.4
    assert abs(centre(right, RED)[0]) < 0.1
    assert centre(back, RED)[0] < -0.4
    assert centre(left, GREEN)[0] > 0.4
    for view in (front, right, back, left):
        assert abs(centre(view, BLUE)[0]) < 0.1
        assert centre(view, BLUE)[1] > 0.4
    assert centre(front, GREEN)[1] < -0.1  # nearer to a camera that looks down from 20 degrees: lower in the picture


def test_projection_is_the_camera_s() -> None:
    """A small box lies where the pinhole camera of `cameras` puts it, within half a pixel."""
    at = np.array([0.35, -0.5, 0.3])
    settings = params()
    [view, *_] = grids(job(glb(surface((0.2, 0.2, 0.2), tuple(at), RED)), 1))[1]
    x, y, z, _ = np.linalg.inv(camera_to_world(0, settings.elevation_deg, settings.distance)) @ [*at, 1]
    expected = np.array([x, y]) / -z / np.tan(np.radians(settings.fov_deg / 2))
    assert np.abs(centre(view, RED) - expected).max() < 0.5 / (settings.view_size / 2)


def test_silhouettes_agree_with_the_label_maps() -> None:
    size = 128
    [whole, *_] = grids(job(SCENE, 3, f"render.view_size={size}", "render.samples=8"))
    settings = params()
    views = [(azimuth, settings.elevation_deg) for azimuth in GRID_AZIMUTHS]
    labels = draw_labels(load_parts(SCENE), Camera(settings.fov_deg, settings.distance, size), views).labels > 0
    alpha = whole[..., 3] > 127
    assert (labels & alpha).sum() / (labels | alpha).sum() > 0.97


def test_a_part_alone_keeps_camera_and_scale() -> None:
    whole, red, green, blue = grids(job(SCENE, 3))
    for part, colour in ((red, RED), (green, GREEN), (blue, BLUE)):
        others = [c for c in (RED, GREEN, BLUE) if c is not colour]
        for alone, among in zip(part, whole, strict=True):
            for other in others:
                with pytest.raises(AssertionError):
                    centre(alone, other)
            if colour is BLUE:  # never hidden by the others
                assert np.abs(centre(alone, colour) - centre(among, colour)).max() < 0.02
    assert all((part[..., 3] <= whole[..., 3]).mean() > 0.99 for part in (red, green, blue))


def test_rows_and_transparent_background() -> None:
    rows = render_object(job(SCENE, 3, "render.conditioning_views=3"))
    assert [row["part_id"] for row in rows["grids"]] == [0, 1, 2, 3] == [row["part_id"] for row in rows["novel"]]
    assert [row["view"] for row in rows["conditioning"]] == [0, 1, 2]
    assert len({tuple(row["azimuths"]) for row in rows["novel"]}) == 1
    single = decode_png(rows["conditioning"][0]["image"]["bytes"])
    assert single.shape == (32, 32, 4)
    assert decode_png(rows["grids"][0]["image"]["bytes"]).shape == (64, 64, 4)
    corners = single[[0, 0, -1, -1], [0, -1, 0, -1]]
    assert not corners.any()


def test_black_white_glass_and_metal_keep_their_looks() -> None:
    looks = {
        "white": surface((1, 1, 1), (0, 0, 0), np.ones(3)),
        "black": surface((1, 1, 1), (0, 0, 0), np.full(3, 0.01)),
        "red": surface((1, 1, 1), (0, 0, 0), 0.8 * RED),
        "metal": surface((1, 1, 1), (0, 0, 0), np.full(3, 0.8), metal=1.0),
        "glass": surface((1, 1, 1), (0, 0, 0), np.full(3, 0.8), alpha=0.25, alphaMode="BLEND"),
    }
    means, pixels = {}, {}
    for name, look in looks.items():
        [view, *_] = grids(job(glb(look), 1, "render.samples=16"))[0]
        pixels[name] = view[8:24, 8:24].reshape(-1, 4)[view[8:24, 8:24, 3].ravel() > 30]
        means[name] = pixels[name].mean(axis=0)
    assert (pixels["white"][:, :3] == 255).mean() < 0.01
    assert means["white"][:3].min() > 190
    assert means["black"][:3].max() < 70
    assert means["red"][0] > 180
    assert means["red"][1:3].max() < 70
    assert means["metal"][:3].min() > 110
    assert means["glass"][:3].min() > 110
    assert 40 < means["glass"][3] < 200


def test_coincident_sheets_are_not_black() -> None:
    """Two-sided sheets are often modelled as two, one turned over, in the same place."""
    one = surface((1, 1, 1), (0, 0, 0), np.full(3, 0.8))
    twice = Surface(one.vertices, np.concatenate([one.faces, one.faces[:, ::-1]]), None, None, None, one.material)
    brightness = [grids(job(glb(look), 1, "render.samples=16"))[0][0, 8:24, 8:24, :3].mean() for look in (one, twice)]
    assert brightness[1] > 0.95 * brightness[0]


def test_sides_of_a_box_differ() -> None:
    """Lights show shape: seen over an edge, neighbouring walls and the top are told apart."""
    cube = surface((1, 1, 1), (0, 0, 0), np.full(3, 0.8))
    turn = np.array([[1, 0, 1], [0, np.sqrt(2), 0], [-1, 0, 1]]) / np.sqrt(2)
    turned = Surface(cube.vertices @ turn.T, cube.faces, None, None, None, cube.material)
    for view in grids(job(glb(turned), 1, "render.samples=16"))[0]:
        image = over_white(view)
        left, right, top = image[18:22, 10:13].mean(), image[18:22, 19:22].mean(), image[9:11, 15:17].mean()
        assert min(abs(left - right), abs(left - top), abs(right - top)) > 0.01


def test_names_are_only_names() -> None:
    sizes = [((0.2, 0.2, 0.2), (0.3 * k - 0.6, 0, 0)) for k in range(len(HOSTILE))]
    pieces = [surface(size, at, RED) for size, at in sizes]
    hostile = render_object(job(glb(*pieces, names=HOSTILE), len(HOSTILE)))
    plain = render_object(job(glb(*pieces), len(HOSTILE)))
    assert hostile == plain


def running() -> Blender:
    assert renders._blender is not None
    return renders._blender


def test_same_pictures_whatever_ran_before_and_on_any_number_of_threads() -> None:
    task = job(SCENE, 3)
    after_others = render_object(task)
    running().close()
    renders._blender = None
    assert render_object(job(SCENE, 3, threads=1)) == after_others


def test_object_survives_the_death_of_its_blender(monkeypatch: pytest.MonkeyPatch) -> None:
    task = job(SCENE, 3)
    expected = render_object(task)
    first = running()
    write = first._write

    def write_and_kill(request: dict) -> None:
        write(request)
        os.kill(first.pid, signal.SIGKILL)

    monkeypatch.setattr(first, "_write", write_and_kill)
    assert render_object(task) == expected
    assert renders._blender is not first


def test_a_blender_that_is_killed_twice_wants_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    write = Blender._write

    def write_and_kill(blender: Blender, request: dict) -> None:
        write(blender, request)
        os.kill(blender.pid, signal.SIGKILL)

    monkeypatch.setattr(Blender, "_write", write_and_kill)
    with pytest.raises(MemoryError, match="Blender ended with status -9"):
        render_object(job(SCENE, 3))


def test_blender_is_replaced_after_its_share_of_objects() -> None:
    pids = []
    for _ in range(3):
        render_object(job(glb(RED_AT_X), 1, "render.objects_per_worker=2"))
        pids.append(running().pid)
    assert len(set(pids)) == 2


def test_what_blender_cannot_draw_is_a_failure_and_costs_no_blender() -> None:
    render_object(job(SCENE, 3))
    pid = running().pid
    for broken in (b"glTF", SCENE[:200], b""):
        with pytest.raises(ObjectFailed):
            render_object(job(broken, 1))
    with pytest.raises(ObjectFailed, match="part 4"):
        render_object(job(SCENE, 4))
    render_object(job(SCENE, 3))
    assert running().pid == pid


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for temporary files, of this process and of those that it starts."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    return folder


def draw_one(blender: Blender) -> np.ndarray:
    pose = camera_to_world(0, 20, 3.1)
    return blender.draw(SCENE, [Series(None, pose[None])], params().deciding())[0]


def test_nothing_that_others_print_harms_the_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, temporary: Path
) -> None:
    """A locale that is not installed makes Blender print; a module that Python starts with prints still earlier."""
    (tmp_path / "sitecustomize.py").write_text("import os; print('hello', flush=True); os.write(1, b'{}\\n')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("LANG", "en_US.UTF-8")
    monkeypatch.delenv("LC_ALL", raising=False)
    blender = Blender(1)
    assert not list(temporary.iterdir()), "a Blender at rest has no temporary files"
    os.kill(blender.pid, signal.SIGINT)  # Ctrl-C reaches all processes at a terminal; it is the client's to hear
    assert draw_one(blender).shape == (1, 32, 32, 4)
    blender.close()
    assert not list(temporary.iterdir())


def test_an_answer_that_is_no_json_ends_blender(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "worker.py"
    program.write_text("import os, sys, time; os.write(int(sys.argv[2][10:]), b'Warning: odd\\n'); time.sleep(60)")
    monkeypatch.setattr(blender_client, "PROGRAM", program)
    with pytest.raises(BlenderDied, match="Blender was ended, since it answered 'Warning: odd"):
        Blender(1)


def test_blender_starts_for_a_user_without_a_home(tmp_path: Path) -> None:
    """As `docker run --user 12345` has it; Blender alone crashes there."""
    stranger = ["unshare", "--user", "--map-user=12345", "env", "--unset=HOME"]
    if subprocess.run([*stranger, "true"], capture_output=True).returncode:
        pytest.skip("needs `unshare --user`, which this machine does not have or allow")
    code = "from pipeline.views.blender import Blender; Blender(1).close(); print('well')"
    done = subprocess.run([*stranger, sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "well\n", done.stderr


@pytest.mark.parametrize("moment", ["start", "job"])
def test_blender_dies_with_its_parent(moment: str, temporary: Path) -> None:
    """While it starts, even when it is not given any time, and in the middle of a long job."""
    code = (
        "from tests.views.test_render import *\n"
        "blender = Blender(1)\n"
        "pose = camera_to_world(0, 20, 3.1)\n"
        "blender.draw(SCENE, [Series(None, pose[None])], params('render.samples=100000').deciding())\n"
    )
    with subprocess.Popen([sys.executable, "-c", code]) as parent:
        blender = wait_for(lambda: find_worker(parent.pid))
        assert blender is not None
        if moment == "start":
            wait_for(lambda: "/bpy/" in Path(f"/proc/{blender.pid}/maps").read_text())
            blender.suspend()
        else:
            wait_for(lambda: list(temporary.glob("*/object.glb")))
        parent.kill()  # and is listed as a zombie until the end of this block
        wait_for(lambda: not blender.is_running() or blender.status() == psutil.STATUS_ZOMBIE)
        assert list(temporary.iterdir()), "it was given no time to clear up"
        with blender_client._folder() as own:
            Blender(1).close()
            assert list(temporary.iterdir()) == [Path(own)], "the next one does, and leaves alone what is in use"


def find_worker(parent: int) -> psutil.Process | None:
    return next((child for child in psutil.Process(parent).children() if "--threads=1" in child.cmdline()), None)


def wait_for(condition: Callable[[], T], seconds: float = 100) -> T:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    return found


def test_the_doctor_starts_what_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finding = next(doctor._blender())
    assert finding.ok, finding.text
    assert "draws on" in finding.text
    (tmp_path / "blenderproc.py").write_text("raise ImportError('libodd.so.6: cannot open shared object file')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    finding = next(doctor._blender())
    assert not finding.ok
    assert "libodd.so.6: cannot open shared object file; `make setup` installs" in finding.text
    monkeypatch.setattr(doctor, "TIMEOUT_S", 0.1)
    assert next(doctor._gl()).text.startswith("no answer within 0.1 s; install libegl1")


@given(st.floats(5, 170), st.floats(1.001, 20))
def test_cameras_must_hold_the_unit_sphere(fov_deg: float, distance: float) -> None:
    overrides = [f"render.fov_deg={fov_deg!r}", f"render.distance={distance!r}"]
    # Half the angle that a unit sphere fills at this distance is asin(1 / distance).
    if np.degrees(np.arcsin(1 / distance)) <= fov_deg / 2:
        load_group(RenderParams, overrides, PRESET)
    else:
        with pytest.raises(UserError, match=r"^[^\n]*cuts the object's bounding sphere off; set distance to [\d.]+ or"):
            load_group(RenderParams, overrides, PRESET)


def test_the_worker_program_imports_nothing_of_this_project() -> None:
    source = Path("pipeline/views/blender_worker.py").read_text(encoding="utf-8")
    assert source.startswith("# SPDX-License-Identifier: GPL-3.0-or-later")
    code = (
        "import runpy, sys, json; sys.argv = ['w', '--help']\n"
        "try: runpy.run_path('pipeline/views/blender_worker.py', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "ours = {name.split('.')[0] for name in sys.modules} & {'pipeline', 'stages', 'flows'}\n"
        "print(json.dumps(sorted(ours)), flush=True)\n"
        "import os; os._exit(0)\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert json.loads(out.splitlines()[-1]) == []
