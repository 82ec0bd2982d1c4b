"""What Blender's own importers take from a 3D file, what our loader takes, and where the two differ."""

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree
from trimesh.triangles import closest_point, points_to_barycentric
from trimesh.visual.material import PBRMaterial

from pipeline.assets.bundle import read_bundle
from pipeline.assets.load import load_pieces
from pipeline.assets.readers import FolderReader
from pipeline.assets.surface import REPEAT, Surface

PROGRAM = Path(__file__).parent / "blender_import.py"
POINTS = 200
"""At which colours are compared."""
MAX_BYTES = 2**30
MIRRORED = 33648
TEXTURE_PX = 2**14
"""No texture is scaled down before the comparison."""


class Refused(Exception):
    """Blender could not read a file, or found no triangle in it."""


@dataclass(frozen=True)
class Taken:
    """What was taken from a file, in the file's own frame."""

    triangles: np.ndarray
    """(T, 3, 3), counter-clockwise seen from outside; those without area left out."""

    @property
    def areas(self) -> np.ndarray:
        """(T,)"""
        a, b, c = self.triangles.transpose(1, 0, 2)
        return np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2

    @property
    def bounds(self) -> np.ndarray:
        """(2, 3), low and high."""
        return np.stack([self.triangles.min(axis=(0, 1)), self.triangles.max(axis=(0, 1))])

    @property
    def diagonal(self) -> float:
        """Of the bounds."""
        return float(np.linalg.norm(self.bounds[1] - self.bounds[0]))

    @property
    def volume(self) -> float:
        """Signed, about the centre of the bounds: tells which side of the triangles is the outside."""
        a, b, c = (self.triangles - self.bounds.mean(axis=0)).transpose(1, 0, 2)
        return float(np.einsum("ti,ti->", a, np.cross(b, c)) / 6)

    @property
    def pieces(self) -> int:
        """How many pieces hang together by common points, whatever their nodes and materials."""
        points, corners = np.unique(self.triangles.reshape(-1, 3), axis=0, return_inverse=True)
        corners = corners.reshape(-1, 3)
        pairs = cKDTree(points).query_pairs(4e-6 * np.abs(self.bounds).max(), output_type="ndarray")
        pairs = np.concatenate([pairs, corners[:, :2], corners[:, 1:]])
        links = coo_array((np.ones(len(pairs)), pairs.T), shape=(len(points), len(points)))
        return connected_components(links)[0]

    def without_backs(self) -> Self:
        """One side alone of the sheets that have two: Blender's importer of glTF takes the other away."""
        corners = np.unique(self.triangles.reshape(-1, 3), axis=0, return_inverse=True)[1].reshape(-1, 3)
        first = np.unique(np.sort(corners, axis=1), axis=0, return_index=True)[1]
        return replace(self, triangles=self.triangles[np.sort(first)])


@dataclass(frozen=True)
class Blenders(Taken):
    """What Blender takes, with the bounds of its colours at some points."""

    points: np.ndarray
    """(P, 3)"""
    low: np.ndarray
    """(P, 4) linear RGBA, straight alpha."""
    high: np.ndarray
    """(P, 4)"""


@dataclass(frozen=True)
class Ours(Taken):
    """What our loader takes."""

    surfaces: list[Surface]
    warnings: list[str]


