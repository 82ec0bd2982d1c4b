"""The stage masks on real objects, against pictures that Blender drew of them."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.assets.glb import write_glb
from pipeline.assets.surface import Material, Surface
from pipeline.errors import ObjectFailed
from pipeline.params.assets import AssetsParams
from pipeline.params.base import load_group
from pipeline.params.masks import MasksParams
from pipeline.params.render import RenderParams
from pipeline.shards.dataset import TableRows
from pipeline.shards.read import read_manifest, read_table
from pipeline.shards.table import decode_png, encode_png
from pipeline.shards.write import write_tables
from pipeline.views.cameras import Camera, tile, untile
from pipeline.views.labels import LabelViews
from pipeline.views.masks import DISAGREEMENT, MaskSettings, MaskTask, draw_masks, silhouette_iou
from pipeline.views.tables import GRIDS
from stages import assets, masks, render

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("forked")]

ROOT = Path(__file__).parents[2]
NANO = ROOT / "presets/nano.yaml"
SAMPLES = (
    "wheelbarrow",
    "showerDoor",
    "antiqueChair",
)  # asymmetric and thin; glass; cane work with holes in its texture


@pytest.fixture(scope="module")
def project(forked: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project folder with the stages assets and render done for three samples."""
    folder = tmp_path_factory.mktemp("project")
    for name in SAMPLES:
        (folder / "objects").mkdir(exist_ok=True)
        shutil.copy(ROOT / f"data/samples/{name}.glb", folder / "objects")
    shutil.copytree(ROOT / "data/splits", folder / "data/splits")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("PARTGEN_WORKERS", "1")
        patch.setenv("PARTGEN_SCRATCH", str(folder / ".partgen"))
        only_these = ["assets.samples.use=false", "assets.sweethome3d.objects=0", "assets.folder.path=objects"]
        assets.run(load_group(AssetsParams, only_these, NANO))
        render.run(load_group(RenderParams, ["render.conditioning_views=1"], NANO))
        yield folder


def tasks(project: Path) -> dict[str, MaskTask]:
    """The task of each sample, as the stage makes it, by its file's name."""
    params = load_group(MasksParams, (), NANO)
    manifest = read_manifest(project / "data/renders/grids")
    cameras = manifest.settings
    settings = MaskSettings(
        Camera(cameras["fov_deg"], cameras["distance"], cameras["view_size"]),
        tuple((azimuth, cameras["elevation_deg"]) for azimuth in cameras["azimuths_deg"]),
        params.min_silhouette_iou,
    )
    made = [item.load() for item in masks.items(project / "data", settings)]
    return {task.object_id.split(".")[-1]: task for task in made}


def with_views(task: MaskTask, views: np.ndarray) -> MaskTask:
    return replace(task, grid=encode_png(tile(views)))


