"""Satellite fixes as poses: a local plane, and a heading from an Imu or from the course over ground.

Positions are east, north, up in metres about the first good fix, on the WGS-84 ellipsoid. Formulas and constants: NGA.STND.0036
(WGS 84), the geodetic to Earth-centred transform; yaw 0 is east and grows to the left (REP-103).
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from perception_batch.geometry import SE3
from perception_batch.types import FloatArray

FRAME = "enu"
"""`EgoPose.frame_id`: x east, y north, z up, origin at the first good fix that was read."""

_SEMI_MAJOR_M = 6_378_137.0
_FLATTENING = 1 / 298.257223563
_E2 = _FLATTENING * (2 - _FLATTENING)

MAX_ALTITUDE_M = 100_000.0
MAX_IMU_AGE_NS = 500_000_000
"""An orientation older than this says nothing of a fix."""
COURSE_BASELINE_M = 2.0
"""Way from which a course is taken: 0.1 m of noise turn it by 3 degrees."""
COURSE_SPAN_NS = 2_000_000_000
"""Longest time for that way: below 1 m/s noise looks like driving."""
HEADINGS_AGREE_RAD = math.radians(30)
"""An Imu that lies further from the course than this has no absolute heading: drift and declination are less."""
ENOUGH_COMPARED = 5

Heading = Literal["imu", "course"]


def ecef_m(latitude_deg: float, longitude_deg: float, altitude_m: float) -> FloatArray:
    """(3,) Earth-centred, Earth-fixed position, metres, of a geodetic one on WGS-84 (height above the ellipsoid)."""
    lat, lon = math.radians(latitude_deg), math.radians(longitude_deg)
    n = _SEMI_MAJOR_M / math.sqrt(1 - _E2 * math.sin(lat) ** 2)
    return np.array(
        [
            (n + altitude_m) * math.cos(lat) * math.cos(lon),
            (n + altitude_m) * math.cos(lat) * math.sin(lon),
            (n * (1 - _E2) + altitude_m) * math.sin(lat),
        ]
    )


class LocalPlane:
    """The plane that touches the ellipsoid's parallel surface at an origin: east, north, up."""

    def __init__(self, latitude_deg: float, longitude_deg: float, altitude_m: float) -> None:
        lat, lon = math.radians(latitude_deg), math.radians(longitude_deg)
        self._origin_m = ecef_m(latitude_deg, longitude_deg, altitude_m)
        sin_lat, cos_lat, sin_lon, cos_lon = math.sin(lat), math.cos(lat), math.sin(lon), math.cos(lon)
        self._enu_R_ecef = np.array(
            [
                [-sin_lon, cos_lon, 0.0],
                [-sin_lat * cos_lon, -sin_lat * sin_lon, cos_lat],
                [cos_lat * cos_lon, cos_lat * sin_lon, sin_lat],
            ]
        )

    def enu_m(self, latitude_deg: float, longitude_deg: float, altitude_m: float) -> FloatArray:
        """(3,) metres east, north and up of the origin."""
        out: FloatArray = self._enu_R_ecef @ (
            ecef_m(latitude_deg, longitude_deg, altitude_m) - self._origin_m
        )
        return out


def yaw_rotation(yaw_rad: float) -> FloatArray:
    """(3, 3) rotation about z."""
    c, s = math.cos(yaw_rad), math.sin(yaw_rad)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


@dataclass(frozen=True, slots=True)
class Mounts:
    """Where the receiver and the Imu sit on the vehicle."""

    antenna_m: FloatArray
    """(3,) the antenna in the base frame; zeros where no transform tells."""
    base_R_imu: FloatArray
    """(3, 3) axes of the Imu in the base frame; the identity where no transform tells."""


