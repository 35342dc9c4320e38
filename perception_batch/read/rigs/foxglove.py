"""Foxglove's calibration and transforms in the shape of ROS's CameraInfo and TFMessage, which the rest reads.

The messages may come as protobuf, JSON or the ROS twins of ``foxglove_msgs``; all three give objects with the same
fields, but for the names inside a time and the case of D, K and P.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

CALIBRATION_TYPES = ("foxglove.CameraCalibration", "foxglove_msgs/msg/CameraCalibration")
TRANSFORM_TYPES = ("foxglove.FrameTransform", "foxglove_msgs/msg/FrameTransform")
TRANSFORMS_TYPES = ("foxglove.FrameTransforms", "foxglove_msgs/msg/FrameTransforms")

_BAR = "=" * 80
_TRANSFORM = """builtin_interfaces/Time timestamp
string parent_frame_id
string child_frame_id
geometry_msgs/Vector3 translation
geometry_msgs/Quaternion rotation
"""
ROS_DEFINITIONS = {
    "foxglove_msgs/msg/CameraCalibration": """builtin_interfaces/Time timestamp
string frame_id
uint32 width
uint32 height
string distortion_model
float64[] d
float64[9] k
float64[9] r
float64[12] p
""",
    "foxglove_msgs/msg/FrameTransform": _TRANSFORM,
    "foxglove_msgs/msg/FrameTransforms": (
        f"foxglove_msgs/FrameTransform[] transforms\n{_BAR}\nMSG: foxglove_msgs/FrameTransform\n{_TRANSFORM}"
    ),
}
"""Layouts in ROS 2, for logs that carry no definitions (sqlite3 before ROS 2 Iron)."""


@dataclass(frozen=True, slots=True)
class Time:
    """``builtin_interfaces/Time``."""

    sec: int
    """Whole seconds."""
    nanosec: int
    """The rest, ns."""


@dataclass(frozen=True, slots=True)
class Header:
    """``std_msgs/Header``."""

    stamp: Time
    """Its time."""
    frame_id: str
    """Its frame."""


@dataclass(frozen=True, slots=True)
class Region:
    """``sensor_msgs/RegionOfInterest``: Foxglove has none."""

    width: int = 0
    """px."""
    height: int = 0
    """px."""
    x_offset: int = 0
    """px."""
    y_offset: int = 0
    """px."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """A CameraCalibration as a ``sensor_msgs/CameraInfo``."""

    header: Header
    """Time and optical frame."""
    width: int
    """px."""
    height: int
    """px."""
    distortion_model: str
    """As written."""
    d: tuple[float, ...]
    """Distortion."""
    k: tuple[float, ...]
    """(9,) row-major; zeros where the message leaves it out: uncalibrated."""
    p: tuple[float, ...]
    """(12,) row-major; zeros where the message leaves it out."""
    binning_x: int = 0
    """Foxglove has none."""
    binning_y: int = 0
    """Foxglove has none."""
    roi: Region = Region()
    """Foxglove has none."""


@dataclass(frozen=True, slots=True)
class Vector:
    """``geometry_msgs/Vector3``."""

    x: float
    """m."""
    y: float
    """m."""
    z: float
    """m."""


@dataclass(frozen=True, slots=True)
class Quaternion:
    """``geometry_msgs/Quaternion``."""

    x: float
    """i."""
    y: float
    """j."""
    z: float
    """k."""
    w: float
    """Real part."""


@dataclass(frozen=True, slots=True)
class Transform:
    """``geometry_msgs/Transform``."""

    translation: Vector
    """m."""
    rotation: Quaternion
    """Of the child in the parent."""


@dataclass(frozen=True, slots=True)
class StampedTransform:
    """A FrameTransform as a ``geometry_msgs/TransformStamped``."""

    header: Header
    """Time and parent frame."""
    child_frame_id: str
    """Child frame."""
    transform: Transform
    """``parent_SE3_child``."""


@dataclass(frozen=True, slots=True)
class Transforms:
    """FrameTransform or FrameTransforms as a ``tf2_msgs/TFMessage``."""

    transforms: tuple[StampedTransform, ...]
    """In order."""


def adapted(msgtype: str, message: Any) -> Any:
    """A message as what its twin in ROS would be; messages of other types stay as they are.

    Raises:
        AttributeError, TypeError, ValueError: it has not the fields of its type.
    """
    if msgtype in CALIBRATION_TYPES:
        return _calibration(message)
    if msgtype in TRANSFORM_TYPES:
        return Transforms((_transform(message),))
    if msgtype in TRANSFORMS_TYPES:
        return Transforms(tuple(_transform_or_none(one) for one in message.transforms))
    return message


def time_of(time: Any) -> Time:
    """A time of protobuf (seconds, nanos), JSON (sec, nsec) or ROS (sec, nanosec)."""
    seconds = time.seconds if hasattr(time, "seconds") else time.sec
    rest = next((getattr(time, name) for name in ("nanos", "nanosec", "nsec") if hasattr(time, name)), 0)
    return Time(int(seconds), int(rest))


def _calibration(message: Any) -> Calibration:
    return Calibration(
        Header(time_of(message.timestamp), str(message.frame_id)),
        int(message.width),
        int(message.height),
        str(message.distortion_model),
        _numbers(message, "D"),
        _numbers(message, "K") or (0.0,) * 9,
        _numbers(message, "P") or (0.0,) * 12,
    )


def _numbers(message: Any, name: str) -> tuple[float, ...]:
    values = getattr(message, name if hasattr(message, name) else name.lower(), ())
    return tuple(float(value) for value in values)


def _transform_or_none(message: Any) -> StampedTransform:
    """One transform of several: one that lacks a field has no names, and is left out and counted like others."""
    try:
        return _transform(message)
    except (AttributeError, TypeError, ValueError, OverflowError):
        return StampedTransform(
            Header(Time(0, 0), ""), "", Transform(Vector(0, 0, 0), Quaternion(0, 0, 0, 1))
        )


def _transform(message: Any) -> StampedTransform:
    t, q = message.translation, message.rotation
    return StampedTransform(
        Header(time_of(message.timestamp), str(message.parent_frame_id)),
        str(message.child_frame_id),
        Transform(
            Vector(float(t.x), float(t.y), float(t.z)),
            Quaternion(float(q.x), float(q.y), float(q.z), float(q.w)),
        ),
    )
