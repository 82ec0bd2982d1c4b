"""Meshes of parts in one GLB: names, places, colours and attribution, read back."""

import io
from typing import Any

import numpy as np
import pytest
import trimesh
from PIL import Image
from trimesh.visual import ColorVisuals, TextureVisuals
from trimesh.visual.material import PBRMaterial

from pipeline.assets.glb import load_parts, read_header
from pipeline.errors import UserError
from pipeline.reconstruction.assembly import NamedPart, assemble

NOTICE = "“Chair” by Ünal © 2020, CC BY 4.0"
EXTRAS = {"licence": "CC-BY-4.0", "author": "Ünal", "source": "https://example.org/chair"}
COLOUR = (188, 12, 255)


def painted(centre: tuple[float, float, float]) -> trimesh.Trimesh:
    mesh = trimesh.creation.icosphere(subdivisions=1, radius=0.2)
    mesh.apply_translation(centre)
    mesh.visual = ColorVisuals(mesh, vertex_colors=np.tile((*COLOUR, 255), (len(mesh.vertices), 1)).astype(np.uint8))
    return mesh


def textured(picture: Image.Image) -> trimesh.Trimesh:
    mesh = trimesh.creation.box((0.2, 0.2, 0.2))
    material = PBRMaterial(baseColorTexture=picture, metallicFactor=0.0, roughnessFactor=1.0, doubleSided=False)
    mesh.visual = TextureVisuals(uv=mesh.vertices[:, :2] + 0.5, material=material)
    return mesh


def accessor(glb: bytes, tree: dict[str, Any], number: int) -> np.ndarray:
    """Values of a COLOR_0."""
    found = tree["accessors"][number]
    assert (found["componentType"], found["type"], found["normalized"]) == (5123, "VEC4", True)
    view = tree["bufferViews"][found["bufferView"]]
    start = len(glb) - tree["buffers"][0]["byteLength"] + view["byteOffset"] + found["byteOffset"]
    return np.frombuffer(glb, "<u2", found["count"] * 4, start).reshape(-1, 4)


def test_every_part_is_a_named_node_in_place() -> None:
    names = ["leg", "leg", "", 'a "5" <nut> \\ & né 🪑', "line\nbreak"]
    ids = [1, 2, 4, 5, 7]
    centres = [(0.5, 0.0, 0.0), (-0.5, 0.0, 0.0), (0.0, 0.5, 0.0), (0.0, -0.5, 0.0), (0.0, 0.0, 0.5)]
    parts = [NamedPart(name, number, painted(at)) for name, number, at in zip(names, ids, centres, strict=True)]
    glb = assemble(parts, NOTICE, EXTRAS)
    tree = read_header(glb)
    assert [node["name"] for node in tree["nodes"]] == ["leg", "leg 2", "part", *names[3:]]
    assert [node["extras"] for node in tree["nodes"]] == [{"part": number} for number in ids]
    assert tree["asset"]["copyright"] == NOTICE
    assert tree["asset"]["extras"] == EXTRAS
    scene = trimesh.load_scene(io.BytesIO(glb), file_type="glb", process=False)
    assert len(scene.geometry) == len(parts)
    by_name = {node: scene.graph[node] for node in scene.graph.nodes_geometry}
    for node, centre in zip(tree["nodes"], centres, strict=True):
        matrix, geometry = by_name[node["name"]]
        mesh = scene.geometry[geometry]
        np.testing.assert_allclose((mesh.bounds @ matrix[:3, :3] + matrix[:3, 3]).mean(axis=0), centre, atol=1e-6)
        assert mesh.is_watertight
        assert mesh.volume > 0


def test_a_part_turns_around_its_own_centre_and_has_its_own_material() -> None:
    centres = [(0.5, 0.0, 0.0), (0.0, -0.5, 0.25)]
    glb = assemble([NamedPart("leg", k, painted(at)) for k, at in enumerate(centres, start=1)], NOTICE, EXTRAS)
    tree = read_header(glb)
    assert [material["name"] for material in tree["materials"]] == ["leg", "leg 2"]
    for node, mesh, centre in zip(tree["nodes"], tree["meshes"], centres, strict=True):
        np.testing.assert_allclose(node["translation"], centre, atol=1e-6)
        (primitive,) = mesh["primitives"]
        assert tree["materials"][primitive["material"]]["name"] == node["name"]
        bounds = tree["accessors"][primitive["attributes"]["POSITION"]]
        np.testing.assert_allclose(np.add(bounds["min"], bounds["max"]), 0, atol=1e-6)


