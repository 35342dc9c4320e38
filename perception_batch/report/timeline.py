"""The timeline of a run's page: strips of the cameras and charts, all over one time axis."""

from __future__ import annotations

import re
import zlib

import numpy as np

from perception_batch.report import charts
from perception_batch.report.manifest_facts import ManifestFacts
from perception_batch.report.markup import Html, tag
from perception_batch.report.number_text import clock, decimal
from perception_batch.report.run_files import FloatArray, RunFiles
from perception_batch.report.series import Series

# For classes without a colour of their own: middle tones that stand on white and on black.
_OTHER_COLORS = ("#8c8c8c", "#17a2a2", "#b5651d", "#c05c9e", "#7f9c1f", "#5c6bc0")
_COLOR = re.compile(r"#[0-9a-fA-F]{6}")


def timeline(run: RunFiles, series: Series) -> Html:
    """The strips of the cameras and the charts, all over one time axis."""
    strips = [
        tag(
            "div",
            tag("span", name, class_="name", title=name),
            charts.status_strip(run, series, place),
            class_="row thin",
        )
        for place, name in enumerate(run.cameras)
    ]
    marks = [
        tag(
            "text",
            clock(at).removesuffix(".0"),
            x=f"{place * 100:.2f}%",
            y="11",
            text_anchor="start" if place < 0.03 else "end" if place > 0.97 else "middle",
        )
        for place, at in charts.axis(series.duration_s)
    ]
    scale = tag(
        "div",
        tag("span", "time", class_="name"),
        tag("svg", *marks, class_="scale", aria_hidden="true"),
        class_="row scale-row",
    )
    legend = tag(
        "p",
        *(
            tag("span", tag("i", class_=f"key s-{name}"), label)
            for name, label in (
                ("ok", "image"),
                ("held", "held"),
                ("not_due", "not due"),
                ("missing", "missing"),
                ("undecodable", "broken"),
            )
        ),
        class_="legend",
    )
    return tag(
        "section",
        tag("h2", "Timeline", id="timeline-title"),
        tag(
            "div",
            tag(
                "div",
                id="slider",
                role="slider",
                tabindex="0",
                aria_label="Timestep",
                aria_valuemin=0,
                aria_valuemax=max(0, run.steps - 1),
                aria_valuenow=0,
                aria_valuetext=clock(0),
            ),
            tag("div", tag("div", id="hover"), tag("div", id="head"), class_="over", aria_hidden="true"),
            *strips,
            scale,
            *_charts(run, series),
            id="stage",
            class_="stage",
        ),
        legend,
        id="timeline",
        aria_labelledby="timeline-title",
    )


def _charts(run: RunFiles, series: Series) -> list[Html]:
    out = []
    total = series.per_class.sum(axis=1)
    if len(series.classes):
        top = charts.nice_top(float(total.max()))
        colors = [class_color(run.manifest, name) for name in series.classes]
        key = tag(
            "p",
            *(tag("span", _swatch(color), name) for name, color in zip(series.classes, colors, strict=True)),
            class_="legend classes",
        )
        label = f"Objects per class over time: {decimal(float(total.mean()))} on average, {int(total.max())} at most"
        out.append(
            _chart(
                "Objects",
                "count",
                charts.picture(label, charts.stacked(series, colors, top)),
                f"{top:g}",
                key,
            )
        )
    bad = series.without
    if bad.any():
        top = float(bad.max())
        spans = charts.spans_of(series, bad.astype(float), "largest")
        label = f"Cameras without an image over time: {int((bad > 0).sum())} timesteps, {int(bad.max())} cameras at most"
        out.append(
            _chart(
                "Missing cameras",
                "without",
                charts.picture(label, charts.path(charts.area(spans, series.duration_s, top), "area warn")),
                f"{top:g}",
            )
        )
    lines: tuple[tuple[str, str, FloatArray, str, int, charts.Gather], ...] = (
        ("Sync spread", "spread", series.spread_ms, "ms", 1, "largest"),
        ("Ego speed", "speed", series.speed_mps, "m/s", 1, "largest"),
        ("Images used", "rate", series.images_per_s, "/s", 0, "smallest"),
    )
    for name, key_, values, unit, digits, gather in lines:
        if not np.isfinite(values).any():
            continue
        top = charts.nice_top(float(np.nanmax(values)))
        spans = charts.spans_of(series, values, gather)
        label = f"{name} over time: median {np.nanmedian(values):.{digits}f} {unit}, largest {np.nanmax(values):.{digits}f} {unit}"
        drawn = (
            charts.path(charts.area(spans, series.duration_s, top), "under"),
            charts.path(charts.line(spans, series.duration_s, top), "line"),
        )
        out.append(_chart(name, key_, charts.picture(label, *drawn), f"{top:g} {unit}"))
    return out


def _chart(name: str, key: str, drawn: Html, top: str, legend: Html | str = "") -> Html:
    title = tag(
        "div",
        tag("span", name, class_="name"),
        tag("output", "", data_now=key),
        tag("span", top, class_="top"),
        class_="what",
    )
    return tag("div", title, tag("div", drawn, legend, class_="graph"), class_="row chart")


def _swatch(color: str) -> Html:
    return tag(
        "svg",
        tag("rect", width=10, height=10, rx=2, fill=color),
        viewBox="0 0 10 10",
        class_="swatch",
        aria_hidden="true",
    )


def class_color(manifest: ManifestFacts, label: str) -> str:
    """The ontology's colour of a class."""
    entry = manifest.section("config", "ontology").get(label)
    color = entry.get("color") if isinstance(entry, dict) else None
    if isinstance(color, str) and _COLOR.fullmatch(color):
        return color
    return _OTHER_COLORS[zlib.crc32(label.encode()) % len(_OTHER_COLORS)]
