"""A small mirror of Objaverse: what is taken of it, under which licences, and what is said of a broken one."""

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from pipeline.assets import objaverse
from pipeline.assets.collect import collect_assets
from pipeline.assets.glb import read_header
from pipeline.assets.objaverse import objaverse_assets
from pipeline.errors import Invalid, NotFound, UserError
from pipeline.params.assets import AssetsParams
from pipeline.params.base import load_group
from pipeline.shards.read import iter_rows
from stages.assets import run
from tests.assets_files import boxes

ROOT = Path(__file__).parents[2]
OPEN = ("CC0-1.0", "CC-BY-4.0", "CC-BY-SA-4.0")
WORDS = ("by", "cc0", "by-nc", "by-nd", "by-sa", "by", "editorial", None)
"""Of the objects' annotations; the last object has none."""
SHARD = "metadata/000-023.json.gz"


def pack(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(json.dumps(value).encode()))


def uid(number: int) -> str:
    return f"{number:032x}"


def mirror(root: Path) -> Path:
    """Eight objects in two folders, each of two boxes; a ninth is named and not there, and its folder has no file."""
    paths = {uid(number): f"glbs/000-{23 + number % 2:03}/{uid(number)}.glb" for number in range(len(WORDS))}
    annotations: dict[str, dict[str, Any]] = {"000-023": {}, "000-024": {}}
    for number, word in enumerate(WORDS):
        path = root / paths[uid(number)]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(boxes(seat=(1, 0), leg=(1, 2 + number)))
        if word:
            annotations[path.parent.name][uid(number)] = {
                "uid": uid(number),
                "name": f"Old Chair {number}",
                "license": word,
                "user": {"username": f"user{number // 6}", "displayName": f"Ann \ud800 {number}"},
                "categories": [{"name": "furniture-home"}],
            }
    pack(root / "object-paths.json.gz", {**paths, uid(99): f"glbs/000-099/{uid(99)}.glb"})
    for folder, entries in annotations.items():
        pack(root / f"metadata/{folder}.json.gz", entries)
    return root


def params(*overrides: str) -> AssetsParams:
    only = ("samples.use=false", "sweethome3d.objects=0", "objaverse.path=mirror", *overrides)
    return load_group(AssetsParams, [f"assets.{override}" for override in only], ROOT / "presets/nano.yaml")


@pytest.mark.slow
@pytest.mark.usefixtures("forked")
def test_a_mirror_becomes_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "data/splits", "data/splits")
    mirror(tmp_path / "mirror")
    run(params("objaverse.objects=99"))
    assert "4 objects of mirror are left out" in capsys.readouterr().err
    rows = {row["object_id"]: row for row in iter_rows(Path("data/assets/objects"))}
    assert {row["status"] for row in rows.values()} == {"ok"}
    licences = {row["origin"].rpartition("/")[2]: row["licence"] for row in rows.values()}
    assert licences == {uid(0): "CC-BY-4.0", uid(1): "CC0-1.0", uid(4): "CC-BY-SA-4.0", uid(5): "CC-BY-4.0"}
    assert len({row["split"] for row in rows.values()}) == 1  # one author's `Old Chair` with a number
    (first,) = (row for row in rows.values() if row["object_id"] == f"objaverse.{uid(0)}")
    assert (first["name"], first["category"], first["source"]) == ("Old Chair 0", "furniture-home", "objaverse")
    glbs = {row["object_id"]: read_header(row["glb"]) for row in iter_rows(Path("data/assets/glbs"))}
    assert glbs[f"objaverse.{uid(0)}"]["asset"]["copyright"] == (
        f"Old Chair 0 by Ann \\ud800 0, CC-BY-4.0 (https://sketchfab.com/3d-models/{uid(0)})"
    )


def test_other_licences_are_taken_when_the_params_name_them(tmp_path: Path) -> None:
    root = mirror(tmp_path)
    assets, left_out = objaverse_assets(root, 99, ("CC-BY-NC-4.0", "unknown"))
    assert sorted(asset.licence for asset in assets) == ["CC-BY-NC-4.0", "unknown", "unknown"]
    assert left_out == {"CC-BY-4.0": 2, "CC0-1.0": 1, "CC-BY-ND-4.0": 1, "CC-BY-SA-4.0": 1}
    without = next(asset for asset in assets if asset.path.endswith(f"{uid(7)}.glb"))
    assert (without.author, without.name_group) == ("unknown", f"/{uid(7)}")


