"""Messages of motion for written logs: poses, fixes, orientations; all of ROS 2, for `log_writer.Extra`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import numpy as np
from log_writer import Extra, message_types

Quaternion = tuple[float, float, float, float]
LEVEL: Quaternion = (0.0, 0.0, 0.0, 1.0)


@cache
def types() -> Any:
    """rosbags' types."""
    return message_types("mcap").types


def yaw_quaternion(yaw_rad: float) -> Quaternion:
    """(x, y, z, w) of a turn about z."""
    return (0.0, 0.0, math.sin(yaw_rad / 2), math.cos(yaw_rad / 2))


def header(stamp_ns: int, frame_id: str) -> Any:
    """std_msgs/Header."""
    stamp = types()["builtin_interfaces/msg/Time"](stamp_ns // 10**9, stamp_ns % 10**9)
    return types()["std_msgs/msg/Header"](stamp, frame_id)


def _pose(position: Iterable[float], quaternion: Quaternion) -> Any:
    return types()["geometry_msgs/msg/Pose"](
        types()["geometry_msgs/msg/Point"](*map(float, position)),
        types()["geometry_msgs/msg/Quaternion"](*map(float, quaternion)),
    )


def pose_stamped(
    stamp_ns: int, position: Iterable[float], quaternion: Quaternion = LEVEL, frame: str = "map"
) -> Any:
    """geometry_msgs/PoseStamped."""
    return types()["geometry_msgs/msg/PoseStamped"](header(stamp_ns, frame), _pose(position, quaternion))


def pose_covariance(
    stamp_ns: int, position: Iterable[float], quaternion: Quaternion = LEVEL, frame: str = "map"
) -> Any:
    """geometry_msgs/PoseWithCovarianceStamped."""
    with_covariance = types()["geometry_msgs/msg/PoseWithCovariance"](
        _pose(position, quaternion), np.zeros(36)
    )
    return types()["geometry_msgs/msg/PoseWithCovarianceStamped"](header(stamp_ns, frame), with_covariance)


def fix(
    stamp_ns: int, latitude: float, longitude: float, altitude: float, *, status: int = 0, frame: str = "gps"
) -> Any:
    """sensor_msgs/NavSatFix."""
    return types()["sensor_msgs/msg/NavSatFix"](
        header(stamp_ns, frame),
        types()["sensor_msgs/msg/NavSatStatus"](status, 1),
        latitude,
        longitude,
        altitude,
        np.zeros(9),
        0,
    )


def imu(stamp_ns: int, quaternion: Quaternion, *, stated: bool = True, frame: str = "imu") -> Any:
    """sensor_msgs/Imu."""
    vector = types()["geometry_msgs/msg/Vector3"]
    orientation = types()["geometry_msgs/msg/Quaternion"](*map(float, quaternion))
    covariance = np.zeros(9)
    covariance[0] = 0.01 if stated else -1
    return types()["sensor_msgs/msg/Imu"](
        header(stamp_ns, frame),
        orientation,
        covariance,
        vector(0.0, 0.0, 0.0),
        np.zeros(9),
        vector(0.0, 0.0, 9.8),
        np.zeros(9),
    )


def every(
    topic: str,
    make: Callable[[int, float], Any],
    start_ns: int,
    seconds: float,
    rate_hz: float,
    *,
    ahead_ns: int = 0,
) -> list[Extra]:
    """Messages at a rate; `make` gets the stamp (`ahead_ns` more than the true time) and the seconds since the start."""
    out = []
    for i in range(round(seconds * rate_hz)):
        at_ns = start_ns + round(i * 1e9 / rate_hz)
        out.append(Extra(topic, at_ns + 1_000_000, make(at_ns + ahead_ns, (at_ns - start_ns) / 1e9)))
    return out