class Importers:
    """One long-lived Blender process that imports files."""

    def __init__(self) -> None:
        self._process = self._started()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def take(self, path: Path) -> Blenders:
        """What Blender takes from a file; Refused when it takes nothing or dies."""
        assert self._process.stdin is not None
        with tempfile.TemporaryDirectory(prefix="partgen-oracle-") as folder:
            out = Path(folder) / "taken.npz"
            job = {"file": str(path.resolve()), "out": str(out), "points": POINTS}
            self._process.stdin.write(json.dumps(job) + "\n")
            self._process.stdin.flush()
            answer = self._read()
            if "error" in answer:
                raise Refused(answer["error"])
            with np.load(out) as file:
                arrays = {name: file[name] for name in file}
        return Blenders(**{**arrays, "triangles": _with_area(arrays["triangles"])})

    def _started(self) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, str(PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert process.stdout is not None
        assert "blender" in json.loads(process.stdout.readline())
        return process

    def _read(self) -> dict[str, str]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.communicate()
            self._process = self._started()
            raise Refused("Blender died")
        return json.loads(line)


def take_ours(path: Path, root: Path | None = None) -> Ours:
    """What our loader takes from a file in the folder that the user gave; ObjectDropped when it refuses it."""
    root = root or path.parent
    bundle = read_bundle(path.relative_to(root).as_posix(), FolderReader(root), MAX_BYTES)
    pieces, warnings = load_pieces(bundle, TEXTURE_PX, 0.0, 10**7, matrix=np.eye(4))
    surfaces = [piece.surface for piece in pieces]
    soups = [surface.vertices[surface.faces] for surface in surfaces]
    return Ours(_with_area(np.concatenate(soups)), surfaces, [*bundle.warnings, *warnings])


@dataclass(frozen=True)
class Allowed:
    """How far the two may differ."""

    area: float = 1e-4
    """Of the area."""
    any_number: bool = False
    """Polygons may be cut into other triangles, as long as they cover the same."""
    any_side: bool = False
    """What is the outside of a triangle is not compared."""
    bend: float = 1e-3
    """Of the diagonal of the bounds: how far surfaces may be apart. Polygons that are not flat depend on the cuts."""
    colours: float = 0.02
    """Share of points where rounding decides."""
    any_alpha: bool = False
    """Opacity is not compared."""


def differences(ours: Ours, theirs: Blenders, allowed: Allowed = Allowed()) -> list[str]:
    """What differs, one line each with our value and Blender's; empty where the two agree."""
    found = []
    if not np.isclose(ours.areas.sum(), theirs.areas.sum(), rtol=allowed.area):
        found.append(f"area {ours.areas.sum():.6g}, Blender's {theirs.areas.sum():.6g}")
    close = 1e-4 * theirs.diagonal + 1e-6 * np.abs(theirs.bounds).max()
    if np.abs(ours.bounds - theirs.bounds).max() > close:
        found.append(f"bounds {ours.bounds.round(4).tolist()}, Blender's {theirs.bounds.round(4).tolist()}")
    if not allowed.any_side and abs(ours.volume - theirs.volume) > allowed.area * theirs.areas.sum() * theirs.diagonal:
        found.append(f"volume {ours.volume:.6g}, Blender's {theirs.volume:.6g}")
    if not allowed.any_number and len(ours.triangles) != len(theirs.triangles):
        found.append(f"triangles {len(ours.triangles)}, Blender's {len(theirs.triangles)}")
    if ours.pieces != theirs.pieces:
        found.append(f"pieces {ours.pieces}, Blender's {theirs.pieces}")
    away, other = _compare_points(ours, theirs, allowed)
    if away:
        found.append(f"{away} of {len(theirs.points)} points of Blender's surface are not on ours")
    if len(other) > allowed.colours * len(theirs.points):
        found.append(f"colours differ at {len(other)} of {len(theirs.points)} points: {other[0]}")
    return found


def _with_area(triangles: np.ndarray) -> np.ndarray:
    areas = Taken(triangles).areas
    return triangles[areas > 1e-9 * areas.max(initial=0)]


def _compare_points(ours: Ours, theirs: Blenders, allowed: Allowed) -> tuple[int, list[str]]:
    """How many points have no surface of ours near, and a line for each where none that is near has the colour."""
    close = allowed.bend * theirs.diagonal + 1e-5 * np.abs(theirs.bounds).max()
    channels = slice(3 if allowed.any_alpha else 4)
    corners = [surface.vertices[surface.faces] for surface in ours.surfaces]
    low = np.concatenate([one.min(axis=1) for one in corners]) - close
    high = np.concatenate([one.max(axis=1) for one in corners]) + close
    owner = np.repeat(np.arange(len(corners)), [len(one) for one in corners])
    start = np.cumsum([0, *map(len, corners)])
    triangles = np.concatenate(corners)
    images = [_image(surface.material) for surface in ours.surfaces]
    away, other = 0, []
    for point, darkest, brightest in zip(theirs.points, theirs.low, theirs.high, strict=True):
        near = np.flatnonzero((point >= low).all(axis=1) & (point <= high).all(axis=1))
        nearest = closest_point(triangles[near], np.repeat(point[None], len(near), axis=0))
        on = np.linalg.norm(nearest - point, axis=1) <= close
        near, nearest = near[on], nearest[on]
        if not len(near):
            away += 1
            continue
        weights = points_to_barycentric(triangles[near], nearest)
        seen = [
            _colour(ours.surfaces[owner[k]], images[owner[k]], int(k - start[owner[k]]), weight)
            for k, weight in zip(near, weights, strict=True)
        ]
        if not any(_within(colour, darkest, brightest)[channels].all() for colour in seen):
            middle = np.round(_srgb((darkest + brightest) / 2) * 255).astype(int).tolist()
            other.append(f"{np.round(_srgb(seen[0]) * 255).astype(int).tolist()}, Blender's {middle}")
    return away, other


def _within(colour: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """(4,) whether channels of a linear colour lie within bounds, but for the rounding to 8 bits of it or its parts."""
    linear = (colour >= low - 0.008) & (colour <= high + 0.008)
    shown = (_srgb(colour) >= _srgb(low) - 0.02) & (_srgb(colour) <= _srgb(high) + 0.02)
    return linear | shown


def _image(material: PBRMaterial) -> np.ndarray | None:
    """The texture, (H, W, 4) uint8, the upper left first."""
    return None if material.baseColorTexture is None else np.asarray(material.baseColorTexture.convert("RGBA"))


def _colour(surface: Surface, image: np.ndarray | None, face: int, weights: np.ndarray) -> np.ndarray:
    """The base colour at a point of a triangle: RGBA, linear, straight alpha, as glTF 2.0 multiplies it."""
    material, corners = surface.material, surface.faces[face]
    factor = material.baseColorFactor
    colour = np.ones(4) if factor is None else np.asarray(factor, float) / 255
    if surface.uv is not None and image is not None:
        sizes = image.shape[1::-1]
        texels = np.floor(weights @ surface.uv[corners] * sizes).astype(int).tolist()
        column, row = (_wrapped(*one) for one in zip(texels, sizes, material.wrap, strict=True))
        texel = image[sizes[1] - 1 - row, column] / 255
        colour = colour * [*_linear(texel[:3]), texel[3]]
    if surface.colors is not None:
        colour = colour * (weights @ surface.colors[corners])
    if material.alphaMode in (None, "OPAQUE"):
        colour[3] = 1
    elif material.alphaMode == "MASK":
        colour[3] = colour[3] >= (0.5 if material.alphaCutoff is None else material.alphaCutoff)
    return colour


def _wrapped(texel: int, size: int, wrap: int) -> int:
    """A texel's number within a texture, by glTF's number for what is beyond its edges."""
    if wrap == REPEAT:
        return texel % size
    if wrap == MIRRORED:
        return min(texel % (2 * size), 2 * size - 1 - texel % (2 * size))
    return min(max(texel, 0), size - 1)


def _linear(srgb: np.ndarray) -> np.ndarray:
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def _srgb(linear: np.ndarray) -> np.ndarray:
    """RGB of linear light, and alpha as it is."""
    rgb = np.where(linear[:3] <= 0.0031308, linear[:3] * 12.92, 1.055 * np.clip(linear[:3], 0, 1) ** (1 / 2.4) - 0.055)
    return np.array([*rgb, linear[3]])
