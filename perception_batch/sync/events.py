"""Stretches of a drive that are wanted, from a table of events."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable
from pathlib import Path

from perception_batch.errors import ConfigError, printable
from perception_batch.time_text import parse_time

_COLUMNS = ("stamp", "before_s", "after_s")
_MAX_BYTES = 64 << 20


def read_events(path: Path, first_stamp_ns: int) -> list[tuple[int, int]]:
    """Half-open ranges [start_ns, stop_ns) about the events of a CSV file, sorted, those that touch merged.

    The file has a header with the columns ``stamp`` (seconds from the first camera stamp, ISO-8601 UTC, or integer
    ns), ``before_s`` and ``after_s`` (seconds, not negative); further columns are ignored, and so are empty lines.

    Args:
        path: the file.
        first_stamp_ns: where seconds count from.

    Raises:
        ConfigError: it is no such table; the message names the line.
        OSError: it cannot be read.
    """
    name = printable(path)
    if path.stat().st_size > _MAX_BYTES:
        raise ConfigError(f"{name}: larger than {_MAX_BYTES >> 20} MiB, not a list of events")
    ranges: list[tuple[int, int]] = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file, skipinitialspace=True)
            header = [word.strip() for word in rows.fieldnames or ()]
            lacking = [column for column in _COLUMNS if column not in header]
            if lacking:
                have = ", ".join(map(printable, header)) or "nothing"
                raise ConfigError(
                    f"{name}: no column {', '.join(lacking)}; the header has {have}, needed are {', '.join(_COLUMNS)}"
                )
            rows.fieldnames = header
            for row in rows:
                where = f"{name}, line {rows.line_num}:"
                at = parse_time(row["stamp"] or "", first_stamp_ns, f"{where} stamp")
                before, after = (_seconds(row[column], f"{where} {column}") for column in _COLUMNS[1:])
                ranges.append((at - before, at + after))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{name}: not a CSV file: {' '.join(str(error).split())}") from None
    if not ranges:
        raise ConfigError(f"{name}: no event below its header")
    return merged(ranges)


def _seconds(text: str | None, where: str) -> int:
    try:
        seconds = float(text or "")
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= 1e7:
        raise ConfigError(f"{where} {printable(text or '')!r}: expected seconds, from 0 to 10,000,000")
    return round(seconds * 1e9)


def merged(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Sorted and disjoint; empty ones are left out."""
    out: list[tuple[int, int]] = []
    for start, stop in sorted(ranges):
        if stop <= start:
            continue
        if out and start <= out[-1][1]:
            out[-1] = (out[-1][0], max(out[-1][1], stop))
        else:
            out.append((start, stop))
    return out
