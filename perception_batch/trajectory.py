"""The vehicle's path: a short window of it while a log streams by, or the whole of it from a finished run.

Both answer alike. A pose is interpolated between its two neighbours where they are at most `max_gap_s`
apart, in one fixed frame and without a jump between them, and unknown elsewhere; a window that has answered "unknown" at a time
refuses poses that would have answered otherwise, so what is stored gives the same answers later.
"""

from __future__ import annotations

import math
from bisect import bisect_right

import numpy as np

from perception_batch.geometry import SE3
from perception_batch.types import EgoPose, FloatArray

MAX_SPEED_MPS = 100.0
"""360 km/h. Nothing that carries cameras on a road is faster."""
STEP_FLOOR_M = 0.5
"""A step this short is no jump whatever its time: stamps jitter, and 1 ms of it is 3 cm on a motorway."""
MAX_ACCELERATION_MPS2 = 196.0
"""20 g. Braking reaches 1 g and what a vehicle survives in a crash about 20."""
SURPRISE_FLOOR_M = 1.0
"""How far a step may lie from where the one before it leads, at least: below it is measurement noise."""
MAX_TURN_RAD = 1.0
"""Turn between two poses, besides `MAX_TURN_RATE_RADPS`."""
MAX_TURN_RATE_RADPS = 10.0
"""More than a turn and a half a second; a spinning robot does 6 rad/s."""
MAX_COMPARED_S = 1.0
"""Steps longer than this tell nothing of the acceleration at their ends."""


class JumpFinder:
    """Tells where a sequence of poses jumps: a step that no vehicle makes, in place or in heading.

    A step is a jump where its speed is beyond `MAX_SPEED_MPS`, or its change of velocity against the step before
    it beyond `MAX_ACCELERATION_MPS2`, or its turn beyond `MAX_TURN_RATE_RADPS`, each with a floor for noise. Poses come
    with growing stamps; a change of the fixed frame begins anew and is no jump.
    """

    def __init__(self) -> None:
        self.count = 0
        """Jumps so far."""
        self._last: EgoPose | None = None
        self._step_s = math.nan
        self._velocity_mps: FloatArray | None = None

    def jumps(self, pose: EgoPose) -> bool:
        """True where `pose` cannot follow the pose given before."""
        last, self._last = self._last, pose
        if last is None or last.frame_id != pose.frame_id:
            self._velocity_mps = None
            return False
        seconds = (pose.stamp_ns - last.stamp_ns) / 1e9
        step_m = pose.odom_SE3_base.translation_m - last.odom_SE3_base.translation_m
        turn = last.odom_SE3_base.rotation.T @ pose.odom_SE3_base.rotation
        turn_rad = math.acos(min(1.0, max(-1.0, (float(np.trace(turn)) - 1) / 2)))
        jump = (
            math.hypot(*step_m) > STEP_FLOOR_M + MAX_SPEED_MPS * seconds
            or turn_rad > MAX_TURN_RAD + MAX_TURN_RATE_RADPS * seconds
            or self._surprising(step_m, seconds)
        )
        self.count += jump
        # What comes after a jump is compared with nothing that came before it.
        self._velocity_mps, self._step_s = (None, math.nan) if jump else (step_m / seconds, seconds)
        return jump

    def _surprising(self, step_m: FloatArray, seconds: float) -> bool:
        if self._velocity_mps is None or max(seconds, self._step_s) > MAX_COMPARED_S:
            return False
        off_m = math.hypot(*(step_m - self._velocity_mps * seconds))
        allowed = MAX_ACCELERATION_MPS2 * seconds * (seconds + self._step_s) / 2
        return off_m > max(SURPRISE_FLOOR_M, allowed)


class Trajectory:
    """Poses by time, with strictly growing stamps.

    Args:
        max_gap_s: largest distance of two poses to interpolate between, seconds.
    """

    def __init__(self, max_gap_s: float) -> None:
        self._max_gap_ns = round(max_gap_s * 1e9)
        self._stamps: list[int] = []
        self._poses: list[EgoPose] = []
        self._parts: list[int] = []
        self._jumps = JumpFinder()
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
        self._jumps.jumps(pose)
        self._parts.append(self._jumps.count)
        return True

    @property
    def max_gap_ns(self) -> int:
        """Largest distance of two poses to interpolate between, ns."""
        return self._max_gap_ns

    @property
    def jumps(self) -> int:
        """Jumps among the poses that were added; nothing is interpolated across them."""
        return self._jumps.count

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
            del self._parts[:keep_from]

    def pose_at(self, stamp_ns: int) -> EgoPose | None:
        """The interpolated pose; None where the neighbours are missing, too far apart, or of two fixed frames
        or the two sides of a jump."""
        found = self._find(stamp_ns)
        return None if found is None else found[0]

    def motion(self, to_ns: int, from_ns: int) -> SE3 | None:
        """``base(to)_SE3_base(from)``: how the base frame moved between two times; None where unknown."""
        if to_ns == from_ns:
            return SE3.identity()
        to, origin = self._find(to_ns), self._find(from_ns)
        if to is None or origin is None or to[1] != origin[1] or to[0].frame_id != origin[0].frame_id:
            return None
        return to[0].odom_SE3_base.inverse() @ origin[0].odom_SE3_base

    def _find(self, stamp_ns: int) -> tuple[EgoPose, int] | None:
        """The pose at a time and the part between two jumps to which it belongs."""
        i = bisect_right(self._stamps, stamp_ns)
        if i and self._stamps[i - 1] == stamp_ns:
            return self._poses[i - 1], self._parts[i - 1]
        if i == 0 or i == len(self._stamps) or self._parts[i - 1] != self._parts[i]:
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
        return EgoPose(stamp_ns, after.frame_id, pose, velocity, after.source), self._parts[i]