def test_a_frame_moves_all_parts_and_leaves_them_as_they_are() -> None:
    parts = [NamedPart("box", 1, textured(Image.new("RGB", (4, 4)))), NamedPart("leg", 2, painted((0.5, 0.0, 0.0)))]
    # Twice as large, a quarter turn around X, and far away.
    frame = np.array([[2.0, 0, 0, 100], [0, 0, -2, 0], [0, 2, 0, -30], [0, 0, 0, 1]])
    plain, framed = assemble(parts, NOTICE, EXTRAS), assemble(parts, NOTICE, EXTRAS, frame)
    tree = read_header(framed)
    assert tree["nodes"][:2] == read_header(plain)["nodes"]
    assert tree["scenes"] == [{"nodes": [2]}]
    scene = trimesh.load_scene(io.BytesIO(framed), file_type="glb", process=False)
    matrix, geometry = scene.graph["box"]
    corners = trimesh.transform_points(scene.geometry[geometry].vertices, matrix)
    np.testing.assert_allclose(corners, trimesh.transform_points(parts[0].mesh.vertices, frame), rtol=1e-6)
    with pytest.raises(ValueError, match="no GLB of the stage assets"):
        load_parts(framed)


def test_the_data_half_reads_what_is_assembled() -> None:
    places = {"seat": (0.0, 0.0, 0.0), "leg": (0.0, -0.5, 0.0)}
    parts = [NamedPart(name, number, painted(at)) for number, (name, at) in enumerate(places.items(), start=1)]
    found = load_parts(assemble(parts, "", {}))
    assert [(part.part_id, part.name, len(part.meshes)) for part in found] == [(1, "seat", 1), (2, "leg", 1)]
    for part, written in zip(found, parts, strict=True):
        np.testing.assert_allclose(part.meshes[0].vertices, written.mesh.vertices, atol=1e-6)


def test_a_part_alone_stays_in_place() -> None:
    glb = assemble([NamedPart("leg", 3, painted((0.0, -0.5, 0.0)))], NOTICE, EXTRAS)
    assert [node["extras"] for node in read_header(glb)["nodes"]] == [{"part": 3}]
    mesh = trimesh.load_mesh(io.BytesIO(glb), file_type="glb")
    np.testing.assert_allclose(mesh.bounds.mean(axis=0), (0.0, -0.5, 0.0), atol=1e-6)


def test_vertex_colours_are_linear_and_materials_plain() -> None:
    glb = assemble([NamedPart("leg", 1, painted((0.0, 0.0, 0.0)))], NOTICE, EXTRAS)
    tree = read_header(glb)
    (primitive,) = tree["meshes"][0]["primitives"]
    assert set(primitive["attributes"]) == {"POSITION", "NORMAL", "COLOR_0"}
    values = accessor(glb, tree, primitive["attributes"]["COLOR_0"]) / 65535
    # 188 of 255 is half the light; 12 of 255 lies on the straight beginning of the curve.
    np.testing.assert_allclose(values, np.tile((0.5029, 12 / 255 / 12.92 * 1.0032, 1, 1), (len(values), 1)), atol=2e-4)
    (material,) = tree["materials"]
    assert material["doubleSided"] is False
    assert material["pbrMetallicRoughness"] == {"roughnessFactor": 1.0, "metallicFactor": 0.0}


def test_textures_are_stored_as_they_are() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    glb = assemble([NamedPart("seat", 1, textured(Image.fromarray(pixels)))], NOTICE, EXTRAS)
    tree = read_header(glb)
    assert tree["images"][0]["mimeType"] == "image/png"
    assert set(tree["meshes"][0]["primitives"][0]["attributes"]) >= {"POSITION", "TEXCOORD_0"}
    mesh = trimesh.load_mesh(io.BytesIO(glb), file_type="glb")
    assert isinstance(mesh.visual, TextureVisuals)
    np.testing.assert_array_equal(np.asarray(mesh.visual.material.baseColorTexture), pixels)
    assert tree["materials"][0]["doubleSided"] is False


def test_the_same_parts_give_the_same_bytes() -> None:
    def glb() -> bytes:
        return assemble([NamedPart("leg", 1, painted((0.1, 0.0, 0.0)))], NOTICE, EXTRAS)

    assert glb() == glb()


def test_nothing_to_assemble_is_said() -> None:
    with pytest.raises(UserError, match="no part to assemble"):
        assemble([], NOTICE, EXTRAS)
