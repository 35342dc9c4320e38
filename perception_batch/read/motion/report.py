"""What is known of a drive's ego motion, for `inspect` and ``run.json``."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from perception_batch.config import ReadConfig
from perception_batch.errors import printable
from perception_batch.read.images.topics import TopicInfo
from perception_batch.read.motion.clock import apart_note, offset_note
from perception_batch.read.motion.ego import EgoTracker
from perception_batch.read.motion.gnss import HEADINGS_AGREE_RAD
from perception_batch.read.motion.sources import candidates, is_target


@dataclass(frozen=True, slots=True)
class EgoReport:
    """Where the vehicle's motion comes from and how good it is. Counts are of what was read so far."""

    source: str = ""
    """``tf``, a topic or a file's name; empty without ego motion."""
    kind: str = ""
    """``tf``, ``odometry``, ``pose``, ``gnss`` or ``file``; empty without ego motion."""
    why: str = ""
    """Why this source, one line."""
    found: tuple[str, ...] = ()
    """Everything that can tell motion, in the order of preference, such as ``/odom (odometry)``."""
    sampled: bool = True
    """True where the counts are those of the head of the log."""
    poses: int = 0
    """Poses given."""
    rate_hz: float | None = None
    """Of these poses; None with fewer than two."""
    jumps: int = 0
    """Steps that no vehicle makes; nothing is interpolated across them."""
    dropped: int = 0
    """Poses that came twice or were not newer than the one before."""
    bad: int = 0
    """Messages or lines of the source without a usable pose: no fix, not finite, not parsed."""
    waited: int = 0
    """Good fixes before a heading was known."""
    restamped: int = 0
    """Poses whose stamp was zero or more than a day from log time, and that took the log time."""
    clock_offset_ns: int | None = None
    """Estimate of pose stamps less camera stamps, by log times; None where it cannot be told."""
    offset_ms: float = 0.0
    """``read.ego_offset_ms`` that was added."""
    notes: tuple[str, ...] = field(default=())
    """What the user should know, one line each."""

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        return {
            "source": self.source or None,
            "kind": self.kind or None,
            "why": self.why,
            "found": list(self.found),
            "sampled": self.sampled,
            "poses": self.poses,
            "rate_hz": self.rate_hz,
            "jumps": self.jumps,
            "dropped": self.dropped,
            "bad": self.bad,
            "waited": self.waited,
            "restamped": self.restamped,
            "clock_offset_ms": None if self.clock_offset_ns is None else self.clock_offset_ns / 1e6,
            "offset_ms": self.offset_ms,
            "notes": list(self.notes),
        }


def report_of(
    tracker: EgoTracker,
    topics: Iterable[TopicInfo],
    settings: ReadConfig,
    camera_skew_ns: int,
    cameras_ns: tuple[int, int] | None,
    *,
    sampled: bool,
) -> EgoReport:
    """What a tracker that took messages in knows.

    Args:
        tracker: after the head of the log, or after all of it.
        topics: of the log.
        settings: as the tracker has them.
        camera_skew_ns: median of the cameras' log time less stamp; 0 where they have the log's clock.
        cameras_ns: first and last stamp of the cameras; None where unknown.
        sampled: True after the head only.
    """
    sequence, set_ms = tracker.sequence, settings.ego_offset_ms
    found = tuple(
        f"{topic} ({kind})"
        + (", a wanted pose, used only when named" if kind == "pose" and is_target(topic) else "")
        for kind, topic in candidates(topics)
    )
    skew_ns = tracker.skew.median_ns
    ahead_ns = None if skew_ns is None else camera_skew_ns - skew_ns
    notes: list[str | None] = []
    if not tracker.source:
        notes.append(_nothing(settings, found, tracker.base_frame))
    if ahead_ns is not None:
        offset = offset_note(ahead_ns, set_ms)
        notes.append(offset)
        if (
            offset is None
            and not sampled
            and cameras_ns
            and sequence.first_ns is not None
            and sequence.last_ns
        ):
            span_ns = (sequence.first_ns, sequence.last_ns)
            notes.append(apart_note(span_ns, cameras_ns, set_ms, printable(tracker.source)))
    if sequence.jumps:
        notes.append(
            f"{sequence.jumps} jumps of the vehicle's pose, faster than 100 m/s or 20 g: the motion is unknown across them"
        )
    if tracker.restamped:
        notes.append(
            f"{tracker.restamped} poses have a stamp of zero or more than a day from log time; they took the log time"
        )
    if tracker.kind == "gnss":
        notes += _gnss_notes(tracker, settings)
    notes.append(slow_note(sequence.rate_hz, settings.max_pose_gap_s))
    return EgoReport(
        source=tracker.source,
        kind=tracker.kind or "",
        why=_why(tracker, settings),
        found=found,
        sampled=sampled,
        poses=sequence.count,
        rate_hz=sequence.rate_hz,
        jumps=sequence.jumps,
        dropped=sequence.dropped,
        bad=tracker.unusable + tracker.path.bad_fixes,
        waited=tracker.path.waited,
        restamped=tracker.restamped,
        clock_offset_ns=ahead_ns,
        offset_ms=set_ms,
        notes=tuple(note for note in notes if note),
    )