def test_the_first_objects_stay_the_first(tmp_path: Path) -> None:
    root = mirror(tmp_path)
    three, four = (objaverse_assets(root, count, OPEN)[0] for count in (3, 4))
    assert len(three) == 3
    assert four[:3] == three


def test_groups_are_of_one_author(tmp_path: Path) -> None:
    groups = {
        asset.path[-5]: asset.name_group for asset in objaverse_assets(mirror(tmp_path), 99, (*OPEN, "unknown"))[0]
    }
    assert groups["0"] == groups["5"] == "user0/oldchair"
    assert groups["6"] == "user1/oldchair"


def test_licences_that_keep_out_all_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    mirror(tmp_path / "mirror")
    with pytest.raises(Invalid, match=r"All 8 objects of mirror are left out .*CC-BY-4.0 2.*assets.objaverse.licences"):
        collect_assets(params("objaverse.objects=9", "objaverse.licences=[CC-BY-NC-SA-4.0]"))
    with pytest.raises(UserError, match="CC-BY-NC"):
        params("objaverse.licences=[CC-BY-NC]")


@pytest.mark.parametrize(
    ("broken", "kind", "sentence"),
    [
        (lambda root: shutil.rmtree(root), NotFound, "does not exist; correct assets.objaverse.path"),
        (lambda root: (root / "object-paths.json.gz").unlink(), NotFound, "object-paths.json.gz is not there"),
        (lambda root: (root / SHARD).unlink(), NotFound, f"{SHARD} is not there"),
        (lambda root: shutil.rmtree(root / "glbs"), NotFound, "holds no GLB"),
        (lambda root: pack(root / "object-paths.json.gz", ["x"]), Invalid, "no gzipped JSON object"),
        (lambda root: pack(root / "object-paths.json.gz", {"a": ["x"], "b": "../b.glb"}), NotFound, "holds no GLB"),
        (lambda root: (root / SHARD).write_bytes(b"{}"), Invalid, f"{SHARD} is damaged"),
        (lambda root: (root / SHARD).write_bytes((root / SHARD).read_bytes()[:-9]), Invalid, f"{SHARD} is damaged"),
        (lambda root: (root / SHARD).write_bytes(gzip.compress(b"{TOP-SECRET")), Invalid, f"{SHARD} is damaged"),
        (lambda root: (root / SHARD).write_bytes(gzip.compress(b" " * 99_999)), Invalid, "unpacks to more than"),
    ],
)
def test_a_broken_mirror_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: Any, kind: type[UserError], sentence: str
) -> None:
    monkeypatch.setattr(objaverse, "MOST_BYTES", 9_999)
    root = mirror(tmp_path / "mirror")
    broken(root)
    with pytest.raises(kind, match=sentence) as caught:
        objaverse_assets(root, 9, OPEN)
    assert "TOP-SECRET" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_paths_that_are_a_link_outside_are_refused(tmp_path: Path) -> None:
    """As in the cache of the Hugging Face hub, where all files are links."""
    root = mirror(tmp_path / "mirror")
    (root / "object-paths.json.gz").rename(tmp_path / "blob")
    (root / "object-paths.json.gz").symlink_to(tmp_path / "blob")
    with pytest.raises(Invalid, match=r"is a link out of .* `--local-dir`"):
        objaverse_assets(root, 9, OPEN)


@pytest.mark.parametrize("annotation", [None, 3, {"user": 3, "license": ["by"], "categories": {}, "name": None}])
def test_odd_annotations_stop_nothing(tmp_path: Path, annotation: Any) -> None:
    root = mirror(tmp_path)
    pack(root / SHARD, {uid(0): annotation})
    (asset,) = (one for one in objaverse_assets(root, 9, ("unknown",))[0] if uid(0) in one.path)
    assert (asset.licence, asset.author, asset.category) == ("unknown", "unknown", "")