def test_stage(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    report = masks.run(load_group(MasksParams, (), NANO))
    assert not report.failures
    labels, visible = read_table(project / "data/masks/labels"), read_table(project / "data/masks/visibility")
    assert labels.num_rows == len(SAMPLES)
    parts = read_table(project / "data/assets/parts", ["object_id", "part_id"]).to_pylist()
    assert visible.select(["object_id", "part_id"]).to_pylist() == parts
    for row in labels.to_pylist():
        ids = decode_png(row["labels"]["bytes"])
        for seen in visible.to_pylist():
            if seen["object_id"] == row["object_id"]:
                assert seen["pixels"] == [int((view == seen["part_id"]).sum()) for view in untile(ids)]
    metrics = json.loads((project / "metrics/masks.json").read_text())
    least = min(labels.column("silhouette_iou").to_pylist())
    assert metrics["silhouette_iou"]["min"] == pytest.approx(least, abs=1e-5)
    assert least > 0.97
    assert sum(metrics["parts_seen_in_views"].values()) == metrics["parts"] == len(parts)

    # The same rows, byte for byte, from another process.
    for row in labels.to_pylist():
        assert draw_masks(tasks(project)[row["object_id"].split(".")[-1]])["labels"] == [row]


WRONG_CAMERAS = {
    "views 90 and 270 swapped": lambda views: views[[0, 3, 2, 1]],
    "views a quarter turn on": lambda views: views[[1, 2, 3, 0]],
    "mirrored": lambda views: views[:, :, ::-1],
    "upside down": lambda views: views[:, ::-1],
    "three pixels to the right": lambda views: np.roll(views, 3, axis=2),
}


@pytest.mark.parametrize("mistake", WRONG_CAMERAS)
def test_a_wrong_camera_is_a_failure(project: Path, mistake: str) -> None:
    task = tasks(project)["wheelbarrow"]
    wrong = WRONG_CAMERAS[mistake](untile(decode_png(task.grid)))
    with pytest.raises(ObjectFailed, match=DISAGREEMENT):
        draw_masks(with_views(task, wrong))


@pytest.mark.parametrize(("azimuth", "elevation", "fov"), [(12, 0, 0), (0, 15, 0), (0, -40, 0), (0, 0, 5)])
def test_other_cameras_than_the_render_had_are_a_failure(
    project: Path, azimuth: float, elevation: float, fov: float
) -> None:
    task = tasks(project)["wheelbarrow"]
    settings = replace(
        task.settings,
        camera=replace(task.settings.camera, fov_deg=task.settings.camera.fov_deg + fov),
        views=tuple((a + azimuth, e + elevation) for a, e in task.settings.views),
    )
    with pytest.raises(ObjectFailed, match=DISAGREEMENT):
        draw_masks(replace(task, settings=settings))


def test_glass_agrees_though_its_alpha_is_low(project: Path) -> None:
    task = tasks(project)["showerDoor"]
    alpha = untile(decode_png(task.grid))[..., 3]
    assert np.mean((alpha > 0) & (alpha < 128)) > 0.05
    assert draw_masks(task)["labels"][0]["silhouette_iou"] > 0.97


def test_nothing_in_sight_is_a_failure(project: Path) -> None:
    task = tasks(project)["wheelbarrow"]
    speck = Surface(
        np.array([(0.5, 0, 0), (0.5, 1e-7, 0), (0.5, 0, 1e-7)]), np.array([(0, 1, 2)]), None, None, None, Material()
    )
    with pytest.raises(ObjectFailed, match="no part is in sight"):
        draw_masks(replace(task, glb=write_glb([("speck", [speck])], "", {})))


def test_a_grid_of_another_size_is_a_failure(project: Path) -> None:
    task = tasks(project)["wheelbarrow"]
    small = untile(decode_png(task.grid))[:, ::2, ::2]
    with pytest.raises(ObjectFailed, match="rendered grid"):
        draw_masks(with_views(task, small))


def test_failures_are_recorded(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole stage over mirrored renders."""
    shutil.copytree(project / "data", tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    rows = TableRows(Path("data/renders/grids"))
    mirrored = []
    for index in range(len(rows)):
        row = rows[index]
        picture = tile(untile(decode_png(row["image"]["bytes"]))[:, :, ::-1])
        mirrored.append({**row, "image": {**row["image"], "bytes": encode_png(picture)}})
    settings = read_manifest(Path("data/renders/grids")).settings
    content = GRIDS.storage_schema().empty_table().from_pylist(mirrored, schema=GRIDS.storage_schema())
    write_tables(Path("data/renders"), [GRIDS], [(0, {"grids": content})], settings)
    masks.run(load_group(MasksParams, ["masks.max_failed_share=1.0"], NANO))
    failures = read_table(Path("data/masks/failures")).to_pylist()
    assert any("wheelbarrow" in row["object_id"] and row["reason"].startswith(DISAGREEMENT) for row in failures)
    metrics = json.loads(Path("metrics/masks.json").read_text())
    assert metrics["under_min_silhouette_iou"] == metrics["failed"] == len(failures)


@given(st.integers(0, 2**32 - 1), st.floats(0.05, 1.0))
def test_silhouette_iou_is_an_iou(seed: int, opacity: float) -> None:
    """Over certain pixels it is the plain IoU of the two silhouettes, whatever the opacity of what is labelled."""
    drawn, rendered = np.random.default_rng(seed).random((2, 4, 8, 8)) < 0.5
    drawn[0, 0, 0] = rendered[0, 0, 0] = True
    views = LabelViews(drawn.astype(np.uint8), np.where(drawn, opacity, 0.0), np.zeros(drawn.shape))
    alpha = np.where(rendered, np.where(drawn, opacity, 1.0), 0.0)
    expected = (drawn & rendered).sum() / (drawn | rendered).sum()
    assert silhouette_iou(views, alpha) == pytest.approx(expected)
    edges = np.where(rendered, 0.5 * alpha, alpha)  # half covered: with a label as good as covered, without as bare
    assert silhouette_iou(views, edges) == pytest.approx((drawn & rendered).sum() / drawn.sum())