class GnssPath:
    """Turns fixes and orientations into poses of the base frame in `FRAME`."""

    def __init__(self, heading: Heading) -> None:
        """`heading`: where it is taken from first; the course is used whenever an Imu says nothing."""
        self.heading = heading
        self.bad_fixes = 0
        """Without a fix, not finite, or nowhere on Earth."""
        self.waited = 0
        """Good fixes before any heading was known; they make no pose."""
        self.by: dict[Heading, int] = {"imu": 0, "course": 0}
        """Poses by where their heading came from."""
        self.differences_rad: deque[float] = deque(maxlen=1000)
        """Heading of the Imu less course over ground, while driving."""
        self._plane: LocalPlane | None = None
        self._altitude_m = 0.0
        self._recent: deque[tuple[int, FloatArray]] = deque()
        self._course_rad: float | None = None
        self._imu: tuple[int, FloatArray] | None = None

    def on_imu(self, message: Any, stamp_ns: int) -> bool:
        """Keep an orientation; False where the message states none (sensor_msgs/Imu: covariance[0] is -1)."""
        q = message.orientation
        numbers = (float(q.x), float(q.y), float(q.z), float(q.w))
        length = math.hypot(*numbers)
        if float(message.orientation_covariance[0]) == -1 or not 0.5 < length < 2:
            return False
        self._imu = (stamp_ns, SE3.from_quaternion(numbers, (0.0, 0.0, 0.0)).rotation)
        return True

    def on_fix(self, message: Any, stamp_ns: int, mounts: Mounts) -> SE3 | None:
        """``enu_SE3_base`` at a fix; None for a bad one, or while no heading is known."""
        latitude, longitude = float(message.latitude), float(message.longitude)
        altitude = float(message.altitude)
        on_earth = abs(latitude) <= 90 and abs(longitude) <= 180 and (latitude, longitude) != (0, 0)
        if int(message.status.status) < 0 or not on_earth or abs(altitude) > MAX_ALTITUDE_M:
            self.bad_fixes += 1
            return None
        if math.isnan(altitude):  # a fix without height keeps the one before
            altitude = self._altitude_m
        self._altitude_m = altitude
        if self._plane is None:
            self._plane = LocalPlane(latitude, longitude, altitude)
        antenna_m = self._plane.enu_m(latitude, longitude, altitude)
        new_course = self._take_course(stamp_ns, antenna_m)
        rotation = self._rotation(stamp_ns, mounts, new_course)
        if rotation is None:
            self.waited += 1
            return None
        return SE3(rotation, antenna_m - rotation @ mounts.antenna_m)

    def disagreement_rad(self) -> float | None:
        """Median of how far the Imu's heading is from the course; None where too little was driven to say."""
        if len(self.differences_rad) < ENOUGH_COMPARED:
            return None
        return statistics.median(map(abs, self.differences_rad))

    def _take_course(self, stamp_ns: int, position_m: FloatArray) -> bool:
        """Course from the latest place that is far enough away; True where it was found anew."""
        if self._recent and stamp_ns <= self._recent[-1][0]:
            return False
        while self._recent and self._recent[0][0] < stamp_ns - COURSE_SPAN_NS:
            self._recent.popleft()
        found = False
        for _, before_m in reversed(self._recent):
            east, north = position_m[:2] - before_m[:2]
            if math.hypot(east, north) >= COURSE_BASELINE_M:
                self._course_rad, found = math.atan2(north, east), True
                break
        self._recent.append((stamp_ns, position_m))
        if len(self._recent) > 400:  # at 1 kHz the span would be scanned for every fix
            self._recent = deque(list(self._recent)[::2])
        return found

    def _rotation(self, stamp_ns: int, mounts: Mounts, new_course: bool) -> FloatArray | None:
        from_imu: FloatArray | None = None
        if self._imu is not None and abs(stamp_ns - self._imu[0]) <= MAX_IMU_AGE_NS:
            from_imu = self._imu[1] @ mounts.base_R_imu.T
            if new_course and self._course_rad is not None:
                yaw = math.atan2(from_imu[1, 0], from_imu[0, 0])
                self.differences_rad.append(math.remainder(yaw - self._course_rad, math.tau))
        if self.heading == "imu" and from_imu is not None:
            self.by["imu"] += 1
            return from_imu
        if self._course_rad is None:
            return None
        self.by["course"] += 1
        return yaw_rotation(self._course_rad)
