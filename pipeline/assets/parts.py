"""The part rule: which pieces of an artist's object are its parts."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from scipy.spatial import cKDTree

from pipeline.assets.names import clean_name, unique_names
from pipeline.assets.reasons import ObjectDropped
from pipeline.assets.surface import Piece, Surface, components, surface_points, total_area, volume

_MOST_POINTS = 8192
"""Points on an object from which the distances between its pieces are measured."""
_MOST_PIECES = 150
"""With more pieces than this, each of the smaller ones first joins the closest of the largest."""

Rule = Literal["nodes", "materials", "merged", "components", "undivided"]
Size = Literal["surface", "volume"]
"""What a part's size is measured by."""


@dataclass
class Part:
    """A part of an object, or a piece on the way there."""

    surfaces: list[Surface]
    """One for each material, or several of one."""
    raw_names: list[str]
    """The artist's names of what it was made of; first the one that the others were merged into."""
    name: str
    """In plain words; empty where the artist gave none."""

    @cached_property
    def area(self) -> float:
        """Surface, in the object's units squared."""
        return total_area(self.surfaces)

    @cached_property
    def solid(self) -> tuple[float, str]:
        """Volume, and how it was had, see `pipeline.assets.surface.volume`."""
        return volume(self.surfaces)

    def size(self, by: Size) -> float:
        """Surface or volume, in the object's units."""
        return self.area if by == "surface" else self.solid[0]

    def joined(self, other: "Part") -> "Part":
        """This part with a smaller one merged into it."""
        names = list(dict.fromkeys([*self.raw_names, *other.raw_names]))
        return Part(self.surfaces + other.surfaces, names, self.name or other.name)


@dataclass(frozen=True)
class Division:
    """An object divided into parts, the largest surface first, and how."""

    rule: Rule
    parts: list[Part]
    found: int
    """Pieces before any was merged or culled."""
    culled_surface: float
    """Share of the surface that was culled."""


def divide(
    pieces: Sequence[Piece],
    *,
    max_parts: int,
    small_by: Size,
    small_share: float,
    small_parts: Literal["merge", "cull"],
    too_many: Literal["merge", "drop"],
    undivided: Literal["drop", "keep"],
) -> Division:
    """Divide an object into 2 to `max_parts` parts.

    By scene nodes or OBJ groups where 2 to `max_parts` of them are not small, else by materials in the same way. Else
    its pieces (of one node and material; the connected components where these are fewer than two) are merged bottom-up,
    the smallest into the closest, until `max_parts` are left. Then small parts, with less than `small_share` of the
    whole by `small_by`, are merged into the part that they touch, or culled.
    With `too_many` "drop" nothing is merged because it is too many: the first rule that finds two parts holds.
    ObjectDropped when a single part is left, or more than `max_parts`; with `undivided` "keep" the whole is then one
    part, of which nothing is culled.
    """

    def small(parts: Sequence[Part]) -> list[Part]:
        bound = small_share * sum(part.size(small_by) for part in parts)
        return [part for part in parts if part.size(small_by) < bound]

    def hold(parts: Sequence[Part]) -> bool:
        large = len(parts) - len(small(parts))
        return large >= 2 and (too_many == "drop" or large <= max_parts)

    def merged_to_most(parts: Sequence[Part]) -> list[Part]:
        return merge(parts, lambda left: left if len(left) > max_parts else [], "surface")

    rule: Rule = "nodes"
    parts = _grouped(pieces, lambda piece: (piece.node, piece.node_name, piece.material_name))
    if not hold(parts):
        rule = "materials"
        parts = _grouped(pieces, lambda piece: (piece.material_name, piece.material_name, ""))
    if not hold(parts):
        rule = "merged"
        parts = [_part([piece], piece.node_name, piece.material_name) for piece in pieces]
        if len(parts) - len(small(parts)) < 2:
            rule = "components"
            parts = [_component(piece, surface) for piece in pieces for surface in components(piece.surface)]
    found, whole = len(parts), sum(part.area for part in parts)
    if too_many == "merge" and rule in ("merged", "components"):
        parts = merged_to_most(parts)
    if small_parts == "cull":
        gone = {id(part) for part in small(parts)}
        parts = [part for part in parts if id(part) not in gone]
    else:
        parts = merge(parts, small, small_by)
        if too_many == "merge":  # small parts that touch each other may have grown into parts of their own
            parts = merged_to_most(parts)
    if not 2 <= len(parts) <= max_parts:
        if undivided == "drop":
            raise ObjectDropped("single part" if len(parts) < 2 else f"more than {max_parts} parts")
        rule, parts = "undivided", [_part(pieces, pieces[0].node_name, pieces[0].material_name)]
    parts.sort(key=lambda part: (-part.area, part.raw_names))
    for part, name in zip(parts, unique_names(part.name for part in parts), strict=True):
        part.name = name
    return Division(rule, parts, found, max(0.0, 1 - sum(part.area for part in parts) / whole))


