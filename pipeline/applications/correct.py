"""What a user corrects in the parts of a result: they are merged, split, taken out, renamed and recoloured.

The first three make other parts of the same atoms, so that the parts stay the file's own triangles and the hierarchy is
kept; no model takes part. Parts keep their numbers, so that there may be gaps among these.

Shape suffixes: N atoms.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from pipeline.applications.part import Part, free_name
from pipeline.applications.result import PartObject
from pipeline.applications.surface import Grouping, division_of
from pipeline.assets.names import MAX_NAME_BYTES, cut_bytes
from pipeline.errors import Invalid
from pipeline.surface.hierarchy import halves, most_itself
from pipeline.surface.merge import merge_glbs, renamed_glb

SeedPoint = tuple[int, int, int]
"""Pixels from the left and from the top of a view, and the view: 0 to 3, in the order of the grid."""
_COLOUR = re.compile(r"#[0-9a-f]{6}")


def merged(result: PartObject, parts: Sequence[str], name: str) -> Grouping:
    """Several parts as one, with the number of the first; without a `name` it has that of the one of most triangles."""
    some = list(dict.fromkeys(result.part(part).label for part in parts))
    if len(some) < 2:
        raise Invalid(f"There are {len(some)} parts to merge in {', '.join(parts) or 'nothing'}; name two or more.")
    chosen = [part for part in result.parts if part.label in some]
    called = _one_line(name) or max(chosen, key=lambda part: part.triangles).name
    label_N, label = _labels(result), min(some)
    label_N[np.isin(label_N, some)] = label
    others = [part for part in result.parts if part.label not in some]
    return Grouping(label_N, {**_names(others), label: free_name(called, others)})


def split(result: PartObject, part: str) -> Grouping:
    """One part in two, where the hierarchy divides it first; the larger one keeps number and name."""
    old, division = result.part(part), division_of(result)
    atoms = np.array(old.atoms)
    if len(atoms) < 2:
        raise Invalid(f"{old.name} is one piece of the surface, which is never divided; choose another part.")
    _, smaller = sorted(halves(division.merges, atoms), key=lambda group: -division.area(group))
    label_N = _labels(result)
    label_N[smaller] = _free_label(result)
    return Grouping(label_N, _names(result.parts))


def taken_out(result: PartObject, atoms: Sequence[int]) -> Grouping:
    """Some atoms, of one part or of several, as a part of their own; what is left of a part keeps its number and
    name.
    """
    label_N = _labels(result)
    some = np.unique(np.asarray(atoms, int))
    if not len(some) or some[0] < 0 or some[-1] >= len(label_N):
        raise Invalid(f"The pieces of {result.name} go from 0 to {len(label_N) - 1}; give one or more of these.")
    for part in result.parts:
        if np.array_equal(np.sort(part.atoms), some):
            raise Invalid(f"{part.name} is a part of its own already; choose a point on another part, or split it.")
    changed = set(label_N[some].tolist())
    label_N[some] = _free_label(result)
    names = _names(part for part in result.parts if part.label not in changed)
    names |= {part.label: part.name for part in result.parts if part.label in changed and (label_N == part.label).any()}
    return Grouping(label_N, names)


def atoms_at(result: PartObject, points: Sequence[SeedPoint]) -> list[int]:
    """The atoms that points of the four views mean.

    Of one point the group around it, within its part, that is most a thing of its own (`most_itself`); of several just
    those that they show.
    """
    division = division_of(result)
    assert result.surface is not None
    side = len(result.labels) // 2
    hit = []
    for x, y, view in points:
        if not (0 <= x < side and 0 <= y < side and 0 <= view < 4):
            raise Invalid(
                f"The seed point {x},{y} of view {view} is outside; x and y go from 0 to {side - 1}, views from 0 to 3."
            )
        atom = int(result.surface.atoms_HW[y + view // 2 * side, x + view % 2 * side])
        if not atom:
            raise Invalid(f"The pixel {x},{y} of view {view} is background; give a seed point on the object.")
        hit.append(atom - 1)
    if len(points) == 1:
        (part,) = (one for one in result.parts if hit[0] in one.atoms)
        if len(part.atoms) == 1:
            raise Invalid(f"{part.name} is one piece of the surface, which is never divided; choose another point.")
        return most_itself(division.merges, hit[0], np.array(part.atoms)).tolist()
    return sorted(set(hit))


def renamed(result: PartObject, part: str, name: str) -> PartObject:
    """A part under another name, in its GLBs too; with a number where another part has that name."""
    old, called = result.part(part), _one_line(name)
    if not called:
        raise Invalid(f"The new name of {old.name} is empty; say in a few words what the part is.")
    called = free_name(called, [one for one in result.parts if one is not old])
    glb = None if old.glb is None else renamed_glb(old.glb, called)
    parts = [replace(one, name=called, glb=glb) if one is old else one for one in result.parts]
    glbs = [one.glb for one in parts if one.glb is not None]
    return replace(result, parts=parts, glb=merge_glbs(glbs) if glbs else None)


def recoloured(result: PartObject, part: str, colour: str) -> PartObject:
    """A part that label maps show in another colour, such as `#3cb44b`; empty: in that of its number."""
    old, wanted = result.part(part), colour.strip().lower()
    if wanted and not _COLOUR.fullmatch(wanted):
        raise Invalid(f"The colour is {colour!r}; give one such as #3cb44b.")
    return replace(result, parts=[replace(one, colour=wanted) if one is old else one for one in result.parts])


def _labels(result: PartObject) -> np.ndarray:
    """(N,) The label of every atom; Invalid as of `division_of`."""
    division_of(result)
    label_N = np.zeros(sum(len(part.atoms) for part in result.parts), int)
    for part in result.parts:
        label_N[list(part.atoms)] = part.label
    return label_N


def _free_label(result: PartObject) -> int:
    used = {part.label for part in result.parts}
    return next(label for label in range(1, len(used) + 2) if label not in used)


def _names(parts: Iterable[Part]) -> dict[int, str]:
    return {part.label: part.name for part in parts}


def _one_line(name: str) -> str:
    return cut_bytes(" ".join(name.split()), MAX_NAME_BYTES)
