"""What the data half takes: CPU-hours, storage and shards, from what single objects were measured to cost."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MOST_SHARD = 500e6
"""Bytes up to which a file of a table is handy: a new object rewrites one file of each table."""
STAGES = ("assets", "render", "masks", "captions")


@dataclass(frozen=True)
class Measured:
    """What an object that is kept costs in one stage."""

    stage: str
    params: Mapping[str, Any]
    """The parameters that it depends on most, by `group.key`, with the values that it was measured with."""
    objects: int
    """Over how many objects."""
    cpu_s: float
    """CPU seconds, without a GPU."""
    tables: Mapping[str, int]
    """Bytes in each table, images and all."""


COSTS = (
    Measured("assets", {"assets.texture_px": 256}, 44, 0.275, {"glbs": 235_588, "objects": 499, "parts": 750}),
    Measured("assets", {"assets.texture_px": 1024}, 4, 0.545, {"glbs": 212_415, "objects": 2_106, "parts": 1_226}),
    Measured(
        "render",
        {"render.view_size": 64, "render.samples": 4, "render.conditioning_views": 4},
        44,
        0.955,
        {"grids": 28_391, "novel": 30_189, "conditioning": 13_208},
    ),
    Measured(
        "render",
        {"render.view_size": 256, "render.samples": 64, "render.conditioning_views": 8},
        4,
        36.9,
        {"grids": 194_376, "novel": 204_579, "conditioning": 179_052},
    ),
    Measured(
        "render",
        {"render.view_size": 512, "render.samples": 128, "render.conditioning_views": 8},
        1,
        253.0,
        {"grids": 412_664, "novel": 457_584, "conditioning": 401_913},
    ),
    Measured("masks", {"render.view_size": 64}, 44, 0.125, {"labels": 983, "visibility": 328}),
    Measured("masks", {"render.view_size": 256}, 4, 0.665, {"labels": 6_398, "visibility": 603}),
    Measured(
        "captions",
        {"captions.backend": "describe", "captions.prompt_size": 256},
        9,
        4.46,
        {"captions": 834, "views": 243_925},
    ),
)
"""Means over objects of sweethome3d, by `python -m benchmarks.data_half costs`; see docs/benchmarks.md."""
MEASURED = "measured on objects of sweethome3d, one CPU core each, without a GPU (docs/benchmarks.md)"


@dataclass(frozen=True)
class StageNeed:
    """What one stage needs for many objects."""

    stage: str
    measured: Measured | None
    """None where no object was measured with such parameters."""
    missing: str
    """With which parameters none was, and with which some were; empty when there is a measurement."""
    objects: int
    shards: int

    @property
    def cpu_hours(self) -> float:
        """Of all objects; 0 without a measurement."""
        return self.objects * self.measured.cpu_s / 3600 if self.measured else 0.0

    @property
    def storage(self) -> int:
        """Bytes of all tables; 0 without a measurement."""
        return self.objects * sum(self.measured.tables.values()) if self.measured else 0

    @property
    def files(self) -> int:
        """Parquet files of all tables; 0 without a measurement."""
        return self.shards * len(self.measured.tables) if self.measured else 0

    @property
    def largest_table(self) -> tuple[str, int]:
        """Its name and bytes."""
        tables = self.measured.tables if self.measured else {"": 0}
        name = max(tables, key=lambda table: tables[table])
        return name, self.objects * tables[name]


def data_half(params: Mapping[str, Any], objects: int) -> list[StageNeed]:
    """What each stage needs for `objects` objects that are kept; `params` is the whole of params.yaml."""
    return [_need(stage, params, objects) for stage in STAGES]


def shards_for(needs: list[StageNeed]) -> int:
    """The value of assets.shards with which no file exceeds MOST_SHARD, as far as there are measurements."""
    return max(1, *(math.ceil(need.largest_table[1] / MOST_SHARD) for need in needs))


def _need(stage: str, params: Mapping[str, Any], objects: int) -> StageNeed:
    candidates = [cost for cost in COSTS if cost.stage == stage]
    found = next((cost for cost in candidates if _values(cost, params) == dict(cost.params)), None)
    missing = ""
    if found is None:
        tried = "; ".join(_said(cost.params) for cost in candidates)
        missing = f"{_said(_values(candidates[0], params))} (but with {tried})"
    return StageNeed(stage, found, missing, objects, params["assets"]["shards"])


def _values(cost: Measured, params: Mapping[str, Any]) -> dict[str, Any]:
    return {key: params[key.partition(".")[0]][key.partition(".")[2]] for key in cost.params}


def _said(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in values.items())
