"""Triangles with their look, the pieces of an object, and the measures of them that the part rule needs."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import ConvexHull, QhullError
from trimesh import Trimesh
from trimesh.visual import TextureVisuals
from trimesh.visual.material import PBRMaterial

VOLUME_METHODS = ("mesh", "hull", "flat")
"""How a volume was had: of the closed mesh; of the convex hull, where the mesh is open; zero, where it is flat."""

Up = Literal["y", "z"]
"""The axis that points up in a file."""
LINEAR_COLOURS = "_COLOR_0"
"""Vertex attribute (V, 4) uint16 of a trimesh that is written as glTF's COLOR_0, which is linear; trimesh itself writes
eight bits, too few for dark linear colours.
"""

REPEAT = 10497
"""glTF's number for a texture that is repeated beyond its edges, as all are unless a file says otherwise."""


class Material(PBRMaterial):
    """A material whose textures may be clamped or mirrored beyond their edges."""

    def __init__(self, wrap: tuple[int, int] = (REPEAT, REPEAT), **values: Any) -> None:
        super().__init__(**values)
        self.wrap = wrap
        """glTF's numbers, along U and V."""

    def __hash__(self) -> int:
        return hash((super().__hash__(), self.wrap))


@dataclass(frozen=True)
class Surface:
    """Triangles of one material."""

    vertices: np.ndarray
    """(V, 3) float64."""
    faces: np.ndarray
    """(F, 3) int64, counter-clockwise seen from outside."""
    normals: np.ndarray | None
    """(V, 3) unit vectors as the file has them."""
    uv: np.ndarray | None
    """(V, 2), the origin at the lower left."""
    colors: np.ndarray | None
    """(V, 4) float32 in [0, 1], linear light and straight alpha; the material's colour is multiplied by them."""
    material: Material

    def areas(self) -> np.ndarray:
        """(F,) areas of the triangles."""
        a, b, c = (self.vertices[self.faces[:, k]] for k in range(3))
        return np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2

    def take(self, mask: np.ndarray) -> "Surface":
        """The triangles where `mask` (F,) is true, with only the vertices that they use."""
        faces = self.faces[mask]
        is_used = np.zeros(len(self.vertices), bool)
        is_used[faces] = True
        used = np.flatnonzero(is_used)
        place = np.empty(len(self.vertices), np.int64)
        place[used] = np.arange(len(used))
        return replace(
            self,
            vertices=self.vertices[used],
            faces=place[faces],
            normals=None if self.normals is None else self.normals[used],
            uv=None if self.uv is None else self.uv[used],
            colors=None if self.colors is None else self.colors[used],
        )

    def transformed(self, matrix: np.ndarray) -> "Surface":
        """Moved by a (4, 4) affine matrix; a mirror turns the triangles over, so that the outside stays outside."""
        linear = matrix[:3, :3]
        determinant = np.linalg.det(linear)
        normals = self.normals
        if normals is not None and determinant != 0:
            normals = normals @ np.linalg.inv(linear)  # normals move by the inverse transpose
            normals = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-30)
        return replace(
            self,
            vertices=self.vertices @ linear.T + matrix[:3, 3],
            faces=self.faces[:, ::-1] if determinant < 0 else self.faces,
            normals=normals,
        )

    def to_trimesh(self) -> Trimesh:
        """A trimesh with the same triangles and look."""
        visual = TextureVisuals(uv=self.uv, material=self.material)
        mesh = Trimesh(self.vertices, self.faces, vertex_normals=self.normals, visual=visual, process=False)
        if self.colors is not None:
            colours = np.rint(self.colors * 65535).astype(np.uint16, order="F")  # its extremes are found much faster
            mesh.vertex_attributes[LINEAR_COLOURS] = colours
        return mesh


@dataclass(frozen=True)
class Piece:
    """The geometry of one node (or OBJ group) with one material, in the object's own frame."""

    node: str
    """Tells the nodes of one object apart."""
    node_name: str
    """The artist's name of the node; may repeat."""
    material_name: str
    surface: Surface


def total_area(surfaces: Sequence[Surface]) -> float:
    """The area of all triangles."""
    return float(sum(surface.areas().sum() for surface in surfaces))


def volume(surfaces: Sequence[Surface]) -> tuple[float, str]:
    """The volume that surfaces enclose together, and how it was had (one of VOLUME_METHODS)."""
    vertices, faces = welded(surfaces)
    mesh = Trimesh(vertices, faces, process=False)
    if mesh.is_watertight and mesh.is_winding_consistent:
        return float(abs(mesh.volume)), "mesh"
    try:
        return float(ConvexHull(vertices).volume), "hull"
    except (QhullError, ValueError):
        return 0.0, "flat"


def welded(surfaces: Sequence[Surface]) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (V, 3) and faces (F, 3) of surfaces together, where equal positions are one vertex."""
    vertices = np.concatenate([surface.vertices for surface in surfaces])
    starts = np.cumsum([0, *(len(surface.vertices) for surface in surfaces)])
    faces = np.concatenate([surface.faces + start for surface, start in zip(surfaces, starts, strict=False)])
    size = float(np.ptp(vertices, axis=0).max()) or 1.0
    _, first, index = np.unique(np.round(vertices / size, 6), axis=0, return_index=True, return_inverse=True)
    faces = index.reshape(-1)[faces]
    whole = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
    return vertices[first], faces[whole]


def components(surface: Surface) -> list[Surface]:
    """The pieces of a surface that hang together by shared positions, in the order of their first triangle."""
    size = float(np.ptp(surface.vertices, axis=0).max()) or 1.0
    _, index = np.unique(np.round(surface.vertices / size, 6), axis=0, return_inverse=True)
    corners = index.reshape(-1)[surface.faces]
    edges = np.concatenate([corners[:, [0, 1]], corners[:, [1, 2]]])
    graph = coo_array((np.ones(len(edges), bool), (edges[:, 0], edges[:, 1])), shape=(corners.max() + 1,) * 2)
    labels = connected_components(graph, directed=False)[1][corners[:, 0]]
    _, first, labels = np.unique(labels, return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(first))[labels]
    if len(first) == 1:
        return [surface]
    by_label = np.argsort(order, kind="stable")
    bounds = np.searchsorted(order[by_label], np.arange(len(first) + 1))
    return [surface.take(by_label[start:end]) for start, end in itertools.pairwise(bounds)]


def surface_points(surfaces: Sequence[Surface], count: int) -> np.ndarray:
    """About 2 `count` points on surfaces, (P, 3), always the same: spread by area, and some of the vertices."""
    rng = np.random.default_rng(0)
    vertices, faces = welded(surfaces)
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    areas = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    if not len(faces) or not areas.sum():
        return vertices[:: max(1, len(vertices) // count)]
    chosen = np.searchsorted(np.cumsum(areas) / areas.sum(), (np.arange(count) + 0.5) / count).clip(max=len(faces) - 1)
    root, v = np.sqrt(rng.random((count, 1))), rng.random((count, 1))
    inner = (1 - root) * a[chosen] + root * (1 - v) * b[chosen] + root * v * c[chosen]
    return np.concatenate([inner, vertices[:: max(1, len(vertices) // count)]])
