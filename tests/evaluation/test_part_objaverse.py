"""A user's copy of PartObjaverse-Tiny: a tiny folder of its layout."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import trimesh

from pipeline.errors import ObjectFailed, UserError
from pipeline.evaluation.part_objaverse import LABELS, MESHES, labelled_figures, labelled_mesh, read_pieces
from pipeline.evaluation.summary import summarise
from pipeline.evaluation.surface_tables import NOT_RUN_HERE, labelled_rows
from pipeline.surface.grouping import GroupingModel
from stages.evaluate import figures_of, labelled_items
from tests.evaluation.test_evaluate_stage import PARAMS

SMALL = 0.5
"""The side of the second box, of which one triangle has no label."""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    GroupingModel(width=12, layers=1, heads=2, pair_width=8).save(tmp_path / "data/models/grouping")
    return tmp_path / "data"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A box, and a smaller one that is mirrored, as two nodes of two meshes."""
    folder = tmp_path / "copy"
    for name in (MESHES, *LABELS.values()):
        (folder / name).mkdir(parents=True)
    scene = trimesh.Scene()
    scene.add_geometry(trimesh.creation.box(), node_name="b", geom_name="large")
    mirrored = np.diag([-SMALL, SMALL, SMALL, 1.0])
    mirrored[:3, 3] = 3, 1, 0
    scene.add_geometry(trimesh.creation.box(), node_name="a", geom_name="small", transform=mirrored)
    (folder / MESHES / "one.glb").write_bytes(scene.export(file_type="glb"))
    loaded = trimesh.load_scene(folder / MESHES / "one.glb").to_mesh()
    large_F = np.abs(loaded.triangles[:, :, 0]).max(axis=1) < 1
    instance_F = np.where(large_F, 4, 7)
    instance_F[np.flatnonzero(~large_F)[0]] = -1
    np.save(folder / LABELS["instances"] / "one.npy", instance_F)
    np.save(folder / LABELS["kinds"] / "one.npy", np.zeros(24, int))
    return folder


def test_triangles_come_in_the_order_of_the_labels(copy: Path) -> None:
    mesh = copy / MESHES / "one.glb"
    corners = np.concatenate([one.surface.vertices[one.surface.faces] for one in read_pieces(mesh.read_bytes())])
    loaded = trimesh.load_scene(mesh).to_mesh().triangles
    scale = np.ptp(loaded, axis=(0, 1)).max() / np.ptp(corners, axis=(0, 1)).max()
    middle = corners.mean(axis=1) * scale
    np.testing.assert_allclose(middle - middle[0], loaded.mean(axis=1) - loaded.mean(axis=1)[0], atol=1e-5)


def test_its_objects_get_a_table(copy: Path, data: Path) -> None:
    params = PARAMS.model_copy(update={"part_objaverse_tiny": str(copy)})
    (item,) = labelled_items(data, params)
    rows: list[dict[str, Any]] = figures_of(item.load())["figures"]
    assert {row["object_id"] for row in rows} == {"one"}
    found = {(row["method"], row["setting"], row["figure"]): row["value"] for row in rows}
    instances, kinds = "PartObjaverse-Tiny, instances", "PartObjaverse-Tiny, kinds"
    pieces = "atoms"
    # 11 of 12 equal triangles of the small box are its true part.
    assert found[pieces, instances, "iou"] == pytest.approx(100 * (1 + 11 / 12) / 2)
    assert found[pieces, instances, "iou_faces"] == pytest.approx(100 * (1 + 11 / 12) / 2)
    assert (found[pieces, instances, "ap75"], found[pieces, instances, "parts"]) == (100, 2)
    small = SMALL**2
    assert found["one part", instances, "iou"] == pytest.approx(100 * (1 + small * 11 / 12) / (1 + small) / 2)
    assert found["one part", instances, "iou_faces"] == pytest.approx(100 * 23 / 24 / 2)
    assert found["one part", kinds, "iou"] == pytest.approx(100)
    assert found["grouping", instances, "iou_levels"] == pytest.approx(100 * (1 + 11 / 12) / 2)
    tables = labelled_rows(summarise(pd.DataFrame(rows), 0))
    assert [list(one) for one in tables.values()] == [["one part", pieces, "grouping"]] * 2


def test_what_is_missing_or_wrong_is_said(copy: Path, data: Path) -> None:
    assert not list(labelled_items(data, PARAMS))
    assert list(labelled_rows({"surface": {}}).values()) == [{NOT_RUN_HERE: {}}]
    with pytest.raises(UserError, match="there is no PartObjaverse-Tiny_mesh"):
        list(labelled_items(data, PARAMS.model_copy(update={"part_objaverse_tiny": str(copy.parent)})))
    task = labelled_mesh(copy / MESHES / "one.glb", data / "models/grouping")
    np.save(copy / LABELS["instances"] / "one.npy", np.zeros(5, int))
    with pytest.raises(ObjectFailed, match="of 5 triangles, and the mesh has 24"):
        labelled_figures(labelled_mesh(copy / MESHES / "one.glb", task.grouping))
    for name in LABELS.values():
        (copy / name / "one.npy").unlink()
    with pytest.raises(UserError, match="has no labels"):
        list(labelled_items(data, PARAMS.model_copy(update={"part_objaverse_tiny": str(copy)})))
