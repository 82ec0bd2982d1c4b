"""Iso-surfaces of fields: closed triangle meshes of parts, in place, in the colours that a camera would see.

Opacity sigma has the unit 1 / length, so the level at which the surface stands depends on the unit: 1 is the radius of
the objects' bounding sphere, half the side of a field's cube before the field is placed elsewhere. Scaling a part in
the scene therefore scales its mesh and changes nothing else.

The paper writes nothing of meshes: marching cubes are those of Lewiner et al. 2003, decimation that of Garland and
Heckbert 1997.

Shape suffixes: M points, V vertices, X Y Z lattice points along the axes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import fast_simplification
import numpy as np
import torch
from scipy import ndimage
from skimage.measure import marching_cubes
from torch import Tensor
from trimesh import Trimesh

from pipeline.errors import NoSurface
from pipeline.params.reconstruct import MeshParams
from pipeline.reconstruction.field import Field
from pipeline.reconstruction.texture import bake, painted

CHUNK = 2**16
"""Points at which a field is evaluated at once."""

EMPTY = -1.0
"""Margin of a point that is exactly empty, where the opacity's logit is minus infinity."""


class EmptyField(NoSurface):
    """A part has no volume: its field is empty, or it is nowhere the densest. An absence to record, not a mistake."""


def mesh_field(field: Field, params: MeshParams, others: Sequence[Field] = ()) -> Trimesh:
    """The surface at which the field's opacity is `params.level`, in the scene's frame.

    Closed, also where the field ends at its cube's border; triangles counter-clockwise seen from outside, normals
    outwards. Loose pieces below `min_piece_share` of the largest one's volume are dropped. Decimation to
    `max_triangles` opens no holes, but may let surfaces touch along an edge. Colours are at the vertices (uint8 RGBA,
    display values as the field has them), or, with `texture_px`, in a texture with UVs.

    With `others`, a point is inside only where the field is denser than each of them, in the scene's unit (the overlap
    rule `densest`); of two fields that are equally dense neither has the point. Without, a cavity that nothing can look
    into is filled, since reconstructed parts are often hollow and triangles there would be wasted.

    Memory is that of one chunk of points, and some 20 bytes a point of the lattice of `params.resolution`.

    NoSurface when the opacity nowhere reaches the level: EmptyField when it is zero everywhere, or when the field is
    nowhere the densest. UserError when the field is not finite.
    """
    field.checked("The field to mesh")
    for other in others:
        other.checked("A field beside the one to mesh")
    lattice = _Lattice.of(field, params.resolution)
    margins_XYZ = lattice.margins(field, others, params.level)
    corner = _crop(margins_XYZ)
    _clean(margins_XYZ[corner], params.min_piece_share, fill=not others)
    vertices_V3, faces, _, _ = marching_cubes(margins_XYZ[corner], 0.0, gradient_direction="ascent")
    vertices_V3 += [axis.start for axis in corner]
    mesh = Trimesh(lattice.places(vertices_V3).clip(-1, 1) * field.scale + field.offset_3, faces, process=False)
    mesh.merge_vertices()  # those that clipping put into one place; triangles of two of them are lines
    mesh.update_faces(np.diff(np.sort(mesh.faces, axis=1), axis=1).all(axis=1))
    mesh = _decimated(mesh, params.max_triangles)
    return bake(field, mesh, params.texture_px) if params.texture_px else painted(field, mesh)


