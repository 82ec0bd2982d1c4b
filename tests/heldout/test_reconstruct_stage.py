"""The stage `reconstruct` on a corpus of toys, by carving and by a tiny reconstruction model."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import trimesh

from pipeline.assets.glb import Node, pack, read_header
from pipeline.assets.tables import GLBS
from pipeline.errors import UserError
from pipeline.heldout.complete_object import COMPLETIONS
from pipeline.heldout.reconstruct_object import ReconstructTask, reconstruct_object
from pipeline.heldout.reconstruct_tables import KEPT, MESHED
from pipeline.params.base import load_group
from pipeline.params.reconstruct import ReconstructParams
from pipeline.reconstruction.assembly import mark
from pipeline.reconstruction.field import load_field, read_field
from pipeline.reconstruction.joint_lrm import joint_of
from pipeline.reconstruction.lrm import build_lrm
from pipeline.reconstruction.part_views import render_parts
from pipeline.reconstruction.pixel_gaussians import build_gaussians
from pipeline.reconstruction.rays import stacked, view_rays
from pipeline.shards.read import iter_rows, read_table
from pipeline.shards.table import FAILURES, decode_png, encode_png, image_cell
from pipeline.shards.write import write_tables
from pipeline.views.cameras import Camera, over_white
from stages.reconstruct import items, run
from tests.reconstruction.test_train_gaussians import GAUSSIANS
from tests.reconstruction.test_train_lrm import NANO, RECONSTRUCTION, RENDER, VIEW_SIZE
from tests.toy_corpus import DISTANCE, FOV_DEG, toy_boxes, write_toy_corpus

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("forked")]

OBJECTS = {"toy-002": "with a hidden part", "toy-003": "nothing predicted"}
NOTICE, ATTRIBUTION = "A toy by Ann, CC-BY-4.0 (x)", {"name": "A toy", "author": "Ann", "licence": "CC-BY-4.0"}
METHODS = {("truth", "oracle"), ("truth", "complete"), ("truth", "none"), ("predicted", "complete"), ("whole", "whole")}
CARVE = load_group(
    ReconstructParams,
    [
        "reconstruct.reconstructor=carve", "reconstruct.carve_resolution=24", "reconstruct.mesh.resolution=24",
        "reconstruct.mesh.texture_px=0", "reconstruct.max_failed_share=0.0",
    ],
    NANO,
)  # fmt: skip


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's data whose completions are perfect: the true grids of true and, of one object, predicted parts."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PARTGEN_WORKERS", "1")
    torch.set_num_threads(1)
    data = tmp_path / "data"
    write_toy_corpus(data, objects=4, view_size=VIEW_SIZE)
    completed, glbs = [], []
    for row in iter_rows(data / "renders/grids"):
        if row["object_id"] not in OBJECTS:
            continue
        identity = {"object_id": row["object_id"], "split": row["split"], "method": "complete", "pixels": 9}
        png = encode_png((over_white(decode_png(row["image"]["bytes"])) * 255).astype(np.uint8))
        cell = image_cell(png, "part.png")
        if row["part_id"] == 0:
            completed.append({**identity, "source": "imagined", "label": 0, "image": cell})
            continue
        completed.append({**identity, "source": "truth", "label": row["part_id"], "image": cell})
        if row["object_id"] == "toy-002":
            completed.append({**identity, "source": "predicted", "label": row["part_id"], "image": cell})
    for object_id in OBJECTS:
        boxes, names = toy_boxes(int(object_id[-3:]))
        nodes = [
            Node(name, {"part": number}, [trimesh.creation.box(bounds=box)])
            for number, (box, name) in enumerate(zip(boxes, names, strict=True), start=1)
        ]
        glbs.append({"object_id": object_id, "split": "val", "glb": pack(nodes, NOTICE, ATTRIBUTION)})
    settings = json.loads((data / "renders/grids/manifest.json").read_text())["settings"]
    for stage, table, rows in (("completions", COMPLETIONS, completed), ("assets", GLBS, glbs)):
        content = {table.name: pa.Table.from_pylist(rows, schema=table.storage_schema())}
        write_tables(data / stage, [table], [(0, content)], settings)
    return data


def rows_of(table: str, **wanted: Any) -> list[dict[str, Any]]:
    rows = iter_rows(Path("data/reconstructions") / table)
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


def pixels(row: dict[str, Any]) -> np.ndarray:
    picture: np.ndarray = decode_png(row["image"]["bytes"])
    return picture


def one_task(data: Path, params: ReconstructParams = CARVE, object_id: str = "toy-002") -> ReconstructTask:
    work = items(data, params, RECONSTRUCTION)
    task: ReconstructTask = next(item.load() for item in work if item.object_id == object_id)
    return task


def test_objects_are_carved_into_all_tables(data: Path) -> None:
    report = run(CARVE, RECONSTRUCTION)
    assert report.computed == report.total == len(OBJECTS)

    views = rows_of("views", object_id="toy-002")
    boxes, names = toy_boxes(2)
    labels = range(len(boxes) + 1)
    expected = {(*pair, label) for pair in METHODS for label in (labels if pair != ("whole", "whole") else [0])}
    assert {(row["source"], row["method"], row["label"]) for row in views} == expected
    novel = {row["part_id"]: row for row in iter_rows(data / "renders/novel") if row["object_id"] == "toy-002"}
    for label in labels:  # hulls of boxes are nearly boxes, so that the true views are seen; label 0 is all of them
        (drawn,) = rows_of("views", object_id="toy-002", source="truth", method="oracle", label=label)
        truth = over_white(pixels(novel[label]))
        assert pixels(drawn).shape == truth.shape
        assert np.abs(pixels(drawn) / 255 - truth).mean() < 0.5 * np.abs(1 - truth).mean()
    (hidden,) = rows_of("views", object_id="toy-002", method="none", label=labels[-1])
    assert (pixels(hidden) == 255).all()

    parts = rows_of("parts", object_id="toy-002")
    assert {(row["source"], row["method"]) for row in parts} == set(MESHED)
    for row in parts:
        assert row["absent"] == ""
        scene = trimesh.load_scene(io.BytesIO(row["glb"]), file_type="glb")
        assert row["triangles"] == sum(len(mesh.faces) for mesh in scene.geometry.values()) > 0
        asset = read_header(row["glb"])["asset"]
        assert asset["copyright"] == NOTICE
        assert asset["extras"].items() >= {**ATTRIBUTION, **mark({})}.items()  # carved by no model
        if row["method"] == "oracle":
            assert row["name"] == names[row["label"] - 1]
            np.testing.assert_allclose(scene.bounds, boxes[row["label"] - 1], atol=0.2)  # in place
    assert [row["name"] for row in parts if row["source"] == "predicted"] == [f"part {k}" for k in labels[1:]]
    assert [row["name"] for row in parts if row["source"] == "whole"] == ["A toy"]

    (whole,) = rows_of("objects", object_id="toy-002", source="truth", method="oracle")
    assert [node["name"] for node in read_header(whole["glb"])["nodes"]] == names
    assert (whole["parts"], whole["absent"]) == (len(boxes), 0)
    assert whole["max_iou"] > 0.01 > rows_of("objects", object_id="toy-002", source="whole")[0]["max_iou"]
    (none,) = rows_of("objects", object_id="toy-003", source="predicted")
    assert (none["parts"], none["glb"]) == (0, b"")
    (white,) = rows_of("views", object_id="toy-003", source="predicted")
    assert (pixels(white) == 255).all()

    stored = rows_of("fields", object_id="toy-002", source="whole")
    assert {(row["source"], row["method"]) for row in rows_of("fields")} == set(KEPT)
    Path("field").write_bytes(stored[0]["field"])
    angles = zip(novel[0]["azimuths"], novel[0]["elevations"], strict=True)
    rays = stacked([view_rays(Camera(FOV_DEG, DISTANCE, VIEW_SIZE), *angle) for angle in angles])
    seen = render_parts([load_field(Path("field"))], rays[0].flat(), 36)[1].view(VIEW_SIZE, VIEW_SIZE, 3)
    (drawn,) = rows_of("views", object_id="toy-002", source="whole")
    assert np.abs(seen.numpy() * 255 - pixels(drawn)[:VIEW_SIZE, :VIEW_SIZE]).max() <= 0.51

    metrics = json.loads(Path("metrics/reconstruct.json").read_text())
    triangles = sum(read_table(Path("data/reconstructions/parts"), ["triangles"]).column(0).to_pylist())
    assert metrics == {
        "objects": 2, "failed": 0, "parts": len(rows_of("parts")), "absent": 0, "triangles": triangles,
    }  # fmt: skip
    assert read_table(Path("data/reconstructions") / FAILURES.name).num_rows == 0
    assert run(CARVE, RECONSTRUCTION).reused == report.total


def test_a_part_without_a_surface_is_a_row(data: Path) -> None:
    mesh = CARVE.mesh.model_copy(update={"level": 1e4})
    rows = reconstruct_object(one_task(data, CARVE.model_copy(update={"mesh": mesh})))
    assert all("lower reconstruct.mesh.level" in row["absent"] and row["glb"] == b"" for row in rows["parts"])
    assert all(row["absent"] == row["parts"] > 0 and row["glb"] == b"" for row in rows["objects"])
    assert {row["max_iou"] for row in rows["objects"]} == {0.0}
    blank = encode_png(np.full((2 * VIEW_SIZE, 2 * VIEW_SIZE, 3), 255, np.uint8))
    rows = reconstruct_object(replace(one_task(data), completed={("truth", "complete"): {1: blank}}))
    (absent,) = [row for row in rows["parts"] if row["method"] == "complete" and row["source"] == "truth"]
    assert "field is empty" in absent["absent"]


def test_the_densest_part_takes_what_several_claim(data: Path) -> None:
    """Hulls of neighbours overlap, and the hidden part lies inside another one."""
    volumes, drawn = {}, {}
    for overlap in ("additive", "densest"):
        rows = reconstruct_object(one_task(data, CARVE.model_copy(update={"overlap": overlap})))
        glbs = [row["glb"] for row in rows["parts"] if row["method"] == "oracle" and row["glb"]]
        volumes[overlap] = sum(trimesh.load_mesh(io.BytesIO(glb), file_type="glb").volume for glb in glbs)
        (drawn[overlap],) = [pixels(row) for row in rows["views"] if row["method"] == "oracle" and row["label"] == 0]
    assert 0 < volumes["densest"] < 0.95 * volumes["additive"]
    assert not np.array_equal(drawn["densest"], drawn["additive"])


def test_all_that_counts_is_in_the_key(data: Path) -> None:
    lrm = CARVE.model_copy(update={"reconstructor": "lrm"})

    def keys(params: ReconstructParams = lrm, floor: float = 0.5) -> dict[str, str]:
        reconstruction = RECONSTRUCTION.model_copy(update={"support_floor": floor})
        return {item.object_id: item.key for item in items(data, params, reconstruction)}

    torch.manual_seed(0)
    build_lrm(RECONSTRUCTION, RENDER).save_pretrained("data/models/lrm")
    first = keys()
    assert (
        keys(lrm.model_copy(update={"timeout_s": 1.0, "turntable": CARVE.turntable.model_copy(update={"frames": 1})}))
        == first
    )
    assert all(first[name] != key for name, key in keys(floor=0.7).items())
    assert all(first[name] != key for name, key in keys(lrm.model_copy(update={"overlap": "densest"})).items())
    build_lrm(RECONSTRUCTION, RENDER).save_pretrained("data/models/lrm")
    assert all(first[name] != key for name, key in keys().items())
    carved = keys(CARVE)
    build_lrm(RECONSTRUCTION, RENDER).save_pretrained("data/models/lrm")
    assert keys(CARVE) == carved  # it does not look at the model


def test_the_trained_model_is_used_and_has_to_be_there(data: Path) -> None:
    params = CARVE.model_copy(update={"reconstructor": "lrm"})
    with pytest.raises(UserError, match="train_lrm"):
        reconstruct_object(one_task(data, params))
    torch.manual_seed(0)
    model = build_lrm(RECONSTRUCTION, RENDER)
    torch.nn.init.constant_(model.decoder.opacity[-1].bias, 12.0)  # type: ignore[arg-type]  # untrained it would be empty
    model.save_pretrained("data/models/lrm")
    rows = reconstruct_object(one_task(data, params))
    assert {(row["source"], row["method"]) for row in rows["views"]} == METHODS
    (whole,) = [row for row in rows["objects"] if row["source"] == "whole"]
    assert whole["glb"]


def test_the_joint_model_is_told_of_the_whole_and_has_to_be_there(data: Path) -> None:
    """Parts are made with a look at each other, and the object at once as by the model that it started from."""
    joint = CARVE.model_copy(update={"reconstructor": "lrm_joint"})
    with pytest.raises(UserError, match="train_lrm_joint"):
        reconstruct_object(one_task(data, joint))
    torch.manual_seed(0)
    lrm = build_lrm(RECONSTRUCTION, RENDER)
    torch.nn.init.constant_(lrm.decoder.opacity[-1].bias, 3.0)  # type: ignore[arg-type]
    torch.nn.init.normal_(lrm.refinement.last.weight, std=0.3)
    lrm.save_pretrained("data/models/lrm")
    model = joint_of(lrm)
    torch.nn.init.normal_(model.refinement.context.weight)  # type: ignore[union-attr,arg-type]
    model.save_pretrained("data/models/lrm_joint")

    def views(params: ReconstructParams) -> dict[tuple[str, str, int], np.ndarray]:
        rows = reconstruct_object(one_task(data, params))["views"]
        return {(row["source"], row["method"], row["label"]): pixels(row) for row in rows}

    alone, together = views(CARVE.model_copy(update={"reconstructor": "lrm"})), views(joint)
    assert set(alone) == set(together)
    white = {key for key, picture in alone.items() if (picture == 255).all()}
    assert white == {("truth", "none", 4)}, "the part that no view shows"
    for key in together.keys() - white:
        assert np.array_equal(together[key], alone[key]) == (key[0] == "whole"), key


def test_the_model_of_gaussians_is_used_and_has_to_be_there(data: Path) -> None:
    params = CARVE.model_copy(update={"reconstructor": "gaussians", "bake_resolution": 24})
    with pytest.raises(UserError, match="train_gaussians"):
        reconstruct_object(one_task(data, params))
    torch.manual_seed(0)
    build_gaussians(GAUSSIANS, RENDER).save_pretrained("data/models/gaussians")
    rows = reconstruct_object(one_task(data, params))
    assert {(row["source"], row["method"]) for row in rows["views"]} == METHODS
    (whole,) = [row for row in rows["objects"] if row["source"] == "whole"]
    assert whole["glb"]
    fields = [read_field(row["field"], "") for row in rows["fields"]]
    assert all(field.is_empty or len(field.gaussians) > 0 for field in fields)  # type: ignore[arg-type]
    assert not all(field.is_empty for field in fields)
