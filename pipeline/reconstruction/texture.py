"""The colours of a field on a mesh of it: at the vertices, or baked into a texture with UVs.

Colours are display values (sRGB), as pictures and fields have them.

Shape suffixes: P points on the surface, V vertices, E edges, F triangles, T texels.
"""

from collections.abc import Iterator

import numpy as np
import torch
import xatlas
from PIL import Image
from scipy.ndimage import distance_transform_edt
from scipy.sparse import coo_array
from trimesh import Trimesh
from trimesh.util import unitize
from trimesh.visual import ColorVisuals, TextureVisuals
from trimesh.visual.material import PBRMaterial

from pipeline.reconstruction.field import Field
from pipeline.reconstruction.rays import Rays
from pipeline.reconstruction.renderer import render

OUTSIDE_CELLS, INSIDE_CELLS = 0.5, 1.5
"""Where the ray through a point of the surface begins and ends, in cells of the field."""
SAMPLES = 9
"""Of that ray."""
THIN = 1e-3
"""Opaqueness of the ray below which it says nothing of the colour."""
SEAM_TEXELS = 4
"""About the distance of charts in a texture, so that its smaller versions, as viewers make them, do not mix them."""
SMOOTHING = (0.5, -0.53) * 5
"""Steps of each vertex to the mean of its neighbours, and back (Taubin 1995: without shrinking), before charts are
sought: the ripples of marching cubes would tear the surface into seven times as many.
"""
TEXELS = 2**16
"""About as many are coloured at once."""


def painted(field: Field, mesh: Trimesh) -> Trimesh:
    """The mesh with the field's colours at its vertices, uint8 RGBA."""
    colours_V3 = _bytes(surface_colours(field, mesh.vertices, mesh.vertex_normals))
    coloured = mesh.copy()
    coloured.visual = ColorVisuals(coloured, vertex_colors=colours_V3)
    return coloured


def surface_colours(field: Field, points_P3: np.ndarray, normals_P3: np.ndarray) -> np.ndarray:
    """What a camera sees that looks straight at points of the field's surface, against the normals: (P, 3) in [0, 1].

    It is the renderer's colour of the few cells around each point: opacity rises over some depth, and what lies just
    below the surface is seen as well.
    """
    cell = 2 * field.scale / max(field.volume_CDHW.shape[1:])
    like = field.volume_CDHW
    points, normals = (torch.tensor(array).to(like) for array in (points_P3, normals_P3))
    near = points.new_zeros(len(points))
    rays = Rays(points + OUTSIDE_CELLS * cell * normals, -normals, near, near + (OUTSIDE_CELLS + INSIDE_CELLS) * cell)
    with torch.no_grad():
        seen = render([field], rays, SAMPLES, background=0.0)
        colours_P3 = seen.colour / seen.alpha[:, None]
        # Where the ray finds next to nothing, at a spike that decimation left, the point's own colour is defined.
        thin = seen.alpha < THIN
        colours_P3[thin] = field.evaluate(points[thin], -normals[thin])[1]
    return colours_P3.clamp(0, 1).cpu().numpy()


