"""Label maps against their definition, and against geometry computed without OpenGL."""

import os
import resource
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from trimesh.visual import TextureVisuals
from trimesh.visual.material import PBRMaterial

from pipeline.assets.glb import Part
from pipeline.views.cameras import GRID_AZIMUTHS, Camera, camera_to_world
from pipeline.views.labels import LabelViews, draw_labels

CAMERA = Camera(fov_deg=40.0, distance=3.1, size=48)
VIEWS = [(azimuth, 20.0) for azimuth in GRID_AZIMUTHS]


def draw(parts: list[Part], views: list[tuple[float, float]]) -> LabelViews:
    return draw_labels(parts, CAMERA, views)


def part(part_id: int, *meshes: trimesh.Trimesh) -> Part:
    return Part(part_id, f"part {part_id}", list(meshes))


def box(size: tuple[float, ...], at: tuple[float, ...] = (0, 0, 0), degrees: float = 0.0) -> trimesh.Trimesh:
    mesh = trimesh.creation.box(size)
    mesh.apply_transform(trimesh.transformations.rotation_matrix(np.radians(degrees), (1, 2, 3)))
    return mesh.apply_translation(at)


def card(z: float, material: PBRMaterial | None = None) -> trimesh.Trimesh:
    """A square of side 1.2 that faces +Z, with texture coordinates over it."""
    corners = np.array([(-0.6, -0.6, z), (0.6, -0.6, z), (0.6, 0.6, z), (-0.6, 0.6, z)])
    visual = TextureVisuals(uv=corners[:, :2] / 1.2 + 0.5, material=material or PBRMaterial())
    return trimesh.Trimesh(corners, [(0, 1, 2), (0, 2, 3)], visual=visual, process=False)


DEPTH_STEP = 1e-4
"""Surfaces that are nearer together than the depth buffer resolves are equally near: either part may be seen."""

offset = st.floats(-0.4, 0.4)
boxes = st.builds(
    box,
    st.tuples(*[st.floats(0.05, 0.7)] * 3),
    st.tuples(offset, offset, offset),
    st.floats(0, 90),
)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(st.lists(boxes, min_size=1, max_size=5), st.booleans())
def test_label_is_the_nearest_part(meshes: list[trimesh.Trimesh], twin: bool) -> None:
    if twin:  # the last part lies exactly in the first: the smaller id is seen, as with argmin
        meshes = [*meshes, meshes[0].copy()]
    parts = [part(k, mesh) for k, mesh in enumerate(meshes, start=1)]
    whole = draw(parts, VIEWS)
    depth = np.stack([draw([one], VIEWS).depth for one in parts])
    seen = np.isfinite(depth.min(axis=0))
    assert np.array_equal(whole.labels > 0, seen)
    assert np.array_equal(whole.opacity > 0, seen)
    labelled = np.take_along_axis(depth, np.maximum(whole.labels.astype(int) - 1, 0)[None], axis=0)[0]
    np.testing.assert_allclose(whole.depth[seen], depth.min(axis=0)[seen], atol=DEPTH_STEP)
    np.testing.assert_allclose(labelled[seen], depth.min(axis=0)[seen], atol=DEPTH_STEP)
    rest = np.sort(depth, axis=0)
    clear = seen & (rest[1] > rest[0] + DEPTH_STEP) if len(parts) > 1 else seen
    assert np.array_equal(whole.labels[clear], (depth.argmin(axis=0) + 1)[clear])
    assert not (twin and (whole.labels == len(parts)).any())


@settings(max_examples=10, deadline=None)
@given(st.lists(boxes, min_size=1, max_size=4), st.floats(0, 360), st.floats(-60, 60))
def test_labels_agree_with_rays_through_the_pixels(
    meshes: list[trimesh.Trimesh], azimuth: float, elevation: float
) -> None:
    """Rays are cast here from the definition of the camera alone; only pixels that an edge runs through may differ."""
    views = draw([part(k, mesh) for k, mesh in enumerate(meshes, start=1)], [(azimuth, elevation)])
    expected, distance = nearest_by_rays(meshes, azimuth, elevation)
    labels, depth = views.labels[0], views.depth[0]
    inside = np.ones_like(labels, bool)
    for axis in (0, 1):
        for step in (-1, 1):
            inside &= np.roll(expected, step, axis) == expected
    assert np.mean(labels[inside] == expected[inside]) > 0.995
    same = inside & (labels == expected) & (labels > 0)
    assert np.allclose(depth[same], distance[same], atol=2e-4)


