"""Train, validation and test: by name group, so that variants of one thing never straddle, with frozen ids.

The frozen ids are chosen once over the whole corpus, by

    python -m pipeline.assets.splits data/assets/objects --validation 30 --test 100

which writes data/splits/val.txt and data/splits/test.txt; `--out` names another folder, for `assets.splits`. Running it
again over other objects would move the goalposts.
"""

import argparse
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from pipeline.assets.names import name_group
from pipeline.errors import UserError
from pipeline.shards.read import read_table

Split = Literal["train", "val", "test"]
WITHOUT_FROZEN = ("objaverse",)
"""Sources whose objects are never frozen: their ids do not say their name group."""
SAMPLES_IN_TEST = 3
"""So many of the samples are test objects, so that a small data set has some."""


class Splits:
    """Says on which side an object is."""

    def __init__(
        self,
        frozen: Mapping[str, Split],
        objects: Iterable[tuple[str, str]],
        validation_share: float,
        test_share: float,
    ) -> None:
        """`frozen` are sides by object id, `objects` the ids and name groups of the objects that there are.

        UserError when a name group is on two sides.
        """
        self.frozen = frozen
        self.shares = {"val": validation_share, "test": test_share}
        groups = dict(objects)
        self.groups: dict[str, Split] = {}
        for object_id, side in frozen.items():
            # Objects of sources that are not in use hold their variants back, too; their file's name gives the group.
            group = groups.get(object_id) or name_group(object_id.rpartition(".")[2])
            if self.groups.setdefault(group, side) != side:
                raise UserError(
                    f"{object_id} is frozen in {side}.txt, and its name group also in {self.groups[group]}.txt; "
                    "keep it in one."
                )

    def of(self, object_id: str, group: str) -> Split | None:
        """The side of an object: as it is frozen, as others of its name group are, else by the hash of the group.

        With a share of 0 a side has its frozen ids alone: None for others of their groups, which no side may have.
        """
        if object_id in self.frozen:
            return self.frozen[object_id]
        if group in self.groups:
            return self.groups[group] if self.shares[self.groups[group]] else None
        place = int.from_bytes(_hash(group)[:8]) / 2**64
        if place < self.shares["test"]:
            return "test"
        return "val" if place < self.shares["test"] + self.shares["val"] else "train"

    def check_kept(self, objects: Iterable[Mapping[str, Any]]) -> None:
        """UserError when a side that has its frozen ids alone lacks one of them among rows of the table objects."""
        found = {row["object_id"]: row for row in objects}
        for side, share in self.shares.items():
            ids = [object_id for object_id, one in self.frozen.items() if one == side and not share]
            lost = [object_id for object_id in ids if found.get(object_id, {}).get("part_count", 0) < 2]
            if lost:
                row = found.get(lost[0], {"reason": "it is not among the objects"})
                why = row["reason"] or ("it is not divided into parts" if "status" in row else "it failed")
                raise UserError(
                    f"{len(lost)} of the {len(ids)} objects that are frozen in {side}.txt cannot be used, such as "
                    f"{lost[0]} ({why}); freeze others (docs/data.md), or give them a share in the params of assets."
                )


def read_frozen(folder: Path) -> dict[str, Split]:
    """The sides of the ids in val.txt and test.txt of a folder; UserError without the files, or for an id in both."""
    sides: dict[str, Split] = {}
    names: tuple[Split, ...] = ("val", "test")
    for side in names:
        path = folder / f"{side}.txt"
        try:
            ids = path.read_text(encoding="utf-8").split()
        except (OSError, UnicodeDecodeError):
            raise UserError(f"{path} cannot be read; put it there, or correct assets.splits.") from None
        for object_id in ids:
            if sides.setdefault(object_id, side) != side:
                raise UserError(f"{path} has {object_id}, which is also in {sides[object_id]}.txt; keep it in one.")
    return sides


def choose_frozen(objects: Iterable[Mapping[str, Any]], validation: int, test: int) -> tuple[list[str], list[str]]:
    """Ids of `validation` and `test` objects of more than one part out of rows of the table objects, sorted.

    Whole name groups in the order of a hash, some groups of samples first for the test; a group that would exceed what
    is left is passed over. UserError when there are too few objects.
    """
    groups: dict[str, list[str]] = {}
    samples: set[str] = set()
    for row in objects:
        if row["status"] == "ok" and row["part_count"] > 1 and row["source"] not in WITHOUT_FROZEN:
            groups.setdefault(row["name_group"], []).append(row["object_id"])
            if row["source"] == "samples":
                samples.add(row["name_group"])
    order = sorted(groups, key=_hash)
    first = [group for group in order if group in samples][:SAMPLES_IN_TEST]
    chosen: list[list[str]] = []
    for count, candidates in ((test, first + order), (validation, order)):
        ids: list[str] = []
        for group in candidates:
            if group in groups and len(ids) + len(groups[group]) <= count:
                ids.extend(groups.pop(group))
        if len(ids) < count:
            raise UserError(f"{count} objects cannot be frozen, only {len(ids)} are there; build more objects first.")
        chosen.append(sorted(ids))
    return chosen[1], chosen[0]


def _hash(group: str) -> bytes:
    return hashlib.sha256(f"split:{group}".encode()).digest()


def main() -> None:
    """Freeze the ids of validation and test."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("objects", type=Path, help="the table of objects, built over the whole corpus")
    parser.add_argument("--validation", type=int, default=30)
    parser.add_argument("--test", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path("data/splits"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows = read_table(arguments.objects).to_pylist()
    for name, ids in zip(("val", "test"), choose_frozen(rows, arguments.validation, arguments.test), strict=True):
        (arguments.out / f"{name}.txt").write_text("".join(f"{object_id}\n" for object_id in ids), encoding="utf-8")


if __name__ == "__main__":
    main()
