"""Charts as SVG, drawn here and not in the browser: they print, follow light and dark, and cost nothing to play.

All span the same time from left to right in 1000 units, so that one line can stand in all of them. The picture is
stretched to the page's width; lines keep their width by ``vector-effect``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from perception_batch.report.markup import Html, join, tag
from perception_batch.report.run_files import STATUSES, FloatArray, IntArray, RunFiles
from perception_batch.report.series import Series

Gather = Literal["largest", "smallest", "mean"]
WIDTH = 1000
HEIGHT = 100
_MOST_COLUMNS = 1000
_STEPS = (
    0.1,
    0.2,
    0.5,
    1,
    2,
    5,
    10,
    15,
    30,
    60,
    120,
    300,
    600,
    900,
    1800,
    3600,
    7200,
    14_400,
    43_200,
    86_400,
)


@dataclass(frozen=True, slots=True, eq=False)
class Spans:
    """Pieces of time with one value each."""

    begin: FloatArray
    """(N,) s."""
    end: FloatArray
    """(N,) s, greater than `begin`."""
    values: FloatArray
    """(N,); NaN is a gap."""


def spans_of(series: Series, values: FloatArray, gather: Gather) -> Spans:
    """The timesteps, or where they are too many to be told apart, as many columns that `gather` their values.

    Args:
        series: the times.
        values: (T,) a number each.
        gather: what a column shows: what must not be missed, or what is usual.
    """
    count = len(values)
    if count <= 2 * _MOST_COLUMNS:
        return Spans(series.seconds, series.until, np.asarray(values, float))
    edges = np.searchsorted(series.seconds, np.linspace(0, series.duration_s, _MOST_COLUMNS + 1)[:-1])
    edges = np.unique(edges[edges < count])
    numbers = np.asarray(values, float)
    if gather == "mean":
        taken = np.add.reduceat(numbers, edges) / np.diff(np.append(edges, count))
    else:
        taken = (np.fmax if gather == "largest" else np.fmin).reduceat(numbers, edges)
    last = np.append(edges[1:], count) - 1
    return Spans(series.seconds[edges], series.until[last], taken)


def area(spans: Spans, duration_s: float, top: float, floor: FloatArray | None = None) -> str:
    """Path data of filled columns from `floor` (0) up to their values; neighbours are one outline."""
    scale_x, scale_y = WIDTH / max(duration_s, 1e-9), HEIGHT / max(top, 1e-9)
    low = np.zeros(len(spans.values)) if floor is None else floor
    known = np.isfinite(spans.values) & (spans.values > low)
    parts = []
    for first, stop in _stretches(known, spans):
        x0, x1 = spans.begin[first:stop] * scale_x, spans.end[first:stop] * scale_x
        upper = HEIGHT - spans.values[first:stop] * scale_y
        lower = HEIGHT - low[first:stop] * scale_y
        there = "".join(f"V{_n(y)}H{_n(x)}" for y, x in zip(upper, x1, strict=True))
        back = "".join(f"V{_n(y)}H{_n(x)}" for y, x in zip(lower[::-1], x0[::-1], strict=True))
        parts.append(f"M{_n(x0[0])} {_n(lower[0])}{there}{back}Z")
    return "".join(parts)


def line(spans: Spans, duration_s: float, top: float) -> str:
    """Path data of a line in steps; it breaks where values are unknown."""
    scale_x, scale_y = WIDTH / max(duration_s, 1e-9), HEIGHT / max(top, 1e-9)
    parts = []
    for first, stop in _stretches(np.isfinite(spans.values), spans):
        y = HEIGHT - spans.values[first:stop] * scale_y
        x1 = spans.end[first:stop] * scale_x
        steps = "".join(f"V{_n(v)}H{_n(h)}" for v, h in zip(y, x1, strict=True))
        parts.append(f"M{_n(spans.begin[first] * scale_x)} {_n(y[0])}{steps}")
    return "".join(parts)


def _stretches(known: np.ndarray[tuple[int], np.dtype[np.bool_]], spans: Spans) -> list[tuple[int, int]]:
    """Runs of neighbours that are `known` and touch each other in time, as (first, stop)."""
    if not len(known):
        return []
    apart = np.append(True, spans.begin[1:] > spans.end[:-1] + 1e-9)
    begins = np.flatnonzero(known & (apart | ~np.append(False, known[:-1])))
    ends = np.flatnonzero(known & np.append(apart[1:] | ~known[1:], True)) + 1
    return list(zip(begins.tolist(), ends.tolist(), strict=True))


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def picture(label: str, *content: object, height: int = HEIGHT, class_: str = "plot") -> Html:
    """The SVG that `content` stands in, stretched to where it is put."""
    return tag(
        "svg",
        tag("title", label),
        *content,
        viewBox=f"0 0 {WIDTH} {height}",
        preserveAspectRatio="none",
        role="img",
        aria_label=label,
        class_=class_,
    )


def path(data: str, class_: str, color: str | None = None) -> Html:
    """One path; of a class's own colour where one is given."""
    return tag("path", d=data, class_=class_, fill=color, vector_effect="non-scaling-stroke")


