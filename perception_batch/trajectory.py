"""The vehicle's path: a short window of it while a log streams by, or the whole of it from a finished run.

Both answer alike. A pose is interpolated between its two neighbours where they are at most `max_gap_s`
apart, in one fixed frame and without a jump between them, and unknown elsewhere; a window that has answered "unknown" at a time
refuses poses that would have answered otherwise, so what is stored gives the same answers later.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable

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
_ANSWERS_KEPT = 256
"""Of the same times: a timestep asks of each of its frames, and of its own stamp several times."""


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
        trace = float(last.odom_SE3_base.rotation.ravel().dot(pose.odom_SE3_base.rotation.ravel()))
        turn_rad = math.acos(min(1.0, max(-1.0, (trace - 1) / 2)))
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
        self._answers: dict[int, tuple[SE3, int, float] | None] = {}  # since the last pose came
        self.refused = 0
        """Poses that came too late or out of order."""

    def add(self, pose: EgoPose) -> bool:
        """Append a pose; False where it is not newer than the last, or its time was already answered for."""
        late = self._floor_ns is not None and pose.stamp_ns < self._floor_ns
        if late or (self._stamps and pose.stamp_ns <= self._stamps[-1]):
            self.refused += 1
            return False
        self._answers.clear()
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
            self._answers.clear()
            del self._stamps[:keep_from]
            del self._poses[:keep_from]
            del self._parts[:keep_from]

    def pose_at(self, stamp_ns: int) -> EgoPose | None:
        """The interpolated pose; None where the neighbours are missing, too far apart, or of two fixed frames
        or the two sides of a jump."""
        found = self._find(stamp_ns)
        if found is None:
            return None
        place, i, fraction = found
        after = self._poses[i]
        if after.stamp_ns == stamp_ns:
            return after
        before = self._poses[i - 1]
        velocity = before.velocity_mps + fraction * (after.velocity_mps - before.velocity_mps)
        if any(map(math.isnan, velocity.tolist())):
            velocity = after.velocity_mps
        return EgoPose(stamp_ns, after.frame_id, place, velocity, after.source)

    def motion(self, to_ns: int, from_ns: int) -> SE3 | None:
        """``base(to)_SE3_base(from)``: how the base frame moved between two times; None where unknown."""
        return SE3.identity() if to_ns == from_ns else self.motions(to_ns, (from_ns,))[from_ns]

    def motions(self, to_ns: int, from_ns: Iterable[int]) -> dict[int, SE3 | None]:
        """`motion` from several times, each another than `to_ns`; cheaper than one after the other."""
        to = self._find(to_ns)
        if to is None:
            return dict.fromkeys(from_ns)
        out: dict[int, SE3 | None] = {}
        to_SE3_odom = to[0].inverse()
        part, frame_id = self._parts[to[1]], self._poses[to[1]].frame_id
        for stamp_ns in from_ns:
            origin = self._find(stamp_ns)
            apart = (
                origin is None
                or part != self._parts[origin[1]]
                or frame_id != self._poses[origin[1]].frame_id
            )
            out[stamp_ns] = None if origin is None or apart else to_SE3_odom @ origin[0]
        return out

    def _find(self, stamp_ns: int) -> tuple[SE3, int, float] | None:
        """The base frame at a time, the row of the pose at it or next after it, and the share of the way to that one."""
        if stamp_ns not in self._answers:
            if len(self._answers) > _ANSWERS_KEPT:
                self._answers.clear()
            self._answers[stamp_ns] = self._interpolated(stamp_ns)
        return self._answers[stamp_ns]

    def _interpolated(self, stamp_ns: int) -> tuple[SE3, int, float] | None:
        i = bisect_right(self._stamps, stamp_ns)
        if i and self._stamps[i - 1] == stamp_ns:
            return self._poses[i - 1].odom_SE3_base, i - 1, 1.0
        if i == 0 or i == len(self._stamps) or self._parts[i - 1] != self._parts[i]:
            return None
        before, after = self._poses[i - 1], self._poses[i]
        gap = after.stamp_ns - before.stamp_ns
        if gap > self._max_gap_ns or before.frame_id != after.frame_id:
            return None
        fraction = (stamp_ns - before.stamp_ns) / gap
        return before.odom_SE3_base.interpolate(after.odom_SE3_base, fraction), i, fraction
