"""A drive cut into segments by the time of its timesteps, with its synchronisation plan frozen into the cut."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from perception_batch.errors import LogError

SCHEMA = 1
"""Version of plans; a reader takes a higher one for foreign."""
_INT64 = 1 << 63


@dataclass(frozen=True, slots=True)
class SegmentPlan:
    """How one drive is cut; the same in every process that works on it.

    Segment ``k`` holds the timesteps with ``origin_ns + k * length_ns <= stamp < origin_ns + (k + 1) * length_ns``; the
    first also all before it and the last all after it, so that every timestep has a segment, whatever stamps a log holds.
    """

    log_fingerprint: str
    """Of the log, see `DriveLog.fingerprint`."""
    detect_hash: str
    """Of all settings that decide what is detected, see `stage_hashes`."""
    origin_ns: int
    """Where segment 0 begins: the log's first plausible camera stamp, ns."""
    length_ns: int
    """Length of a segment, ns."""
    first: int
    """Number of the first segment; not 0 with ``--start``."""
    count: int
    """How many there are."""
    lead_in_ns: int
    """Reading that begins so long before a segment gives its timesteps as reading it all does, ns; `SyncPlan.lead_in_ns`."""
    lag_ns: int
    """Reading goes on for so long after a segment: later no frame or pose for it is expected, ns."""
    ranges_ns: tuple[tuple[int, int], ...] | None
    """Half-open stretches of the timesteps that are wanted, sorted and disjoint; None: everything."""
    sync: Mapping[str, Any]
    """The synchronisation plan, as plain JSON, see `frozen`."""

    def __post_init__(self) -> None:
        if self.length_ns < 1 or self.count < 1 or self.first < 0 or min(self.lead_in_ns, self.lag_ns) < 0:
            raise ValueError(
                f"a plan has at least one segment of at least 1 ns, and no negative times; got first {self.first}, count "
                f"{self.count}, length {self.length_ns}, lead-in {self.lead_in_ns}, lag {self.lag_ns} ns"
            )

    @property
    def last(self) -> int:
        """Number of the last segment."""
        return self.first + self.count - 1

    def segment_of(self, stamp_ns: int) -> int:
        """The segment of a timestep."""
        return min(max((stamp_ns - self.origin_ns) // self.length_ns, self.first), self.last)

    def span_ns(self, segment: int) -> tuple[int | None, int | None]:
        """Half-open range of a segment's timesteps; None: no limit."""
        start = self.origin_ns + segment * self.length_ns
        return (
            start if segment > self.first else None,
            start + self.length_ns if segment < self.last else None,
        )

    def reading_ns(self, segment: int) -> tuple[int | None, int | None]:
        """Half-open range of the stamps that must be read for a segment alone; None: no limit.

        For in-log video the reader begins at the key frame before it (``DriveLog.stream(..., warm_up=True)``).
        """
        start, stop = self.span_ns(segment)
        return (
            None if start is None else start - self.lead_in_ns,
            None if stop is None else stop + self.lag_ns,
        )

    def wanted(self) -> Sequence[int]:
        """Numbers of the segments that can hold a timestep, in order; lazy where there are no `ranges_ns`."""
        if self.ranges_ns is None:
            return range(self.first, self.last + 1)
        numbers: list[int] = []
        for start, stop in self.ranges_ns:
            if stop <= start:
                continue
            low, high = self.segment_of(start), self.segment_of(stop - 1)
            numbers.extend(range(max(low, numbers[-1] + 1 if numbers else low), high + 1))
        return numbers

    @property
    def hash(self) -> str:
        """Of all that it says: two processes with equal ones cut and group alike."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def to_json(self) -> str:
        """As in ``plan.json``: one line, sorted keys."""
        out = {"schema": SCHEMA, **{item.name: getattr(self, item.name) for item in fields(self)}}
        return json.dumps(frozen(out), sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes, path: Path) -> SegmentPlan:
        """Read back what `to_json` gave.

        Args:
            text: the file's contents.
            path: where it stands, for the message.

        Raises:
            LogError: it is no plan, or one of a newer version.
        """
        try:
            return cls(**_fields(thawed(json.loads(text)), path))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise LogError(path, f"is no plan of a drive: {error}") from None


def _fields(data: Any, path: Path) -> dict[str, Any]:
    """The fields of a plan, checked; what else stands in the file is left out."""
    if not isinstance(data, dict) or type(data.get("schema")) is not int:
        raise ValueError("it has no `schema`")
    if data["schema"] > SCHEMA:
        raise LogError(path, f"schema {data['schema']} is of a newer version; this one reads up to {SCHEMA}")
    for item in fields(SegmentPlan):
        value: Any = data[item.name]
        if str(item.type) == "str":
            valid = isinstance(value, str)
        else:
            valid = str(item.type) != "int" or (type(value) is int and -_INT64 <= value < _INT64)
        if not valid:
            raise ValueError(f"{item.name} is {value!r}")
    if not isinstance(data["sync"], dict):
        raise TypeError("sync is no object")
    ranges = data["ranges_ns"]
    if ranges is not None:
        ranges = tuple((int(start), int(stop)) for start, stop in ranges)
    return {item.name: data[item.name] for item in fields(SegmentPlan)} | {"ranges_ns": ranges}


def cut(
    *,
    log_fingerprint: str,
    detect_hash: str,
    origin_ns: int,
    length_s: float,
    last_ns: int,
    span_ns: tuple[int | None, int | None] = (None, None),
    ranges_ns: Sequence[tuple[int, int]] | None = None,
    lead_in_ns: int,
    lag_ns: int,
    sync: Mapping[str, Any],
) -> SegmentPlan:
    """Cut a drive into segments of `length_s`; the other arguments as in `SegmentPlan`.

    Args:
        log_fingerprint: of the log.
        detect_hash: of the settings.
        origin_ns: the log's first plausible camera stamp, whatever ``--start``.
        length_s: as `runs.segment_s`.
        last_ns: about where the log ends; the last segment takes what comes later.
        span_ns: ``--start`` and ``--stop``; None: to the end.
        ranges_ns: the stretches that are wanted.
        lead_in_ns: see `SegmentPlan`.
        lag_ns: see `SegmentPlan`.
        sync: the synchronisation plan; any frozen record as a mapping.
    """
    length_ns = max(1, round(length_s * 1e9))
    start, stop = span_ns
    end_ns = last_ns if stop is None else min(last_ns, stop - 1)
    first = max(0, ((origin_ns if start is None else start) - origin_ns) // length_ns)
    last = max(first, (end_ns - origin_ns) // length_ns)
    return SegmentPlan(
        log_fingerprint,
        detect_hash,
        origin_ns,
        length_ns,
        first,
        last - first + 1,
        lead_in_ns,
        lag_ns,
        None if ranges_ns is None else tuple((int(a), int(b)) for a, b in ranges_ns),
        frozen(sync),
    )


def frozen(value: Any) -> Any:
    """A record's contents as JSON knows them, such that `thawed` gives equal ones: infinite numbers are named."""
    if isinstance(value, Mapping):
        return {str(key): frozen(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [frozen(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(value)}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise ValueError(f"{type(value).__name__} has no place in a plan")


def thawed(value: Any) -> Any:
    """The opposite of `frozen`; sequences stay lists."""
    if isinstance(value, dict):
        if value.keys() == {"float"} and value["float"] in ("inf", "-inf", "nan"):
            return float(value["float"])
        return {key: thawed(item) for key, item in value.items()}
    return [thawed(item) for item in value] if isinstance(value, list) else value
