"""The vehicle's own motion, from ``/tf`` or from odometry, one pose at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from perception_batch.geometry import SE3
from perception_batch.read.images.frames import int64, plausible
from perception_batch.read.rigs.transforms import (
    WORLD_FRAMES,
    TransformTree,
    frame_name,
    is_world,
    sound_pose,
)
from perception_batch.read.small_message import stamp_of
from perception_batch.types import EgoPose, FloatArray

TF = "tf"
_MAX_TWIST = 1e4
"""m/s and rad/s; more is damage."""

_BASES = ("base_link", "base_footprint")


def _rank(frame: str) -> tuple[int, str]:
    """``odom`` first: it is smooth, while ``map`` jumps when the vehicle is localised anew (REP-105)."""
    order = ("odom", *WORLD_FRAMES)
    return order.index(frame.rsplit("/", 1)[-1]), frame


class EgoTracker:
    """Turns transforms and odometry messages into poses of the base frame with strictly increasing stamps."""

    def __init__(self, base_frame: str, static: TransformTree) -> None:
        """Start with the static transforms; an empty `base_frame` means that there is no rig."""
        self.base_frame = base_frame
        self.source = ""
        self.dropped = 0
        self._tree = static
        self._last: EgoPose | None = None

    def choose(self, head_tree: TransformTree, odometry: Mapping[str, Any]) -> None:
        """Settle the source by what the head of the log shows: tf before odometry; later if neither is there.

        Args:
            head_tree: all transforms seen.
            odometry: by topic: the first message.
        """
        if self._chain(head_tree, None) is not None:
            self.source = TF
            return
        usable = [t for t, message in sorted(odometry.items()) if self._base_SE3_child(message) is not None]
        usable.sort(key=lambda t: (not is_world(frame_name(odometry[t].header.frame_id)), t))
        self.source = usable[0] if usable else ""

    def on_tf(self, message: Any, log_ns: int, *, static: bool) -> EgoPose | None:
        """Take in a TFMessage; a pose where it moved the base frame."""
        taken = self._tree.add_message(message)
        if static or self.source not in ("", TF):
            return None
        moved = {child: stamp_of(stamped.header) for child, stamped in taken}
        chain = self._chain(self._tree, set(moved))
        if chain is None:
            return None
        self.source = TF
        fixed, pose, stamp_from = chain
        stamp_ns = max(moved[child] for child in stamp_from)
        stamp_ns = stamp_ns if plausible(stamp_ns, log_ns) else log_ns
        return self._emit(stamp_ns, fixed, pose, None, TF)

    def on_odometry(self, topic: str, message: Any, log_ns: int) -> EgoPose | None:
        """Take in an Odometry message; a pose where its topic is the source."""
        if self.source not in ("", topic):
            return None
        try:
            base_SE3_child = self._base_SE3_child(message)
            odom_SE3_child = sound_pose(message.pose.pose.orientation, message.pose.pose.position)
        except ValueError:
            return None
        if base_SE3_child is None:
            return None
        self.source = topic
        v, w = message.twist.twist.linear, message.twist.twist.angular
        # Velocity of the base frame's origin, a point of the same rigid body, in the base frame's axes.
        lever = base_SE3_child.inverse().translation_m
        velocity = np.full(3, np.nan)
        if all(abs(n) < _MAX_TWIST for n in (v.x, v.y, v.z, w.x, w.y, w.z)):
            of_child = np.array([v.x, v.y, v.z]) + np.cross([w.x, w.y, w.z], lever)
            velocity = base_SE3_child.rotation @ of_child
        stamp_ns = stamp_of(message.header)
        stamp_ns = stamp_ns if plausible(stamp_ns, log_ns) else log_ns
        fixed = frame_name(message.header.frame_id)
        return self._emit(stamp_ns, fixed, odom_SE3_child @ base_SE3_child.inverse(), velocity, topic)

    def _chain(self, tree: TransformTree, moved: set[str] | None) -> tuple[str, SE3, list[str]] | None:
        """Fixed frame, ``fixed_SE3_base``, and the frames on the way that are in `moved`.

        None where nothing on the way moved; with `moved` None, where the way is static all along.
        """
        frames = tree.frames
        bases = [self.base_frame] if self.base_frame else [b for b in _BASES if b in frames]
        for fixed in sorted(filter(is_world, frames), key=_rank):
            for base in bases:
                link = tree.between(fixed, base)
                if link is None or not link[1]:
                    continue
                if moved is None:
                    if self._tree.between(fixed, base) is not None:
                        continue
                    return fixed, link[0], []
                on_way = [child for child in link[1] if child in moved]
                return (fixed, link[0], on_way) if on_way else None
        return None

    def _base_SE3_child(self, message: Any) -> SE3 | None:
        """Pose of an Odometry's child frame in the base frame; None where nothing connects them."""
        child = frame_name(message.child_frame_id)
        if not self.base_frame or not child or child == self.base_frame:
            return SE3.identity()
        link = self._tree.between(self.base_frame, child)
        return None if link is None else link[0]

    def _emit(
        self, stamp_ns: int, fixed: str, pose: SE3, velocity: FloatArray | None, source: str
    ) -> EgoPose | None:
        stamp_ns = int64(stamp_ns)
        last = self._last
        if last is not None and stamp_ns <= last.stamp_ns:
            self.dropped += 1
            return None
        if velocity is None:
            velocity = np.full(3, np.nan)
            if last is not None and last.frame_id == fixed:
                seconds = (stamp_ns - last.stamp_ns) / 1e9
                moved = pose.translation_m - last.odom_SE3_base.translation_m
                velocity = pose.rotation.T @ (moved / seconds)
        self._last = EgoPose(stamp_ns, fixed, pose, velocity, source)
        return self._last
