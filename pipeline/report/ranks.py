"""Which held-out objects are shown, and in which order: by rank, not by hand."""

from collections.abc import Mapping
from pathlib import Path

from pipeline.report.taken_apart import FUSED, MODELLED
from pipeline.shards.read import read_table

EACH = 2
"""Objects of the best, of the typical and of the worst."""


def best_typical_worst(count: int) -> list[int]:
    """The places of EACH of the best, of the middle and of the worst among so many, from 0."""
    middle = (count - EACH) // 2
    return sorted({*range(EACH), *range(middle, middle + EACH), *range(count - EACH, count)} & {*range(count)})


def ranked_surfaces(data: Path, regime: str) -> Mapping[str, float]:
    """The mean best IoU of the parts that are found, by object, the best first.

    Ties go by that of the other regime that is shown, then by the number of parts, then by id.
    """
    kept = {
        (row["object_id"], row["regime"])
        for row in read_table(data / "atoms/surfaces", ["object_id", "regime"]).to_pylist()
    }
    other = MODELLED if regime == FUSED else FUSED
    found: dict[str, dict[str, tuple[float, int]]] = {}
    for row in read_table(data / "evaluation/divisions").to_pylist():
        if (row["object_id"], row["regime"]) in kept:
            found.setdefault(row["object_id"], {})[row["regime"]] = (row["iou"], max(row["part"]))
    scores = {key: regimes for key, regimes in found.items() if regime in regimes}

    def place(key: str) -> tuple[float, float, int, str]:
        iou, parts = scores[key][regime]
        return -iou, -scores[key].get(other, (0.0, 0))[0], -parts, key

    return {key: scores[key][regime][0] for key in sorted(scores, key=place)}
