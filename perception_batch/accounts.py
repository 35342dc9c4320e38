"""What became of every frame, and how well the frames were grouped: the numbers of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from perception_batch.columnar import FusedObjects
from perception_batch.types import FrameRow, TimestepResult

_SPREADS_KEPT = 200_000  # then every second one is dropped: percentiles of long drives, bounded memory


@dataclass(slots=True)
class Accounts:
    """Running totals; `frames_in_log = frames_used + frames_unused + frames_undecodable` by construction."""

    by_camera: dict[str, Counter[str]]
    """By camera: how many frames are ``used``, ``unused``, ``undecodable``."""
    reasons: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """By (camera, ``unused`` or ``undecodable``, reason): frames that were not used."""
    reason_range_ns: dict[tuple[str, str, str], tuple[int, int]] = field(default_factory=dict)
    """First and last stamp of each of `reasons`."""
    last_stamp_ns: int | None = None
    """Newest plausible stamp that was met."""
    timesteps: int = 0
    timesteps_incomplete: int = 0
    """Timesteps with a camera ``missing`` or ``undecodable``."""
    detections: int = 0
    objects: int = 0
    tracks: int = 0
    """Tracks that have ended."""
    positioned: int = 0
    """Objects with a position."""
    status: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By (camera, status): timesteps."""
    _spreads_ns: list[int] = field(default_factory=list)
    _spread_stride: int = 1
    _spread_max_ns: int = 0

    @classmethod
    def of(cls, cameras: Iterable[str]) -> Accounts:
        """Empty accounts for these cameras."""
        return cls({name: Counter() for name in cameras})

    def add_rows(self, rows: Iterable[FrameRow]) -> None:
        """Count settled frames."""
        for row in rows:
            self.by_camera[row.camera][row.status] += 1
            if row.reason != "bad_stamp":
                self.last_stamp_ns = max(row.stamp_ns, self.last_stamp_ns or row.stamp_ns)
            if row.status != "used":
                key = (row.camera, row.status, row.reason)
                self.reasons[key] += 1
                first, last = self.reason_range_ns.get(key, (row.stamp_ns, row.stamp_ns))
                self.reason_range_ns[key] = (min(first, row.stamp_ns), max(last, row.stamp_ns))

    def add_result(self, result: TimestepResult) -> None:
        """Count a timestep."""
        self.timesteps += 1
        self.timesteps_incomplete += any(s in ("missing", "undecodable") for s in result.status.values())
        self.detections += sum(len(d) for d in result.detections.values())
        self.objects += len(result.fusion.objects)
        self.positioned += int(np.count_nonzero(FusedObjects.of(result.fusion.objects).has_position))
        self.status.update(result.status.items())
        stamps = [at for name, at in result.frame_stamps_ns.items() if result.status[name] != "held"]
        if len(stamps) > 1:
            spread = max(stamps) - min(stamps)
            self._spread_max_ns = max(self._spread_max_ns, spread)
            if result.index % self._spread_stride == 0:
                self._spreads_ns.append(spread)
                if len(self._spreads_ns) >= _SPREADS_KEPT:
                    self._spreads_ns = self._spreads_ns[::2]
                    self._spread_stride *= 2

    def total(self, status: str) -> int:
        """Frames of all cameras with this status."""
        return sum(counter[status] for counter in self.by_camera.values())

    @property
    def frames_in_log(self) -> int:
        """All frames that were met."""
        return sum(counter.total() for counter in self.by_camera.values())

    def counts(self) -> dict[str, int]:
        """As in ``run.json``."""
        return {
            "frames_in_log": self.frames_in_log,
            "frames_used": self.total("used"),
            "frames_unused": self.total("unused"),
            "frames_undecodable": self.total("undecodable"),
            "timesteps": self.timesteps,
            "timesteps_incomplete": self.timesteps_incomplete,
            "detections": self.detections,
            "objects": self.objects,
            "tracks": self.tracks,
        }

    def spread(self) -> dict[str, int | None]:
        """Time from first to last exposure of a timestep, ns: ``p50, p95, max``; null below two cameras."""
        if not self._spreads_ns:
            return {"p50": None, "p95": None, "max": None}
        p50, p95 = np.percentile(self._spreads_ns, [50, 95], method="nearest")
        return {"p50": int(p50), "p95": int(p95), "max": self._spread_max_ns}

    def coverage(self, camera: str) -> float | None:
        """Share of the timesteps at which the camera was due that have its image; null where never due."""
        ok = self.status[camera, "ok"] + self.status[camera, "held"]
        due = ok + self.status[camera, "missing"] + self.status[camera, "undecodable"]
        return round(ok / due, 6) if due else None

    def lost(self) -> Iterator[tuple[str, str, int, tuple[int, int]]]:
        """(camera, reason, count, (first, last) stamp) of frames that no setting could have used, sorted.

        Broken images, frames with a stamp that cannot be, and a video's packets before its first key frame.
        """
        for key in sorted(self.reasons):
            camera, status, reason = key
            if status == "undecodable" or reason in ("bad_stamp", "lead_in"):
                yield camera, reason, self.reasons[key], self.reason_range_ns[key]


def cameras_over_limit(
    accounts: Accounts, absent: Mapping[str, int], limit_percent: float, cameras: Sequence[str]
) -> list[tuple[str, float]]:
    """Cameras that lost more than `limit_percent` of their frames, with the percentage.

    Lost are undecodable frames and those known to be absent (`absent`, by camera).
    """
    over = []
    for name in cameras:
        lost = accounts.by_camera[name]["undecodable"] + absent.get(name, 0)
        there = accounts.by_camera[name].total() + absent.get(name, 0)
        percent = 100.0 * lost / there if there else 0.0
        if percent > limit_percent:
            over.append((name, percent))
    return over
