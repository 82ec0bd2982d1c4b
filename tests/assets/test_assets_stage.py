"""The stage as a whole: sources, the split, what is reused, and the same bytes every time."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.assets import index, sweethome3d
from pipeline.assets.collect import collect_assets, work_items
from pipeline.assets.glb import load_parts
from pipeline.assets.names import name_group
from pipeline.assets.sources import folder_assets
from pipeline.assets.splits import Splits, choose_frozen, read_frozen
from pipeline.assets.sweethome3d import extract_package, fetch_sweethome3d, sweethome3d_assets
from pipeline.errors import UserError
from pipeline.params.assets import AssetsParams
from pipeline.params.base import load_group
from pipeline.shards.read import iter_rows, read_table
from stages.assets import run
from tests.assets_files import boxes, obj_box

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("forked")]

ROOT = Path(__file__).parents[2]
LICENCES = {"CC0-1.0", "CC-BY-3.0", "CC-BY-3.0-US"}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with the repository's samples and splits, and nothing else."""
    for name in ("data/samples", "data/splits"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "presets/nano.yaml", tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def params(*overrides: str) -> AssetsParams:
    return load_group(AssetsParams, [f"assets.{override}" for override in overrides])


def library(path: Path, *models: str, **properties: str) -> None:
    """A furniture library with models of two boxes."""
    vertices, faces = obj_box(0, 1)
    more_vertices, more_faces = obj_box(3, 9)
    text = "name = test\nlicense=Free \\u00e9\n# comment\n"
    with zipfile.ZipFile(path, "w") as archive:
        for number, model in enumerate(models, start=1):
            text += f"id#{number}=Test#{model}\nname#{number}=A {model}\nmodel#{number}=/t/{model}/{model}.obj\n"
            text += f"category#{number}=Kitchen\ncreator#{number}=Somebody\n"
            text += "".join(f"{key}#{number}={value}\n" for key, value in properties.items())
            archive.writestr(f"t/{model}/{model}.obj", f"{vertices}{more_vertices}o low\n{faces}o high\n{more_faces}")
        archive.writestr("PluginFurnitureCatalog.properties", text)


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_samples(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(params("sweethome3d.objects=0"))
    first = {name: digests(project / name) for name in ("data/assets", "plots", "metrics")}
    rows = {row["object_id"]: row for row in iter_rows(Path("data/assets/objects"))}
    assert len(rows) == 10
    assert {row["status"] for row in rows.values()} == {"ok"}
    assert all(row["licence"] == "CC0-1.0" and row["author"] not in ("", "unknown") for row in rows.values())
    assert sum(row["split"] == "test" for row in rows.values()) >= 3
    assert all(2 <= row["part_count"] <= 10 for row in rows.values())
    parts = read_table(Path("data/assets/parts")).to_pylist()
    for object_id, row in rows.items():
        own = [part for part in parts if part["object_id"] == object_id]
        assert [part["part_id"] for part in own] == list(range(1, row["part_count"] + 1))
        assert sum(part["surface"] for part in own) == pytest.approx(1, abs=1e-5)
        assert [part["surface"] for part in own] == sorted((part["surface"] for part in own), reverse=True)
    metrics = json.loads(Path("metrics/assets.json").read_text())
    assert (metrics["kept"], metrics["dropped"], metrics["failed"]) == (10, 0, 0)
    assert Path("plots/assets.png").stat().st_size > 5000

    # Again with an empty store and one worker: the same bytes.
    monkeypatch.setenv("PARTGEN_SCRATCH", str(project / "other"))
    monkeypatch.setenv("PARTGEN_WORKERS", "1")
    report = run(params("sweethome3d.objects=0"))
    assert report.computed == 10
    assert {name: digests(project / name) for name in first} == first


def test_folder_with_an_index_and_broken_files(project: Path) -> None:
    folder = project / "mine"
    (folder / "sub dir").mkdir(parents=True)
    for name in ("chair1.glb", "chair2.glb", "sub dir/Tä ble.glb", "hostile.glb"):
        (folder / name).write_bytes(boxes(a=(1, 0), b=(1, len(name))))
    (folder / "empty.obj").write_bytes(b"")
    (folder / "remote.gltf").write_text(json.dumps({"buffers": [{"uri": "http://example.org/x.bin"}]}))
    (folder / "index.csv").write_text(
        "file,name,licence,author\nchair1.glb,Stuhl,CC-BY-4.0,Ä. Utor\n"
        'hostile.glb,"<img src=x> ""/../"" 🪑",CC0-1.0,\n',
        encoding="utf-8",
    )
    settings = ("samples.use=false", "sweethome3d.objects=0", "folder.path=mine")
    report = run(params(*settings, "folder.index=index.csv"))
    rows = {row["object_id"]: row for row in iter_rows(Path("data/assets/objects"))}
    assert report.failures == {}
    assert rows["folder.empty"]["reason"] == "empty file"
    assert rows["folder.remote"]["reason"].startswith("refused reference")
    assert (rows["folder.chair1"]["name"], rows["folder.chair1"]["licence"]) == ("Stuhl", "CC-BY-4.0")
    assert (rows["folder.chair2"]["name"], rows["folder.chair2"]["licence"]) == ("chair", "unknown")
    assert rows["folder.chair1"]["split"] == rows["folder.chair2"]["split"]
    assert rows["folder.hostile"]["name"] == '<img src=x> "/../" 🪑'
    assert sum(row["status"] == "ok" for row in rows.values()) == 4
    assert all(
        set(object_id) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") for object_id in rows
    )

    # One more object costs one object; a changed one too.
    (folder / "new.glb").write_bytes(boxes(a=(1, 0), b=(1, 2)))
    (folder / "chair1.glb").write_bytes(boxes(a=(1, 0), b=(1, 3), c=(2, 6)))
    report = run(params(*settings, "folder.index=index.csv"))
    assert (report.computed, report.reused) == (2, 5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,name\ngone.glb,x\n", "Entry 1 .* names a file that is not in"),
        ("name\nx\n", "Entry 1 .* without `file`"),
        ("file,nmae\na.glb,x\n", "Column 2 .* is none of file, name,"),
    ],
)
def test_a_wrong_index_is_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.glb").write_bytes(b"")
    (tmp_path / "index.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        folder_assets(tmp_path, "folder", "index.csv")


SECRETS = ("TOP-SECRET\nline\n", "file,TOP-SECRET\nx,y\n", "file\nTOP-SECRET\n", '{"TOP-SECRET": 1', "\xffTOP-SECRET")


@pytest.mark.parametrize("text", SECRETS)
@pytest.mark.parametrize(
    "name", ["../secret.csv", "{}/secret.csv", "link.csv", "inside.csv", "secret.txt", "inside.json"]
)
def test_an_index_is_never_printed_nor_read_from_outside(tmp_path: Path, text: str, name: str) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "a.glb").write_bytes(b"")
    for path in (tmp_path / "secret.csv", folder / "secret.txt", folder / "inside.csv", folder / "inside.json"):
        path.write_text(text, encoding="latin-1")
    (folder / "link.csv").symlink_to(tmp_path / "secret.csv")
    with pytest.raises(UserError) as caught:
        folder_assets(folder, "folder", name.format(tmp_path))
    assert "TOP-SECRET" not in str(caught.value)
    if not name.startswith("inside"):
        assert any(said in str(caught.value) for said in ("is outside", "neither .csv nor .json"))


def test_an_index_that_is_no_file_or_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.glb").write_bytes(b"")
    os.mkfifo(tmp_path / "index.csv")
    with pytest.raises(UserError, match="does not exist, or is no file"):
        folder_assets(tmp_path, "folder", "index.csv")
    (tmp_path / "large.csv").write_text("file\na.glb\n")
    monkeypatch.setattr(index, "MOST_BYTES", 5)
    with pytest.raises(UserError, match="cannot be read, or has more than"):
        folder_assets(tmp_path, "folder", "large.csv")


def test_odd_names_stop_nothing(project: Path) -> None:
    """A lone surrogate in a node's name and in the index, a folder and a file with Latin-1 names."""
    folder = project / "mine"
    latin = Path(os.fsdecode(b"mine/t\xfcr")), Path(os.fsdecode(b"mine/t\xfcr/caf\xe9.glb"))
    latin[0].mkdir(parents=True)
    latin[1].write_bytes(boxes(a=(1, 0), b=(1, 2)))
    (folder / "odd.glb").write_bytes(odd := boxes(**{"a": (1, 0), "b00000": (1, 2)}).replace(b'"b00000"', b'"\\ud800"'))
    assert b"ud800" in odd
    (folder / "caf\xe9.glb").write_bytes(boxes(a=(1, 0), b=(1, 3)))
    (folder / "index.json").write_text('[{"file": "odd.glb", "name": "x\\udc00y", "author": "\\ud800"}]')
    settings = ("samples.use=false", "sweethome3d.objects=0", "folder.path=mine", "folder.index=index.json")
    report = run(params(*settings))
    rows = {row["object_id"]: row for row in iter_rows(Path("data/assets/objects"))}
    assert report.failures == {}
    assert {row["status"] for row in rows.values()} == {"ok"}
    assert rows["folder.odd"]["name"] == "x\\udc00y"
    assert {row["name"] for row in rows.values()} == {"x\\udc00y", "café"}
    assert len({row["origin"] for row in rows.values()}) == 3
    raw = {name for row in iter_rows(Path("data/assets/parts")) for name in row["raw_names"]}
    assert "\\ud800" in raw
    assert run(params(*settings)).reused == 3  # the same ids again


def test_a_stage_whose_objects_are_all_dropped_fails(project: Path) -> None:
    (project / "mine").mkdir()
    for name in ("a", "b"):
        (project / "mine" / f"{name}.obj").write_bytes(b"v 0 0 0\n" * 9)
    with pytest.raises(UserError, match="None of the 2 objects can be used: a point cloud"):
        run(params("samples.use=false", "sweethome3d.objects=0", "folder.path=mine"))


def test_z_up(project: Path) -> None:
    """The param turns OBJ, PLY and STL, and not glTF, which says itself what is up."""
    (project / "mine").mkdir()
    vertices, faces = obj_box(0, 1)
    tall = vertices.replace(" 1\n", " 9\n") + faces
    (project / "mine/a.obj").write_text(f"{tall}{obj_box(3, 9)[0]}o b\n{obj_box(3, 9)[1]}")
    (project / "mine/b.glb").write_bytes(boxes(a=(1, 0), b=(1, 2)))
    heights = {}
    for up in ("y", "z"):
        run(params("samples.use=false", "sweethome3d.objects=0", "folder.path=mine", f"folder.up={up}"))
        for row in iter_rows(Path("data/assets/glbs")):
            extents = np.ptp(np.concatenate([m.bounds for p in load_parts(row["glb"]) for m in p.meshes]), axis=0)
            heights[row["object_id"], up] = extents[1] / extents.max()
    assert heights["folder.a", "y"] < 0.3
    assert heights["folder.a", "z"] == 1
    assert heights["folder.b", "y"] == heights["folder.b", "z"]


def test_a_folder_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        folder_assets(tmp_path / "gone", "folder")
    with pytest.raises(UserError, match=r"holds no \.glb"):
        folder_assets(tmp_path, "folder")


def test_an_absent_source_is_announced(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assets, absent = collect_assets(params("sweethome3d.objects=40"))
    assert absent == ["sweethome3d"]
    assert len(assets) == 10
    assert "partgen assets fetch sweethome3d" in capsys.readouterr().err
    with pytest.raises(UserError, match="partgen assets fetch sweethome3d"):
        collect_assets(params("sweethome3d.objects=40", "sweethome3d.required=true"))
    with pytest.raises(UserError, match="No source"):
        collect_assets(params("sweethome3d.objects=0", "samples.use=false"))


def test_sweethome3d_libraries(project: Path) -> None:
    folder = project / "data/sources/sweethome3d"
    folder.mkdir(parents=True)
    library(folder / "BlendSwap-CC-0.sh3f", "butter", "thing1", "winchesterSofa", modelRotation="1 0 0 0 0 1 0 -1 0")
    library(folder / "Other.sh3f", *(f"model{k}" for k in range(20)))
    assets = sweethome3d_assets(folder, 6)
    assert [asset.origin.split("/")[0] for asset in assets] == ["BlendSwap-CC-0", "Other"] * 3
    assert sweethome3d_assets(folder, 4) == assets[:4]
    assert len(sweethome3d_assets(folder, 99)) == 23
    by_origin = {asset.origin: asset for asset in assets}
    assert by_origin["BlendSwap-CC-0/thing1"].licence == "CC0-1.0"
    assert by_origin["BlendSwap-CC-0/winchesterSofa"].licence == "CC-BY-3.0"
    assert assets[1].licence == "Free é"
    assert (assets[1].author, assets[1].category) == ("Somebody", "Kitchen")

    run(params("sweethome3d.objects=6"))
    rows = {row["object_id"]: row for row in iter_rows(Path("data/assets/objects"))}
    # The samples come first: the same origin in the library is a duplicate.
    assert rows["sweethome3d.BlendSwap-CC-0.butter"]["reason"] == "duplicate of samples.butter"
    assert rows["sweethome3d.BlendSwap-CC-0.butter"]["split"] == rows["samples.butter"]["split"]
    assert rows["sweethome3d.BlendSwap-CC-0.thing1"]["status"] == "ok"


def test_model_rotation_stands_the_object_upright(project: Path) -> None:
    """Two boxes along x, turned about z by 90 degrees, stand one above the other."""
    folder = project / "libraries"
    folder.mkdir()
    library(folder / "Turned.sh3f", "a", modelRotation="0 -1 0 1 0 0 0 0 1")
    run(params("samples.use=false", "sweethome3d.objects=1", "sweethome3d.path=libraries"))
    (row,) = iter_rows(Path("data/assets/glbs"))
    height = {part.name: part.meshes[0].centroid[1] for part in load_parts(row["glb"])}
    assert height["high"] > height["low"] + 0.5


@pytest.mark.parametrize(
    "catalogue", [None, b"", b"name#1=x\n" * 2_000_000, b"id#1=a\nmodel#1=/a\nmodelRotation#1=x\n"]
)
def test_a_broken_library_is_one_sentence(tmp_path: Path, catalogue: bytes | None) -> None:
    """No archive, none with a catalogue, one that unpacks to more than any catalogue has, words for numbers."""
    with zipfile.ZipFile(tmp_path / "a.sh3f", "w", zipfile.ZIP_DEFLATED) as archive:
        if catalogue:
            archive.writestr("PluginFurnitureCatalog.properties", catalogue)
    if catalogue is None:
        (tmp_path / "a.sh3f").write_bytes(b"no zip")
    with pytest.raises(UserError, match=r"a\.sh3f"):
        sweethome3d_assets(tmp_path, 1)


def test_a_wrong_package_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.deb").write_bytes(b"something else")
    with pytest.raises(UserError, match="has the sha256"):
        extract_package(tmp_path / "x.deb", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def program(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_fetching(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With real programs of these names that fail, write another file, or write the package."""
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    with pytest.raises(UserError, match="apt-get was not found"):
        fetch_sweethome3d(tmp_path / "out")
    program(programs, "dpkg-deb", 'echo library > "$3/Scopia.sh3f"')
    program(programs, "apt-get", "echo 'E: Could not resolve host' >&2; exit 100")
    with pytest.raises(UserError, match="Could not resolve host"):
        fetch_sweethome3d(tmp_path / "out")
    program(programs, "apt-get", "echo package > x.deb")
    with pytest.raises(UserError, match="has the sha256"):
        fetch_sweethome3d(tmp_path / "out")
    monkeypatch.setattr(sweethome3d, "SHA256", hashlib.sha256(b"package\n").hexdigest())
    assert fetch_sweethome3d(tmp_path / "out") == [tmp_path / "out/Scopia.sh3f"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["Scopia.sh3f"]


def test_settings_that_matter_change_the_key(project: Path) -> None:
    def keys(*overrides: str) -> dict[str, str]:
        chosen = params("sweethome3d.objects=0", *overrides)
        return {item.object_id: item.key for item in work_items(collect_assets(chosen)[0], chosen)}

    base = keys()
    assert keys() == base
    assert keys("shards=3", "max_failed_share=0.5", "timeout_s=9.0") == base
    for override in ("max_parts=9", "small_share=0.02", "texture_px=64", "small_parts=cull"):
        assert not set(keys(override).values()) & set(base.values())


@settings(deadline=None, max_examples=40)
@given(st.lists(st.text(st.sampled_from("abc123-"), min_size=1, max_size=8), max_size=60))
def test_no_group_straddles(stems: list[str]) -> None:
    splits = Splits(read_frozen(ROOT / "data/splits"), (), 0.2, 0.3)
    sides: dict[str, set[str | None]] = {}
    for stem in stems:
        sides.setdefault(name_group(stem), set()).add(splits.of(stem, name_group(stem)))
    assert all(len(found) == 1 for found in sides.values())


def test_shares_of_the_split() -> None:
    splits = Splits({}, (), 0.1, 0.2)
    sides = [splits.of(f"{k}", f"group{k}") for k in range(5000)]
    assert sides.count("test") / 5000 == pytest.approx(0.2, abs=0.02)
    assert sides.count("val") / 5000 == pytest.approx(0.1, abs=0.02)


def test_frozen_ids() -> None:
    test = (ROOT / "data/splits/test.txt").read_text().split()
    val = (ROOT / "data/splits/val.txt").read_text().split()
    assert (len(test), len(val)) == (100, 30)
    assert len(set(test) | set(val)) == 130
    assert sum(object_id.startswith("samples.") for object_id in test) >= 3
    sides = read_frozen(ROOT / "data/splits")
    splits = Splits(sides, (), 0.03, 0.12)
    for frozen, side in ((test, "test"), (val, "val")):
        assert {splits.of("another", name_group(object_id.rpartition(".")[2])) for object_id in frozen} == {side}
        assert {splits.of(object_id, "") for object_id in frozen} == {side}


def test_a_group_on_two_sides_is_refused(tmp_path: Path) -> None:
    (tmp_path / "val.txt").write_text("samples.speaker2\n")
    with pytest.raises(UserError, match=r"test\.txt cannot be read"):
        read_frozen(tmp_path)
    (tmp_path / "test.txt").write_text("samples.speaker2\n")
    with pytest.raises(UserError, match=r"speaker2, which is also in val\.txt"):
        read_frozen(tmp_path)
    (tmp_path / "test.txt").write_text("sweethome3d.X.speaker3\n")
    with pytest.raises(UserError, match="speaker"):
        Splits(read_frozen(tmp_path), (), 0.1, 0.1)


@pytest.fixture
def mine(project: Path) -> list[str]:
    """Overrides for a folder of twelve objects in groups of two that their names do not tell, and nothing else."""
    (project / "mine").mkdir()
    (vertices, faces), (more_vertices, more_faces) = obj_box(0, 1), obj_box(3, 9)
    for k in range(12):
        text = f"# {k}\n{vertices}{more_vertices}g one\n{faces}g two\n{more_faces}"
        (project / f"mine/{'abcdefghijkl'[k] * 3}.obj").write_text(text)
    lines = [f"{'abcdefghijkl'[k] * 3}.obj,pair{'uvwxyz'[k // 2]}" for k in range(12)]
    (project / "mine/index.csv").write_text("\n".join(["file,group", *lines]) + "\n")
    return ["samples.use=false", "sweethome3d.objects=0", "folder.path=mine", "folder.index=index.csv"]


def test_objects_of_a_folder_are_frozen_and_then_exactly_these_are_held_out(project: Path, mine: list[str]) -> None:
    run(params(*mine))
    sizes = ["--validation", "2", "--test", "4", "--out", "frozen"]
    command = [sys.executable, "-m", "pipeline.assets.splits", "data/assets/objects", *sizes]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    frozen = read_frozen(Path("frozen"))
    exactly = [*mine, "splits=frozen", "test_share=0.0", "validation_share=0.0"]
    run(params(*exactly))
    splits = {row["object_id"]: row["split"] for row in iter_rows(Path("data/assets/glbs"), ["object_id", "split"])}
    assert {object_id: split for object_id, split in splits.items() if split != "train"} == frozen
    assert sorted(frozen.values()) == ["test"] * 4 + ["val"] * 2
    assert len(splits) == 12

    test = [object_id for object_id, split in frozen.items() if split == "test"]
    Path("frozen/test.txt").write_text("\n".join(test[:-1]))  # the last one's other half stays
    run(params(*exactly))
    rows = {row["object_id"]: row for row in iter_rows(Path("data/assets/objects"))}
    assert rows[test[-1]]["reason"] == "a variant of a held-out object"
    assert sum(row["split"] == "test" for row in rows.values()) == 3

    Path("frozen/test.txt").write_text("\n".join([*test, "folder.gone"]))
    with pytest.raises(UserError, match=r"1 of the 5 objects that are frozen in test\.txt .* folder\.gone \(it is not"):
        run(params(*exactly))


def test_the_papers_splits_are_of_objects_that_its_rule_keeps() -> None:
    shipped, papers = read_frozen(ROOT / "data/splits"), read_frozen(ROOT / "data/splits/paper")
    assert Counter(papers.values()) == {"test": 100, "val": 30}
    assert {papers.get(object_id, "test") for object_id, side in shipped.items() if side == "test"} == {"test"}


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(1, 4), min_size=30, max_size=60))
def test_freezing_takes_whole_groups(sizes: list[int]) -> None:
    rows = [
        {
            "object_id": f"s.{group}-{k}",
            "name_group": f"group{group}",
            "status": "ok",
            "source": "sweethome3d",
            "part_count": 2,
        }
        for group, size in enumerate(sizes)
        for k in range(size)
    ]
    val, test = choose_frozen(rows, 5, 10)
    assert (len(val), len(test)) == (5, 10)
    chosen = {object_id.rsplit("-")[0] for object_id in val}, {object_id.rsplit("-")[0] for object_id in test}
    assert not chosen[0] & chosen[1]
    for ids, groups in zip((val, test), chosen, strict=True):
        assert sum(sizes[int(group[2:])] for group in groups) == len(ids)
