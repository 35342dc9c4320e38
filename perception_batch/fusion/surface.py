"""The ground under the boxes, learnt from the drive: height, slopes ahead and behind, and each camera's pitch.

A box's height says how far it is, whatever the ground does; its low edge at that range says how high the
ground is there. One box says it to a tenth of the camera's height and a fraction of its class's spread. Many
boxes say whether the road climbs, whether the body nods, and whether a camera looks lower than its calibration
believes. Two Bayesian regressions share the work: one over the drive (height, cameras' pitches), one over the
last second or so (height and slopes), to which the first is the prior.

An object that is in view for a second is one witness, not ten: evidence enters as a running mean, so that a
window holds each object about once. What a box itself testified is taken out again before it is asked for the
ground under it; else a car alone on the road would confirm itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from perception_batch.calibration import FloatArray
from perception_batch.config import FuseConfig
from perception_batch.fusion.ground import Ground

_USUAL_STEP_S = 0.1  # between timesteps, where the caller does not say
_LONGEST_STEP_S = 10.0
_DRIVE_WITNESS_S = 4.0  # an object's evidence on what lasts counts about once in this time
_SLOPE_MEMORY_S = 20.0  # over which the usual size of slopes is learnt
_SMALLEST_SLOPE = 0.003  # roads called flat, rise over run
# What no number of boxes makes better: priors err by a few per cent for a whole country's cars.
_HEIGHT_FLOOR_M = 0.04
_PITCH_FLOOR_RAD = math.radians(0.1)
_DOUBT_SIGMAS = 2.0  # Cauchy weight: a witness this far off counts half


@dataclass(frozen=True, slots=True)
class GroundUnder:
    """The ground as N boxes meet it, as seen through their own (maybe nodding) cameras."""

    z_m: float
    """Height of the ground at the vehicle, base frame; NaN where unknown."""
    slope: FloatArray
    """(N,) rise over run along each box's ray, the camera's pitch included."""
    z_sigma_m: float
    """Standard deviation of `z_m`."""
    slope_sigma: FloatArray
    """(N,) of `slope`, of what all cameras share."""
    pitch_sigma: FloatArray
    """(N,) of `slope`, of what is the camera's own, rad."""

    def take(self, rows: npt.NDArray[np.int64]) -> GroundUnder:
        """The given rows, in that order."""
        return GroundUnder(
            self.z_m,
            self.slope.take(rows),
            self.z_sigma_m,
            self.slope_sigma.take(rows),
            self.pitch_sigma.take(rows),
        )


def flat_under(ground: Ground, n: int, settings: FuseConfig) -> GroundUnder:
    """The plane `ground` under N boxes, with the settings' doubts."""
    return GroundUnder(
        ground.z_m,
        np.zeros(n),
        ground.sigma_m,
        np.full(n, settings.slope_sigma),
        np.full(n, math.radians(settings.pitch_sigma_deg)),
    )


