"""What of a collection is done, running, failed or missing: from its files, without touching a log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from perception_batch.errors import printable
from perception_batch.runs.ledger import Entry
from perception_batch.runs.lock import Holder, holder
from perception_batch.runs.run_record import FOLDER
from perception_batch.runs.segment_store import FOLDER as SEGMENTS
from perception_batch.runs.segment_store import read_plan
from perception_batch.runs.segments import SegmentPlan

State = Literal["done", "partial", "running", "stopped", "failed", "missing", "unreadable"]
STATES: tuple[State, ...] = ("done", "partial", "running", "stopped", "failed", "missing", "unreadable")
_MOST_WANTED = 1_000_000


@dataclass(frozen=True, slots=True)
class DriveStatus:
    """One drive of a collection."""

    drive: str
    """Its name."""
    state: State
    """``done``; ``partial`` (lost more than the limit); ``running``; ``stopped`` (by a signal or a kill, goes on with the
    same command); ``failed``; ``missing`` (asked for, nothing there yet); ``unreadable`` (of a newer version, or damaged)."""
    detail: str
    """One line: who works on it, or why it failed; empty where there is nothing to say."""
    segments_done: int
    """Segments on disk of a drive that is not finished."""
    segments: int
    """How many it will have; 0 where that is not known."""
    frames: int
    """Camera frames in the log; 0 until it is finished."""
    losses: int
    """Entries of `losses` in its manifest."""
    wall_s: float
    """Seconds that the run took; 0 until it is finished."""
    finished_utc: str
    """ISO 8601; empty until it is finished."""


def lock_path(out: Path, drive: str) -> Path:
    """Where the lock of a drive's output is: beside the drives, so that a drive's folder may be removed."""
    return out / FOLDER / "locks" / f"{drive}.lock"


def collection_status(
    out: Path,
    entries: Iterable[Entry],
    *,
    at_work: Callable[[str], Holder | None] | None = None,
    landed: Callable[[str], tuple[int, int]] | None = None,
) -> list[DriveStatus]:
    """The state of every drive, in the order of `entries` (see `Ledger.entries`).

    Args:
        out: what was given to `run --out`.
        entries: of the ledger.
        at_work: who works on a drive; None: who holds its lock in `out`.
        landed: files of segments that are there, and how many there will be; None: in the drive's folder.
    """
    at_work = at_work or (lambda drive: holder(lock_path(out, drive)))
    landed = landed or (lambda drive: _segments(out / drive))
    return [_status(entry, at_work(entry.drive), landed) for entry in entries]


def _status(entry: Entry, at_work: Holder | None, landed: Callable[[str], tuple[int, int]]) -> DriveStatus:
    record = entry.record
    done = total = 0
    state: State
    detail = ""
    if at_work is not None:
        state, detail = "running", str(at_work)
    elif record is None:
        state, detail = ("failed", entry.message) if entry.message else ("missing", "")
    elif record.is_finished:
        state = "done" if record.status == "complete" else "partial"
    elif record.status == "failed":
        state, detail = "failed", entry.message
    elif record.status == "unfinished":  # with a reason where its process died of the drive
        state, detail = ("failed", entry.message) if entry.message else ("stopped", "")
    else:
        state = "unreadable"
        detail = "of a newer version" if record.status == "newer" else "run.json is damaged"
    if state in ("running", "stopped", "failed"):
        done, total = landed(entry.drive)
    finished = record if record is not None and record.is_finished and state in ("done", "partial") else None
    return DriveStatus(
        entry.drive,
        state,
        detail,
        done,
        total,
        0 if finished is None else finished.frames,
        0 if finished is None else finished.losses,
        0.0 if finished is None else finished.wall_s,
        "" if finished is None else finished.finished_utc,
    )


def _segments(directory: Path) -> tuple[int, int]:
    """Files of segments that are there, and how many there will be; a look at names, not into files."""
    plan = read_plan(directory)
    try:
        done = sum(path.suffix == ".zip" for path in (directory / SEGMENTS).iterdir())
    except OSError:
        done = 0
    return done, segments_wanted(plan)


def segments_wanted(plan: SegmentPlan | None) -> int:
    """How many segments there will be; 0 without a plan."""
    if plan is None:
        return 0
    return plan.count if plan.count > _MOST_WANTED else len(plan.wanted())


def counts(statuses: Iterable[DriveStatus]) -> dict[State, int]:
    """Drives by state, every state named."""
    found = Counter(status.state for status in statuses)
    return {state: found[state] for state in STATES}


def as_dict(out: Path | str, statuses: list[DriveStatus], notes: Iterable[str]) -> dict[str, Any]:
    """For ``status --json``."""
    return {
        "schema": 1,
        "out": str(out),
        "counts": counts(statuses),
        "drives": [asdict(status) for status in statuses],
        "notes": list(notes),
    }


def as_text(statuses: list[DriveStatus], notes: Iterable[str]) -> str:
    """For people: the drives that want attention one by one, then the sums."""
    lines = []
    for status in statuses:
        if status.state == "done":
            continue
        parts = [f"{printable(status.drive)}: {status.state}"]
        if status.segments or status.segments_done:
            of = f" of {status.segments}" if status.segments else ""
            parts.append(f"{status.segments_done}{of} segments detected")
        if status.losses:
            parts.append(f"{status.losses} losses")
        if status.detail:
            parts.append(printable(status.detail))
        lines.append(", ".join(parts))
    named = [f"{count} {state}" for state, count in counts(statuses).items() if count]
    frames, wall_s = sum(s.frames for s in statuses), sum(s.wall_s for s in statuses)
    lines.append(f"{len(statuses)} drives: {', '.join(named)}" if statuses else "no drives here yet")
    if wall_s:
        lines.append(f"{frames} frames in {wall_s:.0f} s of work, {frames / wall_s:.1f} frames/s")
    lines += [f"note: {note}" for note in notes]
    return "\n".join(lines)
