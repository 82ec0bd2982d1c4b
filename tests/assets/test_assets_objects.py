"""From files to normalised GLBs: transforms, instances, mirrors, materials, names, and the same bytes every time."""

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image
from trimesh.visual import TextureVisuals
from trimesh.visual.material import PBRMaterial

from pipeline.assets.bundle import Bundle
from pipeline.assets.glb import Part, load_parts, read_header
from pipeline.shards.store import Rows
from tests.assets_files import ROW, boxes, build, built, built_folder, gltf, obj_box, png

BOX = trimesh.creation.box((1, 1, 1))


def box_scene(*nodes: dict) -> bytes:
    """A GLB with one box mesh and these nodes."""
    tree = {"nodes": [{"mesh": 0, **node} for node in nodes], "scenes": [{"nodes": list(range(len(nodes)))}]}
    return gltf(tree, BOX.vertices, BOX.faces)


def parts_of(rows: Rows) -> list[Part]:
    return load_parts(rows["glbs"][0]["glb"])


def test_node_transforms_and_instances() -> None:
    """Two nodes share a mesh; one is scaled, turned and moved."""
    half = np.sqrt(0.5)
    rows = built(
        "a.glb",
        box_scene(
            {"name": "small"},
            {"name": "big", "translation": [6, 0, 0], "scale": [2, 4, 2], "rotation": [0, 0, half, half]},
        ),
    )
    big, small = parts_of(rows)
    assert (big.name, small.name) == ("big", "small")
    # Turned by 90 degrees about z after scaling: x and y change places. The box spans x from -0.5 to 8, y from -1 to 1.
    centre, radius = np.array([3.75, 0, 0]), np.linalg.norm([4.25, 1, 1])
    expected = (np.array([[4, -1, -1], [8, 1, 1]]) - centre) / radius
    np.testing.assert_allclose(big.meshes[0].bounds, expected, atol=1e-6)
    np.testing.assert_allclose(small.meshes[0].bounds, ([[-0.5] * 3, [0.5] * 3] - centre) / radius, atol=1e-6)


def test_nested_nodes_multiply() -> None:
    tree = {
        "nodes": [{"children": [1], "translation": [10, 0, 0]}, {"mesh": 0, "name": "a"}, {"mesh": 0, "name": "b"}],
        "scenes": [{"nodes": [0, 2]}],
    }
    by_name = {part.name: part.meshes[0] for part in parts_of(built("a.glb", gltf(tree, BOX.vertices, BOX.faces)))}
    assert by_name["a"].centroid[0] - by_name["b"].centroid[0] == pytest.approx(10 * by_name["a"].extents[0], rel=1e-5)


@pytest.mark.parametrize("scale", [[-1, 1, 1], [-1, -1, -1], [1, -2, 1]])
def test_mirrors_keep_faces_outward(scale: list[float]) -> None:
    rows = built("a.glb", box_scene({"name": "a"}, {"name": "b", "translation": [3, 0, 0], "scale": scale}))
    for part in parts_of(rows):
        assert part.meshes[0].volume > 0


def test_mirrored_normals_point_outward() -> None:
    scene = trimesh.Scene()
    ball = trimesh.creation.icosphere(subdivisions=2)
    assert ball.vertex_normals is not None  # so that they are written
    mirror = np.diag([-1.0, 0.5, 1.0, 1.0])
    mirror[0, 3] = 4
    scene.add_geometry(ball, node_name="a")
    scene.add_geometry(ball, node_name="b", transform=mirror)
    for part in parts_of(built("a.glb", scene.export(file_type="glb"))):
        (mesh,) = part.meshes
        outward = np.einsum("ij,ij->i", mesh.vertex_normals, mesh.vertices - mesh.centroid)
        assert outward.min() > 0
        # Of a scaled sphere: the gradient of (x/a)^2 + (y/b)^2 + (z/c)^2.
        gradient = (mesh.vertices - mesh.bounds.mean(axis=0)) / (mesh.extents / 2) ** 2
        gradient /= np.linalg.norm(gradient, axis=1, keepdims=True)
        assert np.einsum("ij,ij->i", mesh.vertex_normals, gradient).min() > 0.99


