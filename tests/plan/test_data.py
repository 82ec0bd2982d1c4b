"""What the data half takes: measured costs times objects, and what is said where nothing was measured."""

from pathlib import Path

import pytest

from pipeline.params.base import read_yaml
from pipeline.plan.data import COSTS, MOST_SHARD, STAGES, data_half, shards_for

PRESETS = Path(__file__).parents[2] / "presets"
NANO = read_yaml(PRESETS / "nano.yaml")
OBJECTS = 140_000


def test_needs_are_costs_times_objects() -> None:
    needs = {need.stage: need for need in data_half(NANO, OBJECTS)}
    assert tuple(needs) == STAGES
    for cost in COSTS:
        need = needs[cost.stage]
        if need.measured is cost:
            assert need.cpu_hours == pytest.approx(OBJECTS * cost.cpu_s / 3600)
            assert need.storage == OBJECTS * sum(cost.tables.values())
            assert need.files == NANO["assets"]["shards"] * len(cost.tables)
    assert all(need.measured and not need.missing for need in needs.values()), "nano is measured"


def test_ten_times_the_objects_take_ten_times_as_much() -> None:
    one, ten = (data_half(NANO, objects) for objects in (OBJECTS, 10 * OBJECTS))
    assert sum(need.cpu_hours for need in ten) == pytest.approx(10 * sum(need.cpu_hours for need in one))
    assert sum(need.storage for need in ten) == 10 * sum(need.storage for need in one)


def test_what_was_not_measured_is_said() -> None:
    other = {**NANO, "render": {**NANO["render"], "view_size": 48}}
    render = next(need for need in data_half(other, OBJECTS) if need.stage == "render")
    assert render.measured is None
    assert (render.cpu_hours, render.storage, render.files) == (0, 0, 0)
    assert render.missing.startswith("render.view_size=48, render.samples=4")
    assert "render.view_size=64" in render.missing


def test_shards_are_as_few_as_keep_files_handy() -> None:
    needs = data_half(NANO, OBJECTS)
    largest = max(size for _, size in (need.largest_table for need in needs))
    shards = shards_for(needs)
    assert largest / shards <= MOST_SHARD < largest / (shards - 1)
    assert shards_for(data_half(NANO, 1)) == 1


@pytest.mark.parametrize("preset", sorted(PRESETS.glob("*.yaml")), ids=lambda path: path.stem)
def test_what_costs_depend_on_are_parameters(preset: Path) -> None:
    assert len(data_half(read_yaml(preset), 1)) == len(STAGES)
