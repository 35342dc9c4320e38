"""Which topics can tell the vehicle's motion, and in which order they are preferred.

The order of `auto`: a trajectory file, ``/tf`` (the vehicle's frame below ``odom`` or ``map``), Odometry, poses, then satellite fixes.
What comes earlier is smoother, and states its frames; a fix needs a heading from elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from perception_batch.errors import ConfigError, printable
from perception_batch.read.images.topics import TopicInfo
from perception_batch.read.motion.foxglove_motion import FIX_TYPES, POSE_TYPES
from perception_batch.read.small_message import ODOMETRY, TF_TYPES

POSE = "geometry_msgs/msg/PoseStamped"
POSE_COVARIANCE = "geometry_msgs/msg/PoseWithCovarianceStamped"
FIX = "sensor_msgs/msg/NavSatFix"
IMU = "sensor_msgs/msg/Imu"

Kind = Literal["tf", "odometry", "pose", "gnss"]
KINDS: tuple[Kind, ...] = ("tf", "odometry", "pose", "gnss")
"""In the order of preference."""

TF = "tf"
"""`EgoPose.source` of poses from transforms, whatever their topic."""

_KIND_OF: dict[str, Kind] = {
    **dict.fromkeys(TF_TYPES, "tf"),
    ODOMETRY: "odometry",
    POSE_COVARIANCE: "pose",
    POSE: "pose",
    **dict.fromkeys(POSE_TYPES, "pose"),
    FIX: "gnss",
    **dict.fromkeys(FIX_TYPES, "gnss"),
}
MOTION_TYPES = (*_KIND_OF, IMU)
"""Message types that this folder understands."""

_TARGETS = ("goal", "initialpose", "initial_pose", "waypoint", "target", "clicked", "setpoint")
"""In the last part of a topic: a pose that is wanted or set by hand, not where the vehicle is."""


def kind_of(msgtype: str) -> Kind | None:
    """The kind of source that a message type is; None for any other, Imu too."""
    return _KIND_OF.get(msgtype)


def is_target(topic: str) -> bool:
    """True for topics such as ``/goal_pose``, whose poses are not the vehicle's."""
    last = topic.rsplit("/", 1)[-1].lower()
    return any(word in last for word in _TARGETS)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What ``read.ego`` asks for."""

    setting: str = "auto"
    """``auto``, one of `KINDS`, ``none``, or a topic."""

    def allows(self, topic: str, kind: Kind) -> bool:
        """True where a topic of this kind may become the source."""
        if self.setting in ("auto", kind):
            return kind != "pose" or not is_target(topic)
        return self.is_topic and _plain(topic) == _plain(self.setting)

    @property
    def is_topic(self) -> bool:
        """True where one topic is named."""
        return self.setting not in ("auto", "none", *KINDS)

    def topics(self, topics: Iterable[TopicInfo]) -> frozenset[str]:
        """The topics to read: all transforms (they tell the cameras' mounts too), and what may be the source.

        Imu is read beside satellite fixes only.
        """
        listed = list(topics)
        wanted = {t.name for t in listed if (kind := kind_of(t.type)) and self.allows(t.name, kind)}
        if any(t.name in wanted and kind_of(t.type) == "gnss" for t in listed):
            wanted |= {t.name for t in listed if t.type == IMU}
        return frozenset(wanted | {t.name for t in listed if t.type in TF_TYPES})


def candidates(topics: Iterable[TopicInfo]) -> list[tuple[Kind, str]]:
    """Every topic that can tell motion by its type, in the order of preference, then by name."""
    found = [(kind, t.name) for t in topics if (kind := kind_of(t.type)) and not t.name.endswith("tf_static")]
    return sorted(found, key=lambda entry: (KINDS.index(entry[0]), entry[1]))


def check_setting(setting: str, topics: Iterable[TopicInfo]) -> None:
    """Check that a topic that ``read.ego`` names is there and can tell motion.

    Raises:
        ConfigError: it is not, or cannot.
    """
    wanted = Wanted(setting)
    if not wanted.is_topic:
        return
    found = candidates(topics)
    if not any(wanted.allows(topic, kind) for kind, topic in found):
        has = ", ".join(f"{printable(topic)} ({kind})" for kind, topic in found[:20]) or "none"
        raise ConfigError(f"read.ego: {printable(setting)} is no topic of motion in this log; it has: {has}")


def _plain(topic: str) -> str:
    return topic.strip("/")