def nearest_by_rays(meshes: list[trimesh.Trimesh], azimuth: float, elevation: float) -> tuple[np.ndarray, np.ndarray]:
    """The id of the first mesh that each pixel's ray hits, and its depth along the viewing axis."""
    pose = camera_to_world(azimuth, elevation, CAMERA.distance)
    half = np.tan(np.radians(CAMERA.fov_deg) / 2)
    steps = ((np.arange(CAMERA.size) + 0.5) / CAMERA.size * 2 - 1) * half
    x, y = np.meshgrid(steps, -steps)
    rays = np.stack([x, y, -np.ones_like(x)], axis=-1).reshape(-1, 3) @ pose[:3, :3].T
    labels, nearest = np.zeros(len(rays), np.uint8), np.full(len(rays), np.inf)
    for part_id, mesh in enumerate(meshes, start=1):
        for corner, b, c in mesh.triangles:
            normal = np.cross(b - corner, c - corner)
            with np.errstate(divide="ignore", invalid="ignore"):
                t = np.dot(corner - pose[:3, 3], normal) / (rays @ normal)
            point = pose[:3, 3] + t[:, None] * rays - corner
            basis = np.stack([b - corner, c - corner], axis=1)
            u, v = (np.linalg.pinv(basis) @ np.nan_to_num(point).T)[:2]
            hit = (t > 0) & (u >= 0) & (v >= 0) & (u + v <= 1) & (t < nearest)
            labels[hit], nearest[hit] = part_id, t[hit]
    shape = (CAMERA.size, CAMERA.size)
    return labels.reshape(shape), nearest.reshape(shape)


def test_back_faces_are_surfaces() -> None:
    front, back = draw([part(1, card(0.0))], [(0, 0), (180, 0)]).labels
    assert front.any()
    assert np.array_equal(front, back[:, ::-1])


def test_glass_hides_what_lies_behind() -> None:
    glass = PBRMaterial(baseColorFactor=[255, 255, 255, 64], alphaMode="BLEND")
    views = draw([part(1, card(0.5, glass)), part(2, card(-0.5))], [(0, 0)])
    assert set(np.unique(views.labels)) == {0, 1}
    assert np.allclose(views.opacity[views.labels == 1], 64 / 255, atol=1e-6)


@pytest.mark.parametrize("mode", ["BLEND", "MASK"])
def test_holes_in_textures_are_holes(mode: str) -> None:
    texture = np.full((64, 64, 4), 255, np.uint8)
    texture[:, :32, 3] = 0  # the left half
    leaf = PBRMaterial(baseColorTexture=Image.fromarray(texture), alphaMode=mode)
    labels = draw([part(1, card(0.5, leaf)), part(2, card(-0.5))], [(0, 0)]).labels[0]
    left, right = labels[:, : CAMERA.size // 2 - 1], labels[:, CAMERA.size // 2 + 1 :]
    assert set(np.unique(left)) == {0, 2}
    assert set(np.unique(right)) == {0, 1}


@pytest.mark.parametrize(("covered", "seen"), [(4, True), (1, False)])
def test_leaves_stay_and_nets_go(covered: int, seen: bool) -> None:
    """Stripes far finer than a pixel: half covered is a surface, an eighth is a hole, without a random pattern."""
    texture = np.full((256, 256, 4), 255, np.uint8)
    texture[:, np.arange(256) % 8 >= covered, 3] = 0
    leaf = PBRMaterial(baseColorTexture=Image.fromarray(texture), alphaMode="MASK", alphaCutoff=0.5)
    labels = draw([part(1, card(0.0, leaf))], [(0, 0)]).labels[0]
    inner = labels[CAMERA.size // 2 - 4 : CAMERA.size // 2 + 4, CAMERA.size // 2 - 4 : CAMERA.size // 2 + 4]
    assert inner.all() if seen else not inner.any()


def test_order_and_other_sizes_change_nothing() -> None:
    """One context draws all sizes; parts of equal depth do not depend on the order in which they are given."""
    parts = [part(1, box((0.9, 0.2, 0.5))), part(2, box((0.2, 0.9, 0.2))), part(3, box((0.9, 0.2, 0.5)))]
    first = draw(parts, VIEWS)
    large = draw_labels(parts, replace(CAMERA, size=3 * CAMERA.size), VIEWS)
    again = draw(parts[::-1], VIEWS)
    assert np.array_equal(first.labels, again.labels)
    assert np.array_equal(first.depth, again.depth)
    # The centre of a pixel is the centre of the middle one of the nine that lie in it.
    assert np.array_equal(first.labels, large.labels[:, 1::3, 1::3])


@pytest.mark.slow
def test_memory_stays_over_hundreds_of_objects() -> None:
    texture = np.random.default_rng(0).integers(0, 255, (256, 256, 4), dtype=np.uint8)
    leaf = PBRMaterial(baseColorTexture=Image.fromarray(texture), alphaMode="BLEND")
    ball = trimesh.creation.icosphere(4, radius=0.4)

    def peak_mib_after(objects: int) -> float:
        for _ in range(objects):
            draw([part(1, ball.copy()), part(2, card(0.1, leaf))], VIEWS)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    before = peak_mib_after(30)
    assert peak_mib_after(200) - before < 20  # one object's buffers are over half a MiB


def test_part_ids_fit_a_byte() -> None:
    with pytest.raises(ValueError, match="part id 256 is not within"):
        draw([part(256, card(0.0))], VIEWS)


@pytest.mark.slow
def test_no_opengl_is_one_sentence() -> None:
    program = (
        "from pipeline.views.cameras import Camera; from pipeline.views.labels import draw_labels\n"
        "from pipeline.errors import UserError\n"
        "try: draw_labels([], Camera(40, 3.1, 64), [(0, 0)])\n"
        "except UserError as error: print(error)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "EGL_DEVICE_ID": "99"}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert "does not start here" in result.stdout
    assert "EGL_DEVICE_ID" in result.stdout
    assert result.stdout.count("\n") == 1