def test_object_fits_the_unit_sphere() -> None:
    vertices = np.concatenate(
        [m.vertices for p in parts_of(built("a.glb", boxes(a=(1, 5), b=(2, 9)))) for m in p.meshes]
    )
    np.testing.assert_allclose(vertices.min(axis=0) + vertices.max(axis=0), 0, atol=1e-6)
    assert np.linalg.norm(vertices, axis=1).max() == pytest.approx(1, abs=1e-6)


def test_a_node_with_several_materials_is_one_part() -> None:
    tree = {
        "meshes": [
            {"primitives": [{"attributes": {"POSITION": 0}, "indices": 1, "material": m} for m in (0, 1)]},
            {"primitives": [{"attributes": {"POSITION": 0}, "indices": 1, "material": 0}]},
        ],
        "materials": [{"pbrMetallicRoughness": {"baseColorFactor": [c, 0, 0, 1]}} for c in (1, 0.2)],
        "nodes": [{"mesh": 0, "name": "two"}, {"mesh": 1, "name": "one", "translation": [3, 0, 0]}],
        "scenes": [{"nodes": [0, 1]}],
    }
    rows = built("a.glb", gltf(tree, BOX.vertices, BOX.faces))
    two, one = parts_of(rows)
    assert (two.name, len(two.meshes), one.name, len(one.meshes)) == ("two", 2, "one", 1)
    header = read_header(rows["glbs"][0]["glb"])
    assert [len(mesh["primitives"]) for mesh in header["meshes"]] == [2, 1]
    assert [node["extras"] for node in header["nodes"]] == [{"part": 1}, {"part": 2}]


def test_attribution_is_in_the_glb() -> None:
    asset = read_header(built("a.glb", boxes(a=(1, 0), b=(1, 2)))["glbs"][0]["glb"])["asset"]
    assert asset["copyright"] == f"{ROW['name']} by A. Uthor, CC0-1.0 (folder/thing.glb)"
    assert asset["extras"]["licence"] == "CC0-1.0"
    assert asset["extras"]["origin"] == "folder/thing.glb"


@pytest.mark.parametrize(
    "name", ['"><script>alert(1)</script>', "a/b\\c", "🪑 stuhl", "it's & co", "%s {x} {}", "椅子", "x" * 300]
)
def test_hostile_names_survive(name: str) -> None:
    rows = built("a.glb", box_scene({"name": name}, {"name": name, "translation": [2, 0, 0]}))
    names = [part["name"] for part in rows["parts"]]
    assert names == [part.name for part in parts_of(rows)]
    assert len(set(names)) == 2
    assert names[0] == name[:60] or len(name) > 60
    assert all(len(part.encode()) <= 60 for part in names)
    assert all(part["raw_names"] == [name] for part in rows["parts"])


def obj(groups: str, materials: str = "") -> Bundle:
    files = {"a.obj": f"mtllib a.mtl\n{groups}".encode(), "a.mtl": materials.encode(), "wood.png": png()}
    return Bundle("a.obj", files)


def three_boxes(*before: str) -> str:
    text, faces = "", ""
    for index, lines in enumerate(before):
        vertices, quads = obj_box(2 * index, 8 * index + 1)
        text, faces = text + vertices, faces + f"{lines}\n{quads}"
    return text + "vt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\n" + faces


@pytest.mark.parametrize(
    ("before", "names"),
    [
        (("o a", "o b", "o c"), {"a", "b", "c"}),
        (("g a", "g b", "g c"), {"a", "b", "c"}),
        (("o all\ng a", "g b", "g c"), {"a", "b", "c"}),
        (("o a\ng a_x", "g a_y", "o b\ng b_x"), {"a", "b"}),
        (("o a", "o b", "o a"), {"a", "b"}),
        (("o a_b\nusemtl c", "o a\nusemtl b_c", "o x"), {"a b", "a", "x"}),
    ],
)
def test_obj_objects_and_groups(before: tuple[str, ...], names: set[str]) -> None:
    rows = build(obj(three_boxes(*before), "newmtl c\nnewmtl b_c\n"))
    assert {part["name"] for part in rows["parts"]} == names
    assert rows["objects"][0]["part_rule"] == "nodes"