@dataclass(frozen=True)
class _Lattice:
    """Points in the centres of the cube's cells, and beyond its border at least one layer that is empty.

    Opacity is first looked at in every `stride`-th point, then in all points of those blocks of `stride`^3 cells
    through which the surface goes, and of the neighbours into which it is followed.
    """

    resolution: int
    """Cells a side of the cube."""
    stride: int

    @classmethod
    def of(cls, field: Field, resolution: int) -> "_Lattice":
        """The stride is at most half a cell of the field, as in `Field.supported`: what is smaller may be missed."""
        return cls(resolution, max(1, resolution // (2 * max(field.volume_CDHW.shape[1:]))))

    @property
    def count(self) -> int:
        """Points a side; one more than a multiple of the stride."""
        return -(-(self.resolution + 1) // self.stride) * self.stride + 1

    def places(self, index: np.ndarray) -> np.ndarray:
        """Where indices of points, whole or not, stand in the cube's frame."""
        return (index - 0.5) * (2 / self.resolution) - 1

    def margins(self, field: Field, others: Sequence[Field], level: float) -> np.ndarray:
        """By how much each point is inside, (X, Y, Z) float32, above 0 inside; exact next to the surface, elsewhere of
        the right sign.
        """
        margins = np.full((self.count,) * 3, EMPTY, np.float32)
        every_stride = (slice(None, None, self.stride),) * 3
        known = ~self._occupied(field)
        todo = np.zeros_like(known)
        todo[every_stride] = ~known[every_stride]
        densest, coarse = 0.0, True
        while todo.any():
            for where, points in self._points(todo, field):
                margins[where], largest = _margins(field, others, level, points)
                densest = max(densest, largest)
            known |= todo
            if coarse:
                blocks = margins[every_stride][:-1, :-1, :-1]
                for axis in range(3):
                    blocks = blocks.repeat(self.stride, axis)
                np.copyto(margins[:-1, :-1, :-1], blocks, where=~known[:-1, :-1, :-1])
                coarse = False
            todo = self._crossed(margins > 0) & ~known
        if not (margins > 0).any():
            raise _nothing(densest, level)
        return margins

    def _occupied(self, field: Field) -> np.ndarray:
        """The points in the cube and in a cell of the field's support, (X, Y, Z) bool."""
        occupied = np.zeros((self.count,) * 3, bool)
        support = np.ones((1, 1, 1), bool) if field.support_DHW is None else field.support_DHW.cpu().numpy()
        centres = 2 * np.arange(self.resolution) + 1
        cells = np.ix_(*(centres * side // (2 * self.resolution) for side in support.shape[::-1]))
        occupied[(slice(1, self.resolution + 1),) * 3] = support.transpose(2, 1, 0)[cells]
        return occupied

    def _points(self, wanted: np.ndarray, field: Field) -> Iterator[tuple[tuple[np.ndarray, ...], Tensor]]:
        """Chunks of the wanted points: their indices, and their places in the scene (M, 3)."""
        like = field.volume_CDHW
        for x in np.flatnonzero(wanted.any(axis=(1, 2))):
            y, z = np.nonzero(wanted[x])
            for start in range(0, len(y), CHUNK):
                some = (np.full_like(y[start : start + CHUNK], x), y[start : start + CHUNK], z[start : start + CHUNK])
                local = torch.from_numpy(self.places(np.stack(some, axis=1))).to(like.device, like.dtype)
                yield some, local * field.scale + local.new_tensor(field.offset_3)

    def _crossed(self, inside: np.ndarray) -> np.ndarray:
        """The points of all blocks that lie neither all inside nor all outside, faces included."""
        some = every = inside
        starts = np.arange(0, self.count - 1, self.stride)
        for axis in range(3):
            some = np.logical_or.reduce([some.take(starts + step, axis) for step in range(self.stride + 1)])
            every = np.logical_and.reduce([every.take(starts + step, axis) for step in range(self.stride + 1)])
        crossed = some & ~every
        points = np.arange(self.count)
        below, above = (points - 1).clip(min=0) // self.stride, (points // self.stride).clip(max=len(starts) - 1)
        for axis in range(3):
            crossed = crossed.take(below, axis) | crossed.take(above, axis)
        return crossed


@torch.no_grad()
def _margins(field: Field, others: Sequence[Field], level: float, points_M3: Tensor) -> tuple[np.ndarray, float]:
    """Margins (M,) of points of the scene, and the largest opacity among them, in the field's own unit.

    Opacities are compared as the logits that `Decoder` makes them of: those vary about linearly in space, so that
    marching cubes, which interpolates, puts the surface where the field has it.
    """
    sigma_M = field.opacity(points_M3) * field.scale
    rival_M = torch.full_like(sigma_M, level)
    dense = (sigma_M >= level).nonzero()[:, 0]
    for other in others:
        rival_M[dense] = rival_M[dense].maximum(other.opacity(points_M3[dense]) * field.scale)
    margin_M = _logit(sigma_M / field.decoder.gain) - _logit(rival_M / field.decoder.gain)
    return margin_M.where(sigma_M > 0, EMPTY).cpu().numpy(), float(sigma_M.max())


def _logit(opacity: Tensor) -> Tensor:
    """The inverse of softplus."""
    opacity = opacity.clamp(min=torch.finfo(opacity.dtype).tiny)
    return opacity + (-torch.expm1(-opacity)).log()


def _empty(reason: str, remedy: str) -> EmptyField:
    return EmptyField(f"{reason}; {remedy}.", f"{reason}.")


def _nothing(densest: float, level: float) -> NoSurface:
    if densest == 0:
        return _empty("The part's field is empty", "record the part as absent")
    if densest >= level:
        return _empty("Another part is denser everywhere", "record the part as absent, or keep the rule `additive`")
    return NoSurface(
        f"No opacity of the part reaches the level {level:g} of its surface, the largest is {densest:.3g}; "
        "lower reconstruct.mesh.level below that."
    )


def _crop(margins_XYZ: np.ndarray) -> tuple[slice, ...]:
    """What is inside and a layer around it; there always is one."""
    bounds = []
    for axis in range(3):
        filled = np.flatnonzero((margins_XYZ > 0).any(axis=tuple({0, 1, 2} - {axis})))
        bounds.append(slice(filled[0] - 1, filled[-1] + 2))
    return tuple(bounds)


def _clean(margins_XYZ: np.ndarray, min_share: float, fill: bool) -> None:
    """Take away, in place, the pieces below a share of the largest one's volume, and fill enclosed cavities."""
    labels, count = ndimage.label(margins_XYZ > 0)
    volumes = np.bincount(labels.ravel(), minlength=count + 1)
    small = volumes < min_share * volumes[1:].max()
    small[0] = False
    margins_XYZ[small[labels]] = EMPTY
    if fill:
        labels, _ = ndimage.label(margins_XYZ <= 0)
        margins_XYZ[(labels > 0) & (labels != labels[0, 0, 0])] = -EMPTY


def _decimated(mesh: Trimesh, most: int) -> Trimesh:
    """With at most so many triangles, or the fewest that as many loose pieces can have."""
    if len(mesh.faces) <= most:
        return mesh
    vertices, faces = fast_simplification.simplify(
        mesh.vertices.astype(np.float32), mesh.faces.astype(np.uint32), target_count=most
    )
    # Two triangles of the same corners are a fold without volume.
    _, which, times = np.unique(np.sort(faces, axis=1), axis=0, return_inverse=True, return_counts=True)
    return Trimesh(vertices, faces[times[which] == 1], process=False)
