"""The demo's figures, in lines that a newcomer can read. Knows no other room: numbers in, lines out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

MIN_HEIGHT_PX = 20.0
MIN_VISIBLE = 0.5
"""Truth boxes that are lower, or of which less is visible, do not count."""


@dataclass(frozen=True, slots=True)
class Speed:
    """Images a second, without start-up; both with a video, or both without."""

    run: float | None
    """Of this package; None: not known."""
    plain: float | None
    """Of a plain loop over the same model and log; None: not measured."""
    plain_images: int = 0
    """Over how many it was timed."""
    why_not: str = ""
    """Why the plain loop was not timed."""


@dataclass(frozen=True, slots=True)
class Scores:
    """What the run found, against the truth; None: there is nothing to count."""

    timesteps: int
    incomplete: int
    """Of them, those that lack a camera."""
    pictures: int
    """Pictures in the log."""
    cameras: int
    sync_exact: float | None
    """Share of timesteps that hold exactly the pictures that belong together."""
    ap50: float | None
    """Mean over the classes."""
    ap50_by_class: Mapping[str, float]
    merge_f1: float | None
    """One object over cameras."""
    merge_precision: float | None
    merge_recall: float | None
    range_error: float | None
    """Median of the absolute range error as a share of the range."""
    position_error_m: float | None
    """Median."""
    idf1: float | None
    """One object over time."""
    id_switches: int | None
    max_range_m: float
    """Positions and tracks count up to here."""


def _share(value: float | None) -> str:
    return "nothing to count" if value is None else f"{100 * value:.1f} %"


def _ratio(value: float | None) -> str:
    return "nothing to count" if value is None else f"{value:.3f}"


def _speed(speed: Speed) -> str:
    if speed.run is None:
        return "not known"
    text = f"{speed.run:.1f} images/s"
    if speed.plain is None:
        return f"{text}; a plain loop was not timed: {speed.why_not}"
    factor = f", {speed.run / speed.plain:.1f} times as fast" if speed.plain > 0 else ""
    return f"{text}; a plain loop over the same log, timed on {speed.plain_images} images: {speed.plain:.1f}{factor}"


def scoreboard(scores: Scores, speed: Speed) -> list[tuple[str, str]]:
    """Name and value of each line."""
    s = scores
    classes = ", ".join(f"{name} {value:.2f}" for name, value in s.ap50_by_class.items())
    merges = _ratio(s.merge_f1)
    if s.merge_precision is not None and s.merge_recall is not None:
        merges += f" F1 (precision {s.merge_precision:.3f}, recall {s.merge_recall:.3f})"
    position = _share(s.range_error)
    if s.range_error is not None and s.position_error_m is not None:
        position += f" of the range, {s.position_error_m:.2f} m (medians, to {s.max_range_m:g} m)"
    switches = "" if s.id_switches is None else f" IDF1, {s.id_switches} switches of identity"
    return [
        (
            "timesteps",
            f"{s.timesteps} of {s.cameras} cameras, {s.incomplete} of them incomplete ({s.pictures} pictures in the log)",
        ),
        ("sync", f"{_share(s.sync_exact)} of them hold exactly the pictures that belong together"),
        ("detection", f"{_ratio(s.ap50)} AP50" + (f" ({classes})" if classes else "")),
        ("merges", f"{merges}: one object in several cameras"),
        ("position", position),
        ("tracks", f"{_ratio(s.idf1)}{switches}"),
        ("speed", _speed(speed)),
    ]
