"""The five applications with tiny networks of random weights, whose drawings fill all views, and carving."""

import io
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
import yaml
from PIL import Image

from pipeline.app.tasks import Tasks
from pipeline.applications.assemble import Frame, Scene
from pipeline.applications.edit import in_place, redrawn, stand
from pipeline.applications.inputs import INPUT, as_grid, from_picture
from pipeline.applications.models import Models
from pipeline.applications.part import Part
from pipeline.applications.partgen import PartGenPipeline
from pipeline.applications.result import PartObject
from pipeline.applications.safety import Refused, Subject, allowed
from pipeline.applications.selection import choose_parts
from pipeline.assets.glb import read_header
from pipeline.errors import Invalid, UserError
from pipeline.params.base import load_group
from pipeline.params.choice import Choice
from pipeline.params.reconstruct import ReconstructParams
from pipeline.params.render import RenderParams
from pipeline.params.segment import SegmentParams
from pipeline.reconstruction.assembly import mark
from pipeline.reconstruction.carving import Carver
from pipeline.reconstruction.field import Field
from pipeline.reconstruction.reconstructor import Carving
from pipeline.views.cameras import GRID_AZIMUTHS, Camera, over_white, tile
from stages.cli import main
from stages.results import finish
from tests.chat_server import ChatServer
from tests.diffusion.test_pipelines import GRID, VIEW, model
from tests.surface.test_close import cut
from tests.toy_corpus import COLOURS, DISTANCE, ELEVATION_DEG, FOV_DEG, draw_boxes, hits

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
CARVER = Carver(Camera(FOV_DEG, DISTANCE, VIEW), ELEVATION_DEG, 16)
TASKS = ("text_to_mv", "image_to_mv", "segment", "complete", "edit")
PROMPT = "a wooden thing"
same = partial(allowed, safety=None)


def field_of(part: Part) -> Field:
    assert part.field is not None
    return part.field


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for task in TASKS:
        model(task).save_pretrained(folder / task)
    return folder


@pytest.fixture(scope="module")
def overrides() -> Iterator[list[str]]:
    """Everything small, captions by a server that never calls two parts the same."""
    numbers = count(1)
    with ChatServer(lambda text: f"thing {'abcdefghijklmnopqrstuvwxyz'[next(numbers) % 26]}") as server:
        yield [
            f"render.view_size={VIEW}",
            "render.samples=1",
            "captions.prompt_size=32",
            "captions.backend=openai",
            f"captions.endpoint.base_url={server.url}",
            "segment.runs=3",
            "segment.min_patch_pixels=2",
            "segment.vote_radius=0.05",
            "segment.min_pixels=2",
            "segment.min_part_pixels=4",
            "reconstruct.reconstructor=carve",
            "reconstruct.carve_resolution=16",
            "reconstruct.mesh.resolution=16",
            "reconstruct.turntable.frames=2",
            "reconstruct.turntable.size=16",
        ]


@pytest.fixture(scope="module")
def partgen(models: Path, overrides: list[str]) -> PartGenPipeline:
    torch.set_num_threads(1)
    return PartGenPipeline.from_pretrained(models, params=ROOT / "presets/nano.yaml", overrides=overrides)


@pytest.fixture(scope="module")
def made(partgen: PartGenPipeline) -> PartObject:
    """Out of a text, two segmentations kept."""
    return partgen.from_text(PROMPT, Choice(samples=2), seed=1)


def node_names(glb: bytes | None) -> list[str]:
    assert glb is not None
    return [node["name"] for node in read_header(glb)["nodes"]]


def test_a_text_becomes_an_object_in_parts(made: PartObject) -> None:
    shown = made.grid[..., 3] > 0
    assert shown.any()
    np.testing.assert_array_equal(made.labels > 0, shown)
    assert [part.label for part in made.parts] == np.unique(made.labels[shown]).tolist()
    assert len(made.parts) >= 2
    np.testing.assert_array_equal(made.labels, made.segmentations[0].labels)
    assert len(made.segmentations) == 2
    assert made.segmentations[0].score >= made.segmentations[1].score
    assert all(1 / 3 <= (part.score or 0) <= 1 for part in made.parts)
    assert node_names(made.glb) == [part.name for part in made.parts if part.glb]
    assert len({part.name for part in made.parts}) == len(made.parts)
    assert made.origin == {"kind": "text", "prompt": PROMPT}
    assert (made.caption, made.picture) == (PROMPT, None)
    assert sorted(made.models) == ["complete", "segment", "text_to_mv"]


def test_animations_are_drawn_when_all_else_is_there(partgen: PartGenPipeline, made: PartObject) -> None:
    assert made.animations == {}
    animated = partgen.animated(made)
    assert replace(animated, animations={}) == made
    for content in animated.animations.values():
        with Image.open(io.BytesIO(content)) as animation:
            assert (animation.n_frames, animation.size) == (2, (16, 16))  # type: ignore[attr-defined]
    assert partgen.animated(partgen.edit(animated, "1", "a lamp")).animations != animated.animations


