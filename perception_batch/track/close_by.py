"""Known things that stand so near that the image's border cuts their feet off: fusion cannot say how far they are.

Yet the border says that they are nearer than the ground that shows there, and the box in which direction they are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from perception_batch.calibration import Camera
from perception_batch.geometry import SE3
from perception_batch.track.lives import Boxes
from perception_batch.types import FloatArray, Observation

_FARTHEST_M = 6.0
"""Farther bounds say too little."""
_NEAREST_M = 0.5
_SLACK = 1.3
"""The ground may be lower there than where the thing was seen before, and its centre lies behind its near face."""
_WHERE = 0.55
"""Share of its bound at which a thing is taken to be ..."""
_WHERE_SIGMA = 0.5
"""... with this error of the logarithm, which stays for as long as the border cuts the thing ..."""
_REPEATED = 10.0
"""... so that of so many sightings one is new."""
_EDGE_SIGMA_RAD = 0.02
"""Of the direction of a box's middle: calibration, pixels ..."""
_WIDTH_SIGMA = 0.1
"""... and this share of its width: the middle of a near thing's box is not its own."""
_BETWEEN_RAD = 0.05
"""Of what is looked at along the border the steepest may lie between two points."""
_BORDER_PX, _BORDER = 2.0, 0.004
"""Detectors seldom draw an edge on the very last pixel: so near is on the border (or this share of the height)."""


@dataclass(frozen=True, slots=True)
class CloseBy:
    """One of them."""

    from_m: FloatArray
    """(2,) the camera in the fixed frame."""
    width_rad: float
    """How wide it looks to the camera."""
    polar: FloatArray
    """(2,) about the camera: logarithm of the range, bearing in the fixed frame."""
    noise: FloatArray
    """(3,) covariance of `polar`: xx, xy, yy."""


def close_by(
    observations: Sequence[Observation],
    foot_m: float,
    boxes: Mapping[str, Boxes],
    cameras: Mapping[str, Camera],
    odom_SE3_base: SE3,
) -> CloseBy | None:
    """Where an object without a place is, if it is close by; None where it may be anywhere.

    Args:
        observations: the object's.
        foot_m: height of its foot in the fixed frame, by its track.
        boxes: by camera, (K, 4) px.
        cameras: the calibrated ones.
        odom_SE3_base: the vehicle's pose.
    """
    best: CloseBy | None = None
    for o in observations:
        camera = cameras.get(o.camera)
        if camera is None:
            continue
        left, top, right, bottom = boxes[o.camera][o.detection].tolist()
        height_px = camera.intrinsics.height_px
        if bottom < height_px - max(_BORDER_PX, _BORDER * height_px):
            continue
        found = _from(camera, odom_SE3_base, (left, top, right, bottom), foot_m)
        if found is not None and (best is None or found.width_rad > best.width_rad):
            best = found
    return best


def _from(
    camera: Camera, odom_SE3_base: SE3, box: tuple[float, float, float, float], ground_m: float
) -> CloseBy | None:
    left, top, right, bottom = box
    across, along = 0.5 * (left + right), 0.5 * (top + bottom)
    corners = np.array([[left, along], [right, along], [across, bottom]])
    pose = odom_SE3_base @ camera.base_SE3_camera
    height_m = float(pose.translation_m[2]) - ground_m
    # Most are out of the question whatever the lens makes of the box: their tracks' feet are far below the road.
    tilt_rad = math.acos(max(-1.0, min(float(odom_SE3_base.rotation[2, 2]), 1.0)))
    steepest_rad = _below_rad(camera) + tilt_rad
    if steepest_rad < 0.5 * math.pi and _SLACK * height_m > _FARTHEST_M * math.tan(max(steepest_rad, 0.0)):
        return None
    rays = camera.intrinsics.rays_of_corners(corners) @ pose.rotation.T
    (ax, ay, _), (bx, by, _), (x, y, z) = rays.tolist()
    if not (np.isfinite(rays).all() and z < 0):
        return None
    bound_m = _SLACK * height_m * math.hypot(x, y) / -z
    if not _NEAREST_M < bound_m < _FARTHEST_M:  # NaN without a size
        return None
    right_rad = math.atan2(by, bx)
    turn_rad = math.remainder(math.atan2(ay, ax) - right_rad, math.tau)
    width_rad = abs(turn_rad)
    noise = np.array([_REPEATED * _WHERE_SIGMA**2, 0.0, _EDGE_SIGMA_RAD**2 + (_WIDTH_SIGMA * width_rad) ** 2])
    return CloseBy(
        pose.translation_m[:2],
        width_rad,
        np.array([math.log(_WHERE * bound_m), right_rad + 0.5 * turn_rad]),
        noise,
    )


@lru_cache(maxsize=64)
def _below_rad(camera: Camera) -> float:
    """How far below the base frame's horizon the lower border of an image looks, at most; π where the lens ends there."""
    lens = camera.intrinsics
    across = np.linspace(0.0, lens.width_px, 17)
    border = np.stack([across, np.full(len(across), float(lens.height_px))], axis=1)
    lowest = float((lens.rays_of_corners(border) @ camera.base_SE3_camera.rotation[2]).min())
    return math.asin(max(-1.0, min(-lowest, 1.0))) + _BETWEEN_RAD if math.isfinite(lowest) else math.pi
