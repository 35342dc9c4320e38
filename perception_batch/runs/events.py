"""What happened in a collection, for programs: ``OUT/.perception_batch/events.jsonl``, one JSON object a line.

Every line has ``time_utc``, ``event`` and ``pid``; the rest depends on the event. Lines of several processes do not mix: each
is one write to the end of the file. A full disk costs lines here, never the run.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

NAME = "events.jsonl"
MAX_BYTES = 64 << 20
"""Then the file becomes ``events.jsonl.1``, and that of before goes."""
_MOST_LINE = 64 << 10

EventName = Literal[
    "run_started",
    "run_finished",
    "drive_started",
    "drive_finished",
    "drive_failed",
    "drive_skipped",
    "drive_waiting",
    "segment_landed",
    "retry",
    "hook_failed",
    "note",
]
_log = logging.getLogger(__name__)


def _now() -> datetime:
    return datetime.now(timezone.utc)


class EventLog:
    """Appends events; nothing is opened until the first, and no error comes out."""

    def __init__(self, path: Path, now: Callable[[], datetime] = _now) -> None:
        self.path = path
        self._now = now
        self._silent = False

    def write(self, event: EventName, **facts: Any) -> None:
        """Add one line. What JSON does not know is written as text."""
        line: dict[str, Any] = {
            "time_utc": self._now().isoformat(timespec="milliseconds"),
            "event": event,
            "pid": os.getpid(),
        }
        data = json.dumps(line | facts, default=str, allow_nan=True).encode()
        if len(data) > _MOST_LINE:
            data = json.dumps(line | {"drive": str(facts.get("drive", ""))[:200], "cut": len(data)}).encode()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            try:
                size = os.fstat(handle).st_size
                os.write(handle, data + b"\n")
            finally:
                os.close(handle)
            if size + len(data) > MAX_BYTES:
                self.path.replace(self.path.with_name(self.path.name + ".1"))
        except OSError as error:
            if not self._silent:
                self._silent = True
                _log.warning("%s: no events are noted: %s", self.path, error.strerror or error)


def read_events(path: Path) -> Iterator[dict[str, Any]]:
    """The events of a file, oldest first; lines that are none (cut by a kill) are passed over.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as stream:
        while line := stream.readline(2 * _MOST_LINE):
            try:
                found = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(found, dict) and "event" in found:
                yield found
