"""A constant offset between the clock of the poses and that of the cameras, found by log times and put in words."""

from __future__ import annotations

import statistics

TOLERANCE_NS = 500_000_000
"""Latencies differ by less: drivers and encoders take up to some 300 ms."""

_MAX_SAMPLES = 4096
_SECOND_NS = 1_000_000_000


class SkewSample:
    """The median of log time less stamp, from an even sample of all pairs."""

    def __init__(self) -> None:
        self._skews_ns: list[int] = []
        self._stride = 1
        self._seen = 0

    def add(self, stamp_ns: int, log_ns: int) -> None:
        """Take in one message."""
        if self._seen % self._stride == 0:
            self._skews_ns.append(log_ns - stamp_ns)
            if len(self._skews_ns) >= _MAX_SAMPLES:
                self._skews_ns = self._skews_ns[::2]
                self._stride *= 2
        self._seen += 1

    @property
    def median_ns(self) -> int | None:
        """None without a message."""
        return statistics.median_low(self._skews_ns) if self._skews_ns else None


def offset_note(offset_ns: int, set_ms: float) -> str | None:
    """What to say of poses that are `offset_ns` ahead of the cameras; None within the tolerance.

    Args:
        offset_ns: stamps of the poses less those of the cameras at equal log times; `set_ms` is in it.
        set_ms: ``read.ego_offset_ms`` as it is set.
    """
    if abs(offset_ns) <= TOLERANCE_NS:
        return None
    likely_ns, guess = _likely(offset_ns)
    side = "ahead of" if offset_ns > 0 else "behind"
    return (
        f"poses are {abs(offset_ns) / 1e9:.3f} s {side} the cameras, by the log times of both{guess}; "
        f"nothing was changed: read.ego_offset_ms: {set_ms - likely_ns / 1e6:g} would correct it"
    )


def _likely(offset_ns: int) -> tuple[int, str]:
    """The offset that was probably meant, and a guess at its cause.

    GPS time is ahead of UTC by 18 s since 2017 (14 in 2006, by leap seconds, IERS Bulletin C), TAI by 19 s more.
    Time zones differ by quarters of an hour.
    """
    seconds = round(offset_ns / _SECOND_NS)
    near = abs(offset_ns - seconds * _SECOND_NS) <= TOLERANCE_NS
    if near and 14 <= abs(seconds) <= 18:
        return seconds * _SECOND_NS, ": GPS time?"
    if near and 33 <= abs(seconds) <= 37:
        return seconds * _SECOND_NS, ": TAI?"
    quarters = round(offset_ns / (900 * _SECOND_NS))
    if abs(quarters) >= 2 and abs(offset_ns - quarters * 900 * _SECOND_NS) <= 2 * _SECOND_NS:
        return quarters * 900 * _SECOND_NS, f": a time zone ({quarters / 4:+g} h)?"
    return offset_ns, ""


def apart_note(
    poses_ns: tuple[int, int], cameras_ns: tuple[int, int], set_ms: float, source: str
) -> str | None:
    """What to say of poses whose times have nothing in common with the cameras'; None where they overlap.

    Args:
        poses_ns: first and last stamp of the poses; `set_ms` is in them.
        cameras_ns: first and last stamp of the cameras.
        set_ms: ``read.ego_offset_ms`` as it is set.
        source: what the poses are of.
    """
    if poses_ns[0] <= cameras_ns[1] and cameras_ns[0] <= poses_ns[1]:
        return None
    likely_ns, guess = _likely(poses_ns[0] - cameras_ns[0])
    side = "after" if poses_ns[0] > cameras_ns[1] else "before"
    advice = f": read.ego_offset_ms: {set_ms - likely_ns / 1e6:g} would correct it" if guess else ""
    return (
        f"{source} covers {poses_ns[0]} to {poses_ns[1]} ns, all {side} the cameras ({cameras_ns[0]} to "
        f"{cameras_ns[1]} ns): no pose fits; it starts {abs(poses_ns[0] - cameras_ns[0]) / 1e9:.3f} s {side} them{guess}{advice}"
    )