def test_an_interrupt_while_animations_are_drawn_leaves_the_result(
    partgen: PartGenPipeline, made: PartObject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*given: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pipeline.applications.assemble.gif", interrupted)
    with pytest.raises(SystemExit, match="130"):
        finish(partgen, made, tmp_path / "made", no_animation=False)
    assert PartObject.load(tmp_path / "made").glb == made.glb
    finish(partgen, made, tmp_path / "asked", no_animation=True)


def test_another_segmentation_of_the_same_drawing_can_be_used(
    partgen: PartGenPipeline, made: PartObject, tmp_path: Path
) -> None:
    second = partgen.from_text(PROMPT, Choice(samples=2, use=2), seed=1)
    np.testing.assert_array_equal(second.grid, made.grid)
    np.testing.assert_array_equal(second.labels, made.segmentations[1].labels)
    assert not np.array_equal(second.labels, made.labels)
    kept = PartObject.load(made.save(tmp_path / "made"))
    tasks = Tasks(tmp_path)  # as the app has it made
    vars(tasks)["pipeline"] = partgen
    tasks.task_make("choose", str(tmp_path / "chosen"), {"use": 2}, result=str(tmp_path / "made"))
    chosen = PartObject.load(tmp_path / "chosen")
    np.testing.assert_array_equal(chosen.labels, second.labels)
    assert json.dumps(chosen.history) == json.dumps(second.history, sort_keys=True)
    assert (chosen.models, chosen.seed, chosen.caption) == (second.models, second.seed, second.caption)
    for part, same in zip(chosen.parts, second.parts, strict=True):
        assert (part.label, part.score, part.triangles) == (same.label, same.score, same.triangles)
        assert part.models == same.models
        np.testing.assert_array_equal(part.grid, same.grid)
    with pytest.raises(UserError, match="keeps 2 segmentations, and none with the number 3"):
        partgen.choose(kept, 3)
    with pytest.raises(UserError, match="was changed since it was segmented"):
        partgen.choose(partgen.rename(kept, "1", "trunk"), 2)
    other = partgen.from_text(PROMPT, Choice(max_parts=1), seed=2)
    assert not np.array_equal(other.grid, made.grid)
    assert [one.kind for one in other.diagnostics if one.kind == "single"] == ["single"]


def test_more_parts_than_wanted_are_merged_and_said(partgen: PartGenPipeline, made: PartObject) -> None:
    few = partgen.from_text(PROMPT, Choice(max_parts=2), seed=1)
    assert len(few.parts) == 2
    assert few.merged == made.merged + len(made.parts) - 2
    assert any(one.kind == "merged" for one in few.diagnostics)


def test_the_part_at_a_seed_point_and_the_rest(partgen: PartGenPipeline, made: PartObject) -> None:
    x, y, view = 5, 9, 2
    found = partgen.from_text(PROMPT, Choice(samples=2, seed_point=(x, y), view=view), seed=1)
    assert found.labels[VIEW + y, x] == 1
    np.testing.assert_array_equal(found.labels > 0, made.labels > 0)
    assert [part.label for part in found.parts] == [1, 2]
    assert found.parts[1].name == "rest"
    assert all(one.labels[VIEW + y, x] == 1 for one in found.segmentations)


def test_seed_points_without_an_answer(made: PartObject) -> None:
    params = load_group(SegmentParams, ["segment.runs=2"], ROOT / "presets/nano.yaml")
    grid, shown = over_white(made.grid), np.zeros((GRID, GRID), bool)
    shown[VIEW:, :VIEW] = True
    with pytest.raises(UserError, match=r"pixel 3,4 of view 1 is background"):
        choose_parts(model("segment"), grid, shown, Choice(seed_point=(3, 4), view=1), params, 0, CARVER)
    many = Choice(samples=9, use=9, seed_point=(3, 4), view=2)
    with pytest.raises(UserError, match=r"Of 2 segmentations there are [012] different parts at the seed point"):
        choose_parts(model("segment"), grid, shown, many, params, 0, CARVER)


def test_an_object_in_which_no_part_is_found_is_one_part(made: PartObject) -> None:
    everything = ["segment.runs=2", f"segment.min_pixels={GRID**2}"]
    params = load_group(SegmentParams, everything, ROOT / "presets/nano.yaml")
    shown = np.random.default_rng(0).random((GRID, GRID)) > 0.5
    chosen = choose_parts(model("segment"), over_white(made.grid), shown, Choice(), params, 0, CARVER)
    np.testing.assert_array_equal(chosen.labels, shown)
    assert dict(chosen.scores) == {1: 0.0}


def test_a_picture_becomes_an_object_in_parts(partgen: PartGenPipeline, tmp_path: Path) -> None:
    boxes = np.array([[[-0.4, -0.4, -0.4], [0.4, 0.4, 0.4]]])
    Image.fromarray(draw_boxes(boxes, np.array([COLOURS["red"]]), (30.0, 10.0), 64)).save(tmp_path / "red-box.png")
    found = partgen.from_image(tmp_path / "red-box.png", Choice(max_parts=2), seed=1)
    assert (found.name, found.origin) == ("red box", {"kind": "image", "file": "red-box.png"})
    assert "image_to_mv" in found.models
    assert found.picture is not None
    kept = PartObject.load(found.save(tmp_path / "box")).picture
    np.testing.assert_array_equal(kept, found.picture)
    Image.fromarray(found.picture).save(tmp_path / "again.png")
    first, again = (from_picture(tmp_path / name, partgen.models, 1, same) for name in ("red-box.png", "again.png"))
    np.testing.assert_array_equal(first.grid, found.grid)
    assert np.abs(again.grid.astype(int) - first.grid).mean() < 2
    edited = partgen.edit(found, "1", "a lamp")
    np.testing.assert_array_equal(edited.picture, found.picture)


def test_what_is_doubtful_in_a_picture_is_told(partgen: PartGenPipeline) -> None:
    picture = Image.new("RGBA", (12, 12))
    picture.paste((200, 30, 30, 255), (1, 1, 4, 9))
    picture.paste((30, 30, 200, 255), (6, 1, 9, 9))
    small, several, *_ = from_picture(picture, partgen.models, 0, same).remarks
    assert small.message.startswith("The picture: its object is only 8 pixels large, less than in a view of 16;")
    assert several.message.startswith("The picture: it shows 2 separate things")
    assert {small.kind, several.kind} == {INPUT}


def test_background_that_a_network_drew_is_told() -> None:
    with Image.open(ROOT / "tests/cases/img/lattice.png") as image:
        pixels = np.asarray(image)
    drawn = pixels.astype(np.float32) / 255
    grid, (said,) = as_grid(drawn, 0)
    assert (said.kind, said.part, said.value > 0.5) == (INPUT, None, True)
    assert "55% of what the model drew" in said.message
    assert set(np.unique(grid[..., 3])) == {0, 255}
    np.testing.assert_array_equal(grid[..., :3], pixels)
    with pytest.raises(UserError, match="nothing but white with the seed 7"):
        as_grid(np.ones_like(drawn), 7)


def test_an_edit_changes_one_part_and_keeps_the_others(partgen: PartGenPipeline, made: PartObject) -> None:
    old = made.parts[1]
    edited = partgen.edit(made, old.name, "a red cushion", seed=3)
    new = edited.part("a red cushion")
    assert (new.label, new.caption, new.score) == (old.label, "a red cushion", None)
    assert new.stem == f"{old.label:02d}-a-red-cushion"
    assert node_names(new.glb) == [new.name]
    assert new.name in node_names(edited.glb)
    assert old.name not in node_names(edited.glb)
    assert new.grid is not None
    assert old.grid is not None
    assert not np.array_equal(new.grid, old.grid)
    assert new.glb not in (None, old.glb)
    for before, after in zip(made.parts, edited.parts, strict=True):
        if before is not old:
            assert after == before
    elsewhere = (made.labels != old.label) & (edited.labels != old.label)
    np.testing.assert_array_equal(edited.grid[elsewhere], made.grid[elsewhere])
    np.testing.assert_array_equal(edited.labels[elsewhere], made.labels[elsewhere])
    assert edited.segmentations == made.segmentations
    *first, last = edited.history
    assert first == list(made.history)
    assert (last["command"], last["part"], last["prompt"], last["seed"]) == ("edit", old.name, "a red cushion", 3)
    assert last["name"] == new.name
    assert sorted(edited.models) == ["complete", "edit", "segment", "text_to_mv"]


def test_an_edit_keeps_to_what_the_result_was_made_with(models: Path, overrides: list[str], made: PartObject) -> None:
    file = ROOT / "presets/nano.yaml"
    without = [override for override in overrides if not override.startswith("reconstruct.")]
    elsewhere = PartGenPipeline.from_pretrained(models, params=file, overrides=without)
    edited = elsewhere.edit(made, "1", "a lamp")
    assert edited.settings["reconstruct"] == made.settings["reconstruct"]
    assert [part.glb for part in edited.parts[1:]] == [part.glb for part in made.parts[1:]]
    finer = PartGenPipeline.from_pretrained(models, params=file, overrides=[*without, "reconstruct.mesh.resolution=24"])
    changed = finer.edit(made, "1", "a lamp")
    assert changed.settings["reconstruct"]["carve_resolution"] == 16
    assert all(new.triangles > old.triangles for new, old in zip(changed.parts, edited.parts, strict=True))


def test_edits_and_additions_chain_through_folders(partgen: PartGenPipeline, made: PartObject, tmp_path: Path) -> None:
    in_memory = partgen.add(partgen.edit(made, "1", "a lamp"), text="a blue ball", name="ball")
    edited = partgen.edit(PartObject.load(made.save(tmp_path / "made")), "1", "a lamp")
    on_disk = partgen.add(PartObject.load(edited.save(tmp_path / "edited")), text="a blue ball", name="ball")
    assert on_disk.glb == in_memory.glb
    assert partgen.animated(on_disk).animations == partgen.animated(in_memory).animations
    np.testing.assert_array_equal(on_disk.grid, in_memory.grid)
    ball = on_disk.part("ball")
    assert (ball.label, ball.caption) == (len(made.parts) + 1, "a blue ball")
    assert not field_of(ball).is_placed
    assert [entry["command"] for entry in on_disk.history] == ["from-text", "edit", "add"]
    assert node_names(on_disk.glb)[-1] == "ball"
    assert len(partgen.edit(on_disk, "ball", "a green ball").history) == 4


def test_an_edit_keeps_the_frame_of_the_file(partgen: PartGenPipeline, made: PartObject) -> None:
    from_file = np.array([[0.5, 0, 0, 3], [0, 0, 0.5, 0], [0, -0.5, 0, -1], [0, 0, 0, 1]])
    framed = replace(
        made,
        origin={"kind": "object", "file": "a.stl", "from_file": from_file.tolist()},
        settings={**made.settings, "frame": "file"},
    )
    unit, file = (partgen.edit(one, "1", "a lamp") for one in (made, framed))
    assert (unit.settings["frame"], file.settings["frame"]) == ("unit", "file")
    pairs = [(unit.glb, file.glb), *((one.glb, other.glb) for one, other in zip(unit.parts, file.parts, strict=True))]
    assert any(one for one, _ in pairs)
    for one, other in pairs:
        if one and other:
            corners = [trimesh.load_scene(io.BytesIO(glb), file_type="glb").to_mesh().vertices for glb in (one, other)]
            np.testing.assert_allclose(trimesh.transform_points(corners[1], from_file), corners[0], atol=1e-5)


def test_the_frame_is_one_of_two(partgen: PartGenPipeline) -> None:
    with pytest.raises(UserError, match="The frame is 'world'; give unit or file"):
        partgen.decompose("chair.glb", frame="world")  # type: ignore[arg-type]


def test_what_is_added_stands_where_it_is_put(partgen: PartGenPipeline, made: PartObject) -> None:
    alone = partgen.add(made, text="a lamp", place=(0, 0, 0), scale=1.0, name=made.parts[0].name)
    added = partgen.add(made, text="a lamp", place=(0.0, 2.0, -1.0), scale=0.25, seed=0)
    assert alone.parts[-1].name not in {part.name for part in made.parts}
    assert alone.parts[-1].name.startswith(made.parts[0].name)
    assert added.parts[-1].name == "a lamp"
    bounds = []
    for result in (alone, added):
        mesh = trimesh.load_mesh(io.BytesIO(result.parts[-1].glb or b""), file_type="glb")
        bounds.append(mesh.bounds)
    np.testing.assert_allclose(bounds[1], bounds[0] * 0.25 + [0.0, 2.0, -1.0], atol=1e-3)
    assert any(one.kind == "out_of_view" for one in added.diagnostics)
    assert added.history[-1]["placement"] == {"offset": (0.0, 2.0, -1.0), "scale": 0.25}
    for before, after in zip(made.parts, added.parts, strict=False):
        assert after == before


def test_a_3d_object_with_its_notice_through_the_command_line(
    models: Path,
    overrides: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_params(tmp_path, overrides)
    scene = trimesh.Scene([trimesh.creation.box((1, 0.3, 1)), trimesh.creation.cylinder(0.2, 2)])
    scene.apply_translation((3, 0, 5))
    scene.export(
        tmp_path / "Table_01.glb", tree_postprocessor=lambda tree: tree["asset"].update(copyright="Table by Ünal")
    )
    Path("weights").mkdir()
    Path("weights/nano").symlink_to(models)
    partgen_command(monkeypatch, "decompose", "Table_01.glb", "--max-parts", "3", "--surface", "neural")
    printed = capsys.readouterr()
    found = PartObject.load("results/table-01")
    assert (found.name, found.notice, found.origin["file"]) == ("table", "Table by Ünal", "Table_01.glb")
    size = np.hypot(0.2, 1)
    expected = [[1 / size, 0, 0, -3 / size], [0, 1 / size, 0, 0], [0, 0, 1 / size, -5 / size], [0, 0, 0, 1]]
    np.testing.assert_allclose(found.origin["from_file"], expected, atol=1e-6)
    assert found.glb is not None
    assert read_header(found.glb)["asset"]["copyright"] == "Table by Ünal"
    assert len(found.parts) <= 3
    models_line, result_line, *_ = printed.out.splitlines()
    assert models_line == "The models are those of weights/nano."
    assert result_line.startswith("results/table-01: ")
    assert all(f"{part.label} {part.name}: " in printed.out for part in found.parts)
    assert all(f"Warning: {one.message}" in printed.out for one in found.diagnostics)
    assert "Segmentation, 3 runs ... " in printed.err

    Path("data").mkdir()
    Path("data/models").symlink_to(models)
    partgen_command(monkeypatch, "add", "results/table-01", "--text", "a lamp", "--scale", "0.5")
    assert capsys.readouterr().out.startswith("The models are those of data/models.\n")
    added = PartObject.load("results/table-01-2")
    assert added.notice == "Table by Ünal"
    assert field_of(added.parts[-1]).scale == 0.5
    other = added.parts[0].name
    arguments = ("a lamp", "a tree", "--name", other, "--models", str(models))
    partgen_command(monkeypatch, "edit", "results/table-01-2", *arguments)
    *others, tree = PartObject.load("results/table-01-3").parts
    assert (tree.caption, tree.label) == ("a tree", added.parts[-1].label)
    assert tree.name.startswith(f"{other} ")  # a number, since another part has the name
    assert tree.name not in {part.name for part in others}


def test_hidden_sides_are_completed_and_the_same_parts_reconstructed(partgen: PartGenPipeline, tmp_path: Path) -> None:
    """A ball of two halves, each of which the division opens."""
    vertices, faces, side = cut(trimesh.creation.icosphere(subdivisions=2), np.array([0.0, 1, 0]), 0.005)
    halves = trimesh.Scene()
    for number, name in enumerate(("under", "over")):
        halves.add_geometry(trimesh.Trimesh(vertices, faces[side == number]), name, name)
    halves.export(tmp_path / "ball.glb")
    made = partgen.decompose(tmp_path / "ball.glb", parts_from="nodes", close="complete", surface="both", frame="file")
    assert (made.settings["close"], made.settings["surface"]) == ("complete", "both")
    assert [part.name for part in made.parts] == ["under", "over"]
    assert sorted(made.models) == ["complete", "grouping"]
    for part in made.parts:
        mesh = trimesh.load_scene(io.BytesIO(part.glb or b""), file_type="glb").to_geometry()
        assert isinstance(mesh, trimesh.Trimesh)
        mesh.merge_vertices(merge_tex=True, merge_norm=True)
        assert mesh.is_watertight
        assert part.original
        assert field_of(part)
        said = read_header(part.glb or b"")["asset"]["extras"]
        assert said == (mark(part.models) if part.models else {})
    assert any(part.models for part in made.parts)
    assert node_names(made.neural) == ["under", "over", "object"]
    assert read_header(made.neural or b"")["asset"]["extras"]["models"] == {"complete": made.models["complete"]}

    saved = PartObject.load(made.save(tmp_path / "made"))
    assert saved.neural == made.neural
    one = partgen.regroup(saved, 1)
    assert node_names(one.neural) == [one.parts[0].name, "object"]
    again = partgen.regroup(one)
    assert (again.glb, again.neural) == (made.glb, made.neural)
    edited = partgen.edit(saved, "over", "a lamp")
    assert (edited.surface, edited.neural) == (None, None)
    assert edited.parts[0].glb == made.parts[0].glb
    with pytest.raises(Invalid, match="was edited since"):
        partgen.regroup(edited, 2)


@pytest.mark.parametrize("frame", ["unit", "file"])
def test_a_3d_object_keeps_its_surface_and_edits_keep_that_of_all_other_parts(
    partgen: PartGenPipeline, tmp_path: Path, frame: Frame
) -> None:
    shapes = {"top": trimesh.creation.box((2, 0.3, 2)), "leg": trimesh.creation.cylinder(0.2, 2)}
    shapes["leg"].apply_translation((0, -1.2, 0))
    hidden = trimesh.creation.icosphere(subdivisions=1, radius=0.1)  # within the top
    scene = trimesh.Scene({**shapes, "bolt": hidden})
    scene.apply_translation((3, 0, 5))
    scene.export(tmp_path / "table.glb")
    made = partgen.decompose(tmp_path / "table.glb", parts_from="nodes", frame=frame)
    assert [(part.name, part.original, part.score) for part in made.parts] == [
        ("top", True, None), ("leg", True, None), ("bolt", True, None)
    ]  # fmt: skip
    assert set(np.unique(made.labels)) == {0, 1, 2}, "nobody sees the bolt"
    assert [part.triangles for part in made.parts] == [len(mesh.faces) for mesh in (*shapes.values(), hidden)]
    found = trimesh.load_scene(io.BytesIO(made.glb or b""), file_type="glb", process=False).to_geometry()
    before = scene.to_geometry()
    assert isinstance(found, trimesh.Trimesh)
    assert isinstance(before, trimesh.Trimesh)
    matrix = np.eye(4) if frame == "file" else np.array(made.origin["from_file"])
    np.testing.assert_allclose(found.bounds, before.apply_transform(matrix).bounds, atol=1e-5)
    assert found.area == pytest.approx(before.area, rel=1e-5)

    assert (made.segmentations, made.history[0]["parts_from"]) == ([], "nodes")
    saved = PartObject.load(made.save(tmp_path / "made"))
    animated = partgen.animated(saved)
    assert all(content.startswith(b"GIF") for content in animated.animations.values())
    two = partgen.regroup(saved, 2)
    assert (len(two.parts), sum(part.triangles for part in two.parts)) == (2, sum(one.triangles for one in made.parts))
    names = {part.triangles: part.name for part in made.parts}
    assert [part.name for part in two.parts if part.triangles in names] == [
        names[part.triangles] for part in two.parts if part.triangles in names
    ], "a part that stays keeps its name"
    again = partgen.regroup(PartObject.load(two.save(tmp_path / "two")))
    assert (again.glb, [part.name for part in again.parts]) == (made.glb, [part.name for part in made.parts])
    assert again.history == [*made.history, {"command": "regroup", "parts": 2}, {"command": "regroup", "parts": None}]
    with pytest.raises(Invalid, match="can be divided into 1 to 3 parts, not 4"):
        partgen.regroup(saved, 4)

    edited = partgen.edit(saved, "leg", "a red pole")
    with pytest.raises(Invalid, match="was edited since"):
        partgen.regroup(edited, 2)
    assert [(part.name, part.original) for part in edited.parts] == [
        ("top", True), ("a red pole", False), ("bolt", True)
    ]  # fmt: skip
    assert [edited.parts[n].glb for n in (0, 2)] == [made.parts[n].glb for n in (0, 2)]
    assert node_names(edited.glb)[: len(edited.parts)] == [part.name for part in edited.parts if part.glb]


def test_mistakes_are_one_sentence_and_change_nothing(
    models: Path,
    overrides: list[str],
    made: PartObject,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_params(tmp_path, overrides)
    made.save("results/table-01")
    trimesh.creation.box().export(tmp_path / "Table_01.glb")
    before = sorted(path.name for path in Path("results").iterdir())
    (tmp_path / "empty.glb").write_bytes(trimesh.Scene([trimesh.Trimesh()]).export(file_type="glb"))
    (tmp_path / "broken.stl").write_bytes(b"solid nothing")
    (tmp_path / "white.png").write_bytes(b"")
    Image.new("RGBA", (8, 8)).save(tmp_path / "clear.png")
    wrong: list[tuple[tuple[str, ...], str]] = [
        (("decompose", "Table_01.glb"), "results/table-01 is there already"),
        (("decompose", "no.glb"), "no 3D object no.glb"),
        (("decompose", "empty.glb"), "empty.glb cannot be taken apart: "),
        (("decompose", "broken.stl"), "broken.stl cannot be taken apart: "),
        (("decompose", "Table_01.glb", "--seed-point", "0", "--out", "new"), "--seed-point is '0'"),
        (("decompose", "Table_01.glb", "--surface=neural", "--seed-point", "0,99", "--out", "new"), "outside the view"),
        (("decompose", "Table_01.glb", "--use", "2", "--out", "new"), "Segmentation 2 of 1"),
        (("decompose", "Table_01.glb", "--samples", "2", "--out", "new"), "add --surface neural"),
        (("decompose", "Table_01.glb", "--surface=neural", "--parts", "2", "--out", "new"), "leave out --surface"),
        (("decompose", "Table_01.glb", "--reconstructor", "carve", "--out", "new"), "add --close complete"),
        (("decompose", "Table_01.glb", "--texture", "64", "--out", "new"), "--surface neural or both"),
        (
            ("decompose", "Table_01.glb", "--parts", "9", "--out", "new"),
            "divided into 9 parts: its surface is one",
        ),
        (("decompose", "Table_01.glb", "--max-parts", "0", "--out", "new"), "`max_parts` is 0"),
        (("decompose", "Table_01.glb", "--models", "nowhere", "--out", "new"), "no folder nowhere"),
        (
            ("decompose", "Table_01.glb", "--surface=neural", "--reconstructor", "lrm", "--out", "new"),
            "no reconstruction model",
        ),
        (("from-image", "white.png", "--out", "new"), "white.png is no picture"),
        (("from-image", "clear.png", "--out", "new"), "no object in the picture"),
        (("from-text", " ", "--out", "new"), "The prompt is empty"),
        (("edit", "results/table-01", "1", ""), "The prompt is empty"),
        (("edit", "results/table-01", "wheel", "x"), "no part `wheel`"),
        (("edit", "results", "1", "x"), "holds no result"),
        (("add", "results/table-01"), "Give one of"),
        (("add", "results/table-01", "--text", "x", "--image", "clear.png"), "Give one of"),
        (("add", "results/table-01", "--text", "x", "--place", "1,2"), "--place is '1,2'"),
        (("add", "results/table-01", "--text", "x", "--place", "1,2,nan"), "cannot stand"),
        (("add", "results/table-01", "--text", "x", "--set", "rendr.samples=2"), "rendr"),
    ]
    for arguments, message in wrong:
        with pytest.raises(SystemExit) as stopped:
            partgen_command(monkeypatch, *arguments, *(() if "--models" in arguments else ("--models", str(models))))
        error = capsys.readouterr().err.splitlines()[-1]
        assert stopped.value.code == 2, arguments
        assert error.startswith("partgen: "), arguments
        assert message in error
    assert sorted(path.name for path in Path("results").iterdir()) == before
    assert not Path("new").exists()


def test_models_for_other_views_are_refused(
    models: Path, overrides: list[str], partgen: PartGenPipeline, made: PartObject
) -> None:
    larger = PartGenPipeline.from_pretrained(
        models, params=ROOT / "presets/nano.yaml", overrides=[*overrides, "render.view_size=32"]
    )
    with pytest.raises(UserError, match=r"text_to_mv draws views of 16 px.* of 32 px"):
        larger.from_text(PROMPT)
    with pytest.raises(UserError, match="was made with the cameras"):
        larger.edit(made, "1", "a lamp")


def test_cameras_are_those_of_the_reconstruction_model(tmp_path: Path) -> None:
    render = load_group(RenderParams, path=ROOT / "presets/nano.yaml")
    assert Models(tmp_path, render).camera == Camera(render.fov_deg, render.distance, render.view_size)
    (tmp_path / "lrm").mkdir()
    config = tmp_path / "lrm/config.json"
    config.write_text('{"view_size": 32, "fov_deg": 30.0, "distance": 4.0, "elevation_deg": 10.0}')
    models = Models(tmp_path, render)
    assert (models.camera, models.cameras["elevation_deg"]) == (Camera(30.0, 4.0, 32), 10.0)
    config.write_text("{}")
    with pytest.raises(UserError, match="says nothing of cameras"):
        Models(tmp_path, render)


def test_the_number_of_steps_is_that_of_all_networks(models: Path, overrides: list[str]) -> None:
    quick = PartGenPipeline.from_pretrained(models, params=ROOT / "presets/nano.yaml", overrides=overrides, steps=5000)
    with pytest.raises(UserError, match="5000 steps"):
        quick.from_text(PROMPT)


def write_params(folder: Path, overrides: list[str]) -> None:
    values = yaml.safe_load((ROOT / "presets/nano.yaml").read_text())
    for override in overrides:
        key, _, text = override.partition("=")
        *groups, last = key.split(".")
        target = values
        for group in groups:
            target = target[group]
        target[last] = yaml.safe_load(text)
    (folder / "params.yaml").write_text(yaml.safe_dump(values))


def partgen_command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    """`partgen ARGUMENTS` in this process."""
    monkeypatch.setattr(sys, "argv", ["partgen", *arguments])
    try:
        main()
    except SystemExit as stopped:
        if stopped.code:
            raise


CAMERA = Camera(FOV_DEG, DISTANCE, 32)
BOXES = {
    "seat": ((-0.5, -0.1, -0.5), (0.5, 0.1, 0.5)),
    "back": ((-0.5, 0.1, -0.5), (0.5, 0.6, -0.35)),
    "ball": ((-0.2, 0.1, -0.2), (0.2, 0.5, 0.2)),
    "foot": ((-0.1, -0.6, -0.1), (0.1, -0.1, 0.1)),
}


@pytest.fixture(scope="module")
def scene() -> Scene:
    params = load_group(ReconstructParams, ["reconstruct.carve_resolution=32"], ROOT / "presets/nano.yaml")
    return Scene(params, lambda: Carving(CAMERA, ELEVATION_DEG, 32), CAMERA, ELEVATION_DEG, torch.device("cpu"))


def drawn(names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """The grid of some boxes, RGBA, and their label map, numbered in the order of the names."""
    boxes = np.array([BOXES[name] for name in names])
    colours = np.array(list(COLOURS.values()))[[list(BOXES).index(name) for name in names]]
    views = [(azimuth, ELEVATION_DEG) for azimuth in GRID_AZIMUTHS]
    grid = tile(np.stack([draw_boxes(boxes, colours, view, CAMERA.size) for view in views]))
    return grid, tile(np.stack([hits(boxes, view, CAMERA.size)[0] for view in views]))


def box(scene: Scene, name: str, label: int) -> Part:
    grid, _ = drawn([name])
    pixels = torch.from_numpy(over_white(grid)).permute(2, 0, 1)[None]
    return Part(label, name, name, None, grid, scene.reconstructor.fields(pixels)[0])


def test_the_grid_shows_what_replaced_a_part_and_what_that_uncovers(scene: Scene) -> None:
    grid, labels = drawn(["seat", "back", "foot"])
    true_grid, true_labels = drawn(["seat", "ball", "foot"])
    parts = [box(scene, name, label) for label, name in enumerate(("seat", "ball", "foot"), start=1)]
    new_grid, new_labels = redrawn(grid, labels, parts, 2, scene)
    assert (new_labels != true_labels).mean() < 0.03
    assert (labels != true_labels).mean() > 0.04
    assert np.abs(over_white(new_grid) - over_white(true_grid)).mean() < 0.02
    untouched = (labels != 2) & (new_labels != 2)
    np.testing.assert_array_equal(new_grid[untouched], grid[untouched])
    assert (new_grid[(labels == 2) & (new_labels == 0)][:, 3] == 0).all()


def test_the_matrix_of_an_added_object_leads_to_its_place(scene: Scene) -> None:
    field = field_of(box(scene, "ball", 1)).placed((0.0, 2.0, -1.0), 0.25)
    origin = in_place({"kind": "object", "file": "ball.obj", "from_file": np.diag([2.0, 2, 2, 1]).tolist()}, field)
    np.testing.assert_array_equal(trimesh.transform_points([[1, 2, 4]], origin["from_file"]), [[0.5, 3, 1]])
    assert in_place({"kind": "text"}, field) == {"kind": "text"}


def test_what_has_no_place_stands_beside_on_the_same_ground(scene: Scene) -> None:
    parts = [box(scene, name, label) for label, name in enumerate(("seat", "foot"), start=1)]
    field = stand(field_of(box(scene, "ball", 3)), parts, None, 0.5)
    low, high = field.cells().amin(dim=0), torch.cat([field_of(part).cells() for part in parts])
    assert float(low[0]) == pytest.approx(float(high[:, 0].max()), abs=1e-4)
    assert float(low[1]) == pytest.approx(float(high[:, 1].min()), abs=1e-4)
    assert field.scale == 0.5
    assert stand(Field.empty(field.decoder), parts, None, 0.5).offset_3 == (0.0, 0.0, 0.0)
    assert stand(field, [replace(parts[0], field=Field.empty(field.decoder))], None, 2.0).offset_3 == (0.0, 0.0, 0.0)
    with pytest.raises(UserError, match="cannot stand"):
        stand(field, parts, (0, 0, 0), 0.0)


def test_a_safety_checker_sees_every_prompt_picture_and_result(partgen: PartGenPipeline, tmp_path: Path) -> None:
    seen: list[str] = []

    def check(subject: Subject) -> str | None:
        seen.append(subject if isinstance(subject, str) else type(subject).__name__)
        return None

    watched = PartGenPipeline(partgen.models, partgen.settings, check)
    trimesh.creation.box((1, 0.3, 1)).export(tmp_path / "box.glb")
    picture = Image.new("RGBA", (32, 32))
    picture.paste((200, 30, 30, 255), (8, 8, 24, 24))
    made = watched.from_text(PROMPT)
    watched.from_image(picture)
    watched.decompose(tmp_path / "box.glb")
    watched.edit(made, "1", "a lamp")
    watched.add(made, text="a cushion")
    watched.add(made, image=picture)
    kinds = ["picture" if one == "Image" else "result" if one == "PartObject" else "text" for one in seen]
    assert " ".join(kinds) == "text result picture result result text result text result picture result"
    assert [one for one, kind in zip(seen, kinds, strict=True) if kind == "text"] == [PROMPT, "a lamp", "a cushion"]


def test_what_the_checker_refuses_is_not_made(partgen: PartGenPipeline, made: PartObject, tmp_path: Path) -> None:
    def refusing(kind: type) -> PartGenPipeline:
        return PartGenPipeline(
            partgen.models, partgen.settings, lambda subject: "it is rude" if isinstance(subject, kind) else None
        )

    with pytest.raises(Refused, match="refuses this prompt: it is rude"):
        refusing(str).edit(made, "1", "a lamp")
    with pytest.raises(Refused, match="refuses this picture"):
        refusing(Image.Image).from_image(Image.new("RGB", (32, 32), "red"))
    with pytest.raises(Refused, match="refuses this result"):
        refusing(PartObject).from_text(PROMPT)
    with pytest.raises(Refused, match="False"):  # a checker that was written the other way round lets nothing pass
        PartGenPipeline(partgen.models, partgen.settings, lambda _: False).from_text(PROMPT)  # type: ignore[arg-type, return-value]


def test_the_params_name_the_checkers_module(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "strict_checks.py").write_text(
        'def refuse(subject):\n    return f"{subject!r} is no chair" if isinstance(subject, str) else None\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    write_params(tmp_path, ["applications.safety=strict_checks"])
    with pytest.raises(SystemExit):
        partgen_command(monkeypatch, "from-text", "a lamp", "--models", str(models))
    assert "The safety checker refuses this prompt: 'a lamp' is no chair." in capsys.readouterr().err
    assert not list(tmp_path.glob("results/*"))
    for module, sentence in (("no_such_module", "cannot be imported"), ("json", "no function `refuse`")):
        with pytest.raises(UserError, match=sentence):
            PartGenPipeline.from_pretrained(models, overrides=[f"applications.safety={module}"])
    with pytest.raises(UserError, match="applications: `safety` is 'os:system'"):
        PartGenPipeline.from_pretrained(models, overrides=["applications.safety=os:system"])


def test_generated_glbs_are_marked_and_a_files_own_surface_is_not(
    partgen: PartGenPipeline, made: PartObject, tmp_path: Path
) -> None:
    def extras(glb: bytes | None) -> dict[str, object]:
        assert glb is not None
        found: dict[str, object] = read_header(glb)["asset"]["extras"]
        return found

    assert extras(made.glb) == mark(made.models) == extras(next(part.glb for part in made.parts if part.glb))
    assert "generated_by" in extras(made.glb)
    trimesh.creation.box((1, 0.3, 1)).export(tmp_path / "box.glb")
    own = partgen.decompose(tmp_path / "box.glb")
    assert extras(own.glb) == extras(own.parts[0].glb) == {}
    added = partgen.add(own, text="a lamp")
    assert list(added.parts[-1].models) == ["edit"]
    assert extras(added.glb) == extras(added.parts[-1].glb) == mark(added.parts[-1].models)
    assert extras(added.parts[0].glb) == {}
    both = PartObject.load(partgen.edit(made, "1", "a lamp").save(tmp_path / "both"))
    assert extras(both.glb)["models"] == both.models
    assert extras(both.parts[1].glb) == extras(made.parts[1].glb)