def _grouped(pieces: Iterable[Piece], labels: Callable[[Piece], tuple[str, str, str]]) -> list[Part]:
    groups: dict[str, list[Piece]] = {}
    names: dict[str, tuple[str, str]] = {}
    for piece in pieces:
        key, raw, otherwise = labels(piece)
        groups.setdefault(key, []).append(piece)
        names.setdefault(key, (raw, otherwise))
    return [_part(group, *names[key]) for key, group in groups.items()]


def _part(pieces: Sequence[Piece], raw: str, otherwise: str) -> Part:
    return Part([piece.surface for piece in pieces], [raw or otherwise], clean_name(raw) or clean_name(otherwise))


def _component(piece: Piece, surface: Surface) -> Part:
    part = _part([piece], piece.node_name, piece.material_name)
    part.surfaces = [surface]
    return part


def merge(parts: Sequence[Part], candidates: Callable[[list[Part]], list[Part]], by: Size) -> list[Part]:
    """Merge the smallest of the candidates into the closest part, until there are no candidates or one part."""
    left = sorted(parts, key=lambda part: -part.area)
    if len(left) < 2 or not candidates(left):
        return left
    left = _join_surplus(left)
    distances = _distances(left)
    while len(left) > 1 and (chosen := candidates(left)):
        smallest = min(chosen, key=lambda part: part.size(by))
        index = next(i for i, part in enumerate(left) if part is smallest)
        closest = int(np.argmin(distances[index]))
        left[closest] = left[closest].joined(smallest)
        # The distance to a union is the smaller of the distances to its members.
        distances[closest] = distances[:, closest] = np.minimum(distances[index], distances[closest])
        distances[closest, closest] = np.inf
        distances = np.delete(np.delete(distances, index, axis=0), index, axis=1)
        del left[index]
    return left


def _join_surplus(parts: list[Part]) -> list[Part]:
    """At most `_MOST_PIECES` parts: leaves and screws by the thousand join their neighbours at once."""
    kept, surplus = parts[:_MOST_PIECES], parts[_MOST_PIECES:]
    if not surplus:
        return parts
    clouds = [surface_points(part.surfaces, _MOST_POINTS // _MOST_PIECES) for part in kept]
    owner = np.repeat(np.arange(len(kept)), [len(cloud) for cloud in clouds])
    tree = cKDTree(np.concatenate(clouds))
    joined: dict[int, list[Part]] = {}
    for part in surplus:
        distances, nearest = tree.query(surface_points(part.surfaces, 4))
        joined.setdefault(int(owner[nearest[np.argmin(distances)]]), []).append(part)
    for index, more in joined.items():
        surfaces = [surface for part in more for surface in part.surfaces]
        names = list(dict.fromkeys(name for part in [kept[index], *more] for name in part.raw_names))
        name = next((part.name for part in [kept[index], *more] if part.name), "")
        kept[index] = Part(kept[index].surfaces + surfaces, names, name)
    return kept


def _distances(parts: Sequence[Part]) -> np.ndarray:
    """(N, N) smallest distances between points on the parts, infinite on the diagonal."""
    count = int(np.clip(_MOST_POINTS // len(parts) // 2, 16, 256))
    clouds = [surface_points(part.surfaces, count) for part in parts]
    starts = np.cumsum([0, *(len(cloud) for cloud in clouds[:-1])])
    points = np.concatenate(clouds)
    rows = [np.minimum.reduceat(cKDTree(cloud).query(points)[0], starts) for cloud in clouds]
    distances = np.minimum(np.array(rows), np.array(rows).T)
    np.fill_diagonal(distances, np.inf)
    return distances