def status_strip(run: RunFiles, series: Series, camera: int) -> Html:
    """What a camera had at each timestep, as one strip; a lost frame is never too thin to be seen."""
    bad = spans_of(series, run.status[:, camera].astype(float), "largest")
    scale = WIDTH / max(series.duration_s, 1e-9)
    parts = []
    for code, name in enumerate(STATUSES):
        mine = bad.values == code
        thinnest = 1.5 if code >= STATUSES.index("missing") else 0.0
        data = []
        for first, stop in _stretches(mine, bad):
            x = bad.begin[first] * scale
            width = max(bad.end[stop - 1] * scale - x, thinnest)
            data.append(f"M{_n(min(x, WIDTH - width))} 0h{_n(width)}v10h-{_n(width)}Z")
        if data:
            parts.append(path("".join(data), f"s-{name}"))
    counts = np.bincount(run.status[:, camera], minlength=len(STATUSES)).tolist()
    told = ", ".join(f"{count} {name}" for name, count in zip(STATUSES, counts, strict=True) if count)
    return picture(f"{run.cameras[camera]}: {told}", *parts, height=10, class_="strip")


def axis(duration_s: float) -> list[tuple[float, float]]:
    """Marks of the time axis: (place 0..1, seconds), about ten of them."""
    if duration_s <= 0:
        return [(0.0, 0.0)]
    step = next((s for s in _STEPS if duration_s / s <= 11), duration_s / 5)
    return [(k * step / duration_s, k * step) for k in range(math.floor(duration_s / step + 1e-6) + 1)]


def nice_top(largest: float) -> float:
    """The upper end of an axis: a round number at or above `largest`."""
    if not math.isfinite(largest) or largest <= 0:
        return 1.0
    ten = 10.0 ** math.floor(math.log10(largest))
    return next(ten * k for k in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if ten * k >= largest * (1 - 1e-9))


def stacked(series: Series, colors: Sequence[str], top: float) -> Html:
    """Objects of each class above one another."""
    floor: FloatArray | None = None
    parts = []
    for column, color in enumerate(colors):
        spans = spans_of(series, series.per_class[:, column].astype(float), "mean")
        below = np.zeros(len(spans.values)) if floor is None else floor
        upper = below + spans.values
        parts.append(
            path(area(Spans(spans.begin, spans.end, upper), series.duration_s, top, below), "area", color)
        )
        floor = upper
    return join(parts)


def histogram(values: FloatArray, marks: Sequence[tuple[str, float]], unit: str, bins: int = 40) -> Html:
    """Counts of values from 0 to the largest, with marked places; empty where there is none."""
    known = values[np.isfinite(values)]
    if not len(known):
        return Html("")
    top = nice_top(float(known.max()))
    counts: IntArray = np.histogram(known, bins=bins, range=(0, top))[0]
    width, high = WIDTH / bins, max(1, int(counts.max()))
    bars = "".join(
        f"M{_n(i * width + 1)} {HEIGHT}V{_n(HEIGHT - 96 * c / high)}h{_n(width - 2)}V{HEIGHT}Z"
        for i, c in enumerate(counts.tolist())
        if c
    )
    lines = "".join(
        f"M{_n(min(value / top, 1) * WIDTH)} 0V{HEIGHT}" for _, value in marks if math.isfinite(value)
    )
    told = ", ".join(f"{name} {value:.1f} {unit}" for name, value in marks if math.isfinite(value))
    return tag(
        "div",
        picture(f"Histogram of {len(known)} timesteps: {told}", path(bars, "bars"), path(lines, "marks")),
        tag("div", *(tag("span", f"{top * k / 4:g}") for k in range(5)), class_="ticks", aria_hidden="true"),
        class_="histogram",
    )
