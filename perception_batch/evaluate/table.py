"""The report for people: plain text, one block a part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from perception_batch.evaluate.report import (
    DetectionFigures,
    Interval,
    MergeFigures,
    PositionFigures,
    Report,
    Skipped,
    SyncFigures,
    TrackFigures,
)

_MOST_OBJECTS = 40
Part: TypeAlias = DetectionFigures | MergeFigures | PositionFigures | TrackFigures | SyncFigures | Skipped


def as_text(report: Report) -> str:
    """Lines that end in a newline each."""
    s = report.settings
    lines = [
        (
            f"{report.drive}: {report.matched} of {report.timesteps} timesteps have truth "
            f"({report.truth_frames} truth frames, within {report.tolerance_ms:g} ms)"
        ),
        (
            f"counted: boxes >= {s['min_height_px']:g} px high, >= {100 * s['min_visible']:g} % visible; "
            f"positions and tracks to {s['max_range_m']:g} m"
        ),
    ]
    if report.ignored_labels:
        words = ", ".join(f"{label} ({count})" for label, count in report.ignored_labels.items())
        lines.append(f"ignored: labels that no class has: {words}")
    parts: tuple[tuple[str, Part, Callable[[Any], list[str]]], ...] = (
        ("detection", report.detection, _detection),
        ("merges over cameras", report.merges, _merges),
        ("positions", report.positions, _positions),
        ("tracks", report.tracks, _tracks),
        ("synchronisation", report.sync, _sync),
    )
    for title, figures, show in parts:
        lines += ["", title]
        lines += [
            f"  {line}"
            for line in ([f"skipped: {figures.skipped}"] if isinstance(figures, Skipped) else show(figures))
        ]
    return "\n".join(lines) + "\n"


def _detection(f: DetectionFigures) -> list[str]:
    rows: list[tuple[object, ...]] = [
        (
            c.label,
            c.truth_boxes,
            c.truth_objects,
            c.detections,
            f"{c.ap50:.3f}",
            f"{c.ap50_95:.3f}",
            f"{c.recall50:.3f}",
        )
        for c in f.classes
    ]
    rows.append(("mean", f.truth_boxes, "", "", f"{f.ap50:.3f}", f"{f.ap50_95:.3f}", ""))
    return [
        *_columns(("class", "truth boxes", "objects", "detections", "AP50", "AP50-95", "recall"), rows),
        f"{f.pictures} pictures; {f.ignored_boxes} truth boxes do not count",
    ]


def _merges(f: MergeFigures) -> list[str]:
    return [
        f"precision {_share(f.precision)}, recall {_share(f.recall)}, F1 {f.f1:.3f}{_bounds(f.f1_interval)}",
        f"{f.right_pairs} right of {f.fused_pairs} fused and {f.true_pairs} true pairs, {f.truth_objects} truth objects",
    ]


def _positions(f: PositionFigures) -> list[str]:
    lines = [
        (
            f"range error: median {_percent(f.range_error_median)}{_bounds(f.range_error_interval, 100, ' %')}, "
            f"bias {100 * f.range_error_bias:+.1f} %, largest {_percent(f.range_error_largest)}; "
            f"n = {f.rows}, {f.truth_objects} objects, {f.without_position} without position"
        ),
        f"position error: median {f.position_error_median_m:.2f} m, 95 % {f.position_error_p95_m:.2f} m",
        f"truth within the 95 % ellipse: {_share(f.coverage_95)}{_bounds(f.coverage_95_interval)}"
        + (
            f"; tracks older than 3 s: {_share(f.coverage_95_old_tracks)} (n = {f.old_track_rows})"
            if f.old_track_rows
            else ""
        ),
        "by range: "
        + ", ".join(
            f"{b.from_m:g}-{b.to_m:g} m {_percent(b.range_error_median)} (n = {b.rows})" for b in f.bands
        ),
    ]
    rows = [
        (
            o.object_id,
            o.label,
            o.rows,
            f"{o.range_m:.1f}",
            f"{100 * o.range_error:+.1f}",
            f"{100 * o.range_error_largest:.1f}",
            f"{o.position_error_m:.2f}",
            _share(o.coverage_95),
        )
        for o in f.objects[:_MOST_OBJECTS]
    ]
    lines += _columns(
        ("object", "label", "n", "range m", "error %", "largest %", "off by m", "in ellipse"), rows
    )
    if len(f.objects) > _MOST_OBJECTS:
        lines.append(f"... and {len(f.objects) - _MOST_OBJECTS} objects more: --json has all")
    return lines


def _tracks(f: TrackFigures) -> list[str]:
    how = "by position" if f.space == "ground" else "by box, camera by camera"
    return [
        f"IDF1 {f.idf1:.3f} (precision {f.id_precision:.3f}, recall {f.id_recall:.3f}), MOTA {f.mota:.3f}",
        (
            f"{f.id_switches} id switches, {f.fragmentations} fragmentations, {f.misses} misses, "
            f"{f.false_positives} false; mostly tracked {f.mostly_tracked}, mostly lost {f.mostly_lost}"
        ),
        (
            f"{f.tracks} tracks, {f.truth_objects} truth objects, n = {f.truth_rows} over {f.timesteps} timesteps, "
            f"matched {how}"
        ),
    ]


def _sync(f: SyncFigures) -> list[str]:
    return [
        (
            f"exact {_share(f.exact_share)}: {f.exact} of {f.timesteps} timesteps; {f.mixed} mixed, {f.short} short of "
            f"a frame, {f.unknown} with unknown frames"
        ),
        f"{f.true_sets_made} of {f.true_sets} true sets of frames are a timestep",
    ]


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _bounds(interval: Interval | None, scale: float = 1.0, unit: str = "") -> str:
    if interval is None:
        return ""
    digits = 1 if unit else 3
    return f" [{scale * interval[0]:.{digits}f}, {scale * interval[1]:.{digits}f}]{unit}"


def _columns(head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Right-aligned but for the first two columns' text."""
    cells = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    left = [all(not isinstance(row[i], (int, float)) for row in rows) and i < 2 for i in range(len(head))]
    return [
        "  ".join(
            cell.ljust(width) if is_left else cell.rjust(width)
            for cell, width, is_left in zip(row, widths, left, strict=True)
        ).rstrip()
        for row in cells
    ]
