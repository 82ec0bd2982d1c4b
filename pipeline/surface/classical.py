"""Parts of a skin without a learnt model: what the grouping model is compared with.

Shape suffixes: F triangles, N superfaces, E borders of two, D channels.
"""

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import shortest_path
from sklearn.cluster import KMeans

from pipeline.surface.atoms import Triangles
from pipeline.surface.hierarchy import cut, hierarchy
from pipeline.surface.superfaces import face_regions, superfaces

KMEANS_WEIGHTS = np.repeat([0.5, 1.0, 1.0], 3)
"""Of normals, CIELAB / 100 and places in half the object's longest side."""
SAMPLE = 20_000
CONVEX = 0.2
"""How far apart a convex crease sets two regions, of what a concave one does (Katz and Tal 2003 have .1 to .2)."""
COLOUR, WAY = 4.0, 0.3
"""How far a step of colour (CIELAB / 100), and the way between the centres, set them apart, beside radians."""


def clustered(triangles: Triangles, colour_F3: np.ndarray, parts: int) -> np.ndarray:
    """The part (F,) of every triangle by K-means of normal, colour and place."""
    look_FD = face_regions(triangles, np.zeros(len(colour_F3), int), colour_F3).mean_RD * KMEANS_WEIGHTS
    rng = np.random.default_rng(0)
    sample = rng.choice(len(look_FD), SAMPLE, p=triangles.area_F / triangles.area_F.sum())
    clusters = KMeans(parts, n_init=1, random_state=0).fit(look_FD[sample])
    return np.unique(clusters.predict(look_FD), return_inverse=True)[1]


def linked(triangles: Triangles, colour_F3: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Superfaces (F,) and their average linkage (N - 1, 4), cut by `pipeline.surface.hierarchy:cut`.

    Two superfaces are as far apart as the shortest way over the surface is long, where concave creases and steps of
    colour are long, as in Katz and Tal, Hierarchical Mesh Decomposition using Fuzzy Clustering and Cuts (2003).
    """
    whole_F = np.zeros(len(colour_F3), int)
    atom_F = superfaces(triangles, whole_F, colour_F3)
    regions = face_regions(triangles, whole_F, colour_F3).merged(atom_F)
    one, other = regions.pair_E2.T
    normal_N3, colour_N3, place_N3 = np.split(regions.mean_RD, 3, axis=1)
    normal_N3 = normal_N3 / np.maximum(np.linalg.norm(normal_N3, axis=1), 1e-9)[:, None]
    angle_E = np.arccos((normal_N3[one] * normal_N3[other]).sum(axis=1).clip(-1, 1))
    way_E3 = place_N3[other] - place_N3[one]
    concave_E = ((normal_N3[other] - normal_N3[one]) * way_E3).sum(axis=1) < 0
    step_E = np.linalg.norm(colour_N3[one] - colour_N3[other], axis=1)
    far_E = angle_E * np.where(concave_E, 1, CONVEX) + COLOUR * step_E + WAY * np.linalg.norm(way_E3, axis=1)
    graph = coo_array((far_E + 1e-6, (one, other)), shape=(len(normal_N3),) * 2)
    far_NN = shortest_path(graph.tocsr(), directed=False)
    most = far_NN[np.isfinite(far_NN)].max() or 1.0
    return atom_F, hierarchy(1 - np.minimum(far_NN / most, 1))


def linked_parts(triangles: Triangles, colour_F3: np.ndarray, parts: int) -> np.ndarray:
    """The part (F,) of every triangle by this linkage."""
    atom_F, merges = linked(triangles, colour_F3)
    return cut(merges, min(parts, len(merges) + 1))[atom_F]
