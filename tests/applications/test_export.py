"""Results in other formats, read back by our readers, by trimesh, as XML and by Blender."""

import io
import re
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import trimesh
from PIL import Image
from trimesh.visual import ColorVisuals

from pipeline.applications.export import beside, losses
from pipeline.applications.result import PartObject
from pipeline.assets.bundle import read_bundle
from pipeline.assets.glb import surface_glb
from pipeline.assets.load import load_pieces
from pipeline.assets.materials import CLAMP
from pipeline.assets.readers import FolderReader
from pipeline.assets.srgb import linear
from pipeline.assets.surface import REPEAT, Material, Piece, Surface, total_area
from pipeline.errors import UserError
from pipeline.folders import changed_files
from pipeline.surface.merge import merge_glbs
from pipeline.views.looks import base_colour
from tests.applications.test_result import NAMES, an_object
from tests.assets.blender_oracle import Allowed, Importers, differences, take_ours

NOTICE = "“Chair” by Ünal & Co."
NEAR = np.eye(4)
FAR = np.array([[0.0, 0, -300, 4e5], [200, 0, 0, -5e6], [0, 100, 0, 12], [0, 0, 0, 1]])
"""A frame as of a map, where float32 has steps of half a unit."""
CORE = "{http://schemas.microsoft.com/3dmanufacturing/core/2015/02}"
MATERIALS = "{http://schemas.microsoft.com/3dmanufacturing/material/2015/02}"


def surface(mesh: trimesh.Trimesh, material: Material, uv: bool = False, colors: bool = False) -> Surface:
    rng = np.random.default_rng(len(mesh.faces))
    corners = mesh.vertices[mesh.faces].reshape(-1, 3)  # as of a GLB with hard edges: no two triangles share a corner
    return Surface(
        corners,
        np.arange(len(corners)).reshape(-1, 3),
        np.repeat(mesh.face_normals, 3, axis=0),
        rng.integers(-2, 4, (len(corners), 2)) + rng.uniform(0.3, 0.7, (len(corners), 2)) if uv else None,
        rng.random((len(corners), 4), np.float32) * [1, 1, 1, 0] + [0, 0, 0, 1] if colors else None,
        material,
    )


def object_in(frame: np.ndarray, wrap: int = CLAMP) -> PartObject:
    """Two parts, the first of three materials: a texture that its colour is multiplied with, one that is cut out, and
    a colour; the second has colours at its vertices. The third has no surface.
    """
    rng = np.random.default_rng(0)
    board = Image.fromarray(rng.integers(0, 255, (4, 8, 3), np.uint8))
    leaves = np.dstack([rng.integers(0, 255, (6, 6, 3)), np.tile([0, 255], (6, 3))]).astype(np.uint8)
    textured = Material(name="old wood", baseColorFactor=[255, 128, 60, 255], baseColorTexture=board)
    cut = Material(
        (wrap, wrap), name="leaf", baseColorTexture=Image.fromarray(leaves), alphaMode="MASK", alphaCutoff=0.5
    )
    red = Material(name="paint", baseColorFactor=[200, 20, 10, 255], metallicFactor=1.0, roughnessFactor=0.25)
    boxes = [trimesh.creation.box((1, 0.2, 1)).apply_translation((0, y, 0)) for y in (0.0, 0.5, 1.0)]
    seat = [surface(boxes[0], textured, uv=True), surface(boxes[1], cut, uv=True), surface(boxes[2], red)]
    ball = trimesh.creation.icosphere(subdivisions=1, radius=0.3).apply_translation((0, -0.5, 0))
    leg = [surface(ball, Material(name="white", baseColorFactor=[255] * 4), colors=True)]
    glbs = [
        surface_glb(name, label, surfaces, NOTICE, {}, None if frame is NEAR else frame)
        for label, (name, surfaces) in enumerate(zip(NAMES, (seat, leg), strict=True), start=1)
    ]
    first, second = an_object().parts
    parts = [replace(one, glb=glb, absent="") for one, glb in zip((first, second), glbs, strict=True)]
    return replace(
        an_object(), parts=[*parts, replace(second, label=3, name="bolt")], glb=merge_glbs(glbs), notice=NOTICE
    )


@pytest.fixture(params=[NEAR, FAR], ids=["near", "far"])
def made(request: pytest.FixtureRequest) -> PartObject:
    return object_in(request.param)


