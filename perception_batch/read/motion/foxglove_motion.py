"""Foxglove's PoseInFrame and LocationFix in the shape of ROS's PoseStamped and NavSatFix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from perception_batch.read.rigs.foxglove import Header, time_of

POSE_TYPES = ("foxglove.PoseInFrame", "foxglove_msgs/msg/PoseInFrame")
FIX_TYPES = ("foxglove.LocationFix", "foxglove_msgs/msg/LocationFix")


@dataclass(frozen=True, slots=True)
class StampedPose:
    """A PoseInFrame as a ``geometry_msgs/PoseStamped``."""

    header: Header
    """Time and the frame of the pose."""
    pose: Any
    """With ``position`` and ``orientation``."""


@dataclass(frozen=True, slots=True)
class FixStatus:
    """``sensor_msgs/NavSatStatus``."""

    status: int = 0
    """A fix: Foxglove's message states none."""


@dataclass(frozen=True, slots=True)
class Fix:
    """A LocationFix as a ``sensor_msgs/NavSatFix``."""

    header: Header
    """Time and the antenna's frame."""
    latitude: float
    """Degrees north."""
    longitude: float
    """Degrees east."""
    altitude: float
    """m above the ellipsoid."""
    status: FixStatus = FixStatus()
    """Always a fix."""


def as_ros(msgtype: str, message: Any) -> Any:
    """A message as what its twin in ROS would be; messages of other types stay as they are.

    Raises:
        AttributeError, TypeError, ValueError: it has not the fields of its type.
    """
    try:
        return _as_ros(msgtype, message)
    except OverflowError as error:  # JSON knows infinity
        raise ValueError(str(error)) from None


def _as_ros(msgtype: str, message: Any) -> Any:
    if msgtype in POSE_TYPES:
        return StampedPose(Header(time_of(message.timestamp), str(message.frame_id)), message.pose)
    if msgtype not in FIX_TYPES:
        return message
    latitude, longitude, altitude = (
        float(n) for n in (message.latitude, message.longitude, message.altitude)
    )
    return Fix(Header(time_of(message.timestamp), str(message.frame_id)), latitude, longitude, altitude)
