"""The vehicle's own motion, from transforms, odometry, poses or satellite fixes, one pose at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from perception_batch.config import ReadConfig
from perception_batch.geometry import SE3
from perception_batch.read.images.frames import int64, plausible
from perception_batch.read.motion.clock import SkewSample
from perception_batch.read.motion.gnss import FRAME, HEADINGS_AGREE_RAD, GnssPath, Heading, Mounts
from perception_batch.read.motion.head import MotionHead, MotionMessage
from perception_batch.read.motion.pose_sequence import PoseSequence
from perception_batch.read.motion.sources import IMU, KINDS, TF, Kind, Wanted, kind_of
from perception_batch.read.rigs.transforms import (
    WORLD_FRAMES,
    TransformTree,
    frame_name,
    is_world,
    sound_pose,
)
from perception_batch.read.small_message import stamp_of
from perception_batch.types import EgoPose, FloatArray

_MAX_TWIST = 1e4
"""m/s and rad/s; more is damage."""

_BASES = ("base_link", "base_footprint")


def _rank(frame: str) -> tuple[int, str]:
    """``odom`` first: it is smooth, while ``map`` jumps when the vehicle is localised anew (REP-105)."""
    order = ("odom", *WORLD_FRAMES)
    return order.index(frame.rsplit("/", 1)[-1]), frame


class EgoTracker:
    """Turns messages of motion into poses of the base frame with strictly increasing stamps.

    Whatever the source, a pose is that of the base frame in a fixed frame: Odometry is of its child frame and is
    carried over by the static transforms; PoseStamped is taken as the base frame's own, in its header's frame; a fix is of its
    header's frame (the antenna), likewise carried over.
    """

    def __init__(self, base_frame: str, static: TransformTree, settings: ReadConfig | None = None) -> None:
        """Start with the static transforms.

        Args:
            base_frame: empty where there is no rig.
            static: transforms that do not change; the tracker adds to them.
            settings: ``ego``, ``ego_offset_ms`` and ``gnss_heading`` are used.
        """
        settings = ReadConfig() if settings is None else settings
        self.base_frame = base_frame
        self.source = ""
        """``tf``, or a topic; empty as long as there is none."""
        self.kind: Kind | None = None
        """What `source` is."""
        self.sequence = PoseSequence()
        """The poses that were given."""
        self.unusable = 0
        """Messages of the source without a usable pose."""
        self.restamped = 0
        """Poses that took the log time, because their stamp cannot be of this recording."""
        self.skew = SkewSample()
        """Log time less stamp of the others."""
        self.path = GnssPath("course" if settings.gnss_heading == "course" else "imu")
        """Used with satellite fixes."""
        self.imu_topic = ""
        """Where orientations come from; empty as long as there are none."""
        self._imu_frame = ""
        self._settings = settings
        self._wanted = Wanted(settings.ego)
        self._offset_ns = round(settings.ego_offset_ms * 1e6)
        self._tree = static

    # ------------------------------------------------------------------ which source

    def choose(self, head_tree: TransformTree, head: MotionHead) -> None:
        """Settle the source by what the head of the log shows, in the order of `KINDS`; later if it shows none.

        Args:
            head_tree: all transforms seen.
            head: the other messages seen.
        """
        first = head.first()
        for kind in KINDS:
            if kind == "tf":
                tf_topics = [m.topic for m in first if kind_of(m.msgtype) == "tf"]
                allowed = self._wanted.allows(TF, "tf") or any(
                    self._wanted.allows(t, "tf") for t in tf_topics
                )
                if allowed and self._chain(head_tree, None) is not None:
                    self._become(TF, "tf")
                    return
                continue
            usable = [m for m in first if kind_of(m.msgtype) == kind and self._usable(m)]
            if usable:
                usable.sort(key=lambda m: (not is_world(frame_name(m.content.header.frame_id)), m.topic))
                self._become(usable[0].topic, kind)
                if kind == "gnss" and self._settings.gnss_heading == "auto":
                    self.path = GnssPath(self._best_heading(head))
                return

    def wants(self, topic: str, msgtype: str) -> bool:
        """True where a message is worth parsing: all transforms, and what is or may become the source."""
        kind = kind_of(msgtype)
        if kind == "tf":
            return True
        if msgtype == IMU:
            return self.kind in (None, "gnss") and self.imu_topic in ("", topic)
        return kind is not None and self.source in ("", topic) and self._wanted.allows(topic, kind)

    def take(self, message: MotionMessage) -> EgoPose | None:
        """Take in one message; a pose where it gives one.

        Raises:
            ValueError, AttributeError, TypeError: the message has not the fields of its type.
        """
        kind = kind_of(message.msgtype)
        if kind == "tf":
            return self._on_tf(message)
        if not self.wants(message.topic, message.msgtype):
            return None
        if message.msgtype == IMU:
            if self.path.on_imu(
                message.content, self._time_ns(stamp_of(message.content.header), message.log_ns)
            ):
                self.imu_topic = message.topic
                self._imu_frame = frame_name(message.content.header.frame_id)
            return None
        if self.source == "":
            if kind is None or not self._usable(message):
                return None
            self._become(message.topic, kind)
        if kind == "odometry":
            return self._on_odometry(message)
        return self._on_fix(message) if kind == "gnss" else self._on_pose(message)

    def _become(self, source: str, kind: Kind) -> None:
        self.source, self.kind = source, kind

    def _usable(self, message: MotionMessage) -> bool:
        kind = kind_of(message.msgtype)
        if kind is None or not self._wanted.allows(message.topic, kind):
            return False
        if kind == "odometry":
            return self._base_SE3(message.content.child_frame_id) is not None
        if kind == "pose":  # in a frame of the vehicle it is the pose of something else
            frame, base = frame_name(message.content.header.frame_id), self.base_frame or _BASES[0]
            return is_world(frame) or (frame not in _BASES and self._tree.between(base, frame) is None)
        return True

    def _best_heading(self, head: MotionHead) -> Heading:
        """The Imu's, unless the vehicle drove in the head and went elsewhere than the Imu says."""
        settings = self._settings.model_copy(update={"ego": self.source, "gnss_heading": "imu"})
        trial = EgoTracker(self.base_frame, self._tree.copy(), settings)
        trial.follow(head.messages)
        apart = trial.path.disagreement_rad()
        return "imu" if apart is None or apart <= HEADINGS_AGREE_RAD else "course"

    def follow(self, messages: Iterable[MotionMessage]) -> Sequence[EgoPose]:
        """The poses of several messages; those that have not the fields of their type count as bad."""
        poses = []
        for message in messages:
            try:
                pose = self.take(message)
            except (ValueError, AttributeError, TypeError, OverflowError):
                self.unusable += 1
                continue
            if pose is not None:
                poses.append(pose)
        return poses

    # ------------------------------------------------------------------ one message

    def _on_tf(self, message: MotionMessage) -> EgoPose | None:
        taken = self._tree.add_message(message.content)
        allowed = self._wanted.allows(TF, "tf") or self._wanted.allows(message.topic, "tf")
        if message.is_static or self.source not in ("", TF) or not allowed:
            return None
        moved = {child: stamp_of(stamped.header) for child, stamped in taken}
        chain = self._chain(self._tree, set(moved))
        if chain is None:
            return None
        self._become(TF, "tf")
        fixed, pose, stamp_from = chain
        return self._emit(max(moved[child] for child in stamp_from), message.log_ns, fixed, pose, None)

    def _on_odometry(self, message: MotionMessage) -> EgoPose | None:
        content = message.content
        base_SE3_child = self._base_SE3(content.child_frame_id)
        try:
            odom_SE3_child = sound_pose(content.pose.pose.orientation, content.pose.pose.position)
        except ValueError:
            self.unusable += 1
            return None
        if base_SE3_child is None:
            self.unusable += 1
            return None
        v, w = content.twist.twist.linear, content.twist.twist.angular
        # Velocity of the base frame's origin, a point of the same rigid body, in the base frame's axes.
        lever = base_SE3_child.inverse().translation_m
        velocity = np.full(3, np.nan)
        if all(abs(n) < _MAX_TWIST for n in (v.x, v.y, v.z, w.x, w.y, w.z)):
            of_child = np.array([v.x, v.y, v.z]) + np.cross([w.x, w.y, w.z], lever)
            velocity = base_SE3_child.rotation @ of_child
        fixed = frame_name(content.header.frame_id)
        pose = odom_SE3_child @ base_SE3_child.inverse()
        return self._emit(stamp_of(content.header), message.log_ns, fixed, pose, velocity)

    def _on_pose(self, message: MotionMessage) -> EgoPose | None:
        pose = message.content.pose
        pose = getattr(pose, "pose", pose)  # PoseWithCovariance
        try:
            fixed_SE3_base = sound_pose(pose.orientation, pose.position)
        except ValueError:
            self.unusable += 1
            return None
        fixed = frame_name(message.content.header.frame_id) or "world"
        return self._emit(stamp_of(message.content.header), message.log_ns, fixed, fixed_SE3_base, None)

    def _on_fix(self, message: MotionMessage) -> EgoPose | None:
        antenna = self._base_SE3(message.content.header.frame_id)
        imu = self._base_SE3(self._imu_frame)
        mounts = Mounts(
            np.zeros(3) if antenna is None else antenna.translation_m,
            np.eye(3) if imu is None else imu.rotation,
        )
        stamp_ns = stamp_of(message.content.header)
        pose = self.path.on_fix(message.content, self._time_ns(stamp_ns, message.log_ns), mounts)
        return None if pose is None else self._emit(stamp_ns, message.log_ns, FRAME, pose, None)

    # ------------------------------------------------------------------ inside

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

    def _base_SE3(self, frame_id: object) -> SE3 | None:
        """Pose of a frame of the vehicle in the base frame; None where nothing connects them."""
        frame = frame_name(frame_id)
        if not self.base_frame or not frame or frame == self.base_frame:
            return SE3.identity()
        link = self._tree.between(self.base_frame, frame)
        return None if link is None else link[0]

    def _time_ns(self, stamp_ns: int, log_ns: int) -> int:
        """The header's stamp, corrected by the offset, where it can be of this recording; else log time."""
        corrected = stamp_ns + self._offset_ns
        return int64(corrected if stamp_ns != 0 and plausible(corrected, log_ns) else log_ns)

    def _emit(
        self, stamp_ns: int, log_ns: int, fixed: str, pose: SE3, velocity: FloatArray | None
    ) -> EgoPose | None:
        made = self.sequence.add(self._time_ns(stamp_ns, log_ns), fixed, pose, velocity, self.source)
        if made is None:
            return None
        if stamp_ns != 0 and made.stamp_ns == stamp_ns + self._offset_ns:
            self.skew.add(made.stamp_ns, log_ns)
        else:
            self.restamped += 1
        return made