def bake(field: Field, mesh: Trimesh, pixels: int) -> Trimesh:
    """The mesh with UVs, its vertices doubled at the seams, and the field's colours in a texture, `pixels` a side.

    Every texel has the colour of its own point of the surface; those of no chart that of the nearest which is of one.
    """
    atlas = xatlas.Atlas()
    # In edges: triangles of less area than a fixed bound would be of no chart.
    atlas.add_mesh((_smoothed(mesh) / mesh.edges_unique_length.mean()).astype(np.float32), mesh.faces.astype(np.uint32))
    options = xatlas.PackOptions()
    options.resolution, options.padding = pixels, SEAM_TEXELS
    atlas.generate(pack_options=options)
    # UVs are in [0, 1] and count from the texture's upper row, in trimesh from its lower edge.
    origin_V, faces, uv_V2 = atlas[0]
    points_V3, normals_V3 = mesh.vertices[origin_V], mesh.vertex_normals[origin_V]
    texture = np.zeros((pixels, pixels, 3), np.uint8)
    covered = np.zeros((pixels, pixels), bool)
    for texels_T2, corners_T3, weights_T3 in _texels(uv_V2.astype(np.float64) * pixels, faces.astype(np.int64)):
        points_T3 = np.einsum("tk,tkc->tc", weights_T3, points_V3[corners_T3])
        normals_T3 = unitize(np.einsum("tk,tkc->tc", weights_T3, normals_V3[corners_T3]))
        where = texels_T2[:, 1], texels_T2[:, 0]
        texture[where] = _bytes(surface_colours(field, points_T3, normals_T3))
        covered[where] = True
    nearest = distance_transform_edt(~covered, return_distances=False, return_indices=True)
    material = PBRMaterial(
        baseColorTexture=Image.fromarray(texture[tuple(nearest)]),
        metallicFactor=0.0,
        roughnessFactor=1.0,
        doubleSided=False,
    )
    visual = TextureVisuals(uv=uv_V2 * (1, -1) + (0, 1), material=material)
    return Trimesh(points_V3, faces, vertex_normals=normals_V3, visual=visual, process=False)


def _smoothed(mesh: Trimesh) -> np.ndarray:
    """The vertices (V, 3) of a surface without ripples, around its centre."""
    one_E, other_E = mesh.edges_unique.T
    ends = np.concatenate([one_E, other_E]), np.concatenate([other_E, one_E])
    neighbours_VV = coo_array((np.ones(len(ends[0])), ends), shape=(len(mesh.vertices),) * 2).tocsr()
    count_V1 = neighbours_VV.sum(axis=1).clip(min=1)[:, None]
    points_V3 = mesh.vertices - mesh.bounds.mean(axis=0)
    for stride in SMOOTHING:
        points_V3 = points_V3 + stride * (neighbours_VV @ points_V3 / count_V1 - points_V3)
    return np.asarray(points_V3)


def _texels(places_V2: np.ndarray, faces_F3: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Chunks of the texels whose centres triangles cover: column and row (T, 2), the triangle's vertices (T, 3), and
    the weights (T, 3) with which they meet there. `places_V2` are in texels.
    """
    triangles_F32 = places_V2[faces_F3]
    first_F2 = np.ceil(triangles_F32.min(axis=1) - 0.5).astype(np.int64)
    sides_F2 = np.floor(triangles_F32.max(axis=1) - 0.5).astype(np.int64) - first_F2 + 1
    areas_F = sides_F2.clip(min=0).prod(axis=1)
    for some_F in np.split(np.arange(len(faces_F3)), np.flatnonzero(np.diff(areas_F.cumsum() // TEXELS)) + 1):
        face_T = some_F.repeat(areas_F[some_F])
        number_T = np.arange(len(face_T)) - (areas_F[some_F].cumsum() - areas_F[some_F]).repeat(areas_F[some_F])
        row_T, column_T = np.divmod(number_T, sides_F2[face_T, 0])
        texels_T2 = first_F2[face_T] + np.stack((column_T, row_T), axis=1)
        a_T2, b_T2, c_T2 = triangles_F32[face_T].swapaxes(0, 1) - (texels_T2 + 0.5)
        # Twice the areas of the triangles that the texel's centre makes with each of the sides.
        weights_T3 = np.stack([_cross(b_T2, c_T2), _cross(c_T2, a_T2), _cross(a_T2, b_T2)], axis=1)
        total_T = weights_T3.sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            weights_T3 /= total_T[:, None]
        inside_T = (weights_T3 >= 0).all(axis=1) & (total_T != 0)
        yield texels_T2[inside_T], faces_F3[face_T[inside_T]], weights_T3[inside_T]


def _cross(one_T2: np.ndarray, other_T2: np.ndarray) -> np.ndarray:
    return one_T2[:, 0] * other_T2[:, 1] - one_T2[:, 1] * other_T2[:, 0]


def _bytes(colours: np.ndarray) -> np.ndarray:
    return np.rint(colours * 255).astype(np.uint8)
