"""What a run over a collection would do, drive by drive, before any log is opened."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Literal

from perception_batch.errors import ConfigError, printable
from perception_batch.runs.fingerprint import Content
from perception_batch.runs.ledger import Entry
from perception_batch.runs.stage_hashes import StageHashes

Action = Literal["skip", "fuse", "render", "write", "run", "resume", "replace", "look", "refuse", "older"]
_AGO = re.compile(r"^([0-9]{1,9}(?:\.[0-9]{1,6})?)\s*([smhdw])$")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_REDO_SHARE = {"fuse": 0.1, "write": 0.05, "render": 0.5}
"""Share of a whole run's time: rough, `--dry-run` says that it estimates."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One drive that was asked for."""

    drive: str
    """Its name."""
    content: Content | None
    """Its files from outside; None where they are not on this machine."""
    entry: Entry
    """What the ledger knows of it."""


@dataclass(frozen=True, slots=True)
class PlannedDrive:
    """What would be done with one drive."""

    drive: str
    """Its name."""
    action: Action
    """``skip``: all is there; ``fuse``, ``render``, ``write``: these stages alone; ``run``; ``resume`` what was stopped;
    ``replace`` (``--overwrite``); ``look``: settings or files differ from outside, and what that means is seen when it is
    opened; ``refuse``: made with other weights, or of no use, and no ``--overwrite``; ``older`` than ``--since``."""
    why: str
    """One line; empty where the action says all."""
    seconds: float | None
    """Estimated time of work, by earlier runs; None where there are none to go by."""

    @property
    def has_work(self) -> bool:
        """Whether its log must be opened."""
        return self.action not in ("skip", "refuse", "older")


def plan_runs(
    drives: Iterable[Wanted],
    hashes: StageHashes,
    weights_sha256: str,
    *,
    since_s: float | None = None,
    overwrite: bool = False,
    known: Sequence[Entry] = (),
) -> list[PlannedDrive]:
    """Decide for every drive, in the order given.

    Args:
        drives: what was asked for.
        hashes: of the wanted settings.
        weights_sha256: of the wanted weights.
        since_s: leave out drives without a file that was changed since, seconds since 1970.
        overwrite: as the option.
        known: all of the ledger, for the speed of earlier runs.
    """
    speed = _bytes_per_s(known, hashes)
    out = []
    for wanted in drives:
        action, why = _action(wanted, hashes, weights_sha256, since_s, overwrite=overwrite)
        out.append(PlannedDrive(wanted.drive, action, why, _seconds(wanted, action, speed)))
    return out


def _action(
    wanted: Wanted, hashes: StageHashes, weights_sha256: str, since_s: float | None, *, overwrite: bool
) -> tuple[Action, str]:
    content, record = wanted.content, wanted.entry.record
    if since_s is not None and content is not None and content.modified_s < since_s:
        return "older", "no file was changed since then"
    if record is None:
        return "run", ""
    if overwrite:
        return "replace", f"is {record.status}"
    if record.status in ("damaged", "newer"):
        of = "is damaged" if record.status == "damaged" else "is of a newer version of this program"
        return "refuse", f"its run.json {of}; give --overwrite to replace it, or another --out"
    mine = record.hashes
    if record.weights_sha256 != weights_sha256:
        return "refuse", "was made with other weights; give --overwrite to replace it, or another --out"
    if mine is None or mine.detect != hashes.detect:
        return "look", "was made with other settings"
    if not record.is_finished:
        return "resume", f"is {record.status}"
    if content is None or wanted.entry.content != content.fingerprint:
        return "look", "its files were changed or not noted" if content is not None else "it is elsewhere"
    if mine.fuse != hashes.fuse:
        return "fuse", "settings of fusion were changed"
    if mine.render != hashes.render:
        return "render", "settings of the video were changed"
    if mine.write != hashes.write:
        return "write", "settings of the files were changed"
    return "skip", ""


def _bytes_per_s(known: Sequence[Entry], hashes: StageHashes) -> float | None:
    """Bytes of log in a second of work: of finished drives with these settings of detection, else of all."""
    finished = [
        (entry.size_bytes, entry.record)
        for entry in known
        if entry.record is not None and entry.record.is_finished and entry.size_bytes and entry.record.wall_s
    ]
    alike = [
        pair for pair in finished if pair[1].hashes is not None and pair[1].hashes.detect == hashes.detect
    ]
    chosen = alike or finished
    seconds = math.fsum(record.wall_s for _, record in chosen)
    return sum(size for size, _ in chosen) / seconds if seconds > 0 else None


def _seconds(wanted: Wanted, action: Action, speed: float | None) -> float | None:
    if action in ("skip", "refuse", "older", "look"):
        return 0.0
    record = wanted.entry.record
    if action in _REDO_SHARE and record is not None and record.wall_s:
        return record.wall_s * _REDO_SHARE[action]
    size = wanted.content.size_bytes if wanted.content is not None else wanted.entry.size_bytes
    return size / speed if speed and size else None


def plan_text(plan: Sequence[PlannedDrive]) -> str:
    """For ``--dry-run``: a line a drive that has work or is refused, and the sums."""
    lines = []
    for item in plan:
        if item.action in ("skip", "older"):
            continue
        time = "" if not item.seconds else f", about {_duration(item.seconds)}"
        why = f" ({printable(item.why)})" if item.why else ""
        lines.append(f"{printable(item.drive)}: {item.action}{why}{time}")
    named: dict[str, int] = {}
    for item in plan:
        named[item.action] = named.get(item.action, 0) + 1
    lines.append(
        f"{len(plan)} drives: {', '.join(f'{n} {a}' for a, n in sorted(named.items()))}"
        if plan
        else "no drives"
    )
    work = [item.seconds for item in plan if item.has_work and item.action != "look"]
    told = [seconds for seconds in work if seconds is not None]
    if told:
        rest = f", and {len(work) - len(told)} drives of unknown length" if len(told) < len(work) else ""
        lines.append(f"about {_duration(math.fsum(told))} by the speed of earlier runs here{rest}")
    return "\n".join(lines)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def parse_since(text: str, now_s: float) -> float:
    """``--since``: ``12h``, ``2d`` (s, m, h, d, w ago), or an ISO-8601 date or time, UTC unless it says otherwise.

    Args:
        text: what was written.
        now_s: the clock, seconds since 1970.

    Returns:
        Seconds since 1970.

    Raises:
        ConfigError: it is none of these.
    """
    word = text.strip()
    if match := _AGO.match(word):
        return now_s - float(match[1]) * _SECONDS[match[2]]
    with suppress(ValueError, OverflowError):
        at = datetime.fromisoformat(word.replace("Z", "+00:00"))
        return (at if at.tzinfo is not None else at.replace(tzinfo=timezone.utc)).timestamp()
    raise ConfigError(
        f"--since {printable(text)!r}: expected a time ago such as 12h or 2d (s, m, h, d, w), or a date such as 2026-11-22"
    )
