"""The sweeps of one lidar: messages to points in the base frame, and an account of those that came to nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np

from perception_batch.errors import ConfigError, printable
from perception_batch.geometry import SE3
from perception_batch.lidar import LidarSweep
from perception_batch.read.containers.logfile import Message
from perception_batch.read.images.clock import plausible
from perception_batch.read.images.frames import int64
from perception_batch.read.images.image_message import MalformedMessage
from perception_batch.read.images.topics import TopicInfo
from perception_batch.read.lidar.point_cloud import POINT_CLOUD, head_of_cloud, parse_cloud
from perception_batch.read.rigs.transforms import TransformTree, frame_name
from perception_batch.types import Loss


def lidar_topic(setting: str, topics: Sequence[TopicInfo]) -> str | None:
    """The topic of point clouds that `setting` means; ``auto``: that with the most messages, the first by name.

    Returns:
        None with ``auto`` where the log has none.

    Raises:
        ConfigError: a topic is named that the log does not have, or that holds no point clouds.
    """
    clouds = [topic for topic in topics if topic.type == POINT_CLOUD]
    if setting == "auto":
        return min(clouds, key=lambda topic: (-topic.count, topic.name)).name if clouds else None
    if not any(topic.name == setting for topic in clouds):
        there = ", ".join(printable(topic.name) for topic in clouds) or "none"
        raise ConfigError(
            f"fuse.lidar: {printable(setting)} is no topic of {POINT_CLOUD} in this log; it has {there} "
            "(null: without a lidar)"
        )
    return setting


class SweepReader:
    """Makes the sweeps of one topic.

    Args:
        topic: its name.
    """

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.taken = 0
        """Sweeps made in the last stream."""
        self._clock: Literal["header", "log"] = "header"
        self._base_frame = ""
        self._tree = TransformTree()
        self._mounts: dict[str, SE3 | None] = {}
        self._lost: Counter[str] = Counter()

    def place(self, tree: TransformTree, base_frame: str) -> None:
        """Learn where frames are on the vehicle, from transforms that are known by now."""
        self._tree, self._base_frame, self._mounts = tree, base_frame, {}

    def begin(self, clock: Literal["header", "log"]) -> None:
        """A stream begins, whose sweeps carry the header's stamp or log time, as the cameras' frames do."""
        self._clock = clock
        self._lost.clear()
        self.taken = 0

    def why_not(self, first: Message | None) -> str:
        """Why the topic is of no use, as its first message tells; empty where it is."""
        if first is None:
            return "the topic holds no message in the first seconds"
        try:
            _, frame_id = head_of_cloud(first.data, "ros1" if first.channel.encoding == "ros1" else "cdr")
        except MalformedMessage:
            return ""  # later ones may be better; this one is counted when it is streamed
        return "" if self._mount(frame_id) is not None else self._no_link(frame_id)

    def make(self, message: Message) -> LidarSweep | None:
        """The sweep of one message; None, and counted, where it is of no use."""
        serialization: Literal["ros1", "cdr"] = "ros1" if message.channel.encoding == "ros1" else "cdr"
        try:
            cloud = parse_cloud(message.data, serialization)
        except MalformedMessage as error:
            self._lost[f"point clouds that cannot be read ({error})"] += 1
            return None
        stamp_ns = cloud.stamp_ns if self._clock == "header" else message.log_ns
        if self._clock == "header" and not plausible(stamp_ns, message.log_ns):
            self._lost["point clouds without a plausible stamp"] += 1
            return None
        mount = self._mount(cloud.frame_id)
        if mount is None:
            self._lost[f"point clouds: {self._no_link(cloud.frame_id)}"] += 1
            return None
        points = cloud.points_m @ mount.rotation.T.astype(np.float32) + mount.translation_m.astype(np.float32)
        self.taken += 1
        return LidarSweep(int64(stamp_ns), int64(message.log_ns), np.ascontiguousarray(points, np.float32))

    def losses(self) -> tuple[Loss, ...]:
        """Messages of the last stream that came to nothing, by reason."""
        return tuple(Loss(self.topic, 0, 0, count, why) for why, count in sorted(self._lost.items())[:20])

    def _mount(self, frame_id: str) -> SE3 | None:
        frame = frame_name(frame_id)
        if frame not in self._mounts:
            if len(self._mounts) >= 64:  # a log that invents frames
                return None
            link = self._tree.between(self._base_frame, frame) if frame and self._base_frame else None
            self._mounts[frame] = None if link is None else link[0]
        return self._mounts[frame]

    def _no_link(self, frame_id: str) -> str:
        if not self._base_frame:
            return "no camera is calibrated, so there is no vehicle frame to bring them to"
        if not frame_id:
            return "they state no frame_id"
        return f"no transform from their frame {printable(frame_id)} to {printable(self._base_frame)}"