def _nothing(settings: ReadConfig, found: tuple[str, ...], base_frame: str) -> str | None:
    if settings.ego == "none" or (settings.ego == "auto" and not found):
        return None
    has = ", ".join(map(printable, found[:10])) or "nothing that tells motion"
    base = printable(base_frame or "base_link")
    return f"no ego motion: read.ego is {printable(settings.ego)}, and nothing of it moves {base} in a fixed frame; the log has {has}"


def _why(tracker: EgoTracker, settings: ReadConfig) -> str:
    if not tracker.source:
        return "read.ego is none" if settings.ego == "none" else ""
    if settings.ego != "auto":
        return f"read.ego is {settings.ego}"
    return {
        "tf": "transforms move the base frame: first choice",
        "odometry": "no transform moves the base frame",
        "pose": "no transform moves the base frame, and there is no Odometry",
        "gnss": "neither transforms nor Odometry nor poses tell the vehicle's motion",
    }[tracker.kind or "tf"]


def _gnss_notes(tracker: EgoTracker, settings: ReadConfig) -> list[str]:
    path, notes = tracker.path, []
    apart = path.disagreement_rad()
    if path.by["imu"]:
        checked = (
            "could not be compared with the course: too little was driven"
            if apart is None
            else f"a median of {math.degrees(apart):.0f} degrees from the course over ground"
        )
        notes.append(
            f"heading from {printable(tracker.imu_topic)}, taken as absolute (yaw 0 is east, REP-103); {checked}"
        )
        if apart is not None and apart > HEADINGS_AGREE_RAD:
            notes.append(
                "the Imu's heading is not the course's: read.gnss_heading: course would take the latter"
            )
    if path.by["course"]:
        imu_is_off = path.heading == "course" and settings.gnss_heading == "auto"
        why = " (the Imu's contradicts it)" if imu_is_off else ""
        notes.append(
            f"heading of {path.by['course']} poses from the course over ground{why}: "
            "the vehicle is taken to be level and to drive forwards"
        )
    if path.waited:
        notes.append(f"{path.waited} fixes before the vehicle moved have no heading and make no pose")
    if path.bad_fixes:
        notes.append(f"{path.bad_fixes} fixes without a position (status below 0, not finite, or nowhere)")
    return notes


def slow_note(rate_hz: float | None, max_gap_s: float) -> str | None:
    """What to say of poses that come too seldom to be interpolated between."""
    if rate_hz is None or rate_hz <= 0 or 1 / rate_hz <= max_gap_s:
        return None
    return (
        f"poses come every {1 / rate_hz:.2f} s, and read.max_pose_gap_s is {max_gap_s:g} s: "
        "between them the motion is unknown; raise it where the vehicle drives evenly"
    )
