"""What the small messages beside the images tell: calibration, transforms and odometry."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from perception_batch.calibration import Rig
from perception_batch.config import ReadConfig
from perception_batch.errors import printable
from perception_batch.read.containers.drive_files import DriveFiles
from perception_batch.read.containers.logfile import MAX_NS, Channel, Message
from perception_batch.read.motion.ego import EgoTracker
from perception_batch.read.motion.head import MotionHead, MotionMessage
from perception_batch.read.motion.sources import MOTION_TYPES, Wanted
from perception_batch.read.rigs.camera_info import info_topics_beside
from perception_batch.read.rigs.moving_mounts import MountFollower
from perception_batch.read.rigs.transforms import TransformTree, frame_name, is_sound
from perception_batch.read.small_message import CAMERA_INFO_TYPES, TF_TYPES, small_message
from perception_batch.types import EgoPose, Loss

log = logging.getLogger(__name__)

MAX_FETCH_MESSAGES = 2000
"""Static transforms fetched beyond the head; a healthy log has one message a topic."""

UNPARSED = (ValueError, AttributeError, TypeError)
"""What reading a message of a log may raise."""


class SideMessages:
    """Keeps what is known of a drive's calibration and motion, and fetches what its head did not tell."""

    def __init__(self, files: DriveFiles, settings: ReadConfig) -> None:
        self.motion_topics = Wanted(settings.ego).topics(files.topics)
        """Transforms, and what may tell the vehicle's motion."""
        self.topics = self.motion_topics | files.of_types(*CAMERA_INFO_TYPES)
        """All that this class understands."""
        self.tree = TransformTree()
        """The latest of every transform, static or not."""
        self._files = files
        self._parsed: tuple[Message, Any] | None = None
        self._static = TransformTree()
        self._infos: dict[str, Any] = {}
        self._settings = settings
        self._motion = MotionHead()
        self._unparsed: Counter[str] = Counter()
        self._unsound: Counter[str] = Counter()

    @property
    def transform_topics(self) -> frozenset[str]:
        """Topics of transforms."""
        return frozenset(self._files.of_types(*TF_TYPES))

    @property
    def losses(self) -> tuple[Loss, ...]:
        """Messages that cannot be parsed, and transforms that are none, by topic."""
        unparsed = [
            Loss(topic, 0, 0, count, "messages that cannot be parsed")
            for topic, count in sorted(self._unparsed.items())
        ]
        unsound = [
            Loss(topic, 0, 0, count, "transforms without the names of two frames, or that are no pose")
            for topic, count in sorted(self._unsound.items())
        ]
        return (*unparsed, *unsound)

    def look_at(self, message: Message) -> None:
        """Keep what a message of the head tells: transforms and motion, the first of each calibration."""
        topic, msgtype = message.channel.topic, message.channel.msgtype
        if msgtype not in (*CAMERA_INFO_TYPES, *MOTION_TYPES) or topic in self._infos:
            return
        if msgtype not in (*CAMERA_INFO_TYPES, *TF_TYPES) and self._motion.has_enough(topic):
            return
        try:
            content = self.content(message)
            if msgtype in TF_TYPES:
                self.tree.add_message(content)
                if _is_static(topic):
                    self._static.add_message(content)
            if msgtype in CAMERA_INFO_TYPES:
                self._infos[topic] = content
            else:
                self._motion.keep(MotionMessage.of(message, content))
        except UNPARSED as error:
            if msgtype in CAMERA_INFO_TYPES:  # the others are counted when they are streamed
                log.debug("%s: %s", printable(topic), error)
                self._unparsed[topic] += 1

    def content(self, message: Message) -> Any:
        """The parsed message; asked for again at once, it is not parsed again.

        Raises:
            ValueError: it cannot be parsed.
        """
        if self._parsed is None or self._parsed[0] is not message:
            self._parsed = message, small_message(message.channel, message.data)
        return self._parsed[1]

    def count_unparsed(self, channel: Channel) -> None:
        """Count a message that cannot be parsed; those of motion count themselves (`ego_pose`)."""
        if channel.topic not in self.motion_topics:
            self._unparsed[channel.topic] += 1

    def camera_info(self, image_topic: str, image_frame: str) -> Any | None:
        """The first CameraInfo of a camera that is known."""
        topic = self.camera_info_topic(image_topic, image_frame)
        return None if topic is None else self._infos[topic]

    def camera_info_topic(self, image_topic: str, image_frame: str) -> str | None:
        """Where a camera's CameraInfo is: a sibling topic, else the first one with the images' frame."""
        for topic in info_topics_beside(image_topic, self._infos):
            return topic
        frame = frame_name(image_frame)
        found = (t for t, info in sorted(self._infos.items()) if frame_name(info.header.frame_id) == frame)
        return next(found, None) if frame else None

    def fetch_camera_infos(self, image_topics: Iterable[str], after_ns: int) -> None:
        """First CameraInfo for images whose calibration was not published before `after_ns`."""
        there = self._files.of_types(*CAMERA_INFO_TYPES)
        wanted: set[str] = set()
        for topic in image_topics:
            wanted |= set(info_topics_beside(topic, there)) or there
        for topic in sorted(wanted - set(self._infos)):
            for message in islice(self._files.messages({topic}, after_ns), 1):
                self.look_at(message)

    def fetch_static(self, after_ns: int) -> None:
        """Static transforms that were published after `after_ns`."""
        static = {topic for topic in self._files.of_types(*TF_TYPES) if _is_static(topic)}
        for message in islice(self._files.messages(static, after_ns, MAX_NS), MAX_FETCH_MESSAGES):
            self.look_at(message)

    def fetch_calibration(self, frame_ids: Mapping[str, str], after_ns: int) -> None:
        """What was not told before `after_ns`: CameraInfo and static transforms; `frame_ids` by image topic."""
        without = [topic for topic, frame in frame_ids.items() if self.camera_info(topic, frame) is None]
        self.fetch_camera_infos(without, after_ns)
        frames = {frame_name(frame_id) for frame_id in frame_ids.values()}
        if not frames <= set(self.tree.frames) or len({self.tree.top(frame) for frame in frames}) > 1:
            self.fetch_static(after_ns)

    def ego_tracker(self, base_frame: str) -> EgoTracker:
        """A tracker of `base_frame` whose source is settled by what is known."""
        tracker = EgoTracker(base_frame, self._static.copy(), self._settings)
        tracker.choose(self.tree, self._motion)
        return tracker

    def tracker_of_head(self, base_frame: str) -> EgoTracker:
        """A tracker that took in what the head holds."""
        tracker = self.ego_tracker(base_frame)
        tracker.follow(self._motion.messages)
        return tracker

    def mount_follower(self, rig: Rig, frames: Mapping[str, str]) -> MountFollower:
        """What follows the cameras of `rig` whose pose is the log's, from what is known now; frames by camera."""
        own = {n: frames[n] for n, camera in rig.cameras.items() if camera.pose_from_log and n in frames}
        return MountFollower(self.tree.copy(), rig.base_frame, own)

    def begin_motion(self) -> None:
        """Count the unparsed messages of motion anew: all of them are about to be streamed."""
        for topic in self.motion_topics:
            self._unparsed.pop(topic, None)
            self._unsound.pop(topic, None)

    def ego_pose(self, tracker: EgoTracker, message: Message) -> EgoPose | None:
        """What a message of motion makes of `tracker`; one that cannot be parsed is counted."""
        channel = message.channel
        if channel.msgtype not in MOTION_TYPES or not tracker.wants(channel.topic, channel.msgtype):
            return None
        try:
            content = self.content(message)
            if channel.msgtype in TF_TYPES:
                bad = sum(not is_sound(stamped) for stamped in content.transforms)
                if bad:
                    self._unsound[channel.topic] += bad
            return tracker.take(MotionMessage.of(message, content))
        except UNPARSED:
            self._unparsed[channel.topic] += 1
            return None


def _is_static(topic: str) -> bool:
    return topic.rsplit("/", 1)[-1] == "tf_static"
