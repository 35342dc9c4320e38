"""The lidar of one drive, or that it has none: what the rest of `read` asks for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from perception_batch.calibration import Rig
from perception_batch.errors import ConfigError, printable
from perception_batch.lidar import LidarSweep
from perception_batch.read.containers.logfile import Message
from perception_batch.read.images.topics import TopicInfo
from perception_batch.read.lidar.sweeps import SweepReader, lidar_topic
from perception_batch.read.rigs.transforms import TransformTree
from perception_batch.read.source import Head
from perception_batch.types import Loss


class DriveLidar:
    """Gives the sweeps of a drive while it streams."""

    def __init__(self, setting: str | None, topics: Sequence[TopicInfo]) -> None:
        """Choose the topic.

        Args:
            setting: a topic, ``auto``, or None for no lidar.
            topics: of the log.

        Raises:
            ConfigError: the topic is not there, or holds no point clouds.
        """
        self._setting = setting
        topic = None if setting is None else lidar_topic(setting, topics)
        self._reader = None if topic is None else SweepReader(topic)
        self._streams = False

    @property
    def topic(self) -> str | None:
        """Its topic; None without a lidar that can be used."""
        return None if self._reader is None else self._reader.topic

    @property
    def topics(self) -> frozenset[str]:
        """The topics that `sweep` wants to see."""
        return frozenset() if self._reader is None else frozenset({self._reader.topic})

    @property
    def losses(self) -> tuple[Loss, ...]:
        """Point clouds of the last stream that came to nothing."""
        return () if self._reader is None else self._reader.losses()

    def placed(self, rig: Rig, tree: TransformTree, first: Callable[[str], Message | None]) -> Rig:
        """The rig, with a note where there is no lidar although one was asked for; learns where it is mounted.

        Args:
            rig: of the cameras.
            tree: transforms known by now.
            first: gives the first message of a topic.

        Raises:
            ConfigError: a topic was named, and nothing connects it to the vehicle.
        """
        if self._setting is None or (self._reader is None and self._setting != "auto"):
            return rig
        if self._reader is None:
            return replace(
                rig, notes=(*rig.notes, "fuse.lidar: the log has no point clouds that can be used")
            )
        self._reader.place(tree, rig.base_frame)
        why = self._reader.why_not(first(self._reader.topic))
        if not why:
            return rig
        text = f"fuse.lidar: {printable(self._reader.topic)}: {why}"
        if self._setting != "auto":
            raise ConfigError(
                f"{text}; correct the transforms, or set fuse.lidar: null to go without the lidar"
            )
        self._reader = None
        return replace(rig, notes=(*rig.notes, f"{text}; it is not used"))

    def begin(self, head: Head, *, wanted: bool) -> frozenset[str]:
        """A stream begins; gives the topics that `sweep` is to see in it, none unless sweeps are `wanted`."""
        self._streams = wanted
        if self._reader is None or not wanted:
            return frozenset()
        self._reader.begin("header" if any(c.clock == "header" for c in head.cameras.values()) else "log")
        return self.topics

    def sweep(self, message: Message) -> LidarSweep | None:
        """The sweep that a message gives, if any."""
        if not self._streams or self._reader is None or message.channel.topic != self._reader.topic:
            return None
        return self._reader.make(message)
