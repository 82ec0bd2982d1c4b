"""Train, validation and test: by name group, so that variants of one thing never straddle, with frozen ids.

The frozen ids are chosen once over the whole corpus, by

    python -m pipeline.assets.splits data/assets/objects --validation 30 --test 100

which writes data/splits/val.txt and data/splits/test.txt. Running it again over other objects would move the goalposts.
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
SPLITS_FOLDER = Path("data/splits")
WITHOUT_FROZEN = ("folder", "objaverse")
"""Sources whose objects are never frozen: those of users, and those whose ids do not say their name group."""
SAMPLES_IN_TEST = 3
"""So many of the samples are test objects, so that a small data set has some."""


class Splits:
    """Says on which side an object is."""

    def __init__(self, frozen: Mapping[str, Split], validation_share: float, test_share: float) -> None:
        self.frozen = frozen
        self.validation_share = validation_share
        self.test_share = test_share

    def of(self, group: str) -> Split:
        """The side of a name group: that of the frozen ids of the same group, else by the hash of the group."""
        if group in self.frozen:
            return self.frozen[group]
        place = int.from_bytes(_hash(group)[:8]) / 2**64
        if place < self.test_share:
            return "test"
        return "val" if place < self.test_share + self.validation_share else "train"


def read_frozen(folder: Path = SPLITS_FOLDER) -> dict[str, Split]:
    """The sides of the name groups of the frozen ids; UserError when a group is on two sides."""
    sides: dict[str, Split] = {}
    files: tuple[tuple[Split, Path], ...] = (("val", folder / "val.txt"), ("test", folder / "test.txt"))
    for side, path in files:
        for object_id in path.read_text(encoding="utf-8").split():
            group = name_group(object_id.rpartition(".")[2])
            if sides.setdefault(group, side) != side:
                raise UserError(
                    f"{path} has {object_id}, whose name group is also in {sides[group]}.txt; keep it in one."
                )
    return sides


def choose_frozen(objects: Iterable[Mapping[str, Any]], validation: int, test: int) -> tuple[list[str], list[str]]:
    """Ids of `validation` and `test` objects out of rows of the table objects, sorted.

    Whole name groups in the order of a hash, some groups of samples first for the test; a group that would exceed what
    is left is passed over. UserError when there are too few objects.
    """
    groups: dict[str, list[str]] = {}
    samples: set[str] = set()
    for row in objects:
        if row["status"] == "ok" and row["source"] not in WITHOUT_FROZEN:
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
    arguments = parser.parse_args()
    rows = read_table(arguments.objects).to_pylist()
    for name, ids in zip(("val", "test"), choose_frozen(rows, arguments.validation, arguments.test), strict=True):
        (SPLITS_FOLDER / f"{name}.txt").write_text("".join(f"{object_id}\n" for object_id in ids), encoding="utf-8")


if __name__ == "__main__":
    main()