def pieces_of(path: Path) -> list[Piece]:
    bundle = read_bundle(path.name, FolderReader(path.parent), 1 << 30)
    pieces, warnings = load_pieces(bundle, 64, 0.0, 10**6, np.eye(4))
    assert not [warning for warning in bundle.warnings + tuple(warnings) if "way is up" not in warning]
    return pieces


def original(made: PartObject, folder: Path) -> list[Piece]:
    folder.mkdir()
    (folder / "original.glb").write_bytes(made.glb or b"")
    return pieces_of(folder / "original.glb")


def corner_colours(one: Surface) -> np.ndarray:
    """Linear, (3F, 3), of each triangle's corners."""
    return base_colour(one, np.repeat(one.faces, 3, axis=0), np.tile(np.eye(3), (len(one.faces), 1)))


def test_an_obj_has_parts_materials_textures_and_colours(made: PartObject, tmp_path: Path) -> None:
    files = made.export(tmp_path / "chair.obj")
    assert [file.name for file in files] == ["chair.obj", "chair.mtl", "chair-1.png", "chair-2.png"]
    before, after = original(made, tmp_path / "glb"), pieces_of(tmp_path / "chair.obj")
    assert [piece.node_name for piece in after] == [NAMES[0]] * 3 + [NAMES[1]]
    assert [piece.material_name for piece in after] == ["old-wood", "leaf", "paint", "white"]
    for old, new in zip(before, after, strict=True):
        one, other = old.surface, new.surface
        corners, others = (each.vertices[each.faces].reshape(-1, 3) for each in (one, other))
        np.testing.assert_allclose(others, corners, rtol=0, atol=1e-7 * np.ptp(corners))
        assert total_area([other]) == pytest.approx(total_area([one]), rel=1e-6)
        np.testing.assert_allclose(
            (other.normals if other.normals is not None else np.empty(0))[other.faces],
            (one.normals if one.normals is not None else np.empty(0))[one.faces],
            atol=1e-5,
        )
        assert np.abs(corner_colours(other) - corner_colours(one)).max() < 0.01
    leaf, paint = (after[number].surface.material for number in (1, 2))
    assert (leaf.alphaMode, leaf.wrap) == ("MASK", (CLAMP, CLAMP))
    assert (paint.metallicFactor, paint.roughnessFactor) == (1.0, 0.25)
    text = (tmp_path / "chair.obj").read_text()
    assert text.startswith(f"# {NOTICE}\n")
    assert text.count("\nv ") == 3 * 8 + 3 * len(after[3].surface.faces), "corners of a box are vertices once"

    scene = trimesh.load_scene(tmp_path / "chair.obj", split_objects=True, process=False)
    assert scene.area == pytest.approx(total_area([piece.surface for piece in before]), rel=1e-6)


def test_a_3mf_has_parts_materials_textures_and_colours(made: PartObject, tmp_path: Path) -> None:
    (file,) = made.export(tmp_path / "chair.3mf")
    archive = zipfile.ZipFile(file)
    tree = ElementTree.fromstring(archive.read("3D/3dmodel.model"))
    assert tree.get("unit") == "meter"
    assert {one.get("name"): one.text for one in tree.iter(f"{CORE}metadata")}["Copyright"] == NOTICE
    objects = list(tree.iter(f"{CORE}object"))
    assert [one.get("name") for one in objects] == list(NAMES)
    assert [one.get("objectid") for one in tree.iter(f"{CORE}item")] == [one.get("id") for one in objects]
    groups = {one.get("id"): one for one in tree[-2] if one not in objects}
    before = original(made, tmp_path / "glb")
    expected = [before[:3], before[3:]]
    for one, pieces in zip(objects, expected, strict=True):
        vertices = np.array([[float(v.get(axis, "")) for axis in "xyz"] for v in one.iter(f"{CORE}vertex")])
        triangles = list(one.iter(f"{CORE}triangle"))
        faces = np.array([[int(t.get(f"v{k}", "")) for k in (1, 2, 3)] for t in triangles])
        corners = np.concatenate([piece.surface.vertices[piece.surface.faces] for piece in pieces])
        np.testing.assert_allclose(vertices[faces], corners, rtol=0, atol=1e-7 * np.ptp(corners))
        assert trimesh.Trimesh(vertices, faces, process=False).is_watertight
        colours = np.concatenate([corner_colours(piece.surface) for piece in pieces])
        shown = [colour_3mf(archive, groups, triangle, k) for triangle in triangles for k in (1, 2, 3)]
        assert np.abs(linear(np.array(shown)) - colours).max() < 0.01
    leaf = groups[groups[triangles_of(objects[0])[12].get("pid")].get("texid")]
    assert (leaf.get("tilestyleu"), leaf.get("tilestylev")) == ("clamp", "clamp")
    made.export(tmp_path / "again.3mf")
    assert (tmp_path / "again.3mf").read_bytes() == file.read_bytes()


