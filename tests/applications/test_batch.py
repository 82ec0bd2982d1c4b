"""`partgen decompose` of many objects, documents for scripts, and other formats, through the command line."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import trimesh
from trimesh.visual import ColorVisuals

from pipeline.applications.result import PartObject
from pipeline.errors import UserError
from stages.batch import find_objects
from tests.applications.test_applications import models, overrides, partgen_command, write_params

pytestmark = pytest.mark.slow

__all__ = ("models", "overrides")
OUT = Path("all")
COMMAND = ("decompose", "in", "--out", str(OUT), "--parts-from", "nodes", "--no-animation", "--format", "stl")


@pytest.fixture(scope="module")
def folder(models: Path, overrides: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three objects of which one is broken, two of one name, and what became of them."""
    folder = tmp_path_factory.mktemp("batch")
    write_params(folder, overrides)
    (folder / "weights").mkdir()
    (folder / "weights/nano").symlink_to(models)
    (folder / "in/more").mkdir(parents=True)
    scene = trimesh.Scene({"top": trimesh.creation.box((1, 0.2, 1)), "leg": trimesh.creation.cylinder(0.1, 1)})
    scene.export(folder / "in/Table_1.glb")
    trimesh.creation.box().export(folder / "in/more/Cube.stl")
    (folder / "in/broken.ply").write_bytes(b"ply\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        with pytest.raises(SystemExit, match="1"):
            partgen_command(patch, *COMMAND)
    return folder


@pytest.fixture
def again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """In the folder, where no object is drawn anew."""
    monkeypatch.chdir(folder)
    return monkeypatch


def table() -> list[dict[str, str]]:
    with (OUT / "results.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_one_bad_file_does_not_end_the_others_and_is_in_the_table(again: pytest.MonkeyPatch) -> None:
    rows = {row["file"]: row for row in table()}
    assert {file: (row["folder"], row["parts"]) for file, row in rows.items()} == {
        "in/broken.ply": ("all/broken", ""),
        "in/more/Cube.stl": ("all/more-cube", "1"),
        "in/Table_1.glb": ("all/table-1", "2"),
    }
    assert rows["in/broken.ply"]["error"].startswith("in/broken.ply cannot be taken apart: ")
    assert float(rows["in/Table_1.glb"]["seconds"]) > 0
    assert [part.name for part in PartObject.load("all/table-1").parts] == ["top", "leg"]
    assert not Path("all/broken").exists()
    assert "object.stl" in Path("all/table-1/SHA256SUMS").read_text()


def test_a_second_run_goes_on_where_the_first_ended(
    again: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in OUT.rglob("object.glb")}
    shutil.rmtree(OUT / "more-cube")
    (OUT / "more-cube").mkdir()  # as a killed run leaves it
    with pytest.raises(SystemExit, match="1"):
        partgen_command(again, *COMMAND, "--json")
    printed = capfd.readouterr()
    documents: list[dict[str, Any]] = json.loads(printed.out)
    assert "3 objects, 1 failed, 1 were there already" in printed.err
    assert [one["file"] for one in documents] == ["in/broken.ply", "in/more/Cube.stl", "in/Table_1.glb"]
    assert list(documents[0]) == ["file", "folder", "error", "seconds"]
    _, cube, whole = documents
    assert [(part["name"], part["triangles"]) for part in whole["parts"]] == [("top", 12), ("leg", 128)]
    assert whole["parts"][0]["files"] == ["parts/01-top.glb"]
    assert {"object.glb", "object.stl", "result.json"} <= set(whole["files"])
    assert whole["seconds"] == float(next(row["seconds"] for row in table() if row["file"] == whole["file"]))
    assert any("STL holds geometry alone" in note for note in cube["notes"])
    assert (OUT / "more-cube/result.json").exists()
    assert (OUT / "table-1/object.glb").stat().st_mtime_ns == before[OUT / "table-1/object.glb"]


@pytest.mark.parametrize(("arguments", "message"), [
    ((*COMMAND, "--seed", "5"), r"all/more-cube is there already, made with other options \(seed 0\)"),
    (("decompose", "in", "--out", "in/Table_1.glb"), "in/Table_1.glb is a file and no folder"),
    (("decompose", "in", "in/Table_1.glb"), "name the folder that these are to lie in with --out"),
    (("decompose", "in", "none.glb", "--out", "new"), "There is no 3D object or folder none.glb"),
    (("decompose", "weights/nano", "--out", "new"), "There is no 3D object below weights/nano"),
    (("decompose", "in", "--out", "new", "--format", "stp"), "There is no format 'stp'"),
    (("decompose", "in/Table_1.glb", "--out", "new", "--format", "fbx"), "There is no format 'fbx'"),
    (("decompose", "in/Table_1.glb", "--out", "new", "--texture", "64"), "or add --surface neural"),
    (("decompose", "in/Table_1.glb", "--out", "new", "--reconstructor", "carve"), "or --surface neural or both"),
])  # fmt: skip
def test_mistakes_are_told_before_the_work_also_to_scripts(
    again: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    before = sorted(Path().rglob("*"))
    with pytest.raises(SystemExit, match="2"):
        partgen_command(again, *arguments, "--json")
    printed = capfd.readouterr()
    answer = json.loads(printed.out)
    assert list(answer) == ["error"]
    assert printed.err.splitlines()[-1] == f"partgen: {answer['error']}"
    with pytest.raises(UserError, match=message):
        raise UserError(answer["error"])
    assert sorted(Path().rglob("*")) == before


def test_a_file_that_has_changed_is_not_taken_for_the_one_of_the_result(
    again: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    whole = Path("in/Table_1.glb").read_bytes()
    try:
        trimesh.Scene([trimesh.creation.box()]).export("in/Table_1.glb")
        with pytest.raises(SystemExit, match="2"):
            partgen_command(again, *COMMAND)
    finally:
        Path("in/Table_1.glb").write_bytes(whole)
    assert "all/table-1 is there already, and not of in/Table_1.glb as it is now" in capfd.readouterr().err


def test_the_answer_of_a_text(again: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    command = ("from-text", "a thing", "--out", "thing", "--no-animation", "--format", "ply, 3mf", "--separate")
    partgen_command(again, *command, "--json")
    printed = capfd.readouterr()
    answer = json.loads(printed.out)
    loaded = PartObject.load("thing")
    assert (answer["folder"], answer["name"], answer["caption"]) == ("thing", loaded.name, "a thing")
    assert [one["message"] for one in answer["diagnostics"]] == [one.message for one in loaded.diagnostics]
    assert answer["seconds"] > 0
    assert "object.3mf" in answer["files"]
    for part, found in zip(loaded.parts, answer["parts"], strict=True):
        forms = {file.rpartition(".")[2] for file in found["files"]}
        assert forms == ({"png", "glb", "ply", "3mf"} if part.glb else {"png"})
    assert "thing: a thing" in printed.err
    mesh = trimesh.load_mesh("thing/object.ply", process=False)
    assert len(mesh.faces) == sum(part.triangles for part in loaded.parts)
    assert isinstance(mesh.visual, ColorVisuals)
    assert len({tuple(colour) for colour in mesh.visual.vertex_colors.tolist()}) > 1


def test_folders_are_searched_and_names_are_unique_and_the_same_on_every_run(tmp_path: Path) -> None:
    files = [
        "a/chair.glb", "a/chair.obj", "a/deep/er/scene.gltf", "a/note.txt", "a/.hidden/x.glb", "b/Chair.glb", "c.stl",
        "a/made/result.json", "a/made/object.glb", "a/out/chair/object.glb",
    ]  # fmt: skip
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "link.glb").symlink_to(tmp_path / "c.stl")
    named = [tmp_path / name for name in ("a", "b/Chair.glb", "c.stl", "link.glb", "a/chair.glb")]
    found = {
        name: path.relative_to(tmp_path).as_posix() for name, path in find_objects(named, tmp_path / "a/out").items()
    }
    assert found == {
        "c": "c.stl",
        "chair": "a/chair.glb",
        "chair-2": "a/chair.obj",
        "chair-3": "b/Chair.glb",
        "deep-er-scene": "a/deep/er/scene.gltf",
    }
    reverse = find_objects(named[:3][::-1], tmp_path / "a/out")
    assert {name: path.relative_to(tmp_path).as_posix() for name, path in reverse.items()} == found
