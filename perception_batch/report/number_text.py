"""Numbers and times as people read them."""

from __future__ import annotations

import math
from contextlib import suppress
from datetime import datetime, timedelta, timezone

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_FIRST_DATE_NS = (
    315_532_800_000_000_000  # 1980: stamps before it count from the start of a film or of a computer
)


def whole(value: float) -> str:
    """``12 345``: thousands apart by a narrow space."""
    return f"{value:,.0f}".replace(",", "\u202f")


def decimal(value: float | None, digits: int = 1, unit: str = "") -> str:
    """With so many digits after the point; a dash where it is unknown."""
    if value is None or not math.isfinite(value):
        return "–"
    rounded = round(value, digits) + 0.0  # no minus before a zero
    return f"{rounded:,.{digits}f}".replace(",", "\u202f") + (f"\u00a0{unit}" if unit else "")


def percent(part: float, of: float) -> str:
    """``3.4 %``; never 0 where there is something, nor 100 where something lacks."""
    if of <= 0:
        return "–"
    share = 100 * part / of
    if 0 < share < 0.05:
        return "<\u202f0.1\u00a0%"
    if 99.95 <= share < 100:
        return ">\u202f99.9\u00a0%"
    return f"{share:.1f}\u00a0%"


def clock(seconds: float) -> str:
    """``1:02.5``: minutes and seconds, hours where there are any."""
    if not math.isfinite(seconds):
        return "–"
    sign, tenths = ("−" if seconds < 0 else ""), round(abs(seconds) * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    ahead = f"{hours}:{minutes:02d}" if hours else f"{minutes}"
    return f"{sign}{ahead}:{rest // 10:02d}.{rest % 10}"


def duration(seconds: float) -> str:
    """``8.0 s``, ``12 min 5 s``, ``3 h 20 min``."""
    if not math.isfinite(seconds) or seconds < 0:
        return "–"
    if seconds < 100:
        return f"{seconds:.1f}\u00a0s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 100:
        return f"{minutes}\u00a0min {rest}\u00a0s"
    return f"{minutes // 60}\u00a0h {minutes % 60}\u00a0min"


def utc(stamp_ns: object) -> datetime | None:
    """The time of a stamp; None where it is no date."""
    if type(stamp_ns) is not int or stamp_ns < _FIRST_DATE_NS:
        return None
    with suppress(OverflowError):
        return _EPOCH + timedelta(microseconds=stamp_ns // 1000)
    return None


def plural(count: int, one: str, many: str = "") -> str:
    """``1 camera``, ``6 cameras``."""
    return f"{whole(count)}\u00a0{one if count == 1 else many or one + 's'}"
