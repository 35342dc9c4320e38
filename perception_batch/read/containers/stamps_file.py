"""Files of stamps beside videos and images: one stamp a line, with or without a file name before it."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from pathlib import Path

from perception_batch.errors import LogError, printable

MAX_STAMPS_BYTES = 256 << 20
_MAX_NS = 2**63 - 1
_DATE = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[T ]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:[.,]([0-9]{1,9})[0-9]*)?Z?"
)
_SECONDS = re.compile(r"([0-9]{1,11})\.([0-9]{1,9})[0-9]*")
_WHOLE = re.compile(r"[0-9]{1,19}")
# A whole number of this many digits is a time after 1973 in that unit: s, ms, us, ns.
_UNIT_NS = {10: 10**9, 13: 10**6, 16: 10**3, 19: 1}


def parse_stamp(text: str) -> int | None:
    """ns from ``1531883530412470000`` (ns), ``1531883530.41247`` (s) or ``2011-09-26 13:02:25.964389445`` (UTC).

    Decimals beyond nine are cut. None for anything else, and for what 63 bits do not hold.
    """
    text = text.strip()
    if match := _DATE.fullmatch(text):
        try:
            year, month, date, hour, minute, second = map(int, match.groups()[:6])
            day = datetime(year, month, date, hour, minute, second, tzinfo=timezone.utc)
        except ValueError:
            return None
        fraction = int((match[7] or "").ljust(9, "0"))
        return (int(day.timestamp()) * 10**9 + fraction) if day.year >= 1970 else None
    if match := _SECONDS.fullmatch(text):
        value = int(match[1]) * 10**9 + int(match[2].ljust(9, "0"))
    elif _WHOLE.fullmatch(text):
        value = int(text)
    else:
        return None
    return value if value <= _MAX_NS else None


def stamp_in_name(text: str) -> int | None:
    """ns from a name that is a time of today: 10, 13, 16 or 19 digits are s, ms, us, ns; ``s.fraction`` as well."""
    if _SECONDS.fullmatch(text):
        return parse_stamp(text)
    unit = _UNIT_NS.get(len(text)) if _WHOLE.fullmatch(text) else None
    return None if unit is None or int(text) * unit > _MAX_NS else int(text) * unit


def read_lines(path: Path) -> list[str]:
    """The lines of a text file that are neither empty nor ``#`` comments.

    Raises:
        LogError: too large to be a list of stamps.
    """
    if path.stat().st_size > MAX_STAMPS_BYTES:
        raise LogError(path, f"too large for a list of stamps: over {MAX_STAMPS_BYTES >> 20} MB")
    lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    return [line for line in map(str.strip, lines) if line and not line.startswith("#")]


def fields(line: str) -> list[str]:
    """The columns of a line, split at comma, semicolon or tab; a date and its time stay together."""
    parts = [part.strip() for part in re.split(r"[,;\t]", line)]
    if len(parts) == 1 and not _DATE.fullmatch(line):
        parts = line.split()
    return parts


def read_stamps(path: Path) -> list[int]:
    """The stamp of each line, ns: the last column that is one. A first line without one is a heading.

    Raises:
        LogError: a line without a stamp.
    """
    stamps: list[int] = []
    for number, line in enumerate(read_lines(path)):
        found = [s for s in map(parse_stamp, fields(line)) if s is not None]
        if found:
            stamps.append(found[-1])
        elif number:
            raise LogError(
                path,
                f"line {number + 1} has no stamp: {printable(line[:60])!r}; wanted are whole ns, seconds with a "
                "point, or `2011-09-26 13:02:25.964389445`, one a line",
            )
    return stamps
