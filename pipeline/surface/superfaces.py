"""Superfaces: the atoms of surfaces that are one skin, such as scans and generated meshes.

Triangles that share an edge are merged, the likest first: into a few thousand compact patches, whose size is the scale
at which creases are measured, and these into superfaces, whose borders run along creases and edges of colour.
Shape suffixes: F triangles, R regions, E borders of two regions, N atoms, D channels.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from pipeline.surface.atoms import MOST_LABELS, Triangles
from pipeline.surface.points import NO_AREA, colours

MOST = 220
"""Superfaces of an object."""
PATCHES = 6000
PATCH_WEIGHTS = np.repeat([1.0, 1.5, 2.0], 3)
"""How much unlike normals, CIELAB / 100 and places (in half the object's longest side) count among patches."""
WEIGHTS = np.repeat([0.7, 2.0, 0.5], 3)
"""Among superfaces."""
SIZE_POWER = 0.8
"""How much large regions are kept apart before small ones; 1 is Ward's criterion, which has no small superfaces."""
MOST_CONTRAST = 3.0
COLOUR_CONTRAST = 2.0
"""A step of colour (CIELAB / 100) that is as strong a border as a crease of one radian."""
SMOOTHING, SWEEPS = 0.3, 6
"""How much the length of borders counts against how like its region a triangle is; and how often all are asked."""
LARGE_SHARE = 0.25
"""Of the object's area: smaller atoms are never divided."""
EVEN_TRIANGLES, EVEN_TRIANGLES_VARIED = 10_000, 3000
"""How many triangles make a skin; the second where its colours vary, as those of a baked texture do."""
VARIED = 8.0
"""Standard deviation in CIELAB."""
EAGER = 0.6
"""Share of the merges that are possible at once which are made before all costs are counted anew."""


@dataclass(frozen=True)
class Regions:
    """A partition of triangles, and where its regions meet."""

    area_R: np.ndarray
    sums_RD: np.ndarray
    """Area-weighted sums of normals, colours and places."""
    pair_E2: np.ndarray
    length_E: np.ndarray
    """Of the borders."""
    contrast_E: np.ndarray
    """Integrated over their length: how strong a crease or an edge of colour they are."""

    @property
    def mean_RD(self) -> np.ndarray:
        """Mean normal, colour and place."""
        return self.sums_RD / self.area_R[:, None]

    def merged(self, label_R: np.ndarray) -> "Regions":
        """Those of one label are one."""
        count = int(label_R.max()) + 1
        pair_E2 = np.sort(label_R[self.pair_E2], axis=1)
        apart = pair_E2[:, 0] != pair_E2[:, 1]
        keys, index = np.unique(pair_E2[apart, 0] * count + pair_E2[apart, 1], return_inverse=True)
        return Regions(
            np.bincount(label_R, self.area_R, count),
            np.stack([np.bincount(label_R, channel, count) for channel in self.sums_RD.T], axis=1),
            np.stack([keys // count, keys % count], axis=1),
            np.bincount(index, self.length_E[apart], len(keys)),
            np.bincount(index, self.contrast_E[apart], len(keys)),
        )


def superfaces(triangles: Triangles, atom_F: np.ndarray, colour_F3: np.ndarray, most: int = MOST) -> np.ndarray:
    """Atoms (F,) from 0, `most` in all where atoms are fewer, of which none lies in two of `atom_F`.

    `colour_F3` is CIELAB. What does not hang together within an atom is joined to the closest before others are.
    """
    faces = face_regions(triangles, atom_F, colour_F3)
    patch_F = _grown(faces, PATCHES, PATCH_WEIGHTS, 1.0)
    patches = faces.merged(patch_F)
    patches = replace(patches, contrast_E=_contrast(patches) * patches.length_E)
    label_F = _smoothed(_grown(patches, most, WEIGHTS, SIZE_POWER)[patch_F], faces)
    same_E = label_F[faces.pair_E2[:, 0]] == label_F[faces.pair_E2[:, 1]]
    piece_F = _components(len(label_F), faces.pair_E2[same_E])  # smoothing may cut bits off
    return _grown(faces.merged(piece_F), most, WEIGHTS, SIZE_POWER)[piece_F]


def with_superfaces(triangles: Triangles, atom_F: np.ndarray) -> np.ndarray:
    """Atoms (F,) from 0, those that are fused divided into superfaces; the others stay. At most MOST_LABELS in all.

    Triangles of no area, as remeshing leaves them, are of the closest superface of their atom.
    """
    colour_F3 = colours(triangles.surfaces)
    fused_F = fused_atoms(triangles, atom_F, colour_F3)[atom_F]
    if not fused_F.any():
        return atom_F
    solid_F = fused_F & (triangles.area_F > NO_AREA * triangles.area_F.sum())
    masks = triangles.split(solid_F)
    skins = [surface.take(mask) for surface, mask in zip(triangles.surfaces, masks, strict=True) if mask.any()]
    most = min(MOST, MOST_LABELS - len(np.unique(atom_F[~fused_F])))
    result_F, first = atom_F.copy(), int(atom_F.max()) + 1
    result_F[solid_F] = first + superfaces(Triangles(skins), atom_F[solid_F], colour_F3[solid_F], most)
    place_F3 = triangles.corners_F33.mean(axis=1)
    for atom in np.unique(atom_F[fused_F & ~solid_F]):
        here, bare = np.flatnonzero(solid_F & (atom_F == atom)), np.flatnonzero(~solid_F & (atom_F == atom))
        result_F[bare] = result_F[here[cKDTree(place_F3[here]).query(place_F3[bare])[1]]]
    return np.asarray(np.unique(result_F, return_inverse=True)[1])


def fused_atoms(triangles: Triangles, atom_F: np.ndarray, colour_F3: np.ndarray) -> np.ndarray:
    """Which atoms (N,) are one skin of what may be many parts: much of the object, and of very many triangles.

    Counted is how many equal triangles would be as spread, (sum of areas)^2 / sum of squares: modelled surfaces have
    few large and many small ones, scanned and generated ones are even.
    """
    area_N = np.bincount(atom_F, triangles.area_F)
    spread_N = area_N**2 / np.maximum(np.bincount(atom_F, triangles.area_F**2), 1e-300)
    weights = triangles.area_F / np.maximum(area_N, 1e-300)[atom_F]
    mean_N3 = np.stack([np.bincount(atom_F, weights * one) for one in colour_F3.T], axis=1)
    varied_N = np.bincount(atom_F, weights * ((colour_F3 - mean_N3[atom_F]) ** 2).sum(axis=1)) ** 0.5
    enough_N = np.where(varied_N > VARIED, EVEN_TRIANGLES_VARIED, EVEN_TRIANGLES)
    return np.asarray((area_N >= LARGE_SHARE * area_N.sum()) & (spread_N >= enough_N))


def face_regions(triangles: Triangles, atom_F: np.ndarray, colour_F3: np.ndarray) -> Regions:
    """Every triangle a region; those that share an edge within an atom meet."""
    size = float(np.ptp(triangles.corners_F33, axis=(0, 1)).max()) / 2 or 1.0
    cross_F3 = np.cross(*(triangles.corners_F33[:, k] - triangles.corners_F33[:, 0] for k in (1, 2)))
    normal_F3 = cross_F3 / np.maximum(np.linalg.norm(cross_F3, axis=1), 1e-30)[:, None]
    place_F3 = triangles.corners_F33.mean(axis=1) / size
    look_FD = np.concatenate([normal_F3, colour_F3 / 100, place_F3], axis=1)
    area_F = np.maximum(triangles.area_F / triangles.area_F.sum(), NO_AREA)
    pair_E2, length_E = borders(triangles)
    inside_E = atom_F[pair_E2[:, 0]] == atom_F[pair_E2[:, 1]]
    bridges = _bridges(place_F3, atom_F, pair_E2[inside_E])
    length_E = np.concatenate([length_E[inside_E] / size, np.zeros(len(bridges))])
    pair_E2 = np.concatenate([pair_E2[inside_E], bridges])
    return Regions(area_F, look_FD * area_F[:, None], pair_E2, length_E, np.zeros(len(pair_E2)))


def borders(triangles: Triangles) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (E, 2) of triangles that share an edge, and the lengths of the edges (E,)."""
    corners_F3 = triangles.corners_F3
    edges = np.sort(np.concatenate([corners_F3[:, [0, 1]], corners_F3[:, [1, 2]], corners_F3[:, [2, 0]]]), axis=1)
    ends = np.concatenate([triangles.corners_F33[:, [k, (k + 1) % 3]] for k in range(3)])
    key = edges[:, 0] * (int(corners_F3.max()) + 1) + edges[:, 1]
    order = np.argsort(key, kind="stable")
    same = np.flatnonzero(key[order[1:]] == key[order[:-1]])
    pair_E2 = np.stack([order[same], order[same + 1]], axis=1) % len(corners_F3)
    apart = (pair_E2[:, 0] != pair_E2[:, 1]) & (edges[order[same], 0] != edges[order[same], 1])
    ends = ends[order[same[apart]]]
    return pair_E2[apart], np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1)


def shared_borders(triangles: Triangles, atom_F: np.ndarray) -> np.ndarray:
    """(N, N) The length of the edges that atoms share, over the square root of the smaller one's area; at most 4."""
    count = int(atom_F.max()) + 1
    pair_E2, length_E = borders(triangles)
    one_E, other_E = atom_F[pair_E2].T
    length_NN = np.bincount(one_E * count + other_E, length_E, count * count).reshape(count, count)
    area_N = np.bincount(atom_F, triangles.area_F)
    smaller_NN = np.maximum(np.minimum(area_N[:, None], area_N[None]), 1e-300)
    border_NN = (length_NN + length_NN.T) / np.sqrt(smaller_NN)
    np.fill_diagonal(border_NN, 0)
    return np.minimum(border_NN, 4.0)


def _bridges(place_F3: np.ndarray, atom_F: np.ndarray, pair_E2: np.ndarray) -> np.ndarray:
    """(E, 2) triangles that make whole what of an atom does not hang together, each to its largest piece."""
    piece_F = _components(len(atom_F), pair_E2)
    count_R, atom_R = np.bincount(piece_F), np.zeros(int(piece_F.max()) + 1, int)
    atom_R[piece_F] = atom_F
    largest = np.lexsort((count_R, atom_R))
    main_R = np.zeros(len(atom_R), bool)
    main_R[largest[np.append(np.diff(atom_R[largest]) != 0, True)]] = True
    bridges = [np.empty((0, 2), int)]
    for atom in np.unique(atom_R[~main_R]):
        mine = atom_F == atom
        main, rest = np.flatnonzero(mine & main_R[piece_F]), np.flatnonzero(mine & ~main_R[piece_F])
        distance, nearest = cKDTree(place_F3[main]).query(place_F3[rest])
        closest = np.lexsort((distance, piece_F[rest]))
        first = closest[np.append(True, np.diff(piece_F[rest[closest]]) != 0)]
        bridges.append(np.stack([rest[first], main[nearest[first]]], axis=1))
    return np.concatenate(bridges)


def _grown(regions: Regions, most: int, weights_D: np.ndarray, power: float) -> np.ndarray:
    """The label (R,) of every region when those that cost least are merged until there are `most`.

    In every round those merge that are each other's likest: what one merge at a time would give, but for EAGER.
    """
    label = np.arange(len(regions.area_R))
    while len(regions.area_R) > most and len(regions.pair_E2):
        one, other = regions.pair_E2.T
        area_R, mean_RD = regions.area_R, regions.mean_RD * weights_D
        common_E = area_R[one] * area_R[other] / (area_R[one] + area_R[other])
        unlike_E = ((mean_RD[one] - mean_RD[other]) ** 2).sum(axis=1)
        cost_E = common_E**power * (unlike_E + regions.contrast_E / np.maximum(regions.length_E, 1e-12))
        rank_E = np.empty(len(cost_E), int)
        rank_E[np.argsort(cost_E, kind="stable")] = np.arange(len(cost_E))
        best_R = np.full(len(area_R), len(rank_E))
        np.minimum.at(best_R, one, rank_E)
        np.minimum.at(best_R, other, rank_E)
        both = np.flatnonzero((best_R[one] == rank_E) & (best_R[other] == rank_E))
        both = both[np.argsort(rank_E[both])][: min(len(area_R) - most, int(EAGER * len(both)) + 1)]
        target_R = np.arange(len(area_R))
        target_R[other[both]] = one[both]
        step_R = np.unique(target_R, return_inverse=True)[1]
        label, regions = step_R[label], regions.merged(step_R)
    return label


def _contrast(patches: Regions) -> np.ndarray:
    """(E,) The angle of patches, in radians, and their step of colour."""
    one, other = patches.pair_E2.T
    mean_RD = patches.mean_RD
    normal_R3 = mean_RD[:, :3] / np.maximum(np.linalg.norm(mean_RD[:, :3], axis=1), 1e-9)[:, None]
    angle_E = np.arccos((normal_R3[one] * normal_R3[other]).sum(axis=1).clip(-1, 1))
    step_E = np.linalg.norm(mean_RD[one, 3:6] - mean_RD[other, 3:6], axis=1)
    return np.asarray(np.minimum(angle_E + COLOUR_CONTRAST * step_E, MOST_CONTRAST))


def _smoothed(label_F: np.ndarray, faces: Regions) -> np.ndarray:
    """Triangles at borders go over to the region beside them where borders become shorter or regions more even."""
    rng = np.random.default_rng(0)
    look_FD = (faces.mean_RD * PATCH_WEIGHTS)[:, :6]
    count = int(label_F.max()) + 1
    source_E, beside_E = np.concatenate([faces.pair_E2, faces.pair_E2[:, ::-1]]).T
    length_E = np.concatenate([faces.length_E] * 2)
    for _ in range(SWEEPS):
        area_R = np.maximum(np.bincount(label_F, faces.area_R, count), 1e-30)
        sums_RD = np.stack([np.bincount(label_F, faces.area_R * one, count) for one in look_FD.T], axis=1)
        mean_RD = sums_RD / area_R[:, None]
        asked_F = np.zeros(len(label_F), bool)
        asked_F[source_E[label_F[source_E] != label_F[beside_E]]] = True
        asked_F &= rng.random(len(label_F)) < 0.5  # neighbours that change at once would go round in circles
        near_E = asked_F[source_E]
        keys, index = np.unique(source_E[near_E] * count + label_F[beside_E[near_E]], return_inverse=True)
        shared = np.bincount(index, length_E[near_E], len(keys))
        face, label = keys // count, keys % count
        unlike = ((look_FD[face] - mean_RD[label]) ** 2).sum(axis=1)
        order = np.lexsort((np.sqrt(faces.area_R[face]) * unlike - SMOOTHING * shared, face))
        first = order[np.flatnonzero(np.diff(face[order], prepend=-1))]
        label_F = label_F.copy()
        label_F[face[first]] = label[first]
    return np.unique(label_F, return_inverse=True)[1]


def _components(count: int, pair_E2: np.ndarray) -> np.ndarray:
    graph = coo_array((np.ones(len(pair_E2), bool), (pair_E2[:, 0], pair_E2[:, 1])), shape=(count, count))
    return np.asarray(connected_components(graph, directed=False)[1])
