"""Calibration of one drive that changes while its log goes on: what the rest of `read` asks for."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from perception_batch.calibration import Rig
from perception_batch.errors import printable
from perception_batch.lenses import CameraLens
from perception_batch.mounts import CameraMount
from perception_batch.read.containers.drive_files import DriveFiles
from perception_batch.read.containers.logfile import Message
from perception_batch.read.images.topics import TopicInfo
from perception_batch.read.rigs.camera_info import is_rectified
from perception_batch.read.rigs.changing_lenses import FollowedLens, LensFollower
from perception_batch.read.rigs.moving_mounts import MountFollower
from perception_batch.read.rigs.rig import CameraFacts
from perception_batch.read.side_messages import MAX_FETCH_MESSAGES, UNPARSED, SideMessages
from perception_batch.read.small_message import TF_TYPES
from perception_batch.read.source import Head
from perception_batch.types import Loss


class DriveCalibration:
    """Gives the changes of lenses and mounts while a drive streams, and says that there were some."""

    def __init__(self, side: SideMessages, topics: Sequence[TopicInfo]) -> None:
        self._side = side
        self._counts = {topic.name: topic.count for topic in topics}
        self._at_first: tuple[MountFollower, LensFollower] | None = None
        self._now: tuple[MountFollower, LensFollower] | None = None
        self._origin_ns = 0
        self._rare: frozenset[str] = frozenset()

    def follow(
        self, rig: Rig, facts: Sequence[CameraFacts], head: Head, offsets_ns: Mapping[str, int]
    ) -> None:
        """Follow the cameras of `rig` where their calibration is the log's; `offsets_ns` are of their stamps."""
        lenses = []
        rare = {topic for topic in self._side.transform_topics if _is_static(topic)}
        for fact in facts:
            camera = rig.cameras.get(fact.name)
            topic = self._side.camera_info_topic(fact.topic, head.cameras[fact.name].frame_id)
            if camera is not None and topic is not None and camera.lens_from_log:
                clock, offset_ns = head.cameras[fact.name].clock, offsets_ns[fact.name]
                rectified = is_rectified(fact.topic)
                if 4 * self._counts.get(topic, 0) <= self._counts.get(fact.topic, 0):
                    rare.add(topic)
                lens = camera.intrinsics
                lenses.append(FollowedLens(fact.name, topic, rectified, fact.size_px, clock, offset_ns, lens))
        mounts = self._side.mount_follower(rig, {fact.name: fact.frame_id for fact in facts})
        self._at_first, self._now = (mounts, LensFollower(lenses)), None
        self._origin_ns, self._rare = head.first_stamp_ns, frozenset(rare)

    @property
    def topics(self) -> frozenset[str]:
        """The topics that `items` wants to see."""
        if self._at_first is None:
            return frozenset()
        return self._side.transform_topics | {camera.info_topic for camera in self._at_first[1].cameras}

    @property
    def losses(self) -> tuple[Loss, ...]:
        """CameraInfo of the last stream that is no lens."""
        return () if self._now is None else self._now[1].losses

    @property
    def notes(self) -> tuple[str, ...]:
        """What changed in the last stream, one line a camera and kind."""
        if self._now is None:
            return ()
        mounts, lenses = self._now
        moved = [
            f"{printable(name)}: the log's transforms move it on the vehicle ({_times(count)}, first at "
            f"{self._time(mounts.first_ns[name])}); each frame is fused with the pose at its stamp"
            for name, count in sorted(mounts.changes.items())
        ]
        bent = [
            f"{printable(name)}: its CameraInfo changes ({_times(count)}, first at "
            f"{self._time(lenses.first_ns[name])}); each frame is fused with the lens at its stamp"
            for name, count in sorted(lenses.changes.items())
        ]
        return (*moved, *bent)

    def begin(self) -> None:
        """A stream begins, with the calibration that the rig has."""
        self._now = copy.deepcopy(self._at_first)

    @property
    def follows_lenses(self) -> bool:
        """Whether a CameraInfo may come that changes a lens; drivers give it just after its image."""
        return self._at_first is not None and bool(self._at_first[1].cameras)

    def said_before(self, files: DriveFiles, after_ns: int, low_ns: int | None) -> Iterator[Message]:
        """What a stretch of the log that begins at `low_ns`, beyond the head, takes over: corrections, each said once.

        CameraInfo that comes with every few images says it again, and is not fetched; neither is what moves.
        """
        if low_ns is not None and low_ns > after_ns and self._rare:
            yield from islice(files.messages(self._rare, after_ns, low_ns), MAX_FETCH_MESSAGES)

    def items(self, message: Message) -> Iterator[CameraMount | CameraLens]:
        """What a message changes; one that cannot be parsed changes nothing."""
        if self._now is None:
            return
        mounts, lenses = self._now
        channel = message.channel
        try:
            if channel.msgtype in TF_TYPES and mounts.is_needed:
                yield from mounts.take(
                    self._side.content(message), message.log_ns, is_static=_is_static(channel.topic)
                )
            elif lenses.wants(channel.topic) and not lenses.is_repeated(message):
                yield from lenses.take(self._side.content(message), message)
        except UNPARSED:
            self._side.count_unparsed(channel)

    def _time(self, stamp_ns: int) -> str:
        return f"{max(0, stamp_ns - self._origin_ns) / 1e9:.1f} s"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _is_static(topic: str) -> bool:
    return topic.rsplit("/", 1)[-1] == "tf_static"
