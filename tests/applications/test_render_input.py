"""A user's object is drawn by one Blender that waits for the next."""

from pathlib import Path

import numpy as np
import psutil
import pytest
import trimesh

from pipeline.applications.render_input import draw_object
from pipeline.errors import UserError
from pipeline.params.assets import AssetsParams
from pipeline.params.base import load_group
from pipeline.params.render import RenderParams

pytestmark = pytest.mark.slow


def blenders() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if any("blender_worker" in word for word in child.cmdline())]


def test_one_blender_draws_all_and_a_dead_one_is_replaced(tmp_path: Path) -> None:
    trimesh.creation.box().export(tmp_path / "box.glb")
    render = load_group(RenderParams).model_copy(update={"view_size": 16, "samples": 1})
    assets = load_group(AssetsParams)

    def drawn() -> np.ndarray:
        return draw_object(tmp_path / "box.glb", assets, render).grid

    first = drawn()
    (waiting,) = blenders()
    np.testing.assert_array_equal(drawn(), first)
    assert blenders() == [waiting]
    waiting.kill()
    waiting.wait(10)
    np.testing.assert_array_equal(drawn(), first)
    (other,) = blenders()
    assert other.pid != waiting.pid


def test_limits_and_point_clouds_are_said_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trimesh.Scene(trimesh.PointCloud(np.eye(3))).export(tmp_path / "cloud.glb")
    trimesh.creation.icosphere(subdivisions=4).export(tmp_path / "ball.glb")
    assets, render = load_group(AssetsParams), load_group(RenderParams)
    with pytest.raises(UserError, match=r"a point cloud without faces; make a surface"):
        draw_object(tmp_path / "cloud.glb", assets, render)
    with pytest.raises(UserError, match=r"max_file_mb, 0\.01; make it smaller"):
        draw_object(tmp_path / "ball.glb", assets.model_copy(update={"max_file_mb": 0.01}), render)
    monkeypatch.setattr("pipeline.applications.render_input.MOST_TRIANGLES", 0)
    with pytest.raises(UserError, match="more than 1,000 triangles; make it coarser"):
        draw_object(tmp_path / "ball.glb", assets.model_copy(update={"max_triangles": 1000}), render)


def test_an_object_that_is_turned_is_drawn_like_one_that_was_built_so(tmp_path: Path) -> None:
    render = load_group(RenderParams).model_copy(update={"view_size": 16, "samples": 1})
    assets = load_group(AssetsParams)
    trimesh.creation.box((3, 1, 2)).export(tmp_path / "lying.glb")
    trimesh.creation.box((1, 3, 2)).export(tmp_path / "standing.glb")
    turn_44 = trimesh.transformations.rotation_matrix(np.pi / 2, (0, 0, 1))
    turned = draw_object(tmp_path / "lying.glb", assets, render, turn_44=turn_44)
    np.testing.assert_allclose(turned.grid, draw_object(tmp_path / "standing.glb", assets, render).grid, atol=2)
    end = turned.from_file @ np.array([1.5, 0.0, 0.0, 1.0])
    np.testing.assert_allclose(end, np.array([0, 1.5 / np.linalg.norm((1.5, 0.5, 1)), 0, 1]), atol=1e-6)