def triangles_of(one: ElementTree.Element) -> list[ElementTree.Element]:
    return list(one.iter(f"{CORE}triangle"))


def colour_3mf(
    archive: zipfile.ZipFile,
    groups: dict[str | None, ElementTree.Element],
    triangle: ElementTree.Element,
    corner: int,
) -> list[float]:
    """The display colour at a corner, by the specification of the materials extension."""
    group = groups[triangle.get("pid")]
    entry = group[int(triangle.get(f"p{corner}") or triangle.get("p1") or "")]
    if group.tag == f"{MATERIALS}texture2dgroup":
        texture = groups[group.get("texid")]
        picture = Image.open(io.BytesIO(archive.read((texture.get("path") or "")[1:]))).convert("RGB")
        place = np.array([float(entry.get("u", "")), 1 - float(entry.get("v", ""))])
        place = place.clip(0, 0.999) if texture.get("tilestyleu") == "clamp" else place % 1
        column, row = (place * picture.size).astype(int)
        return [value / 255 for value in picture.getpixel((int(column), int(row)))]  # type: ignore[union-attr]
    shade = entry.get("displaycolor") or entry.get("color") or ""
    return [int(shade[k : k + 2], 16) / 255 for k in (1, 3, 5)]


def test_a_ply_has_colours_at_vertices_and_numbers_of_parts(made: PartObject, tmp_path: Path) -> None:
    (file,) = made.export(tmp_path / "chair.ply")
    before, (after,) = original(made, tmp_path / "glb"), pieces_of(file)
    corners = np.concatenate([piece.surface.vertices[piece.surface.faces] for piece in before])
    np.testing.assert_array_equal(after.surface.vertices[after.surface.faces], corners)
    expected = np.concatenate([corner_colours(piece.surface) for piece in before])
    ours = corner_colours(after.surface)
    plain = np.ones(len(ours), bool)
    plain[: 2 * 36] = False  # textures, of which a mean around the corner was taken
    assert np.abs(ours - expected)[plain].max() < 0.01
    header = file.read_bytes().partition(b"end_header\n")[0].decode()
    assert re.findall(r"comment (.*)", header) == [NOTICE, f"part 1: {NAMES[0]}", f"part 2: {NAMES[1]}"]
    raw = trimesh.load_mesh(file, process=False).metadata["_ply_raw"]["face"]["data"]
    assert raw["part"].reshape(-1).tolist() == [1] * 36 + [2] * (len(corners) - 36)


def test_a_ply_of_a_texture_of_one_colour_has_that_colour() -> None:
    picture = Image.new("RGB", (4, 4), (200, 100, 50))
    one = surface(trimesh.creation.box(), Material(name="m", baseColorTexture=picture), uv=True)
    glb = surface_glb("box", 1, [one], "", {})
    (ply,) = [content for name, content in beside(an_object_of(glb), ["ply"], False) if name == "object.ply"]
    mesh = trimesh.load_mesh(io.BytesIO(ply), file_type="ply", process=False)
    assert isinstance(mesh.visual, ColorVisuals)
    assert {tuple(colour) for colour in mesh.visual.vertex_colors.tolist()} == {(200, 100, 50, 255)}


def an_object_of(glb: bytes | None) -> PartObject:
    only = replace(an_object().parts[0], glb=glb, name="box")
    return replace(an_object(), parts=[only], glb=glb)


