"""Where the ground is in the base frame: configured, stated by the log, implied by the mount, or estimated."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from perception_batch.calibration import FloatArray, Rig
from perception_batch.config import FuseConfig
from perception_batch.errors import printable

GroundSource = Literal["config", "transform", "mount", "estimated", "unknown"]

# Cameras of cars, vans and lorries sit this high above the road; a base frame below which they do is
# taken to lie on the road (REP-105's base_link by its usual convention in driving data sets).
_MOUNT_HEIGHTS_M = (0.8, 4.0)
# A base frame "on the ground by its mount" may be the axle's centre: half a wheel higher than the road.
_MOUNT_SIGMA_M = 0.15
_LOWEST_CAMERA_M = 0.1
_ENOUGH_SAMPLES = 30
_BIN_M = 0.02
_SPAN_M = 10.0


@dataclass(frozen=True, slots=True)
class Ground:
    """The ground that objects stand on: ``z = z_m + slope_ahead * max(x, 0) + slope_behind * min(x, 0)``."""

    z_m: float
    """Height in the base frame below its origin, metres; NaN where unknown."""
    sigma_m: float
    """Standard deviation of `z_m` under the vehicle, metres; the slope adds to it with range."""
    source: GroundSource
    """``config``, ``transform`` (``base_footprint``), ``mount``, ``estimated`` (from the drive), ``unknown``."""
    slope_ahead: float = 0.0
    """Rise over run towards +x, against the base frame: the road climbs, or the body nods."""
    slope_behind: float = 0.0
    """Rise over run from -x towards the vehicle, against the base frame."""
    slope_sigma: float = math.nan
    """Standard deviation of the slopes, the larger one; NaN where they are not learnt from the drive."""
    camera_pitch_rad: tuple[float, ...] = ()
    """By camera in alphabetical order: how much lower each looks than its calibration says; empty where not learnt."""

    @property
    def pitch_rad(self) -> float:
        """How far the vehicle's nose points above the ground's mean slope, radians (positive: the ground falls away)."""
        return -math.atan(0.5 * (self.slope_ahead + self.slope_behind))


def find_ground(rig: Rig, settings: FuseConfig) -> Ground:
    """The ground before any image was seen."""
    sigma = settings.ground_sigma_m
    if settings.ground_z_m != "auto":
        return Ground(settings.ground_z_m, sigma, "config")
    if math.isfinite(rig.ground_z_m):
        return Ground(rig.ground_z_m, sigma, "transform")
    heights = [float(camera.base_SE3_camera.translation_m[2]) for camera in rig.cameras.values()]
    if heights and _MOUNT_HEIGHTS_M[0] <= float(np.median(heights)) <= _MOUNT_HEIGHTS_M[1]:
        return Ground(0.0, math.hypot(sigma, _MOUNT_SIGMA_M), "mount")
    return Ground(math.nan, math.nan, "unknown")


def cameras_under(rig: Rig, ground: Ground) -> list[str]:
    """One line for each camera whose extrinsic puts it under the ground."""
    if not math.isfinite(ground.z_m):
        return []
    notes = []
    for name in sorted(rig.cameras):
        above = float(rig.cameras[name].base_SE3_camera.translation_m[2]) - ground.z_m
        if above < _LOWEST_CAMERA_M:
            notes.append(
                f"camera {printable(name)}: its extrinsic ({printable(rig.cameras[name].source)}) puts it {above:.2f} m "
                f"above the ground ({ground.source}, z = {ground.z_m:.2f} m in {printable(rig.base_frame)}), where no "
                "camera can be; its ranges come from box heights alone; check base_SE3_camera or fuse.ground_z_m"
            )
    return notes


class GroundEstimator:
    """Median height of box bottoms, each placed at the range that the box's height implies.

    A histogram, so that memory does not grow with the drive and the order within a timestep has no effect.
    """

    def __init__(self, sigma_m: float) -> None:
        self._sigma_m = sigma_m
        self._weights = np.zeros(round(2 * _SPAN_M / _BIN_M))
        self._samples = 0

    def add(self, z_m: FloatArray, weight: FloatArray) -> None:
        """(N,) heights of contact points in the base frame and (N,) weights, such as inverse variances."""
        inside = np.isfinite(z_m) & np.isfinite(weight) & (np.abs(z_m) < _SPAN_M) & (weight > 0)
        bins = np.floor((z_m[inside] + _SPAN_M) / _BIN_M).astype(np.int64)
        np.add.at(self._weights, np.minimum(bins, len(self._weights) - 1), weight[inside])
        self._samples += int(inside.sum())

    def ground(self) -> Ground:
        """The estimate now; unknown until a few tens of boxes were seen."""
        if self._samples < _ENOUGH_SAMPLES:
            return Ground(math.nan, math.nan, "unknown")
        cumulative = np.cumsum(self._weights)
        middle = int(np.searchsorted(cumulative, 0.5 * cumulative[-1]))
        # The size priors err by a few per cent for the whole drive (a country's cars), so more boxes do
        # not make this better than about 0.2 m.
        return Ground((middle + 0.5) * _BIN_M - _SPAN_M, math.hypot(self._sigma_m, 0.2), "estimated")
