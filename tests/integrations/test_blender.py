"""The Blender extension, installed from its zip into a Blender without a window, against a server that it starts."""

import json
import os
import shlex
import socket
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from integrations.blender_zip import EXTENSION, build
from tests.smollm2 import link_model

ROOT = Path(__file__).parents[2]
SESSION = Path(__file__).with_name("blender_session.py")


def test_the_zip_is_the_same_for_the_same_files_and_names_what_it_needs(tmp_path: Path) -> None:
    one, other = (build(tmp_path / name).read_bytes() for name in ("a/one.zip", "b/other.zip"))
    assert one == other
    manifest = tomllib.loads((EXTENSION / "blender_manifest.toml").read_text(encoding="utf-8"))
    assert (manifest["id"], manifest["license"]) == ("partgen", ["SPDX:GPL-3.0-or-later"])
    for module in EXTENSION.glob("*.py"):
        assert module.read_text(encoding="utf-8").startswith("# SPDX-License-Identifier: GPL-3.0-or-later")


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the session says of each step."""
    folder = tmp_path_factory.mktemp("blender")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = shlex.join([sys.executable, "-m", "stages.cli"])
    environment = {
        **os.environ, "BLENDER_USER_RESOURCES": str(folder / "home"), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1",
        "PARTGEN_SCRATCH": str(link_model(folder / "scratch")),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, str(SESSION), str(build(folder / "partgen.zip")), f"http://127.0.0.1:{port}", server],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    steps = {name: value for line in lines for name, value in line.items()}
    steps["left"] = _answers(port)
    assert "back" in steps, done.stdout[-2000:] + done.stderr[-2000:]
    return steps


def _answers(port: int) -> bool:
    """Whether somebody still listens some seconds later."""
    for _ in range(40):
        with socket.socket() as asking:
            if asking.connect_ex(("127.0.0.1", port)):
                return False
        time.sleep(0.25)
    return True


def within(inner: dict[str, Any], outer: dict[str, Any]) -> None:
    assert np.all(np.array(inner["low"]) >= np.array(outer["low"]) - 1e-4)
    assert np.all(np.array(inner["high"]) <= np.array(outer["high"]) + 1e-4)


@pytest.mark.slow
def test_parts_come_back_in_place_with_the_materials_of_the_originals_which_are_hidden(told: dict[str, Any]) -> None:
    parts, before = told["parts"], told["before"]
    assert told["said"] == ["FINISHED"]
    assert sorted(parts) == ["lamp", "table", "table 2"]
    assert parts["lamp"]["materials"] == [None]
    assert sorted(parts[name]["materials"] for name in ("table", "table 2")) == [["Metal"], ["Wood"]]
    assert told["materials"] == ["Metal", "Wood"], "the copies are gone"
    assert all(one["hidden"] for one in told["originals"].values())
    for name in ("table", "table 2"):
        within(parts[name], before["Table"])
    for side in ("low", "high"):
        np.testing.assert_allclose(parts["lamp"][side], before["Lamp"][side], atol=1e-4)
        table = [parts["table"][side], parts["table 2"][side]]
        joint = np.min(table, axis=0) if side == "low" else np.max(table, axis=0)
        np.testing.assert_allclose(joint, before["Table"][side], atol=1e-4)
    for one in parts.values():
        assert not one["hidden"]
        np.testing.assert_allclose(one["scale"], 1, atol=1e-6)
        assert one["volume"] > 0, "a mirrored object is not turned inside out"
    whole = sum(abs(one["volume"]) for one in before.values())
    assert sum(one["volume"] for one in parts.values()) == pytest.approx(whole, rel=1e-3)


@pytest.mark.slow
def test_another_number_of_parts_and_back(told: dict[str, Any]) -> None:
    assert (told["pieces"], told["shown"], len(told["two"])) == (3, 2, 2)
    materials = [name for one in told["two"].values() for name in one["materials"]]
    assert sorted(map(str, materials)) == ["Metal", "None", "Wood"]
    three, two = (sum(one["volume"] for one in told[step].values()) for step in ("parts", "two"))
    assert two == pytest.approx(three)
    assert told["collections"] == 0
    assert told["back"] == told["before"]
    assert not told["left"], "the server ends with the extension"


@pytest.mark.slow
def test_without_a_server_one_sentence_says_what_to_do_and_nothing_changes(told: dict[str, Any]) -> None:
    assert "does not answer" in told["refused"]
    assert "partgen app" in told["refused"]
    assert told["objects"] == 3
