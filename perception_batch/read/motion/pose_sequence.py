"""Poses with strictly growing stamps, their velocities, and what is wrong with them."""

from __future__ import annotations

import statistics
from collections import deque

import numpy as np

from perception_batch.geometry import SE3
from perception_batch.trajectory import JumpFinder
from perception_batch.types import EgoPose, FloatArray

_RECENT = 512
"""Periods of which the rate is the median."""


class PoseSequence:
    """Makes `EgoPose`s in order; one that is not newer than the last is dropped."""

    def __init__(self) -> None:
        self.count = 0
        """Poses given."""
        self.dropped = 0
        """Poses that came twice or went back in time."""
        self.first_ns: int | None = None
        """Stamp of the first."""
        self._last: EgoPose | None = None
        self._finder = JumpFinder()
        self._periods_ns: deque[int] = deque(maxlen=_RECENT)

    @property
    def jumps(self) -> int:
        """Steps that no vehicle makes."""
        return self._finder.count

    @property
    def last_ns(self) -> int | None:
        """Stamp of the last pose given."""
        return None if self._last is None else self._last.stamp_ns

    @property
    def rate_hz(self) -> float | None:
        """From the median period of the latest poses; None with fewer than two."""
        return 1e9 / statistics.median(self._periods_ns) if self._periods_ns else None

    def add(
        self, stamp_ns: int, fixed: str, pose: SE3, velocity_mps: FloatArray | None, source: str
    ) -> EgoPose | None:
        """The next pose; None where it is not newer than the last.

        Args:
            stamp_ns: ns.
            fixed: the fixed frame.
            pose: base frame in the fixed frame.
            velocity_mps: (3,) in the base frame's axes; None takes it from the step to this pose, unless that is a jump.
            source: as in `EgoPose`.
        """
        last = self._last
        if last is not None and stamp_ns <= last.stamp_ns:
            self.dropped += 1
            return None
        unknown = np.full(3, np.nan)
        made = EgoPose(stamp_ns, fixed, pose, unknown if velocity_mps is None else velocity_mps, source)
        jumped = self._finder.jumps(made)
        if last is not None:
            self._periods_ns.append(stamp_ns - last.stamp_ns)
            if velocity_mps is None and last.frame_id == fixed and not jumped:
                seconds = (stamp_ns - last.stamp_ns) / 1e9
                moved = pose.translation_m - last.odom_SE3_base.translation_m
                made = EgoPose(
                    stamp_ns, fixed, made.odom_SE3_base, pose.rotation.T @ (moved / seconds), source
                )
        else:
            self.first_ns = stamp_ns
        self._last = made
        self.count += 1
        return made
