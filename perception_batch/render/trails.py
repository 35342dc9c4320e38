"""Where tracked objects were in the last seconds: the trails of the bird's-eye view."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import numpy as np

from perception_batch.types import FloatArray, TimestepResult

TRAIL_NS = 3_000_000_000
"""How far back a trail reaches."""


class Trails:
    """Remembers positions by track; timesteps are shown in order.

    With ego motion the trail lies still on the ground, without it on the vehicle. A change of the fixed frame
    begins anew.
    """

    def __init__(self) -> None:
        self._frame: str | None = None
        self._past: dict[int, deque[tuple[int, FloatArray]]] = {}

    def remember(self, result: TimestepResult) -> None:
        """Take a timestep."""
        frame = None if result.ego is None else result.ego.frame_id
        if frame != self._frame:
            self._frame, self._past = frame, {}
        pose = None if result.ego is None else result.ego.odom_SE3_base
        for item in result.fusion.objects:
            if item.track_id >= 0 and item.has_position:
                place = item.position_m if pose is None else pose.apply(item.position_m)
                self._past.setdefault(item.track_id, deque()).append((result.stamp_ns, place))
        for track in list(self._past):
            points = self._past[track]
            while points and points[0][0] < result.stamp_ns - TRAIL_NS:
                points.popleft()
            if not points:
                del self._past[track]

    def add(self, result: TimestepResult) -> Mapping[int, FloatArray]:
        """Take a timestep; gives (N, 2) x and y in its base frame of each track with a past, oldest first."""
        self.remember(result)
        shown: dict[int, FloatArray] = {}
        back = None if result.ego is None else result.ego.odom_SE3_base.inverse()
        for track, points in self._past.items():
            if len(points) > 1 and points[-1][0] == result.stamp_ns:
                places = [place if back is None else back.apply(place) for _, place in points]
                shown[track] = np.stack(places)[:, :2]
        return shown
