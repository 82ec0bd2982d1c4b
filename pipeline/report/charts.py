"""Line charts as coordinates, which the page's template draws as SVG in the page's own colours."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

WIDTH, HEIGHT = 340, 220
LEFT, RIGHT, TOP, BOTTOM = 50, 14, 10, 40
"""Margins around the lines, in the same units."""

Point = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """One line of a chart."""

    name: str
    style: int
    """Number of its colour and dashes in the stylesheet."""
    points: str
    """Of an SVG polyline."""
    last: str
    """The value at its right end, for those who do not see the chart."""


@dataclass(frozen=True)
class Tick:
    """A labelled place on an axis, in the chart's coordinates."""

    at: float
    text: str


@dataclass(frozen=True)
class Chart:
    """A chart of `WIDTH` by `HEIGHT`."""

    title: str
    x_label: str
    y_label: str
    lines: Sequence[Line]
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]


def chart(
    title: str,
    labels: tuple[str, str],
    series: Mapping[str, Sequence[Point]],
    x_ticks: Sequence[float],
    y_range: tuple[float, float],
    scale: Literal["linear", "log"] = "linear",
) -> Chart:
    """A chart of lines by name, each of one or more points; `labels` are of the x and the y axis.

    `y_range` is what the y axis spans. A log scale wants positive values, and has its ticks at 1, 2 and 5 of each power
    of ten; a linear one at five equal steps.
    """
    xs = [x for points in series.values() for x, _ in points] + list(x_ticks)
    start, end = min(xs), max(xs)
    value = math.log10 if scale == "log" else float
    low, high = value(y_range[0]), value(y_range[1])

    def across(x: float) -> float:
        return round(LEFT + (x - start) / ((end - start) or 1) * (WIDTH - LEFT - RIGHT), 1)

    def down(y: float) -> float:
        return round(HEIGHT - BOTTOM - (value(y) - low) / ((high - low) or 1) * (HEIGHT - TOP - BOTTOM), 1)

    return Chart(
        title,
        *labels,
        [
            Line(name, style, " ".join(f"{across(x)},{down(y)}" for x, y in points), f"{points[-1][1]:.3g}")
            for style, (name, points) in enumerate(series.items())
        ],
        [Tick(across(x), f"{x:,g}") for x in x_ticks],
        [Tick(down(y), f"{y:g}") for y in _y_ticks(y_range, scale)],
    )


def thinned(points: Sequence[Point], most: int) -> list[Point]:
    """At most `most` points, each the mean of so many neighbours."""
    size = math.ceil(len(points) / most)
    groups = [points[first : first + size] for first in range(0, len(points), size)]
    return [(sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups]


def round_ticks(end: float, count: int) -> list[float]:
    """At most `count` steps of 1, 2 or 5 times a power of ten from 0 to at most `end`."""
    step = 10 ** math.floor(math.log10(end / count))
    step *= next(factor for factor in (1, 2, 5, 10) if math.floor(end / (step * factor)) <= count)
    return [min(step * number, end) for number in range(math.floor(end / step) + 1)]  # rounding passes the end


def _y_ticks(y_range: tuple[float, float], scale: str) -> list[float]:
    low, high = y_range
    if scale == "linear":
        return [round(low + (high - low) * step / 5, 10) for step in range(6)]
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    wide = high / low > 50  # then only the powers themselves have room
    found = [factor * 10.0**power for power in powers for factor in ((1,) if wide else (1, 2, 5))]
    return [tick for tick in found if low <= tick <= high]