def test_an_stl_has_the_geometry() -> None:
    made = object_in(NEAR)
    ((name, content),) = beside(made, ["glb", "stl"], False)
    assert name == "object.stl"
    mesh = trimesh.load_mesh(io.BytesIO(content), file_type="stl")
    before = trimesh.load_scene(io.BytesIO(made.glb or b""), file_type="glb")
    assert mesh.area == pytest.approx(before.area, rel=1e-6)
    np.testing.assert_allclose(mesh.bounds, before.bounds, atol=1e-6)
    assert [sentence[:3] for sentence in losses(made, ["ply", "stl", "obj"])] == ["STL", "PLY"]
    assert not losses(made, ["obj", "3mf"])


def test_a_saved_result_has_the_files_in_its_checksums_and_is_read_as_before(tmp_path: Path) -> None:
    made = object_in(NEAR)
    folder = made.save(tmp_path / "chair", ["obj", "3mf", "stl", "ply"], separate=True)
    inside = {file.relative_to(folder).as_posix() for file in folder.rglob("*.*") if file.is_file()}
    stems = ["object", "parts/01-seat", "parts/02-leg-left-🪑".replace("-🪑", "")]
    assert {f"{stem}.{form}" for stem in stems for form in ("glb", "obj", "mtl", "3mf", "stl", "ply")} <= inside
    assert not [name for name in inside if "bolt" in name and not name.endswith(".png")]
    listed = (folder / "SHA256SUMS").read_text().splitlines()[1:]
    assert {line.split("  ")[1] for line in listed} == inside
    loaded = PartObject.load(folder)
    assert loaded.glb == made.glb
    (folder / "parts/01-seat.obj").write_bytes(b"")
    assert changed_files(folder) == ["parts/01-seat.obj"]
    alone = pieces_of(folder / "parts/02-leg-left.obj")
    assert {piece.node_name for piece in alone} == {NAMES[1]}


def test_parts_are_exported_one_by_one_and_nothing_is_overwritten(tmp_path: Path) -> None:
    made = object_in(NEAR)
    files = made.export(tmp_path / "parts", "GLB", separate=True)
    assert [file.name for file in files] == ["01-seat.glb", "02-leg-left.glb"]
    assert files[0].read_bytes() == made.parts[0].glb
    assert made.export(tmp_path / "chair.v2", format="stl") == [tmp_path / "chair.v2.stl"]
    (tmp_path / "x.mtl").write_bytes(b"mine")
    with pytest.raises(UserError, match=r"x\.mtl is there already"):
        made.export(tmp_path / "x.obj")
    assert not (tmp_path / "x.obj").exists()
    with pytest.raises(UserError, match=r"no format 'objj'.*obj.*; the formats are glb, obj, stl, ply, 3mf"):
        made.export(tmp_path / "x.objj")
    with pytest.raises(UserError, match="No part of chair has a surface"):
        an_object_of(None).export(tmp_path / "x.3mf")
    assert not list(beside(an_object_of(None), ["3mf"], True))


@pytest.mark.parametrize(("frame", "file", "unit"), [
    ("file", "a.STL", "millimeter"), ("file", "a.glb", "meter"), ("unit", "a.stl", "meter")
])  # fmt: skip
def test_a_3mf_says_its_unit(frame: str, file: str, unit: str, tmp_path: Path) -> None:
    origin = {"kind": "object", "file": file, "from_file": np.eye(4).tolist()}
    made = replace(object_in(NEAR), settings={"frame": frame}, origin=origin)
    (written,) = made.export(tmp_path / "a.3mf")
    assert f'unit="{unit}"'.encode() in zipfile.ZipFile(written).read("3D/3dmodel.model")


@pytest.fixture(scope="module")
def blender() -> Iterator[Importers]:
    with Importers() as started:
        yield started


@pytest.mark.slow
@pytest.mark.parametrize("form", ["obj", "ply", "stl"])
def test_blender_reads_the_same(blender: Importers, form: str, tmp_path: Path) -> None:
    made = object_in(NEAR, REPEAT)  # Blender's importer of OBJ knows no -clamp
    made.export(tmp_path / "chair.glb")
    made.export(tmp_path / f"chair.{form}")
    theirs = blender.take(tmp_path / f"chair.{form}")
    colours = 0.02 if form == "obj" else 1.0  # of PLY Blender leaves it to the user whether colours are shown
    ours = take_ours(tmp_path / "chair.glb")
    assert not differences(ours, theirs, Allowed(any_alpha=True, colours=colours))