def materials_of(rows: Rows) -> dict[str, dict]:
    header = read_header(rows["glbs"][0]["glb"])
    return {
        node["name"]: header["materials"][header["meshes"][index]["primitives"][0]["material"]]
        for index, node in enumerate(header["nodes"])
    }


def test_mtl_colours_and_glass() -> None:
    mtl = "newmtl red\nKd 1 0 0.5\nd 1.0\nnewmtl glass\nKd 1 1 1\nd 0.4\nnewmtl tr\nKd 1 1 1\nTr 0.9\n"
    made = materials_of(build(obj(three_boxes("o a\nusemtl red", "o b\nusemtl glass", "o c\nusemtl tr"), mtl)))
    # sRGB .5 is .214 of linear light; 8 bits are kept.
    np.testing.assert_allclose(made["a"]["pbrMetallicRoughness"]["baseColorFactor"], [1, 0, 0.214, 1], atol=0.003)
    assert "alphaMode" not in made["a"]
    assert made["b"]["alphaMode"] == "BLEND"
    assert made["b"]["pbrMetallicRoughness"]["baseColorFactor"][3] == pytest.approx(0.4, abs=0.003)
    assert made["c"]["pbrMetallicRoughness"]["baseColorFactor"][3] == pytest.approx(0.25, abs=0.003)  # min_opacity
    for material in made.values():
        assert material["doubleSided"]
        assert material["pbrMetallicRoughness"]["metallicFactor"] == 0


def textured(image: bytes, mtl: str) -> Rows:
    groups = three_boxes("o a\nusemtl wood", "o b", "o c").replace("f 1 4 3 2", "f 1/1 4/2 3/3 2/4", 1)
    bundle = obj(groups, mtl)
    return build(Bundle("a.obj", {**bundle.files, "wood.png": image, "mask.png": png((0, 0, 0))}))


def visuals_of(rows: Rows) -> list[TextureVisuals]:
    found = []
    for part in parts_of(rows):
        for mesh in part.meshes:
            assert isinstance(mesh.visual, TextureVisuals)
            found.append(mesh.visual)
    return found


def images_of(rows: Rows) -> list[Image.Image]:
    images = [visual.material.baseColorTexture for visual in visuals_of(rows)]
    return [image for image in images if image is not None]


def test_texture_replaces_a_black_kd_and_is_scaled_down() -> None:
    rows = textured(png(size=(256, 128)), "newmtl wood\nKd 0 0 0\nmap_Kd -clamp on wood.png\n")
    image = images_of(rows)[0]
    assert image.size == (64, 32)
    assert image.convert("RGB").getpixel((5, 5)) == (200, 30, 30)
    assert materials_of(rows)["a"]["pbrMetallicRoughness"]["baseColorFactor"] == [1, 1, 1, 1]


def test_cut_outs_are_masks() -> None:
    pixels = np.full((8, 8, 4), 255, np.uint8)
    pixels[:4, :, 3] = 0
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    rows = textured(stream.getvalue(), "newmtl wood\nmap_Kd wood.png\n")
    assert materials_of(rows)["a"]["alphaMode"] == "MASK"
    assert images_of(rows)[0].getchannel("A").getextrema() == (0, 255)
    assert materials_of(textured(png((9, 9, 9, 120)), "newmtl wood\nmap_Kd wood.png\n"))["a"]["alphaMode"] == "BLEND"
    assert materials_of(textured(png(), "newmtl wood\nmap_Kd wood.png\nmap_d mask.png\n"))["a"]["alphaMode"] == "MASK"
    assert "alphaMode" not in materials_of(textured(png((9, 9, 9, 255)), "newmtl wood\nmap_Kd wood.png\n"))["a"]


def colours_of(rows: Rows) -> set[tuple[int, ...]]:
    """The vertex colours of an object's GLB, linear, of 16 bits."""
    found = [visual.vertex_attributes.get("color") for visual in visuals_of(rows)]
    return {tuple(color) for colors in found if colors is not None for color in colors.tolist()}