class SurfaceEstimator:
    """Height and slopes of the ground and pitches of C cameras; memory does not grow with the drive."""

    def __init__(self, cameras: int, settings: FuseConfig) -> None:
        self._memory_s = settings.ground_memory_s
        self._pitch_var = max(math.radians(settings.pitch_sigma_deg), 1e-4) ** 2
        self._slope_var = self._slope_start = max(settings.slope_sigma, _SMALLEST_SLOPE) ** 2
        n = self._n = 3 + cameras
        self._lasting = np.array([0, *range(3, n)])  # unknowns that the whole drive tells
        self._block = np.ix_(self._lasting, self._lasting)
        self._recent, self._recent_z = np.zeros((n, n)), np.zeros(n)
        self._weight = 0.0
        self._drive, self._drive_z = np.zeros((n - 2, n - 2)), np.zeros(n - 2)
        self._state, self._cov = np.zeros(n), np.zeros((n, n))
        self._before: tuple[FloatArray, FloatArray] | None = None  # what the drive says, until it says more
        self._stamp_ns: int | None = None

    def look(
        self,
        ground: Ground,
        toward: FloatArray,
        origin_m: FloatArray,
        run_m: FloatArray,
        camera: npt.NDArray[np.int64],
        contact_z_m: FloatArray,
        contact_var_m2: FloatArray,
        stamp_ns: int | None,
    ) -> GroundUnder:
        """Take in one timestep's N boxes and say what the ground under each is.

        Args:
            ground: what is known without the drive; its height must be known.
            toward: (2, N) direction of the boxes, base frame; NaN gives the flat ground.
            origin_m: (3, N) their cameras' positions.
            run_m: (N,) horizontal distance from the camera to where each would touch the ground; NaN likewise.
            camera: (N,) number of its camera.
            contact_z_m: (N,) height of the ground that it testifies; NaN: none.
            contact_var_m2: (N,) its variance.
            stamp_ns: time of the timestep; None: a usual step after the last.
        """
        n = len(run_m)
        x = origin_m[0] + run_m * toward[0]
        usable = np.isfinite(x)
        x, run = np.where(usable, x, 0.0), np.where(usable, run_m, 0.0)
        rows = np.zeros((self._n, n))  # an unknown each
        rows[0] = 1.0
        np.maximum(x, 0.0, out=rows[1])
        np.minimum(x, 0.0, out=rows[2])
        rows.ravel()[(3 + camera) * n + np.arange(n)] = run
        told = usable & np.isfinite(contact_z_m) & (contact_var_m2 > 0)
        z = np.where(told, contact_z_m, 0.0)
        information = np.where(told, 1 / contact_var_m2, 0.0)
        step_s = self._step_s(stamp_ns)
        self._forget(step_s)
        self._solve(ground)
        off = z - self._state @ rows
        doubt = 1 / np.maximum(information, 1e-9) + np.add.reduce((self._cov @ rows) * rows, 0)
        information = information / (1 + off**2 / (_DOUBT_SIGMAS**2 * doubt))
        self._take(rows, z, information, step_s)
        self._solve(ground)
        self._learn_slopes(step_s)
        return self._under(rows, run, usable, camera, z, information)

    def ground(self, ground: Ground) -> Ground:
        """`ground` with what is known of its height and slopes now."""
        return Ground(
            float(self._state[0]),
            math.sqrt(self._cov[0, 0]),
            ground.source,
            float(self._state[1]),
            float(self._state[2]),
            math.sqrt(max(self._cov[1, 1], self._cov[2, 2])),
            tuple(self._state[3:].tolist()),
        )

    def _step_s(self, stamp_ns: int | None) -> float:
        before, self._stamp_ns = self._stamp_ns, stamp_ns
        if stamp_ns is None or before is None:
            return _USUAL_STEP_S
        return min(max((stamp_ns - before) * 1e-9, 0.0), _LONGEST_STEP_S)

    def _forget(self, step_s: float) -> None:
        keep = math.exp(-step_s / self._memory_s)
        self._recent *= keep
        self._recent_z *= keep
        self._weight *= keep

    def _take(self, rows: FloatArray, z: FloatArray, information: FloatArray, step_s: float) -> None:
        share = max(1 - math.exp(-step_s / self._memory_s), 1e-3)
        weighted = rows * information
        self._recent += share * (weighted @ rows.T)
        self._recent_z += share * (weighted @ z)
        self._weight += share
        # Over the drive slopes are noise: as large as they usually are here, and the same for a while.
        softened = information / (1 + information * self._slope_var * (rows[1] + rows[2]) ** 2)
        lasting = rows.take(self._lasting, 0)
        weighted = lasting * (softened * min(1.0, step_s / _DRIVE_WITNESS_S))
        self._before = None
        self._drive += weighted @ lasting.T
        self._drive_z += weighted @ z

    def _solve(self, ground: Ground) -> None:
        """The state and its covariance, from what is known beforehand, the drive and the last moments."""
        before, pull = self._before = self._before or self._of_drive(ground)
        total = np.zeros((self._n, self._n))
        total[self._block] = before
        total[1, 1] = total[2, 2] = 1 / self._slope_var
        right = np.zeros(self._n)
        right[self._lasting] = pull
        if self._weight > 0:
            total += self._recent / self._weight
            right += self._recent_z / self._weight
        cov = np.linalg.inv(total)
        self._cov = 0.5 * (cov + cov.T)
        self._state = self._cov @ right

    def _of_drive(self, ground: Ground) -> tuple[FloatArray, FloatArray]:
        """Information, and its product with the state, on what lasts: known beforehand or told by the whole drive."""
        count = len(self._lasting)
        prior = np.full(count, 1 / self._pitch_var)
        prior[0] = 1 / max(ground.sigma_m, 1e-3) ** 2
        floor = np.full(count, min(_PITCH_FLOOR_RAD**2, self._pitch_var))
        floor[0] = min(_HEIGHT_FLOOR_M, ground.sigma_m) ** 2
        # Information A means the covariance A⁻¹, with the floor A⁻¹ + F, and that is the information (1 + A F)⁻¹ A.
        told = np.empty((count, count + 1))
        told[:, :count] = self._drive + np.diag(prior)
        told[:, count] = self._drive_z
        told[0, count] += prior[0] * ground.z_m
        before = np.linalg.solve(np.eye(count) + told[:, :count] * floor, told)
        return before[:, :count], before[:, count]

    def _learn_slopes(self, step_s: float) -> None:
        """How steep roads are here: the mean square of the slopes, by expectation and maximisation."""
        now = 0.5 * float(self._state[1] ** 2 + self._cov[1, 1] + self._state[2] ** 2 + self._cov[2, 2])
        share = min(1.0, step_s / _SLOPE_MEMORY_S)
        mixed = self._slope_var + share * (now - self._slope_var)
        self._slope_var = min(max(mixed, _SMALLEST_SLOPE**2), 4 * self._slope_start)

    def _under(
        self,
        rows: FloatArray,
        run: FloatArray,
        usable: npt.NDArray[np.bool_],
        camera: npt.NDArray[np.int64],
        z: FloatArray,
        information: FloatArray,
    ) -> GroundUnder:
        var = np.maximum(np.add.reduce((self._cov @ rows) * rows, 0), 1e-8)
        mean = self._state @ rows
        z_var = float(self._cov[0, 0])
        run2 = run**2
        prior_var = z_var + self._slope_var * (rows[1] + rows[2]) ** 2 + self._pitch_var * run2
        over_var = 1 / var
        precision = np.maximum(over_var - information, 1 / np.maximum(prior_var, var))
        without = 1 / precision
        # Where its own word is all there is, the rest is what was known before.
        own = np.minimum(information, np.maximum(over_var - precision, 0.0))
        mean = without * (mean * over_var - own * z)
        z_m = float(self._state[0])
        slope = np.where(usable, (mean - z_m) / np.maximum(run, 1.0), 0.0)
        slope_var = np.maximum(without - z_var, 0.0) / np.maximum(run2, 1.0) + _SMALLEST_SLOPE**2
        pitch_var = np.minimum(self._cov.diagonal()[3 + camera], slope_var)
        slope_var -= pitch_var
        return GroundUnder(
            z_m,
            slope,
            math.sqrt(z_var),
            np.sqrt(np.where(usable, slope_var, self._slope_start)),
            np.sqrt(np.where(usable, pitch_var, self._pitch_var)),
        )
