"""The vehicle's path: a short window of it while a log streams by, or the whole of it from a finished run.

Both answer alike. A pose is interpolated between its two neighbours where they are at most `max_gap_s`
apart and in one fixed frame, and unknown elsewhere; a window that has answered "unknown" at a time refuses poses that would have
answered otherwise, so what is stored gives the same answers later.
"""

from __future__ import annotations

from bisect import bisect_right

import numpy as np

from perception_batch.geometry import SE3
from perception_batch.types import EgoPose


class Trajectory:
    """Poses by time, with strictly growing stamps.

    Args:
        max_gap_s: largest distance of two poses to interpolate between, seconds.
    """

    def __init__(self, max_gap_s: float) -> None:
        self._max_gap_ns = round(max_gap_s * 1e9)
        self._stamps: list[int] = []
        self._poses: list[EgoPose] = []
        self._floor_ns: int | None = None
        self.refused = 0
        """Poses that came too late or out of order."""

    def add(self, pose: EgoPose) -> bool:
        """Append a pose; False where it is not newer than the last, or its time was already answered for."""
        late = self._floor_ns is not None and pose.stamp_ns < self._floor_ns
        if late or (self._stamps and pose.stamp_ns <= self._stamps[-1]):
            self.refused += 1
            return False
        self._stamps.append(pose.stamp_ns)
        self._poses.append(pose)
        return True

    @property
    def newest_ns(self) -> int | None:
        """Stamp of the newest pose; None without one."""
        return self._stamps[-1] if self._stamps else None

    def settle(self, stamp_ns: int) -> None:
        """Declare times up to `stamp_ns` answered: where they had no later neighbour they stay unknown."""
        if not self._stamps or self._stamps[-1] < stamp_ns:
            self._floor_ns = max(self._floor_ns or 0, stamp_ns + self._max_gap_ns + 1)

    def forget_before(self, stamp_ns: int) -> None:
        """Drop poses that no question at or after `stamp_ns` needs."""
        keep_from = bisect_right(self._stamps, stamp_ns) - 1
        if keep_from > 256:  # in strides, so that each pose is moved a bounded number of times
            del self._stamps[:keep_from]
            del self._poses[:keep_from]

    def pose_at(self, stamp_ns: int) -> EgoPose | None:
        """The interpolated pose; None where the neighbours are missing, too far apart or of two fixed frames."""
        i = bisect_right(self._stamps, stamp_ns)
        if i and self._stamps[i - 1] == stamp_ns:
            return self._poses[i - 1]
        if i == 0 or i == len(self._stamps):
            return None
        before, after = self._poses[i - 1], self._poses[i]
        gap = after.stamp_ns - before.stamp_ns
        if gap > self._max_gap_ns or before.frame_id != after.frame_id:
            return None
        fraction = (stamp_ns - before.stamp_ns) / gap
        velocity = before.velocity_mps + fraction * (after.velocity_mps - before.velocity_mps)
        if np.isnan(velocity).any():
            velocity = after.velocity_mps
        pose = before.odom_SE3_base.interpolate(after.odom_SE3_base, fraction)
        return EgoPose(stamp_ns, after.frame_id, pose, velocity, after.source)

    def motion(self, to_ns: int, from_ns: int) -> SE3 | None:
        """``base(to)_SE3_base(from)``: how the base frame moved between two times; None where unknown."""
        if to_ns == from_ns:
            return SE3.identity()
        to, origin = self.pose_at(to_ns), self.pose_at(from_ns)
        if to is None or origin is None or to.frame_id != origin.frame_id:
            return None
        return to.odom_SE3_base.inverse() @ origin.odom_SE3_base