def test_vertex_colours_survive() -> None:
    scene = trimesh.Scene()
    for x, color in ((0, (250, 0, 0, 255)), (2, (0, 0, 250, 255))):
        box = trimesh.creation.box(transform=trimesh.transformations.translation_matrix((x, 0, 0)))
        box.visual.vertex_colors = color
        scene.add_geometry(box, node_name=f"box{x}")
    found = colours_of(built("a.glb", scene.export(file_type="glb")))
    assert found == {(250 * 257, 0, 0, 65535), (0, 0, 250 * 257, 65535)}


def test_float_vertex_colours_beside_a_material() -> None:
    """glTF allows COLOR_0 as floats; read as bytes they would be black."""
    tree = {
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0, "COLOR_0": 0}, "indices": 1, "material": 0}]}],
        "materials": [{}],
        "nodes": [{"mesh": 0, "name": "a"}, {"mesh": 0, "name": "b", "translation": [3, 0, 0]}],
        "scenes": [{"nodes": [0, 1]}],
    }
    box = trimesh.creation.box(bounds=[[0, 0, 0], [1, 1, 1]])
    found = colours_of(built("a.glb", gltf(tree, box.vertices, box.faces)))
    assert {channel for color in found for channel in color} == {0, 65535}


def test_stl_and_ply_fall_apart_into_components(tmp_path: Path) -> None:
    scene = trimesh.load_scene(io.BytesIO(boxes(a=(1, 0), b=(2, 3), c=(1, 9))), file_type="glb")
    mesh = scene.to_mesh()
    for kind in ("stl", "ply"):
        mesh.export(tmp_path / f"a.{kind}")
        rows = built_folder(tmp_path, f"a.{kind}")
        assert rows["objects"][0]["part_rule"] == "components"
        assert [part["name"] for part in rows["parts"]] == ["part", "part 2", "part 3"]
        assert rows["parts"][0]["surface"] == pytest.approx(24 / 36, rel=1e-5)


@pytest.mark.slow
def test_the_same_bytes_in_another_process() -> None:
    code = (
        "import sys, hashlib, pickle; from tests.assets_files import built; "
        "rows = built('a.glb', open(sys.argv[1], 'rb').read()); print(hashlib.sha256(pickle.dumps(rows)).hexdigest())"
    )
    command = [sys.executable, "-c", code, "data/samples/antiqueChair.glb"]
    runs = {
        subprocess.run(command, capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}).stdout
        for seed in ("1", "2")
    }
    assert len(runs) == 1


def test_samples_regroup_by_node() -> None:
    with open("data/samples/antiqueChair.glb", "rb") as file:
        rows = built("a.glb", file.read())
    parts = {part.name: part for part in parts_of(rows)}
    assert set(parts) == {"leuning", "zitting", "achterpoten", "voorpoten"}
    assert len(parts["leuning"].meshes) == 2
    assert all(isinstance(visual.material, PBRMaterial) for visual in visuals_of(rows))


@pytest.mark.slow
def test_blender_reads_one_named_object_a_part(tmp_path: Path) -> None:
    """The importer that the stage render uses: names, part numbers, textures and transforms arrive."""
    with open("data/samples/antiqueChair.glb", "rb") as file:
        rows = built("a.glb", file.read())
    path = tmp_path / "chair.glb"
    path.write_bytes(rows["glbs"][0]["glb"])
    code = f"""
import bpy, json, os, sys
bpy.ops.wm.read_factory_settings(use_empty=True)
bpy.ops.import_scene.gltf(filepath={str(path)!r})
objects = bpy.data.objects
found = [[o.type, o.name, o.get("part"), len(o.data.materials), list(o.matrix_world.translation)] for o in objects]
print("FOUND" + json.dumps([found, sorted(i.size[0] > 0 for i in bpy.data.images)]), flush=True)
os._exit(0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    found, images = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("FOUND"))[5:])
    expected = [["MESH", part["name"], part["part_id"], part["materials"], [0, 0, 0]] for part in rows["parts"]]
    assert sorted(found) == sorted(expected)
    assert images == [True, True]
