"""A program as a reconstructor: a real one, which reads the four views and writes a ball, and ones that fail."""

import json
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from trimesh import Trimesh
from trimesh.creation import icosphere

from pipeline.errors import Invalid, UserError
from pipeline.params.base import load_group
from pipeline.params.reconstruct import ReconstructParams
from pipeline.params.reconstruction import ReconstructionParams
from pipeline.reconstruction.baking import cell_centres, solid
from pipeline.reconstruction.command import CommandFailed
from pipeline.reconstruction.field import Field
from pipeline.reconstruction.reconstructor import Reconstructor, find_reconstructor
from tests.reconstruction.test_carving import RADIUS, SETTINGS, ball_grid

BALL = """
import json, pathlib, sys
import numpy as np
from PIL import Image
from trimesh.creation import icosphere
views, out = map(pathlib.Path, sys.argv[1:3])
cameras = json.loads((views / "cameras.json").read_text())
shown, centres = [], []
for view in cameras["views"]:
    alpha = np.asarray(Image.open(views / view["file"]))[..., 3] > 127
    rows, columns = np.nonzero(alpha)
    shown.append((rows.max() - rows.min() + 1) / len(alpha))
slope = np.tan(np.radians(cameras["fov_deg"] / 2)) * np.mean(shown)
radius = cameras["distance"] * slope / np.sqrt(1 + slope**2)
ball = icosphere(3, radius)
red = ball.vertices[:, :1] > 0
ball.visual.vertex_colors = np.where(red, [230, 26, 26, 255], [26, 26, 230, 255]).astype(np.uint8)
ball.export(out / f"ball.{sys.argv[3]}")
"""
"""Measures the silhouettes and writes a ball of that radius, red where x > 0, else blue."""


def reconstructor(*command: str, timeout_s: float = 60.0) -> Reconstructor:
    overrides = [
        "reconstruct.reconstructor=command",
        f"reconstruct.command={json.dumps([*command, '{views}', '{out}'])}",
        f"reconstruct.command_timeout_s={timeout_s}",
        "reconstruct.bake_resolution=32",
    ]
    params, reconstruction = load_group(ReconstructParams, overrides), load_group(ReconstructionParams)
    return find_reconstructor(params, reconstruction, Path("nowhere"), SETTINGS)


def made(program: str, timeout_s: float = 60.0) -> Field:
    return reconstructor(sys.executable, "-c", program, timeout_s=timeout_s).fields(ball_grid()[None])[0]


@pytest.mark.parametrize("kind", ["glb", "ply"])
def test_a_program_that_writes_a_mesh(kind: str) -> None:
    found = reconstructor(sys.executable, "-c", BALL.replace("sys.argv[3]", repr(kind)))
    empty = torch.ones(4, 64, 64)
    empty[3] = 0
    nothing, field = found.fields(torch.stack((empty, ball_grid())))
    assert nothing.is_empty
    points = cell_centres(32).view(-1, 3)
    inside, away = field.opacity(points) > 10, points.norm(dim=1)
    assert inside[away < RADIUS - 0.08].all()
    assert not inside[away > RADIUS + 0.08].any()
    shell = (away > RADIUS - 0.1) & (away < RADIUS)
    _, colours = field.evaluate(points[shell], torch.zeros(int(shell.sum()), 3))
    right = points[shell][:, 0] > 0.1
    assert (colours[right, 0] > 0.8).all()
    assert (colours[right, 2] < (0.4 if kind == "glb" else 0.2)).all()  # colours in a GLB are linear


@pytest.mark.parametrize(
    ("program", "sentence"),
    [
        ("raise SystemExit('out of memory')", r"ended with status 1 \(out of memory\); run it by hand"),
        ("import os; os.abort()", r"ended with status -6 \(it said nothing\)"),
        ("pass", r"wrote nothing of that kind; it must write one file, \.glb"),
        ("import sys; open(sys.argv[2] + '/a.glb', 'w').write('rubbish')", r"wrote a\.glb, which cannot be used: "),
        ("import sys; open(sys.argv[2] + '/a.ply', 'w').write('ply f_dc_0 rot_0')", r"a\.ply, which cannot be used: "),
        ("import sys; [open(f'{sys.argv[2]}/{n}.ply', 'w') for n in 'ab']", r"wrote a\.ply, b\.ply; it must write one"),
        (
            "import sys; open(sys.argv[2] + '/a.obj', 'w').write('v 9 9 9\\nv 9 8 9\\nv 9 8 8\\nf 1 2 3')",
            "nothing in the cube from -1 to 1",
        ),
    ],
)
def test_a_program_that_fails_is_one_sentence(program: str, sentence: str) -> None:
    with pytest.raises(CommandFailed, match=sentence):
        made(program)


def test_a_program_that_hangs_is_ended_with_all_that_it_started() -> None:
    marker = f"import time; time.sleep(600)  # {time.time_ns()}"
    program = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {marker!r}])"
    started = time.monotonic()
    with pytest.raises(CommandFailed, match="took more than 2 s"):
        made(program, timeout_s=2.0)
    assert time.monotonic() - started < 20
    left = [process for process in psutil.process_iter(["cmdline"]) if marker in (process.info["cmdline"] or ())]
    assert not [process for process in left if process.status() != psutil.STATUS_ZOMBIE]


def test_commands_that_cannot_be() -> None:
    with pytest.raises(UserError, match=r"/no/such cannot be started \(No such file or directory\)"):
        reconstructor("/no/such").fields(ball_grid()[None])
    for value, sentence in (("null", "needs reconstruct.command"), ("[a, '{views}']", "has no {out} in its arguments")):
        with pytest.raises(Invalid, match=sentence):
            load_group(ReconstructParams, ["reconstruct.reconstructor=command", f"reconstruct.command={value}"])
    with pytest.raises(Invalid, match=r"needs its authors' weights; name the file in reconstruct\.lgm"):
        load_group(ReconstructParams, ["reconstruct.reconstructor=lgm"])


def test_what_others_need_decides_nothing() -> None:
    plain = load_group(ReconstructParams, ["reconstruct.reconstructor=lrm"])
    others = ["reconstruct.lgm=a", "reconstruct.command_timeout_s=1.0", "reconstruct.bake_resolution=16"]
    assert load_group(ReconstructParams, ["reconstruct.reconstructor=lrm", *others]).deciding() == plain.deciding()
    command = ["reconstruct.reconstructor=command", "reconstruct.command=[a, '{views}', '{out}']"]
    assert load_group(ReconstructParams, command).deciding()["command"] == ["a", "{views}", "{out}"]


def test_solids_and_sheets() -> None:
    ball: Trimesh = icosphere(3, 0.6)
    volume = solid(ball.vertices[ball.faces], 32).sum() / 16**3
    assert volume == pytest.approx(ball.volume, rel=0.03)
    sheet = np.array([[[-0.5, -0.5, 0.1], [0.5, -0.5, 0.1], [0.5, 0.5, 0.1]]])
    cells = np.argwhere(solid(sheet, 32) > 0)
    assert len(cells) == pytest.approx(0.5 * 16**2, rel=0.1)
    assert set(cells[:, 0]) == {int((0.1 + 1) * 16)}
    low = ball.vertices[ball.faces][:, :, 1].max(axis=1) < 0.3
    assert solid(ball.vertices[ball.faces[low]], 32)[16, 8, 16] == 1  # a bowl is full below its rim
